"""Settings of the paper's Table 1."""

from __future__ import annotations

from dataclasses import dataclass

from fl_meta.experiments.settings import RECORDED_SETTINGS, Setting


@dataclass(frozen=True)
class TableOne:
    """The cells of the paper's Table 1 (notebook 02), clients per round × local epochs, and their training.

    Attributes:
        setting: data and model.
        folds: the clients are divided into this many folds; each is held out once.
        clients_per_round: the two halves of the table.
        local_epochs: the rows of the table, E.
        client_rate: learning rate of local SGD in training and in personalization; customary, not tuned.
        rounds: rounds of FedAvg in each cell, at equal rounds.
        every: rounds between evaluations.
        personalization_epochs: epochs of personalization.
        threshold: the table counts rounds until this accuracy; it was set before the first run.

    Example:
        >>> TABLE_ONE_DESIGNS["writers"].table.local_epochs
        (2, 5, 10, 20)
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


_THRESHOLDS = {"mnist_by_writer": 0.9, "shakespeare": 0.35, "shakespeare_tff": 0.35}


def _design(name: str, setting: Setting) -> CrossedTableOne:
    # On text a round takes five times as long.
    text = "shakespeare" in name
    table = TableOne(
        setting,
        folds=3,
        clients_per_round=(5, 20),
        local_epochs=(2, 5, 10, 20),
        client_rate=0.3 if text else 0.06,
        rounds=18 if text else 90,
        every=6 if text else 15,
        personalization_epochs=3,
        threshold=_THRESHOLDS.get(name, 0.6),
    )
    return CrossedTableOne(table, work=120 if text else 600)


TABLE_ONE_DESIGNS = {name: _design(name, setting) for name, setting in RECORDED_SETTINGS.items()}
"""The crossed designs of Table 1 by the name of the data set."""
