"""Tables of the crossed Table 1 that are drawn with known effects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from small_results import header_of, rows

from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.table_one_runs import Accuracies
from fl_meta.experiments.outcomes import CrossedTableOneCell, TableOneReading
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS

DESIGN = TABLE_ONE_DESIGNS["writers"]
HALVES, EPOCHS = (5, 20), (2, 5, 10, 20)
CELLS = [(half, epochs) for half in HALVES for epochs in EPOCHS]
FOLDS, RUNS = 3, 4
SIZES = (20, 21, 22)  # clients of the folds
Levels = dict[tuple[int, int], tuple[float, float]]
"""By cell the true initial and personalized accuracy, in points."""


def levels(initial: Sequence[float], personalized: Sequence[float], *others: Sequence[float]) -> Levels:
    """The same in both halves of the table, or other ones in the second."""
    both = [(initial, personalized), others or (initial, personalized)]
    return {
        (half, one): (table[0][place], table[1][place])
        for half, table in zip(HALVES, both, strict=True)
        for place, one in enumerate(EPOCHS)
    }


def drawn(
    generator: np.random.Generator,
    truth: Levels,
    *,
    sizes: Sequence[int] = SIZES,
    run: tuple[float, float] = (2.0, 0.5),
    client: float = 8.0,
    rest: float = 5.0,
) -> Accuracies:
    """Accuracies of all runs: spreads of runs (initial, personalized), clients and the rest, in points.

    Clients have a level of their own, and half of the luck of a run is the same in all cells.
    """
    folds = len(sizes)
    clients = [client * generator.standard_normal(size) for size in sizes]
    common = generator.standard_normal((folds, RUNS, 2))
    table: Accuracies = {}
    for cell, levels_of_cell in truth.items():
        luck = (common + generator.standard_normal(common.shape)) / math.sqrt(2)
        for place, measure in enumerate(("initial", "personalized")):
            table.setdefault(cell, {})[measure] = [  # type: ignore[index]
                (
                    levels_of_cell[place]
                    + run[place] * luck[fold, :, place, None]
                    + clients[fold]
                    + rest * generator.standard_normal((RUNS, sizes[fold]))
                )
                / 100
                for fold in range(folds)
            ]
    return table


def results_of(table: Accuracies, other: Accuracies | None = None) -> list[CrossedTableOneResult]:
    """The results whose accuracies are these at equal rounds, and the others at equal work."""

    def reading(found: Accuracies, cell: tuple[int, int], fold: int, run: int) -> TableOneReading:
        by_measure = found[cell]
        accuracy = [by_measure[measure][fold][run] for measure in ("initial", "personalized")]
        return TableOneReading(1, 1, rows(accuracy))

    results = []
    for seed in range(FOLDS * RUNS):
        fold, run = seed % FOLDS, seed // FOLDS
        cells = tuple(
            CrossedTableOneCell(
                *cell, (), reading(table, cell, fold, run), reading(other or table, cell, fold, run)
            )
            for cell in table
        )
        ids = [f"client_{fold}_{i}" for i in range(SIZES[fold])]
        header = header_of("crossed_table_one", DESIGN, seed, ids)
        results.append(CrossedTableOneResult(**header, cells=cells))
    return results
