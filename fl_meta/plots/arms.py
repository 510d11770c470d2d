"""What training and personalization do to the arms of the crossed design, in percent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fl_meta.evidence.crossed_rules import accuracies_by_fold
from fl_meta.evidence.paired_spreads import run_means
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.experiments.outcomes import BOTH
from fl_meta.plots.style import PALETTE


def arrow_plot(cells: Sequence[CrossedResult], arms: Sequence[str]) -> Figure:
    """Arrows from initial to personalized accuracy: a thick one per arm, and a thin one for each replicate.

    Args:
        cells: of one design, all folds of each replicate.
        arms: names of arms, from the top.

    Raises:
        KeyError: if the cells have no such arm.

    Example:
        >>> arrow_plot(recorded_cells(design, folder), [FEDAVG, CONTINUED, REPTILE])  # doctest: +SKIP
    """
    figure = Figure(figsize=(8, 0.62 * len(arms) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for row, arm in enumerate(arms):
        # [measures, replicates]: means over the folds, so that each has all clients.
        ends = 100 * np.array(
            [run_means(accuracies_by_fold(cells, [arm], measure)).mean(0) for measure in BOTH]
        )
        for i, (start, end) in enumerate(ends.T):
            y = row + 0.12 + 0.3 * i / ends.shape[1]
            axes.plot([start, end], [y, y], color="0.7", linewidth=1)
            axes.plot(end, y, marker=">" if end >= start else "<", color="0.7", markersize=3)
        start, end = ends.mean(1)
        style = {"arrowstyle": "-|>", "linewidth": 2.5, "color": PALETTE[0 if end >= start else 3]}
        axes.annotate("", (end, row - 0.08), (start, row - 0.08), arrowprops=style)
        axes.plot(start, row - 0.08, "o", color="black", markersize=4)
        text, tip = f"{start:.1f} → {end:.1f}", (max(start, end), row - 0.08)
        axes.annotate(text, tip, xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
    low, high = axes.get_xlim()
    axes.set(
        xlabel="accuracy on held-out clients, %: initial → personalized (thin: each replicate)",
        yticks=range(len(arms)),
        yticklabels=arms,
        ylim=(len(arms) - 0.4, -0.6),
        xlim=(low, high + 0.18 * (high - low)),
        title=f"{cells[0].label}, {cells[0].config.regime} regime",
    )
    axes.grid(alpha=0.3, axis="x")
    return figure
