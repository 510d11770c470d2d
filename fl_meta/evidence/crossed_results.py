"""Results of the crossed design: recording them until they are precise, and one tidy table of all."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import count
from pathlib import Path

import pandas as pd

from fl_meta.evidence.crossed_rules import is_precise
from fl_meta.evidence.result_types import CrossedResult, Result, TuningResult
from fl_meta.evidence.results import ResultError, file_name, load_or_run, read_result
from fl_meta.experiments.crossed_settings import Crossed, Design, cell_seed

LEAST_REPLICATES, MOST_REPLICATES = 4, 10

COLUMNS = (
    "dataset",
    "model",
    "regime",
    "arm",
    "fold",
    "replicate",
    "client",
    "initial",
    "personalized",
)


def with_choices(design: Design, tuning: Sequence[TuningResult]) -> Crossed:
    """A design with what its tuning chose, a result per fold."""
    return Crossed(design, tuple(result.choices for result in tuning))


def recorded_tuning(design: Design, folder: Path) -> list[TuningResult]:
    """The tuning of every fold of a design; empty if any is missing.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> tuning = recorded_tuning(DESIGNS["unipen62-unstable"], Path("data/results"))  # doctest: +SKIP
    """
    paths = [folder / file_name(design, fold) for fold in range(design.folds)]
    if not all(path.exists() for path in paths):
        return []
    return [result for result in map(_read, paths) if isinstance(result, TuningResult)]


def recorded_cells(design: Design, folder: Path) -> list[CrossedResult]:
    """The cells of a design that the folder has: all folds of replicate 0, of replicate 1, and so on.

    A replicate of which a fold is missing ends the list.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> cells = recorded_cells(DESIGNS["unipen62-unstable"], Path("data/results"))  # doctest: +SKIP
    """
    if not (tuning := recorded_tuning(design, folder)):
        return []
    config, cells = with_choices(design, tuning), list[CrossedResult]()
    for replicate in count():
        seeds = [cell_seed(design, fold, replicate) for fold in range(design.folds)]
        paths = [folder / file_name(config, seed) for seed in seeds]
        if not all(path.exists() for path in paths):
            break
        cells += [result for result in map(_read, paths) if isinstance(result, CrossedResult)]
    return cells


def record_design(
    design: Design,
    folder: Path,
    *,
    replicates: int | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[CrossedResult]:
    """Tune a design and compute its cells until every interval is narrow enough; what is there is kept.

    Replicates are added to all folds at a time, at least `LEAST_REPLICATES` and at most `MOST_REPLICATES`,
    until `is_precise`. That rule sees the widths of the intervals and not the effects.

    Args:
        replicates: compute so many instead.
        executor: as in `load_or_run`.

    Raises:
        ResultError: if a file in the folder cannot be used.
        Exception: the first error of a cell.

    Example:
        >>> cells = record_design(DESIGNS["writers-stable"], own_folder())  # doctest: +SKIP
    """
    tuning = load_or_run(design, range(design.folds), folder, executor=executor, progress=progress)
    config, cells = with_choices(design, tuning), list[CrossedResult]()
    for replicate in range(MOST_REPLICATES if replicates is None else replicates):
        enough = replicates is None and replicate >= LEAST_REPLICATES
        if enough and is_precise(cells):
            break
        seeds = [cell_seed(design, fold, replicate) for fold in range(design.folds)]
        cells += load_or_run(config, seeds, folder, executor=executor, progress=progress)
    return cells


def crossed_table(folder: str | Path) -> pd.DataFrame:
    """Every recorded cell of the crossed design as one tidy table, a row for each client of each arm.

    The columns are dataset (its label; synthetic data say so), model, regime, arm, fold, replicate, client,
    initial and personalized (accuracies in [0, 1]).

    Raises:
        FileNotFoundError: if there is no such folder.
        ResultError: if a file cannot be used.

    Example:
        >>> table = crossed_table("data/results")  # doctest: +SKIP
        >>> table.groupby(["dataset", "regime", "arm"]).personalized.mean()  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder.absolute()}; give a folder of result files")
    results = map(_read, sorted(folder.glob("crossed-*.json")))
    tables = [_rows(result) for result in results if isinstance(result, CrossedResult)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _read(path: Path) -> Result:
    """The result in a file, unless the file's name is that of another one."""
    result = read_result(path)
    if path.name != file_name(result.config, result.seed):
        raise ResultError(f"{path} is of another experiment; delete it to compute it again")
    return result


def _rows(result: CrossedResult) -> pd.DataFrame:
    replicate, fold = divmod(result.seed, result.config.folds)
    setting, regime = result.config.setting, result.config.design.regime
    return pd.concat(
        pd.DataFrame(
            {
                "dataset": result.data.label,
                "model": setting.model,
                "regime": regime,
                "arm": arm.name,
                "fold": fold,
                "replicate": replicate,
                "client": result.clients,
                "initial": arm.accuracy[0],
                "personalized": arm.accuracy[1],
            },
            columns=list(COLUMNS),
        )
        for arm in result.arms
    )
