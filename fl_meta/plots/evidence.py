"""All evidence on claims 2 and 3 in one figure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_meta.evidence.verdicts import MARKS
from fl_meta.plots.intervals import (
    AGAINST,
    BAND,
    EQUAL,
    FOR,
    LETTER,
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

COLOURS = {
    "reproduced": FOR,
    "reproduced, but small": FOR,
    "no difference": EQUAL,
    "undecided": OPEN,
    "premise not met": OPEN,
    "contradicted, but small": AGAINST,
    "contradicted": AGAINST,
}
"""All verdicts of an evidence table, with the colours of their text and of its background."""

ROW, WORDS = 0.145, 1.62  # inches: height of a data set's line, width of the longest verdict
HOW_TO_READ = (
    "Points of accuracy on held-out clients, with 95 % intervals (arrow: goes on). "
    "Grey: too small to matter. Hollow: undecided, or premise not met."
)
YOUR_RUN = "your run, and where another run of its fold is expected"
YOUR_STYLE: dict[str, Any] = {"color": "black", "marker": "*", "markersize": 8}


@dataclass(frozen=True)
class _Test:
    """Where a test is drawn, in inches below the upper end of the axes.

    Attributes:
        begin: where its statement begins.
        statement: in lines.
        places: of the data sets' lines.
    """

    claim: str
    begin: float
    statement: list[str]
    places: dict[str, float]


def forest_plot(evidence: pd.DataFrame, own: pd.DataFrame | None = None) -> Figure:
    """Every test of every claim: a line for each data set, and the two regimes side by side.

    The axis shows most intervals whole; where one goes on, there is an arrow. A marker is hollow where
    nothing is decided. A star is the effect in a run of one's own.

    Args:
        evidence: a row per test with the columns claim, statement, dataset, regime, verdict and, in points,
            effect, low, high and margin. Tests of a claim, whose names begin alike up to the dash, are drawn
            together; otherwise tests and data sets have the order in which they first occur.
        own: effects of one's own runs (`YourRun.effects`) of tests and data sets in the evidence.

    Raises:
        ValueError: if the table is empty, has a regime or a verdict that is unknown, or a test twice.

    Example:
        >>> forest_plot(evidence)  # doctest: +SKIP
    """
    known: dict[str, Collection[str]] = {"regime": REGIMES, "verdict": COLOURS}
    require_rows(evidence, "evidence", ["claim", "dataset", "regime"], known)
    styles = {
        name: {"color": colour, "marker": marker, "markersize": 5}
        for name, colour, marker in styled(list(evidence.dataset.unique()))
    }
    names = list(styles)
    legend = styles | ({YOUR_RUN: YOUR_STYLE | {"linestyle": ":"}} if own is not None else {})
    indent = MARGIN + 1.1 * LETTER * max(map(len, evidence.claim)) + 0.15
    tests, depth = _arranged(evidence, names, WIDTH - indent)
    legend_width = sum(LETTER * len(name) + 0.5 for name in legend)
    legend_lines = 1 if legend_width < WIDTH else 2
    top = 0.35 + 0.19 * legend_lines
    page = Page(WIDTH, top + depth + 0.52 + LINE * len(lines(HOW_TO_READ, WIDTH - 2 * MARGIN)))
    page.legend(legend, -(-len(legend) // legend_lines))
    page.caption(HOW_TO_READ)
    regimes = [regime for regime in REGIMES if regime in set(evidence.regime)]
    panel, span = (WIDTH - MARGIN) / len(regimes), limits(evidence, evidence.margin.max())
    for i, regime in enumerate(regimes):
        left, width = MARGIN + i * panel, panel - WORDS
        axes = page.axes(left, top, width, depth)
        axes.set(xlim=span, ylim=(depth, 0), yticks=[])
        axes.axvline(0, color="black", linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.tick_params(labelsize=SMALL)
        axes.grid(alpha=0.3, axis="x")
        axes.spines[["left", "top", "right"]].set_visible(False)
        page.text(left, top - 0.14, REGIMES[regime], fontsize=9.5, weight="bold")
        page.text(left, top + depth + 0.34, "← against the paper")
        page.text(left + width, top + depth + 0.34, "supports the paper →", ha="right")
        for test in tests:
            rows = evidence[(evidence.regime == regime) & (evidence.claim == test.claim)]
            _draw(axes, rows.set_index("dataset"), test.places, styles)
            if own is not None:
                _draw_own(axes, own[(own.regime == regime) & (own.claim == test.claim)], test.places)
    for test in tests:
        begin = top + test.begin
        page.strip(0, begin, WIDTH, _height(test.statement), "0.94")
        page.text(MARGIN, begin + 0.1, test.claim, weight="bold")
        for i, line in enumerate(test.statement):
            page.text(indent, begin + 0.1 + LINE * i, line)
    return page.figure


def _arranged(evidence: pd.DataFrame, names: list[str], width: float) -> tuple[list[_Test], float]:
    """All tests, one below the other, with statements of this width in inches; and their height."""
    tests, depth = [], 0.0
    # A test that the first data set lacks stays beside the other tests of its claim.
    for claim in sorted(evidence.claim.unique(), key=lambda claim: claim.partition("-")[0]):
        rows = evidence[evidence.claim == claim]
        statement = lines(rows.statement.iloc[0], width)
        first = depth + _height(statement) + 0.03
        tested = [name for name in names if name in set(rows.dataset)]
        places = {name: first + ROW * (i + 0.5) for i, name in enumerate(tested)}
        tests.append(_Test(claim, depth, statement, places))
        depth = first + ROW * len(tested) + 0.06
    return tests, depth


def _height(statement: list[str]) -> float:
    """Of the strip behind a statement, in inches."""
    return 0.05 + LINE * len(statement)


def _draw(
    axes: Axes, rows: pd.DataFrame, places: Mapping[str, float], styles: Mapping[str, dict[str, Any]]
) -> None:
    """A test in one regime, on all data sets: margins, effects with intervals, and verdicts at the right."""
    grey: dict[str, Any] = {"va": "center", "fontsize": SMALL, "color": "0.5"}
    if rows.empty:
        middle, box = sum(places.values()) / len(places), {"facecolor": "white", "linewidth": 0, "pad": 2}
        across = axes.get_yaxis_transform()
        axes.text(0.5, middle, "not tested in this regime", ha="center", bbox=box, transform=across, **grey)
        return
    at_the_right = {"xycoords": ("axes fraction", "data"), "xytext": (9, 0), "textcoords": "offset points"}
    words = grey | at_the_right
    for name, place in places.items():
        if name not in rows.index:
            axes.annotate("not tested", (1, place), **words)
    for dataset, row in rows.iterrows():
        place, style = places[str(dataset)], styles[str(dataset)]
        colours = COLOURS[row.verdict]
        face = "white" if colours == OPEN else style["color"]
        axes.barh(place, 2 * row.margin, ROW, -row.margin, color=BAND, linewidth=0, zorder=0)
        draw_interval(axes, place, row, {**style, "markerfacecolor": face})
        axes.annotate(f"{MARKS[row.verdict]} {row.verdict}", (1, place), **words | {"color": colours[0]})


def _draw_own(axes: Axes, rows: pd.DataFrame, places: Mapping[str, float]) -> None:
    """One's own runs; what is beyond the axis lies at its end."""
    first, last = axes.get_xlim()
    for dataset, *numbers in zip(rows.dataset, rows.effect, rows.low, rows.high, strict=True):
        place, (effect, *ends) = places[dataset], np.clip(numbers, first, last)
        axes.plot(ends, [place, place], color="black", linestyle=":", linewidth=1)
        axes.plot(effect, place, linestyle="", clip_on=False, zorder=4, **YOUR_STYLE)
