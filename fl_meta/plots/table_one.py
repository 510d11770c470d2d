"""The paper's Table 1 and the recorded one, as lines over the number of local epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.table_one_runs import READINGS, table_one_spreads
from fl_meta.experiments.outcomes import BOTH
from fl_meta.experiments.paper_table_one import PAPER_TABLE_ONE
from fl_meta.plots.evidence import YOUR_STYLE
from fl_meta.plots.style import PALETTE

STYLES: dict[str, dict[str, Any]] = {
    "initial": {"color": PALETTE[0], "marker": "o"},
    "personalized": {"color": PALETTE[1], "marker": "s"},
}


def paper_table_plot() -> Figure:
    """The paper's own Table 1: a panel for each number of clients a round, bars for its standard deviations.

    Example:
        >>> paper_table_plot()  # doctest: +SKIP
    """
    halves = sorted(PAPER_TABLE_ONE.index.unique("clients_per_round"))
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(halves), sharey=True)
    for axes, clients in zip(panels, halves, strict=True):
        _draw_half(axes, PAPER_TABLE_ONE.loc[[clients]])
        axes.set_title(f"{clients} clients a round")
    panels[0].set_ylabel("accuracy, %")
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle("the paper's Table 1: EMNIST-62")
    return figure


def table_plot(results: Sequence[CrossedTableOneResult], own: pd.DataFrame | None = None) -> Figure:
    """Table 1 at equal rounds and, beside it, at equal work: a row for each number of clients a round.

    A line is the mean of all held-out clients and training runs. A bar is the standard deviation over the
    runs of a fold. A star is an accuracy of one's own run, on the dotted line where another run of its fold
    is expected.

    Args:
        results: one for each fold and replicate, from `recorded_table_one`.
        own: the accuracies of one's own run (`YourTableOne.accuracies`).

    Raises:
        ValueError: as `table_one_spreads` does.

    Example:
        >>> table_plot(results)  # doctest: +SKIP
    """
    tables = {reading: table_one_spreads(results, reading) for reading in READINGS}
    halves = results[0].config.table.clients_per_round
    figure = Figure(figsize=(9, 0.6 + 2.8 * len(halves)), layout="constrained")
    grid = figure.subplots(len(halves), len(READINGS), sharey=True, squeeze=False)
    for row, clients in zip(grid, halves, strict=True):
        for axes, (reading, table) in zip(row, tables.items(), strict=True):
            _draw_half(axes, table.loc[[clients]])
            if own is not None:
                _draw_own(axes, own[(own.clients_per_round == clients) & (own.reading == reading)])
            axes.set_title(f"{clients} clients a round, {reading.replace('_', ' ')}")
        row[0].set_ylabel("accuracy, %")
    # Where the stars are, the legend names them as well.
    grid[0, 0].legend(frameon=False, fontsize=9)
    figure.suptitle(f"{results[0].label}: mean of held-out clients")
    return figure


def _draw_half(axes: Axes, half: pd.DataFrame) -> None:
    """Both accuracies over E, with bars for their spread over training runs."""
    epochs = half.index.get_level_values("local_epochs")
    for measure, style in STYLES.items():
        mean, spread = 100 * half[measure], 100 * half[f"{measure}_spread"]
        axes.errorbar(epochs, mean, spread, capsize=3, label=measure, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(epochs, [str(one) for one in epochs])
    axes.minorticks_off()
    axes.set_xlabel("local epochs E")
    axes.grid(alpha=0.3)


def _draw_own(axes: Axes, rows: pd.DataFrame) -> None:
    """Stars beside the lines, so that neither hides the other."""
    for place, measure in enumerate(BOTH):
        ours = rows[rows.measure == measure]
        beside = 1.08 * ours.local_epochs
        label = "your run" if place == 0 and len(ours) else None
        axes.plot(beside, 100 * ours.accuracy, linestyle="", zorder=4, label=label, **YOUR_STYLE)
        if "low" in ours:
            axes.vlines(beside, 100 * ours.low, 100 * ours.high, color="black", linestyle=":", linewidth=1)
