"""A drawing of two ways to compare how easily two models are personalized."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fl_meta.plots.style import styled

# Invented: how fast a model learns, when training ends, its initial accuracy then, and its gain.
_MODELS = {"A": (3.0, 1.0, 0.62, 0.20), "B": (5.0, 0.8, 0.76, 0.11)}
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
    for name, colour, marker in styled(list(_MODELS)):
        speed, end, last, gain = _MODELS[name]
        time = np.linspace(0, end, 200)
        initial = last * (1 - np.exp(-speed * time)) / (1 - np.exp(-speed * end))
        reached = float(np.interp(_TARGET, initial, time))
        for axes, at, accuracy in ((left, reached, _TARGET), (right, end, last)):
            axes.plot(time, initial, color=colour, linewidth=2)
            arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.5, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (at, accuracy + gain), (at, accuracy), arrowprops=arrow)
            axes.plot(at, accuracy, marker, color=colour, markersize=7)
            axes.annotate(name, (at, accuracy), (-4, -18), textcoords="offset points", color=colour, size=13)
        right.hlines(last + gain, end, 1.08, color=colour, linestyle=":")
    left.axhline(_TARGET, color="0.5", linestyle=":", linewidth=1)
    left.text(1.06, _TARGET - 0.02, "equal initial accuracy", ha="right", va="top", color="0.35", size=9)
    left.set_title("matched: whose arrow is longer?")
    right.set_title("best: whose arrow ends higher?")
    left.set_ylabel("accuracy")
    for axes in (left, right):
        axes.set(xlabel="training", xlim=(0, 1.08), ylim=(0, 0.97), xticks=[], yticks=[])
        axes.spines[["top", "right"]].set_visible(False)
    return figure
