"""Recorded results of the crossed design: by design, and one tidy table of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import pandas as pd

from fl_meta.evidence.crossed_rules import LEAST_REPLICATES
from fl_meta.evidence.result_files import ResultError, file_name, name_without_seed, read_result
from fl_meta.evidence.result_types import CrossedResult, Result, TuningResult
from fl_meta.experiments.crossed_settings import DESIGNS, Crossed, Design, cell_seed
from fl_meta.experiments.table_one_settings import CrossedTableOne

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


def seeds_of(design: Design | Crossed | CrossedTableOne, replicates: Iterable[int]) -> list[int]:
    """The seeds of all folds of some replicates, one replicate after the other.

    Example:
        >>> seeds_of(fl_meta.experiments.DESIGNS["unipen62-stable"], [0, 2])
        [0, 1, 2, 6, 7, 8]
    """
    return [cell_seed(design, fold, number) for number in replicates for fold in range(design.folds)]


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
    results = whole_replicates(with_choices(design, tuning), folder)
    return [result for result in results if isinstance(result, CrossedResult)]


def whole_replicates(config: Crossed | CrossedTableOne, folder: Path) -> list[Result]:
    """The results that the folder has of an experiment whose folds are crossed with replicates.

    They are all folds of replicate 0, of replicate 1, and so on, until a fold is missing.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> config = fl_meta.experiments.TABLE_ONE_DESIGNS["unipen62"]
        >>> results = whole_replicates(config, Path("data/results"))
    """
    # Once: it is a checksum of the whole config.
    name, results = name_without_seed(config), list[Result]()
    for replicate in count():
        paths = [folder / f"{name}-seed{seed}.json" for seed in seeds_of(config, [replicate])]
        if not all(path.exists() for path in paths):
            break
        results += map(_read, paths)
    return results


def recorded_designs(folder: Path) -> dict[str, list[CrossedResult]]:
    """The cells of every design of which the folder has enough replicates for a verdict, by its name.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> evidence = evidence_table(recorded_designs(Path("data/results")).values())  # doctest: +SKIP
    """
    cells = {name: recorded_cells(design, folder) for name, design in DESIGNS.items()}
    return {name: some for name, some in cells.items() if len(some) >= LEAST_REPLICATES * DESIGNS[name].folds}


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
    setting, regime = result.config.setting, result.config.regime
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
