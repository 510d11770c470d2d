"""Frozen configurations of the notebooks' experiments, in a size for each profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from fl_meta.verdicts import PROFILES

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
class ClaimOne:
    """Notebook 01: the identities, the expansion and the second order, in float64.

    Attributes:
        num_clients: clients per data set.
        steps: K of the identities.
        batch_size: examples per local batch.
        expansion_steps: the K of the expansion.
        expansion_clients: clients whose expansion is measured.
    """

    num_clients: int
    steps: int
    batch_size: int
    expansion_steps: tuple[int, ...]
    expansion_clients: int


FIRST_LOOK = {
    "smoke": FirstLook(60, 40, 10, 10, 2, 2),
    "laptop": FirstLook(200, 200, 120, 20, 2, 5),
    "paper": FirstLook(3400, 715, 1500, 20, 10, 10),
}
CLAIM_ONE = {
    "smoke": ClaimOne(2, 2, 4, (2,), 4),
    "laptop": ClaimOne(4, 4, 10, (2, 3), 12),
    "paper": ClaimOne(20, 10, 20, (2, 3, 4, 5), 100),
}


def for_profile(table: dict[str, Config], profile: str) -> Config:
    """The configuration of a profile.

    Raises:
        ValueError: if there is no such profile; the message lists those there are.
    """
    if profile not in table:
        raise ValueError(f"profile={profile!r} is unknown; choose one of {', '.join(map(repr, PROFILES))}")
    return table[profile]
