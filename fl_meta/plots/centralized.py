"""FedAvg beside every centralized optimizer, in one figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_meta.experiments.crossed_settings import CENTRALIZED, CENTRALIZED_SGD
from fl_meta.plots.intervals import (
    BAND,
    LINE,
    MARGIN,
    SMALL,
    WIDTH,
    Page,
    draw_interval,
    limits,
    lines,
    require_rows,
)
from fl_meta.plots.style import styled

NAMES = {arm: arm.removeprefix("centralized ") for arm in CENTRALIZED}
COMPARISONS = {
    "matched": "matched: difference of the gains",
    "best": "best: difference of the personalized accuracies",
}
HOW_TO_READ = (
    "Points, with 95 % intervals that are not corrected for several tests (arrow: goes on). Grey: too small "
    f"to matter. The claim is decided with {NAMES[CENTRALIZED_SGD]}, the first row."
)
_ROW, _LEFT = 0.17, 1.35  # inches: height of a data set's line, width of the optimizers' names


def centralized_figure(rivals: pd.DataFrame) -> Figure:
    """Both comparisons of claim 3 with each centralized optimizer; a colour for each data set.

    Args:
        rivals: as `centralized_table` gives it: the columns dataset, arm, comparison, margin, effect, low and
            high.

    Raises:
        ValueError: if the table is empty, has an arm or a comparison that is unknown, or one twice.

    Example:
        >>> centralized_figure(centralized_table([recorded_cells(design, folder)]))  # doctest: +SKIP
    """
    known = {"arm": CENTRALIZED, "comparison": tuple(COMPARISONS)}
    require_rows(rivals, "rival", ["dataset", "arm", "comparison"], known)
    styles = {
        name: {"color": colour, "marker": marker, "markersize": 5}
        for name, colour, marker in styled(list(rivals.dataset.unique()))
    }
    height = _ROW * (len(styles) + 0.8)  # of an optimizer
    depth = height * len(CENTRALIZED)
    page = Page(WIDTH, 0.62 + depth + 0.5 + LINE * len(lines(HOW_TO_READ, WIDTH - 2 * MARGIN)))
    page.legend(styles, len(styles))
    page.caption(HOW_TO_READ)
    for row, arm in enumerate(CENTRALIZED):
        weight = "bold" if arm == CENTRALIZED_SGD else "normal"
        page.text(MARGIN, 0.62 + height * (row + 0.5), NAMES[arm], weight=weight)
    panel = (WIDTH - _LEFT - MARGIN) / len(COMPARISONS)
    for i, (comparison, title) in enumerate(COMPARISONS.items()):
        rows = rivals[rivals.comparison == comparison]
        left, margin = _LEFT + i * panel, rivals.margin.max()
        axes = page.axes(left, 0.62, panel - 0.2, depth)
        axes.set(xlim=limits(rows, margin), ylim=(len(CENTRALIZED), 0), yticks=[])
        axes.axvspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.tick_params(labelsize=SMALL)
        axes.spines[["left", "top", "right"]].set_visible(False)
        page.text(left, 0.48, title, fontsize=9)
        page.text(left, 0.62 + depth + 0.34, "← centralized is better")
        page.text(left + panel - 0.2, 0.62 + depth + 0.34, "FedAvg is better →", ha="right")
        for dataset, arm, *numbers in rows[["dataset", "arm", "effect", "low", "high"]].itertuples(
            index=False
        ):
            line = (list(styles).index(dataset) + 0.9) / (len(styles) + 0.8)
            effect = pd.Series(numbers, index=["effect", "low", "high"])
            draw_interval(axes, CENTRALIZED.index(arm) + line, effect, styles[dataset])
    return page.figure
