"""Recording the crossed designs: claims 2 and 3 until intervals are narrow enough, and Table 1."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from fl_meta.evidence.crossed_results import seeds_of, with_choices
from fl_meta.evidence.crossed_rules import LEAST_REPLICATES, MOST_REPLICATES, is_precise
from fl_meta.evidence.result_types import CrossedResult, CrossedTableOneResult
from fl_meta.evidence.results import data_of, load_or_run
from fl_meta.experiments.crossed_settings import DESIGNS, Design
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS, CrossedTableOne


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
    config = with_choices(design, tuning)
    # All that are computed in any case are computed side by side, so that many workers have something to do.
    certain = LEAST_REPLICATES if replicates is None else replicates
    seeds = seeds_of(design, range(certain))
    cells = load_or_run(config, seeds, folder, executor=executor, progress=progress)
    for replicate in range(certain, MOST_REPLICATES if replicates is None else certain):
        if is_precise(cells):
            break
        seeds = seeds_of(design, [replicate])
        cells += load_or_run(config, seeds, folder, executor=executor, progress=progress)
    return cells


def record_table_one(
    design: CrossedTableOne,
    folder: Path,
    *,
    replicates: int | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[CrossedTableOneResult]:
    """Compute all folds and replicates of Table 1; what is there is kept.

    Args:
        replicates: how many, `LEAST_REPLICATES` by default.
        executor: as in `load_or_run`.

    Raises:
        ResultError: if a file in the folder cannot be used.
        Exception: the first error of a cell.

    Example:
        >>> results = record_table_one(TABLE_ONE_DESIGNS["writers"], own_folder())  # doctest: +SKIP
    """
    seeds = seeds_of(design, range(LEAST_REPLICATES if replicates is None else replicates))
    return load_or_run(design, seeds, folder, executor=executor, progress=progress)


def record_all(folder: Path, *, executor: Executor | None = None) -> list[str]:
    """Record every design and Table 1 whose data set is on this machine; return the names of the others.

    What is in the folder is kept, so that the same call goes on after an interruption.

    Args:
        executor: as in `load_or_run`.

    Raises:
        ResultError: if a file in the folder cannot be used.
        Exception: the first error of a cell.

    Example:
        >>> record_all(own_folder())  # doctest: +SKIP
        ['unipen62-stable', 'unipen62-unstable']
    """
    missing = []
    everything: dict[str, Design | CrossedTableOne] = {**DESIGNS}
    everything |= {f"table_one-{name}": table for name, table in TABLE_ONE_DESIGNS.items()}
    for name, design in everything.items():
        try:
            data_of(design)
        except FileNotFoundError:
            missing.append(name)
        else:
            if isinstance(design, Design):
                record_design(design, folder, executor=executor)
            else:
                record_table_one(design, folder, executor=executor)
    return missing
