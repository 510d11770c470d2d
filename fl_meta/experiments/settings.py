"""Frozen configurations of the notebooks' experiments, in a size for each profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

PROFILES = ("smoke", "laptop", "paper")
RECORDED = "recorded"


Config = TypeVar("Config")


@dataclass(frozen=True)
class FirstLook:
    """Notebook 00: one global model per data set, personalized to held-out clients.

    Attributes:
        num_writers: size of the synthetic data set.
        num_roles: how many speaking roles take part.
        rounds: rounds of FedAvg per data set.
        clients_per_round: clients sampled in each round.
        local_epochs: E on handwriting; on text E is 1.
        personalization_epochs: epochs of adaptation on held-out clients.
    """

    num_writers: int
    num_roles: int
    rounds: int
    clients_per_round: int
    local_epochs: int
    personalization_epochs: int


@dataclass(frozen=True)
class Setting:
    """Which clients, and which model.

    Attributes:
        dataset: a name that `load_dataset` knows.
        model: a name in `clients.MODELS`.
        least: clients with fewer train examples take no part.
        most: of each client's train part and test part at most so many examples are used.
        num_clients: how many take part, of the synthetic writers the first ones, of others evenly chosen
            among those with enough examples; None takes all.
    """

    dataset: str
    model: str
    least: int
    most: int
    num_clients: int | None = None


FIRST_LOOK = {
    "smoke": FirstLook(60, 40, 10, 10, 2, 2),
    "laptop": FirstLook(200, 200, 80, 20, 2, 5),
    "paper": FirstLook(3400, 715, 1500, 20, 10, 10),
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


def for_profile(table: dict[str, Config], profile: str) -> Config:
    """The configuration of a profile.

    Raises:
        ValueError: if there is no such profile; the message lists those there are.
    """
    if profile not in table:
        raise ValueError(f"profile={profile!r} is unknown; choose one of {', '.join(map(repr, PROFILES))}")
    return table[profile]
