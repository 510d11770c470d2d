"""A drawing of two ways to compare how easily two models are personalized."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fl_meta.plots.style import styled
from fl_meta.support.array_types import FloatArray

# Invented: how fast a model learns, its initial accuracy in the end, and what personalization then adds.
_MODELS = {"A": (3.0, 0.62, 0.20), "B": (6.0, 0.76, 0.11)}
_TARGET = 0.55  # the initial accuracy at which the left drawing compares


def matched_and_best_cartoon() -> Figure:
    """Two invented learning curves twice: compared at equal initial accuracy, and each at its end.

    An arrow leads from an initial accuracy to the personalized one. At equal initial accuracy the arrows'
    lengths are compared, at the end their tips; in this drawing the two answers differ.

    Example:
        >>> figure = matched_and_best_cartoon()
    """
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    time = np.linspace(0, 1, 200)
    for name, colour, marker in styled(list(_MODELS)):
        initial = _initial(name, time)
        reached = float(np.interp(_TARGET, initial, time))
        style = {"color": colour, "marker": marker}
        for axes, at in ((left, reached), (right, 1.0)):
            axes.plot(time, initial, color=colour, linewidth=2)
            _gain(axes, at, float(_initial(name, np.array(at))), _MODELS[name][2], style)
        left.annotate(name, (reached, _TARGET), (7, -15), textcoords="offset points", color=colour, size=13)
        right.annotate(name, (1, initial[-1]), (-3, -17), textcoords="offset points", color=colour, size=13)
    left.axhline(_TARGET, color="0.5", linestyle=":", linewidth=1)
    left.text(1.06, _TARGET - 0.015, "equal initial accuracy", ha="right", va="top", color="0.35")
    left.set_title("matched: whose arrow is longer?")
    right.set_title("best: whose arrow ends higher?")
    left.set_ylabel("accuracy")
    for axes in (left, right):
        axes.set(xlabel="training", xlim=(0, 1.08), ylim=(0, 0.97), xticks=[], yticks=[])
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _initial(name: str, time: FloatArray) -> FloatArray:
    speed, end, _ = _MODELS[name]
    curve: FloatArray = end * (1 - np.exp(-speed * time)) / (1 - np.exp(-speed))
    return curve


def _gain(axes: Axes, at: float, initial: float, gain: float, style: dict[str, Any]) -> None:
    """An arrow from the initial to the personalized accuracy."""
    arrow = {"arrowstyle": "-|>", "color": style["color"], "linewidth": 2.5, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (at, initial + gain), (at, initial), arrowprops=arrow)
    axes.plot(at, initial, linestyle="", markersize=7, **style)
