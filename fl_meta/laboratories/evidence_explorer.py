"""The recorded evidence on claims 2 and 3, test by test, and what fewer training runs would have said."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fl_meta.evidence.crossed_results import recorded_designs
from fl_meta.evidence.crossed_rules import (
    CLAIM_TESTS,
    LEAST_REPLICATES,
    MOST_REPLICATES,
    claim_tests,
    differences,
)
from fl_meta.evidence.crossed_statistics import LEAST_REPLICATES as FEWEST
from fl_meta.evidence.crossed_statistics import crossed_mean
from fl_meta.evidence.crossed_tables import evidence_table
from fl_meta.evidence.crossed_words import interval_text, rows_of
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.evidence.verdicts import badge
from fl_meta.laboratories.panel import Panel, choice, stops
from fl_meta.plots.intervals import BAND
from fl_meta.plots.style import PALETTE
from fl_meta.support.array_types import FloatArray
from fl_meta.support.text_table import signed


def evidence_explorer(
    folder: str | Path,
    *,
    claim: str = "2a-initial",
    place: str = "writers (synthetic), unstable",
    replicates: int = MOST_REPLICATES,
) -> Panel:
    """Choose a test and a data set; see every training run, and what fewer replicates would have said.

    Args:
        folder: of recorded results.
        claim: of one of `CLAIM_TESTS`.
        place: label of a recorded data set and its regime.
        replicates: the interval is that of the first so many; all of them if there are not so many.

    Raises:
        FileNotFoundError: if the folder has no recorded design.
        ValueError: if a value is not among its control's options.

    Example:
        >>> evidence_explorer("data/results", claim="3-best")  # doctest: +SKIP
    """
    folder = Path(folder)
    designs = list(recorded_designs(folder).values())
    if not designs:
        raise FileNotFoundError(
            f"no recorded evidence in {folder.absolute()}; give the folder of the repository's recorded "
            "results, `evidence.recorded_folder()` in a notebook, or compute it: fl-meta record"
        )
    cells_at = {f"{cells[0].label}, {cells[0].config.regime}": cells for cells in designs}
    table = evidence_table(designs)
    controls = {
        "claim": choice("test", claim, tuple(test.claim for test in CLAIM_TESTS)),
        "place": choice("data set", place, tuple(cells_at)),
        "replicates": stops("replicates", replicates, range(FEWEST, MOST_REPLICATES + 1)),
    }

    def draw(claim: str, place: str, replicates: int) -> tuple[Figure, str]:
        cells = cells_at[place]
        rows = table[(table.claim == claim) & (table.dataset + ", " + table.regime == place)]
        if rows.empty:
            return _picture([], np.nan, place), f"{escape(claim)} is not tested on {escape(place)}."
        return _picture_and_words(rows, cells, place, replicates)

    return Panel("evidence_explorer", controls, draw, fixed=repr(folder.as_posix()))


def _picture_and_words(
    rows: pd.DataFrame, cells: Sequence[CrossedResult], place: str, replicates: int
) -> tuple[Figure, str]:
    """The figure of a test, and its verdict; both also for the first replicates alone."""
    (row,) = rows_of(rows)
    test = next(test for test in claim_tests(cells) if test.claim == row["claim"])
    folds = differences(cells, [test.better], [test.worse], test.measure)
    shown = min(replicates, row["replicates"])
    effect = crossed_mean([fold[:shown] for fold in folds])
    low, high = effect.interval().low, effect.interval().high
    few = {"low": low, "high": high}
    words = (
        f"{escape(row['statement'])}.<br>{badge(row['verdict'])} on {escape(place)}, from all "
        f"{row['replicates']} replicates: {signed(row['effect'], 2)} {interval_text(row)} points."
    )
    if shown < row["replicates"]:
        words += f" The first {shown} replicates alone: {signed(effect.estimate, 2)} {interval_text(few)}."
    if row["replicates"] < MOST_REPLICATES:
        words += f" (Between {LEAST_REPLICATES} and {MOST_REPLICATES} are recorded.)"
    return _picture(folds, row["margin"], place, shown, (effect.estimate, low, high)), words


def _picture(
    folds: Sequence[FloatArray],
    margin: float,
    place: str,
    shown: int = 0,
    interval: tuple[float, float, float] = (np.nan, np.nan, np.nan),
) -> Figure:
    """Every run's effect, a line of points for each fold, and below them the interval of the mean."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=place, ylim=(len(folds) + 0.6, -0.6), xlabel="effect in points: supports the paper →")
    axes.set_yticks(range(len(folds) + 1), [*(f"fold {i}" for i in range(len(folds))), "mean, 95 %"])
    if not folds:
        return figure
    axes.axvspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color="black", linewidth=0.8)
    for i, fold in enumerate(folds):
        runs = fold.mean(axis=1)
        axes.plot(runs[shown:], [i] * len(runs[shown:]), "o", color="0.75", markersize=6)
        axes.plot(runs[:shown], [i] * shown, "o", color=PALETTE[0], markersize=6)
        axes.plot(runs[:shown].mean(), i, "|", color="black", markersize=16, markeredgewidth=2)
    estimate, low, high = interval
    axes.plot([low, high], [len(folds)] * 2, color="black", linewidth=2)
    axes.plot(estimate, len(folds), "D", color="black", markersize=7)
    axes.grid(alpha=0.3, axis="x")
    return figure
