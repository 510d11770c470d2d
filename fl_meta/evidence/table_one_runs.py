"""The accuracies of the crossed Table 1 by cell, fold and training run, and how much runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from fl_meta.evidence.crossed_results import whole_replicates
from fl_meta.evidence.crossed_rules import LEAST_REPLICATES
from fl_meta.evidence.crossed_statistics import crossed_mean
from fl_meta.evidence.paired_spreads import run_means, spread, spread_ratio
from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.experiments.outcomes import BOTH, Measure
from fl_meta.experiments.paper_table_one import PAPER_TABLE_ONE
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS, CrossedTableOne
from fl_meta.support.array_types import FloatArray

Reading = Literal["equal_rounds", "equal_work"]
"""Where in training the cells are read: after equal rounds, or after equal local work."""
READINGS: tuple[Reading, ...] = ("equal_rounds", "equal_work")
Cell = tuple[int, int]
"""Clients a round and E."""
Accuracies = dict[Cell, dict[Measure, list[FloatArray]]]
"""By cell and measure, for each fold accuracies in [0, 1], [replicates, clients of the fold]."""


def recorded_table_one(design: CrossedTableOne, folder: Path) -> list[CrossedTableOneResult]:
    """The results of a design that the folder has: all folds of replicate 0, of replicate 1, and so on.

    A replicate of which a fold is missing ends the list.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> design = fl_meta.experiments.TABLE_ONE_DESIGNS["unipen62"]
        >>> results = recorded_table_one(design, Path("data/results"))
    """
    results = whole_replicates(design, folder)
    return [result for result in results if isinstance(result, CrossedTableOneResult)]


def recorded_tables(folder: Path) -> dict[str, list[CrossedTableOneResult]]:
    """The results of every Table 1 of which the folder has enough replicates for a verdict, by data set.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> tables = recorded_tables(Path("data/results"))
    """
    tables = {name: recorded_table_one(design, folder) for name, design in TABLE_ONE_DESIGNS.items()}
    return {
        name: results
        for name, results in tables.items()
        if len(results) >= LEAST_REPLICATES * TABLE_ONE_DESIGNS[name].folds
    }


def accuracies_of(results: Sequence[CrossedTableOneResult], reading: Reading) -> Accuracies:
    """The accuracies of all runs at one reading.

    Raises:
        ValueError: if the results are not those of one table with the seeds 0, 1, … of whole replicates, or
            if they do not fit together.

    Example:
        >>> accuracies_of(results, "equal_work")[20, 2]["initial"][0].mean()  # doctest: +SKIP
    """
    if reading not in READINGS:
        raise ValueError(f"reading={reading!r} is not one of {', '.join(READINGS)}")
    if not results:
        raise ValueError("there are no results; give one for each fold and replicate")
    first = results[0]
    if any((result.config, result.data) != (first.config, first.data) for result in results):
        raise ValueError("the results are of several settings or data sets; give those of one")
    folds, seeds = first.config.folds, sorted(result.seed for result in results)
    if seeds != list(range(len(seeds))) or len(seeds) % folds:
        raise ValueError(
            f"the results have the seeds {', '.join(map(str, seeds))}; give each from 0 once, as many "
            f"for each of the {folds} folds"
        )
    ordered = sorted(results, key=lambda result: result.seed)
    replicates = [ordered[fold::folds] for fold in range(folds)]
    for fold, runs in enumerate(replicates):
        if len({run.clients for run in runs}) > 1:
            raise ValueError(f"the replicates of fold {fold} have different held-out clients")
    table = first.config.table
    cells = [(clients, epochs) for clients in table.clients_per_round for epochs in table.local_epochs]
    if any([(one.clients_per_round, one.local_epochs) for one in run.cells] != cells for run in results):
        raise ValueError(f"a result has other cells than its settings, {cells}")
    return {
        cell: {
            measure: [
                np.stack([getattr(run.cells[place], reading).accuracy_of(measure) for run in runs])
                for runs in replicates
            ]
            for measure in BOTH
        }
        for place, cell in enumerate(cells)
    }


def cell_run_means(accuracies: Accuracies, measure: Measure) -> FloatArray:
    """The mean over clients of each cell and run [cells, folds, replicates]."""
    return np.array([run_means(by[measure]) for by in accuracies.values()])


def table_one_spreads(results: Sequence[CrossedTableOneResult], reading: Reading) -> pd.DataFrame:
    """Table 1 with its spreads over training runs, beside the paper's.

    The index is clients_per_round and local_epochs; all accuracies are in [0, 1]. For the initial and the
    personalized accuracy the columns are

    - `initial`: the mean over clients and runs,
    - `initial_spread`: the standard deviation over runs of the mean over a fold's clients,
    - `initial_run_spread`: the part of it that all clients share, estimated by `crossed_mean`. The paper's
      means are over more clients, so this is what its spread is like,
    - `paper_initial_spread`: the paper's; NaN where it has no such cell.

    `ratio` is initial_spread / personalized_spread, with the 95 % interval `ratio_low` to `ratio_high`, and
    `paper_ratio` the paper's.

    Raises:
        ValueError: as `accuracies_of`, `crossed_mean` and `spread_ratio` do.

    Example:
        >>> table_one_spreads(results, "equal_rounds").ratio.median()  # doctest: +SKIP
    """
    accuracies = accuracies_of(results, reading)
    means = {measure: cell_run_means(accuracies, measure) for measure in BOTH}
    index = pd.MultiIndex.from_tuples(accuracies, names=PAPER_TABLE_ONE.index.names)
    paper = PAPER_TABLE_ONE.reindex(index)
    columns: dict[str, object] = {}
    for measure in BOTH:
        effects = [crossed_mean(by[measure]) for by in accuracies.values()]
        columns[measure] = [effect.estimate for effect in effects]
        columns[f"{measure}_spread"] = spread(means[measure])
        columns[f"{measure}_run_spread"] = [effect.run_spread for effect in effects]
        columns[f"paper_{measure}_spread"] = paper[f"{measure}_spread"]
    ratios = [spread_ratio(*pair) for pair in zip(*(means[one][:, None] for one in BOTH), strict=True)]
    columns["ratio"] = [ratio.estimate for ratio in ratios]
    columns["ratio_low"] = [ratio.low for ratio in ratios]
    columns["ratio_high"] = [ratio.high for ratio in ratios]
    columns["paper_ratio"] = paper.initial_spread / paper.personalized_spread
    return pd.DataFrame(columns, index)
