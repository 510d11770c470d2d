"""Models as pure functions of their parameters, and the ones that the experiments use."""

from fl_meta.models.model import (
    Model,
    char_lstm,
    char_mlp,
    colour_cnn,
    emnist_cnn,
    fedem_cnn,
    linear_binary,
    logistic,
    mlp,
    small_cnn,
)

__all__ = [
    "Model",
    "char_lstm",
    "char_mlp",
    "colour_cnn",
    "emnist_cnn",
    "fedem_cnn",
    "linear_binary",
    "logistic",
    "mlp",
    "small_cnn",
]
