"""Profiles, data settings and the first look: what the experiments' own settings build on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

PROFILES = ("smoke", "laptop", "full")
"""Sizes of a run: a check that everything works, a lesson on a machine without a GPU, and all there is: the
paper's own settings where a lesson has them, and the recorded evidence computed anew."""
RECORDED = "recorded"
"""The profile of results that the repository keeps; they are not computed in the run that shows them."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class FirstLook:
    """Notebook 00: one global model of synthetic writers, personalized to held-out ones."""

    num_writers: int
    rounds: int
    clients_per_round: int
    local_epochs: int
    personalization_epochs: int


@dataclass(frozen=True)
class Setting:
    """Which clients take part, and which model they train.

    Attributes:
        dataset: a name that `load_dataset` knows.
        model: a name in `MODELS`.
        least: clients with fewer train examples are left out.
        most: at most this many examples of each client's train part, and of its test part, are used.
        num_clients: how many clients take part; None takes all. Of the synthetic writers these are the first
            ones; in other data sets they are spread evenly over the clients with enough examples.

    Example:
        >>> setting = Setting("writers", "mlp", least=20, most=60, num_clients=50)
        >>> clients = fl_meta.experiments.clients_of(setting)
    """

    dataset: str
    model: str
    least: int
    most: int
    num_clients: int | None = None


FIRST_LOOK = {
    "smoke": FirstLook(60, 10, 10, 2, 2),
    "laptop": FirstLook(200, 60, 20, 2, 5),
    "full": FirstLook(3400, 1500, 20, 10, 10),
}

WRITERS = Setting("writers", "mlp", least=20, most=60, num_clients=100)
SHAKESPEARE = Setting("shakespeare", "char_mlp", least=10, most=20, num_clients=75)

PAPER_WRITERS = Setting("writers", "emnist_cnn", 20, 400, 3400)
PAPER_SHAKESPEARE = Setting("shakespeare", "char_lstm", 10, 400)
PAPER_BUDGET: dict[str, Any] = {"folds": 5, "personalization_epochs": 10}

RECORDED_SETTINGS = {
    "writers": replace(WRITERS, num_clients=200),
    "mnist_by_writer": Setting("mnist_by_writer", "mlp", least=20, most=60, num_clients=250),
    "unipen62": Setting("unipen62", "mlp", least=20, most=60),
    "shakespeare": replace(SHAKESPEARE, num_clients=250),
    "shakespeare_tff": Setting("shakespeare_tff", "char_mlp", least=10, most=20, num_clients=250),
}


def for_profile(settings: dict[str, Settings], profile: str) -> Settings:
    """The settings of a profile.

    Raises:
        ValueError: if there is no such profile; the message lists the profiles there are.

    Example:
        >>> for_profile(FIRST_LOOK, "laptop").rounds
        60
    """
    if profile not in settings:
        raise ValueError(f"profile={profile!r} is unknown; choose one of {', '.join(map(repr, PROFILES))}")
    return settings[profile]
