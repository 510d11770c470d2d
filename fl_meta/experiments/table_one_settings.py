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


@dataclass(frozen=True)
class CrossedTableOne:
    """Table 1 with folds of clients crossed with training replicates, at equal rounds and at equal work.

    Every replicate of a fold has its own seed, fold + folds · replicate, as in the crossed design of claims 2
    and 3. All cells of the table share it: the first weights, and which clients take part.

    A model that trains with E = 20 does ten times the local work of one with E = 2 in a round. So every cell
    is read twice: after `table.rounds` rounds, and after `work` local epochs of each client that takes part,
    which are `work` / E rounds.

    Attributes:
        table: the table; `table.rounds` are the equal rounds.
        work: local epochs, E · rounds, at equal work.

    Raises:
        ValueError: if the table is not evaluated at a round at which it is read.

    Example:
        >>> TABLE_ONE_DESIGNS["unipen62"].rounds_at_equal_work(20)
        30
    """

    table: TableOne
    work: int

    def __post_init__(self) -> None:
        """Check that all rounds at which the table is read are evaluated."""
        if self.table.rounds % self.table.every:
            raise ValueError(f"rounds={self.table.rounds} must be a multiple of every={self.table.every}")
        for epochs in self.table.local_epochs:
            if self.work % (epochs * self.table.every):
                raise ValueError(
                    f"work={self.work} must be a multiple of {epochs} local epochs × every={self.table.every}"
                )

    @property
    def setting(self) -> Setting:
        """Data and model."""
        return self.table.setting

    @property
    def folds(self) -> int:
        """Number of folds."""
        return self.table.folds

    def rounds_at_equal_work(self, local_epochs: int) -> int:
        """The rounds after which a client that took part in each has done `work` local epochs."""
        return self.work // local_epochs


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
    "full": {
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
# On text a round takes five times as long.
TABLE_ONE_DESIGNS = {
    name: CrossedTableOne(replace(config, folds=3, rounds=18, every=6), work=120)
    if "shakespeare" in name
    else CrossedTableOne(replace(config, folds=3, rounds=90, every=15), work=600)
    for name, config in RECORDED_TABLE_ONE.items()
}
"""The crossed designs of Table 1 by the name of the data set."""
