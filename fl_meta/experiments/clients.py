"""The clients of an experiment: which take part, which are held out."""

from __future__ import annotations

from collections.abc import Callable

from fl_meta import models
from fl_meta.data import load_dataset
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.published.tensorflow_federated import play_of
from fl_meta.experiments.settings import Setting
from fl_meta.models.model import Model

MODELS: dict[str, Callable[[FederatedDataset], Model]] = {
    "logistic": models.logistic,
    "mlp": models.mlp,
    "small_cnn": models.small_cnn,
    "emnist_cnn": models.emnist_cnn,
    "char_mlp": models.char_mlp,
    "char_lstm": models.char_lstm,
    "small_lstm": lambda data: models.char_lstm(data, hidden=64),
}
# A character of several plays is one person: on both sides of a split it would be no stranger.
TOGETHER: dict[str, Callable[[str], str]] = {
    "shakespeare": lambda role: role.split("/")[1],
    "shakespeare_tff": lambda role: role.removeprefix(play_of(role)),
}


def clients_of(setting: Setting) -> FederatedDataset:
    """The clients that take part, with as many examples of each as the setting allows.

    Raises:
        ValueError: for an unknown data set, or if no client has enough examples.
    """
    number, synthetic = setting.num_clients, setting.dataset == "writers"
    options = {"num_writers": number} if synthetic and number else {}
    data = load_dataset(setting.dataset, **options).limited(setting.least, setting.most)
    if number and not synthetic:
        data = data.subset(data.client_ids[:: max(1, len(data) // number)][:number])
    return data


def fold_of(setting: Setting, fold: int, folds: int) -> tuple[FederatedDataset, FederatedDataset]:
    """The other clients, and those of this fold, who are held out."""
    return clients_of(setting).fold(fold, folds, TOGETHER.get(setting.dataset, str))


def parts(setting: Setting, fold: int, folds: int) -> tuple[FederatedDataset, ...]:
    """Clients that train, that choose hyper-parameters (a fifth of the rest), and that are held out."""
    rest, held_out = fold_of(setting, fold, folds)
    train, validation = rest.fold(0, 5, TOGETHER.get(setting.dataset, str))
    return train, validation, held_out
