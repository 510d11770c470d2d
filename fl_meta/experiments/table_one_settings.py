"""Settings of the paper's Table 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fl_meta.experiments.settings import (
    PAPER_BUDGET,
    PAPER_SHAKESPEARE,
    PAPER_WRITERS,
    RECORDED_SETTINGS,
    SHAKESPEARE,
    WRITERS,
    Setting,
)


@dataclass(frozen=True)
class TableOne:
    """The paper's Table 1 (notebook 02): clients per round × local epochs.

    Attributes:
        setting: data and model.
        folds: the clients are divided into this many folds; seed k holds out fold k.
        clients_per_round: the two halves of the table.
        local_epochs: the rows of the table, E.
        client_rate: learning rate of local SGD in training and in personalization; customary, not tuned.
        rounds: rounds of FedAvg in each cell.
        every: rounds between evaluations.
        personalization_epochs: epochs of personalization.
        threshold: the table counts rounds until this accuracy; it was set before the first run.

    Example:
        >>> config = replace(TABLE_ONE["laptop"]["writers"], local_epochs=(1, 5))
    """

    setting: Setting
    folds: int
    clients_per_round: tuple[int, ...]
    local_epochs: tuple[int, ...]
    client_rate: float
    rounds: int
    every: int
    personalization_epochs: int
    threshold: float


_GRID: dict[str, Any] = {"clients_per_round": (5, 20), "local_epochs": (2, 5, 10, 20)}
_SMALL_GRID: dict[str, Any] = {"clients_per_round": (3, 5), "local_epochs": (1, 2)}
LAPTOP_TABLE_ONE = {
    "writers": TableOne(
        WRITERS, 3, **_GRID, client_rate=0.06, rounds=24, every=4, personalization_epochs=3, threshold=0.5
    ),
    "shakespeare": TableOne(
        SHAKESPEARE, 3, **_GRID, client_rate=0.3, rounds=9, every=3, personalization_epochs=2, threshold=0.3
    ),
}
TABLE_ONE = {
    "smoke": {
        name: replace(
            config, setting=replace(config.setting, num_clients=24), folds=2, rounds=2, every=1, **_SMALL_GRID
        )
        for name, config in LAPTOP_TABLE_ONE.items()
    },
    "laptop": LAPTOP_TABLE_ONE,
    "paper": {
        "writers": TableOne(
            PAPER_WRITERS, client_rate=0.02, rounds=500, every=10, threshold=0.8, **PAPER_BUDGET, **_GRID
        ),
        "shakespeare": TableOne(
            PAPER_SHAKESPEARE, client_rate=0.2, rounds=300, every=10, threshold=0.4, **PAPER_BUDGET, **_GRID
        ),
    },
}
_THRESHOLDS = {"mnist_by_writer": 0.9, "shakespeare": 0.35, "shakespeare_tff": 0.35}
RECORDED_TABLE_ONE = {
    name: TableOne(
        setting,
        folds=5,
        client_rate=0.3 if "shakespeare" in name else 0.06,
        rounds=25 if "shakespeare" in name else 60,
        every=5,
        personalization_epochs=3,
        threshold=_THRESHOLDS.get(name, 0.6),
        **_GRID,
    )
    for name, setting in RECORDED_SETTINGS.items()
}
