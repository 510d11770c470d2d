"""What figures of effects with intervals share: colours of verdicts, a page in inches, axes, intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from fl_meta.evidence.verdicts import COLOURS
from fl_meta.support.text_table import signed

REGIMES = {
    "stable": "stable: 20 clients a round, few local epochs",
    "unstable": "unstable: 5 clients a round, many local epochs",
}
"""The titles of the regimes."""

# Colours of text and of its background, as in the tables of verdicts; what is open has none here.
FOR, AGAINST, EQUAL = (COLOURS[word] for word in ("reproduced", "contradicted", "no difference"))
OPEN = ("0.4", "white")

WIDTH = 9.0  # inches: 900 pixels
MARGIN = 0.1
SMALL = 8  # points: the smallest text that can be read at this width
LETTER, LINE = 0.06, 0.15  # inches: the mean width of such a letter, the height of a line
BAND = "0.9"  # grey behind differences too small to matter


class Page:
    """A figure on which everything has its place in inches from the upper left corner.

    Example:
        >>> page = Page(9, 4)
        >>> axes = page.axes(1, 0.5, 7, 3)
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes of this size."""
        bottom = self.height - top - height
        place = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Text whose middle is at this height."""
        usual: dict[str, Any] = {"transform": self.figure.dpi_scale_trans, "va": "center", "fontsize": SMALL}
        self.figure.text(left, self.height - top, text, **usual | style)

    def strip(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A coloured rectangle, above all axes and below all text."""
        corner, place = (left, self.height - top - height), self.figure.dpi_scale_trans
        self.figure.add_artist(Rectangle(corner, width, height, transform=place, color=colour, linewidth=0))

    def caption(self, text: str) -> None:
        """Text in grey at the lower end, in `lines(text, self.width)` lines."""
        for i, line in enumerate(reversed(lines(text, self.width - 2 * MARGIN))):
            self.text(MARGIN, self.height - LINE * (i + 0.8), line, color="0.3")

    def legend(self, styles: Mapping[str, dict[str, Any]], columns: int) -> None:
        """A legend in the upper left corner: names with their lines and markers."""
        handles = [Line2D([], [], linewidth=1.5, label=name, **style) for name, style in styles.items()]
        place: dict[str, Any] = {"loc": "upper left", "ncols": columns, "borderaxespad": 0.2}
        self.figure.legend(handles=handles, frameon=False, fontsize=SMALL, **place)


def lines(text: str, width: float) -> list[str]:
    """Small text divided into lines of so many inches.

    Example:
        >>> lines("three words each", 0.7)
        ['three words', 'each']
    """
    return wrap(text, int(width / LETTER))


def limits(effects: pd.DataFrame, margin: float) -> tuple[float, float]:
    """Limits of an axis that shows most intervals whole: a few wide ones must not squeeze all others.

    Args:
        effects: with the columns low and high. NaN is left out.
        margin: below it effects do not matter; the axis shows more than it on both sides.

    Example:
        >>> limits(pd.DataFrame({"low": [-1, 0, 1, -40], "high": [1, 2, 3, 40]}), margin=1)
        (-7.5, 7.5)
    """
    reach = effects[["low", "high"]].abs().max(axis=1)
    least = 1.5 * margin
    most = np.nanmax([least, 3 * reach.median()])
    # An interval that ends within the axis does not touch its end.
    low, high = np.fmin(-least, 1.05 * effects.low.min()), np.fmax(least, 1.05 * effects.high.max())
    return float(max(low, -most)), float(min(high, most))


def draw_interval(
    axes: Axes, place: float, row: pd.Series[Any], style: Mapping[str, Any], *, vertical: bool = False
) -> None:
    """Draw an effect with its interval, and an arrow at the end of the axis where the interval goes on.

    An effect beyond the axis is a number beside the arrow. Where nothing was measured nothing is drawn.

    Args:
        axes: with limits that stay.
        place: where on the other axis.
        row: with effect, low and high.
        style: of the point; the line has its colour.
        vertical: the effect is on the vertical axis.
    """
    if np.isnan(row.effect):
        return

    def draw(values: Sequence[float], **how: Any) -> None:
        places = [place] * len(values)
        axes.plot(*((places, values) if vertical else (values, places)), **how)

    colour = style["color"]
    draw([row.low, row.high], color=colour, linewidth=1.5, solid_capstyle="butt")
    first, last = axes.get_ylim() if vertical else axes.get_xlim()
    arrow = {"color": colour, "linestyle": "", "markersize": 6, "clip_on": False}
    if row.low < first:
        draw([first], marker="v" if vertical else "<", **arrow)
    if row.high > last:
        draw([last], marker="^" if vertical else ">", **arrow)
    if first <= row.effect <= last:
        draw([row.effect], linestyle="", **style)
        return
    end, inwards = (first, 1) if row.effect < first else (last, -1)
    alignment: dict[str, Any] = {"ha": "center", "va": "bottom" if inwards > 0 else "top"}
    if not vertical:
        alignment = {"ha": "left" if inwards > 0 else "right", "va": "center"}
    axes.annotate(
        signed(row.effect),
        (place, end) if vertical else (end, place),
        xytext=(0, 6 * inwards) if vertical else (6 * inwards, 0),
        textcoords="offset points",
        fontsize=SMALL,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},
        **alignment,
    )


def require_rows(
    table: pd.DataFrame, name: str, key: Sequence[str], known: Mapping[str, Collection[str]]
) -> None:
    """Check a table before it is drawn.

    Args:
        table: the table.
        name: what it is called in errors.
        key: the columns that tell its rows apart.
        known: for some columns, the values that can be drawn.

    Raises:
        ValueError: if it is empty, has a value that is not known, or has two rows with the same key.
    """
    if table.empty:
        raise ValueError(f"the {name} table has no rows: there is nothing to draw")
    for column, values in known.items():
        if unknown := sorted(set(table[column]) - set(values)):
            raise ValueError(f"{column} {unknown[0]!r} of the {name} table is not one of {', '.join(values)}")
    if len(twice := table[table.duplicated(list(key))]):
        raise ValueError(f"the {name} table has two rows for {', '.join(twice.iloc[0][list(key)])}")
