"""Figures of the results of experiments. Each function returns a Figure; accuracies are in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fl_meta.claims import model_named
from fl_meta.plots import PALETTE

Results = Sequence[dict[str, Any]]
MARKERS = "osD^vPX"


def _percent(results: Results, name: str) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """For each seed a model's accuracies [epochs + 1, clients]."""
    return [100 * np.array(model_named(result, name)["accuracy"]) for result in results]


def arrow_plot(results: Results, names: Sequence[str]) -> Figure:
    """From initial to personalized accuracy: one thick arrow per model, and a thin one for each seed.

    Args:
        results: of a comparison, one per seed.
        names: of models, from top to bottom.
    """
    figure = Figure(figsize=(8, 0.62 * len(names) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        ends = np.array([accuracy[[0, -1]].mean(1) for accuracy in _percent(results, name)])
        for i, (start, end) in enumerate(ends):
            y = row + 0.12 + 0.3 * i / len(ends)
            axes.plot([start, end], [y, y], color="0.7", linewidth=1)
            axes.plot(end, y, marker=">" if end >= start else "<", color="0.7", markersize=3)
        start, end = ends.mean(0)
        style = {"arrowstyle": "-|>", "linewidth": 2.5, "color": PALETTE[0 if end >= start else 3]}
        axes.annotate("", (end, row - 0.08), (start, row - 0.08), arrowprops=style)
        axes.plot(start, row - 0.08, "o", color="black", markersize=4)
        axes.text(max(start, end) + 0.4, row - 0.08, f"{start:.1f} → {end:.1f}", va="center", fontsize=9)
    low, high = axes.get_xlim()
    axes.set(
        xlabel="accuracy on held-out clients, %: initial → personalized (thin: each seed)",
        yticks=range(len(names)),
        yticklabels=names,
        ylim=(len(names) - 0.4, -0.6),
        xlim=(low, high + 0.16 * (high - low)),
        title=results[0]["data"]["label"],
    )
    axes.grid(alpha=0.3, axis="x")
    return figure


def plane_plot(results: Results, names: Sequence[str]) -> Figure:
    """The ways of several methods from one start in the plane of initial and personalized accuracy.

    Means over the seeds; a marker for each evaluation, the largest at the end.

    Args:
        results: of a comparison, one per seed.
        names: of courses after the fork.
    """
    figure = Figure(figsize=(6.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for name, colour, marker in zip(names, PALETTE, MARKERS, strict=False):
        way = 100 * np.mean(
            [[[p["initial"], p["personalized"]] for p in result["courses"][name]] for result in results],
            axis=0,
        )
        axes.plot(*way.T, color=colour, marker=marker, markersize=4, label=name)
        axes.plot(*way[-1], color=colour, marker=marker, markersize=10)
    axes.set(
        xlabel="initial accuracy, %",
        ylabel="personalized accuracy, %",
        title=f"{results[0]['data']['label']}: round by round after the fork",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return figure
