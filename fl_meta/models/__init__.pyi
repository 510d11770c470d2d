from .images import colour_cnn, emnist_cnn, fedem_cnn, linear_binary, logistic, mlp, small_cnn
from .mobilenet import mobilenet_v2
from .model import Model
from .parameters import (
    Params,
    add,
    all_finite,
    dot,
    flatten,
    map_params,
    norm,
    relative_error,
    scale,
    unflatten,
    zeros_like,
)
from .text import char_lstm, char_mlp

__all__ = [
    "Model",
    "Params",
    "add",
    "all_finite",
    "char_lstm",
    "char_mlp",
    "colour_cnn",
    "dot",
    "emnist_cnn",
    "fedem_cnn",
    "flatten",
    "linear_binary",
    "logistic",
    "map_params",
    "mlp",
    "mobilenet_v2",
    "norm",
    "relative_error",
    "scale",
    "small_cnn",
    "unflatten",
    "zeros_like",
]
