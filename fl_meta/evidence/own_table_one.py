"""One half of Table 1, computed here, beside the recorded runs of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from fl_meta.evidence.own_run import FEW_CLIENTS, LEVEL, is_short, own_seed
from fl_meta.evidence.paired_spreads import another_run, run_means
from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.results import load_or_run, own_folder, recorded_folder
from fl_meta.evidence.table_one_runs import READINGS, accuracies_of, recorded_table_one
from fl_meta.experiments.outcomes import BOTH
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS, CrossedTableOne

SHORT_ROUNDS = 2  # of a run that only shows that everything works


@dataclass(frozen=True)
class YourTableOne:
    """A half of Table 1 that was computed here, and whether it is like the recorded ones.

    Attributes:
        run: its result: one fold and one replicate, which is none of the recorded ones.
        accuracies: the table of `table_one_beside_recorded`; of a shortened run, what is expected is missing.

    Example:
        >>> own = your_table_one("writers", "laptop", seed=0)  # doctest: +SKIP
        >>> print(own.sentence())  # doctest: +SKIP
    """

    run: CrossedTableOneResult
    accuracies: pd.DataFrame

    def sentence(self) -> str:
        """Whether the run lies within the spread of the recorded ones, in words."""
        if "low" not in self.accuracies:
            return "Your run was shortened to a few rounds, so it cannot be compared with the recorded runs."
        total, within = len(self.accuracies), int(self.accuracies.within.sum())
        where = "all" if within == total else f"{within}"
        return (
            f"Of the {total} mean accuracies of your run, **{where} lie within** the spread of the recorded "
            "runs, where another run of the same fold is expected 19 times in 20."
        )


def your_table_one(name: str, profile: str, seed: int) -> YourTableOne:
    """Compute the half of a recorded Table 1 that has the fewest clients a round: one fold, one replicate.

    The replicate is none of the recorded ones. Cells are trained independently of each other, so each is
    comparable to the recorded cell. What was computed is kept in `own_folder`. With the profile 'smoke' the
    run is shortened to a few rounds and clients, and says nothing.

    Args:
        name: of `TABLE_ONE_DESIGNS`.
        seed: chooses the fold, by its remainder, and the replicate.

    Raises:
        FileNotFoundError: if there is no folder of recorded results.
        ValueError: if there is no such design or profile, or too little is recorded of it.
        ResultError: if a recorded file cannot be used.

    Example:
        >>> your_table_one("writers", "laptop", seed=0).accuracies  # doctest: +SKIP
    """
    short = is_short(profile)
    if name not in TABLE_ONE_DESIGNS:
        raise ValueError(f"no design {name!r}; there are {', '.join(TABLE_ONE_DESIGNS)}")
    design, folder = TABLE_ONE_DESIGNS[name], recorded_folder()
    recorded = recorded_table_one(design, folder)
    what = f"results of Table 1 on {name} in {folder}"
    own = own_seed(seed, design.folds, recorded, what, f"table_one-{name}")
    half = replace(design, table=replace(design.table, clients_per_round=design.table.clients_per_round[:1]))
    (run,) = load_or_run(_shortened(half) if short else half, [own], own_folder())
    return YourTableOne(run, _means(run) if short else table_one_beside_recorded(run, recorded))


def table_one_beside_recorded(
    run: CrossedTableOneResult, recorded: Sequence[CrossedTableOneResult], level: float = LEVEL
) -> pd.DataFrame:
    """The mean accuracies of a run, and where another run of the same fold is expected.

    If it was computed as the recorded ones were, each lies in its prediction interval (`another_run`) about
    `level` of the time.

    Returns:
        a row for each cell of the run, reading and measure, with the columns clients_per_round,
        local_epochs, reading, measure, accuracy, low, high (in [0, 1]) and within.

    Raises:
        ValueError: if the run is of another design than the recorded results, or these do not fit together.

    Example:
        >>> table_one_beside_recorded(run, recorded).within.mean()  # doctest: +SKIP
    """
    full = recorded[0].config
    if replace(full, table=replace(full.table, clients_per_round=_halves(run))) != run.config:
        raise ValueError("the run is of another design than the recorded results")
    table, fold = _means(run), run.seed % run.config.folds
    by_reading = {reading: accuracies_of(recorded, reading) for reading in READINGS}
    expected = [
        another_run(run_means(by_reading[reading][clients, epochs][measure]), fold, level)
        for clients, epochs, reading, measure in zip(
            table.clients_per_round, table.local_epochs, table.reading, table.measure, strict=True
        )
    ]
    table["low"] = [interval.low for interval in expected]
    table["high"] = [interval.high for interval in expected]
    table["within"] = table.accuracy.between(table.low, table.high)
    return table


def _halves(run: CrossedTableOneResult) -> tuple[int, ...]:
    return run.config.table.clients_per_round


def _means(run: CrossedTableOneResult) -> pd.DataFrame:
    """The table of `table_one_beside_recorded` without what is expected."""
    return pd.DataFrame(
        [
            {
                "clients_per_round": cell.clients_per_round,
                "local_epochs": cell.local_epochs,
                "reading": reading,
                "measure": measure,
                "accuracy": float(getattr(cell, reading).accuracy_of(measure).mean()),
            }
            for cell in run.cells
            for reading in READINGS
            for measure in BOTH
        ]
    )


def _shortened(design: CrossedTableOne) -> CrossedTableOne:
    """The same with few clients and rounds."""
    setting = replace(design.setting, num_clients=FEW_CLIENTS)
    table = replace(design.table, setting=setting, rounds=SHORT_ROUNDS, every=1)
    return CrossedTableOne(table, work=max(table.local_epochs))
