"""The clients of an experiment: which ones train, which ones are held out."""

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
# The person behind a client id. A character who speaks in several plays is one person and must not appear on
# both sides of a split.
PERSON_OF: dict[str, Callable[[str], str]] = {
    "shakespeare": lambda role: role.split("/")[1],
    "shakespeare_tff": lambda role: role.removeprefix(play_of(role)),
}


def clients_of(setting: Setting) -> FederatedDataset:
    """The clients that take part, each with as many examples as the setting allows.

    Raises:
        ValueError: for an unknown data set, or if no client has enough examples.

    Example:
        >>> len(clients_of(Setting("writers", "mlp", least=20, most=60, num_clients=24)))
        24
    """
    number, synthetic = setting.num_clients, setting.dataset == "writers"
    options = {"num_writers": number} if synthetic and number else {}
    data = load_dataset(setting.dataset, **options).limited(setting.least, setting.most)
    if number and not synthetic:
        data = data.subset(data.client_ids[:: max(1, len(data) // number)][:number])
    return data


def fold_of(setting: Setting, fold: int, folds: int) -> tuple[FederatedDataset, FederatedDataset]:
    """Divide the clients into those that train and those of one fold, which are held out."""
    return clients_of(setting).fold(fold, folds, PERSON_OF.get(setting.dataset, str))


def train_validation_held_out(
    setting: Setting, fold: int, folds: int
) -> tuple[FederatedDataset, FederatedDataset, FederatedDataset]:
    """Divide the clients into those that train, those that choose hyper-parameters, and those held out.

    The held-out clients are one fold; a fifth of the others are the validation clients.

    Example:
        >>> setting = Setting("writers", "mlp", least=20, most=60, num_clients=50)
        >>> [len(clients) for clients in train_validation_held_out(setting, fold=0, folds=5)]
        [32, 8, 10]
    """
    rest, held_out = fold_of(setting, fold, folds)
    train, validation = rest.fold(0, 5, PERSON_OF.get(setting.dataset, str))
    return train, validation, held_out
