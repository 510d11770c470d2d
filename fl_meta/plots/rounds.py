"""A drawing of one round: what the server sends, what the clients do, what they send back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from fl_meta.algorithms.optimizers import Adam
from fl_meta.algorithms.sent import SentGradients, formula_of
from fl_meta.algorithms.table import Algorithm
from fl_meta.plots.style import PALETTE
from fl_meta.support.array_types import Array

_STEPS = 4  # drawn where the local work is counted in epochs
_MOST_STEPS = 6
_CLIENTS = {"A": (60, (0.10, 0.22, 0.06)), "B": (25, (0.02, -0.2, 0.12)), "C": (40, (-0.15, 0.1, -0.1))}
_SENT, _NOT_SENT = PALETTE[0], "0.6"


def round_diagram(algorithm: Algorithm) -> Figure:
    """Draw one round of an algorithm with three clients, and mark the inner gradients that are sent.

    A client's local steps are arrows: thick and blue if the gradient is sent to the server, grey if not. The
    last gradient of FOMAML and MAML is drawn dashed, because no step follows it. Work that is counted in
    epochs is drawn as four steps.

    Raises:
        ValueError: if a client takes more than six steps, which would be too small to see.

    Example:
        >>> figure = round_diagram(fl_meta.fomaml(3))
    """
    count = algorithm.planned_steps or _STEPS
    if count > _MOST_STEPS:
        raise ValueError(f"{algorithm.name} takes {count} local steps; draw at most {_MOST_STEPS}")
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 10), ylim=(0, 4.4), title=f"one round of {algorithm.name}")
    axes.set_axis_off()
    _server(axes, algorithm)
    for height, (name, (examples, bends)) in zip((3.65, 2.2, 0.75), _CLIENTS.items(), strict=True):
        _client(axes, algorithm, f"client {name}: {examples} examples", height, _path(count, bends))
    middle: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    }
    axes.text(3.55, 2.42, r"$\theta$", fontsize=13, **middle)
    axes.text(4.1, 1.98, _formula(algorithm, count), color=_SENT, fontsize=11, **middle)
    return figure


def _server(axes: Axes, algorithm: Algorithm) -> None:
    _box(axes, 0.1, 1.15, 2.2, 2.1)
    weights = "weighted by examples" if algorithm.weights == "examples" else "all clients equal"
    server = algorithm.server
    momentum = "" if isinstance(server, Adam) or not server.momentum else " with momentum"
    step = f"then a step with\n{'Adam' if isinstance(server, Adam) else 'SGD'}{momentum}"
    axes.text(1.2, 2.92, r"server: $\theta$", ha="center", va="center", fontsize=12, fontweight="bold")
    words = f"mean of what arrives,\n{weights};\n{step}"
    axes.text(1.2, 1.95, words, ha="center", va="center", fontsize=9.5)


def _client(axes: Axes, algorithm: Algorithm, title: str, height: float, path: Array) -> None:
    left, right = 5.75, 9.9
    _box(axes, left, height - 0.6, right - left, 1.2)
    axes.text(left + 0.1, height + 0.42, title, fontsize=9.5, va="center")
    points = path * (right - left - 0.75, 1.0) + (left + 0.4, height - 0.3)
    for number, (start, end) in enumerate(pairwise(points), start=1):
        last, sent = number == len(points) - 1, _is_sent(algorithm, number, len(points) - 1)
        _arrow(
            axes,
            start,
            end,
            color=_SENT if sent else _NOT_SENT,
            linewidth=3 if sent else 1.5,
            linestyle="--" if last and algorithm.sends_last else "-",
        )
        x, y = (start + end) / 2
        axes.text(x, y + 0.22, f"$g_{number}$", color=_SENT if sent else "0.4", ha="center", va="center")
    axes.plot(*points[0], "o", color="black", markersize=5)
    gate = 2.2 + (height - 2.2) * 0.25
    _arrow(axes, (2.4, gate + 0.12), (left - 0.08, height + 0.12), color="0.3", linewidth=1.2)
    _arrow(axes, (left - 0.08, height - 0.18), (2.4, gate - 0.18), color=_SENT, linewidth=1.8)


def _is_sent(algorithm: Algorithm, number: int, count: int) -> bool:
    if algorithm.sends is SentGradients.FIRST:
        return number == 1
    return number == count or not algorithm.sends_last


def _formula(algorithm: Algorithm, count: int) -> str:
    if algorithm.sends is SentGradients.SUM:
        return "$" + " + ".join(f"g_{number}" for number in range(1, count + 1)) + "$"
    if algorithm.sends is SentGradients.LAST_THROUGH_STEPS:
        product = "".join(rf"(I - \beta H_{number})" for number in range(1, count))
        return rf"${product}\,g_{count}$"
    if isinstance(algorithm.sends, SentGradients):
        return f"$g_{1 if algorithm.sends is SentGradients.FIRST else count}$"
    return formula_of(algorithm.sends)


def _path(count: int, bends: tuple[float, ...]) -> NDArray[np.float64]:
    """Points [count + 1, 2] of a path from left to right that bends a little."""
    along = np.linspace(0, count / _MOST_STEPS, count + 1) ** 0.8
    height = sum(bend * np.sin((k + 1) * np.pi * along) for k, bend in enumerate(bends))
    return np.stack([along, 0.8 * height], axis=1)


def _box(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    shape = "round,pad=0,rounding_size=0.12"
    box = FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor="0.97", edgecolor="0.5")
    axes.add_patch(box)


def _arrow(axes: Axes, start: Any, end: Any, **look: Any) -> None:
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11, **look}
    axes.annotate("", end, start, arrowprops=style)
