"""What tuning for global accuracy alone gives and what it costs, in one figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_meta.experiments.outcomes import BOTH
from fl_meta.plots.intervals import (
    FOR,
    LINE,
    MARGIN,
    REGIMES,
    SMALL,
    WIDTH,
    Page,
    draw_interval,
    limits,
    lines,
    require_rows,
)
from fl_meta.plots.style import styled

ACROSS, UP = 3.6, 2.3  # inches: a plot
LEFT, GAP, BELOW, TITLE = 0.75, 0.75, 0.6, 0.55  # inches: left of the first plot, between two, below, above
IN_A_LINE = 4  # names in the legend
HERE = "rival == @rival and regime == @regime and dataset == @name"
LEAST = 1.0  # points; the axes show more than this on both sides
CORNERS = {
    (1, -1): "the claim: better at first,\nworse once personalized",
    (1, 1): "better at first,\nand once personalized",
    (-1, 1): "premise not met:\nnot better at first",
}
"""What it means to lie in a quarter, by the signs of the two differences."""
HOW_TO_READ = (
    "Both axes: the rival minus Reptile with Adam, in points of accuracy on held-out clients, with 95 % "
    "intervals (arrow: goes on)."
)


def price_plot(rivals: pd.DataFrame) -> Figure:
    """Rivals that are tuned for global accuracy, minus Reptile: initial accuracy across, personalized up.

    A price is paid in the lower right quarter: there a rival is better at first and worse once personalized.
    A plot for each rival and regime, a cross of two intervals for each data set.

    Args:
        rivals: a row per rival, data set, regime and measure with the columns rival, dataset, regime, measure
            and, in points, effect, low and high.

    Raises:
        ValueError: if the table is empty, has an unknown regime or measure, or a row twice.

    Example:
        >>> price_plot(rival_table(recorded_designs(folder).values()))  # doctest: +SKIP
    """
    require_rows(
        rivals, "rival", ["rival", "dataset", "regime", "measure"], {"regime": REGIMES, "measure": BOTH}
    )
    names = list(rivals.dataset.unique())
    styles: dict[str, dict[str, Any]] = {
        name: {"color": colour, "marker": marker, "markersize": 6} for name, colour, marker in styled(names)
    }
    regimes = [regime for regime in REGIMES if regime in set(rivals.regime)]
    legend_lines = -(-len(names) // IN_A_LINE)
    top, row = 0.15 + 0.19 * legend_lines, TITLE + UP + BELOW
    caption = LINE * len(lines(HOW_TO_READ, WIDTH - 2 * MARGIN))
    page = Page(WIDTH, top + row * len(regimes) + caption)
    page.legend(styles, IN_A_LINE)
    page.caption(HOW_TO_READ)
    span = limits(rivals, LEAST)
    for regime in regimes:
        page.strip(0, top, WIDTH, 0.2, "0.94")
        page.text(MARGIN, top + 0.1, REGIMES[regime], weight="bold")
        for i, rival in enumerate(rivals.rival.unique()):
            left = LEFT + i * (ACROSS + GAP)
            page.text(left + ACROSS / 2, top + 0.4, f"{rival} minus Reptile", ha="center", weight="bold")
            axes = page.axes(left, top + TITLE, ACROSS, UP)
            axes.set(xlim=span, ylim=span)
            axes.set_xlabel("initial accuracy", fontsize=SMALL)
            axes.set_ylabel("personalized accuracy", fontsize=SMALL)
            _quarters(axes)
            for name in names:
                of = {str(one["measure"]): one for _, one in rivals.query(HERE).iterrows()}
                if of:
                    _cross(axes, of["initial"], of["personalized"], styles[name])
        top += row
    return page.figure


def _quarters(axes: Axes) -> None:
    """Lines through 0, and what the quarters mean."""
    first, last = axes.get_xlim()
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.fill_between([0, last], 0, first, color=FOR[1], linewidth=0, zorder=0)
    axes.fill_between([first, 0], first, last, color="0.94", linewidth=0, zorder=0)
    for (right, above), words in CORNERS.items():
        # Above the intervals, which may be long.
        style: dict[str, Any] = {"fontsize": SMALL, "color": "0.2", "transform": axes.transAxes, "zorder": 5}
        style["bbox"] = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2}
        style["ha"], style["va"] = ("right" if right > 0 else "left"), ("top" if above > 0 else "bottom")
        axes.text(0.97 if right > 0 else 0.03, 0.97 if above > 0 else 0.03, words, **style)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.3)


def _cross(axes: Axes, across: pd.Series[Any], up: pd.Series[Any], style: dict[str, Any]) -> None:
    """The two intervals of a rival, which cross at its point."""
    first, last = axes.get_xlim()
    draw_interval(axes, float(np.clip(up.effect, first, last)), across, style)
    draw_interval(axes, float(np.clip(across.effect, first, last)), up, style, vertical=True)
