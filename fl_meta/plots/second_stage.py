"""The second stage taken apart, in one figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_meta.evidence.verdicts import MARKS
from fl_meta.experiments.crossed_settings import (
    CONTINUED,
    SERVERS,
    UPDATES,
    Update,
    second_stage_arm,
    second_stage_arms,
)
from fl_meta.experiments.outcomes import BOTH
from fl_meta.plots.intervals import (
    AGAINST,
    BAND,
    EQUAL,
    FOR,
    LINE,
    MARGIN,
    OPEN,
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

CAUSES = {
    "helps": (MARKS["reproduced"], FOR),
    "helps, but small": (MARKS["reproduced, but small"], FOR),
    "no difference": (MARKS["no difference"], EQUAL),
    "undecided": (MARKS["undecided"], OPEN),
    "harms, but small": (MARKS["contradicted, but small"], AGAINST),
    "harms": (MARKS["contradicted"], AGAINST),
}
"""All verdicts of a cause table, each with its mark and the colours of its text and of its background."""
CONTRASTS = {
    "Reptile's update instead of FedAvg's": "update: Reptile's vs. FedAvg's",
    "smaller server rate instead of as before": "server: smaller vs. same rate",
    "Adam instead of as before": "server: Adam vs. same rate",
    "Adam instead of smaller rate": "server: Adam vs. smaller rate",
}
"""All contrasts of a cause table, and what they are called beside the verdicts."""
TICKS = ("same\nrate", "smaller\nrate", "Adam")  # of SERVERS

GUTTER, GAP, WIDEST = 1.92, 0.05, 2.0  # inches: left of all columns, between them, the widest column
PLOT, BELOW, CELL = 1.15, 0.36, 0.155  # inches: height of a plot, of what is below its axis, of a verdict
BLOCK = PLOT + BELOW + CELL * len(CONTRASTS) + 0.15
NAMES, TITLE = 0.5, 0.27  # inches: height of the data sets' names, of a regime's title
HOW_TO_READ = (
    "Where the lines rise, the server's optimizer brings the gain; where Reptile's is above FedAvg's, "
    "the update does. Vertical: 95 % intervals (arrow: goes on). Grey: too small to matter."
)


def second_stage_figure(arms: pd.DataFrame, causes: pd.DataFrame) -> Figure:
    """What makes the second stage better: the clients' update, or the server's optimizer?

    A column for each data set and, for each regime and measure, a plot above the verdicts on its contrasts.
    A line is an update, and its points are servers.

    Args:
        arms: a row per arm with the columns dataset, regime, measure, arm (of `second_stage_arm`) and, in
            points, effect, low and high: the arm minus FedAvg continued as before. That one is drawn at 0.
        causes: a row per contrast with the columns dataset, regime, measure, contrast, verdict, and margin in
            points.

    Raises:
        ValueError: if a table is empty, has something unknown, or the same arm or contrast twice.

    Example:
        >>> second_stage_figure(arms, causes)  # doctest: +SKIP
    """
    place = ["dataset", "regime", "measure"]
    known: dict[str, Any] = {"regime": REGIMES, "measure": BOTH}
    require_rows(arms, "arm", [*place, "arm"], known | {"arm": second_stage_arms()})
    require_rows(causes, "cause", [*place, "contrast"], known | {"contrast": CONTRASTS, "verdict": CAUSES})
    names = list(arms.dataset.unique())
    regimes = [regime for regime in REGIMES if regime in set(arms.regime)]
    column = min(WIDEST, (WIDTH - GUTTER) / len(names))
    width = GUTTER + column * len(names)
    height = NAMES + len(regimes) * (TITLE + len(BOTH) * BLOCK)
    page = Page(width, height + LINE * len(lines(HOW_TO_READ, width - 2 * MARGIN)))
    page.legend({f"{update}'s update": style for update, style in _styles().items()}, 1)
    page.caption(HOW_TO_READ)
    for i, name in enumerate(names):
        middle = GUTTER + column * (i + 0.5) - GAP / 2
        page.text(middle, NAMES / 2, name.replace(", ", ",\n"), ha="center", weight="bold")
    top = NAMES
    for regime in regimes:
        page.strip(0, top, width, 0.2, "0.94")
        page.text(MARGIN, top + 0.1, REGIMES[regime], weight="bold")
        top += TITLE
        for measure in BOTH:
            here = f"regime == '{regime}' and measure == '{measure}'"
            _block(page, top, column, names, arms.query(here), causes.query(here))
            page.text(MARGIN, top + 0.1, f"{measure} accuracy", weight="bold")
            top += BLOCK
    return page.figure


def _styles() -> dict[Update, dict[str, Any]]:
    """How the lines and markers of the updates look."""
    return {
        update: {"color": colour, "marker": marker, "markersize": 4.5}
        for update, (_, colour, marker) in zip(UPDATES, styled(UPDATES), strict=True)
    }


def _block(
    page: Page, top: float, column: float, names: list[str], arms: pd.DataFrame, causes: pd.DataFrame
) -> None:
    """One measure in one regime: a plot for each data set, and below it the verdicts."""
    cells = top + PLOT + BELOW
    page.text(MARGIN, top + 0.34, "points above FedAvg\ncontinued as before", color="0.3")
    page.text(GUTTER - 0.12, top + PLOT + 0.11, "server:", ha="right", color="0.3")
    for j, title in enumerate(CONTRASTS.values()):
        page.text(GUTTER - 0.12, cells + CELL * (j + 0.5), title, ha="right")
    # The reference has no interval, and a data set with small effects must not cut off those of another.
    others = arms[arms.arm != CONTINUED]
    spans = [limits(of_one, causes.margin.max()) for _, of_one in others.groupby("dataset")]
    span = (min(low for low, _ in spans), max(high for _, high in spans))
    labelled = False
    for i, name in enumerate(names):
        left, width = GUTTER + column * i, column - GAP
        if name not in set(arms.dataset):
            page.text(left + width / 2, top + PLOT / 2, "not tested", ha="center", color="0.5")
            continue
        here = causes[causes.dataset == name].set_index("contrast")
        axes = page.axes(left, top, width, PLOT)
        axes.set(xlim=(-0.36, len(SERVERS) - 0.64), ylim=span)
        axes.axhspan(-here.margin.max(), here.margin.max(), color=BAND, linewidth=0, zorder=0)
        _plot(axes, arms[arms.dataset == name].set_index("arm"))
        axes.tick_params(axis="y", left=not labelled, labelleft=not labelled)
        labelled = True
        for j, contrast in enumerate(CONTRASTS):
            if contrast in here.index:
                verdict = here.verdict[contrast]
                mark, (colour, background) = CAUSES[verdict]
                page.strip(left, cells + CELL * j + 0.005, width, CELL - 0.01, background)
                page.text(left + 0.02, cells + CELL * (j + 0.5), f"{mark} {verdict}", color=colour)


def _plot(axes: Axes, arms: pd.DataFrame) -> None:
    """A line for each update over the servers; FedAvg continued as before, to which all is compared, at 0."""
    axes.axhline(0, color="black", linewidth=0.8)
    for (update, style), shift in zip(_styles().items(), (-0.07, 0.07), strict=True):
        rows = arms.reindex([second_stage_arm(update, server) for server in SERVERS])
        if CONTINUED in rows.index:
            rows.loc[CONTINUED, ["effect", "low", "high"]] = 0.0
        places = np.arange(len(SERVERS)) + shift
        axes.plot(places, rows.effect, color=style["color"], linewidth=1)
        for place, (_, row) in zip(places, rows.iterrows(), strict=True):
            draw_interval(axes, place, row, style, vertical=True)
    axes.set_xticks(range(len(SERVERS)), TICKS)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=SMALL, length=2, pad=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, axis="y")
