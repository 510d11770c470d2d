"""One tidy table of all recorded results."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fl_meta.evidence.result_files import read_result
from fl_meta.evidence.result_types import (
    BenchmarkResult,
    CrossedResult,
    CrossedTableOneResult,
    HeterogeneityResult,
    Result,
)
from fl_meta.experiments.heterogeneity_settings import KNOBS
from fl_meta.experiments.outcomes import Personalized
from fl_meta.experiments.published_scores import ADAPTED, AS_RELEASED

COLUMNS = ("file", "kind", "dataset", "model", "seed", "entry", "initial", "personalized", "clients")


def recorded_table(folder: str | Path) -> pd.DataFrame:
    """Every result file in a folder as rows of one table.

    There is one row per file and trained model (comparison, crossed design), cell (heterogeneity; Table 1,
    whose cells have two) or method (benchmark); a tuning has none. The columns are file, kind,
    dataset, model (the network), seed,
    entry (which model, cell or method), initial and personalized (mean accuracy by client, in [0, 1]; of a
    benchmark, of the clients seen in training; NaN if it was not measured) and clients (how many the means
    are over).

    Raises:
        FileNotFoundError: if there is no such folder.
        ResultError: if a file cannot be used.

    Example:
        >>> table = recorded_table("data/results")  # doctest: +SKIP
        >>> table[table.entry == "FedAvg"].groupby("dataset").personalized.mean()  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder.absolute()}; give a folder of result files")
    rows = []
    for path in sorted(folder.glob("*.json")):
        result = read_result(path)
        setting = result.config.setting
        header = (path.name, result.kind, setting.dataset, setting.model, result.seed)
        rows += [(*header, *entry) for entry in _entries(result)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _entries(result: Result) -> Iterator[tuple[str, float, float, int]]:
    """Entry, mean initial and personalized accuracy and number of clients."""
    match result:
        case CrossedTableOneResult():
            for cell in result.cells:
                entry = f"{cell.clients_per_round} clients, E = {cell.local_epochs}"
                yield _means(f"{entry}, equal rounds", cell.equal_rounds)
                yield _means(f"{entry}, equal work", cell.equal_work)
        case CrossedResult():
            for arm in result.arms:
                yield _means(arm.name, arm)
        case HeterogeneityResult():
            for grid_cell in result.cells:
                knobs = ", ".join(f"{knob} = {getattr(grid_cell, knob):g}" for knob in KNOBS)
                yield _means(knobs, grid_cell)
        case BenchmarkResult():
            for method in result.methods:
                seen = method.accuracy[0]
                mean = sum(seen) / len(seen)
                adapted = method.name.endswith(ADAPTED) or method.name in (AS_RELEASED, "Local")
                yield method.name, *((math.nan, mean) if adapted else (mean, math.nan)), len(seen)


def _means(entry: str, scored: Personalized) -> tuple[str, float, float, int]:
    initial, personalized = scored.accuracy_of("initial"), scored.accuracy_of("personalized")
    return entry, float(initial.mean()), float(personalized.mean()), len(initial)
