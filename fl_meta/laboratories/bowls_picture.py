"""Two bowls and the points between them, as a picture and as a panel."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.bowls import steep_and_flat
from fl_meta.laboratories.panel import Panel, slider
from fl_meta.plots.style import PALETTE

_REACH, _HEIGHT = 2.8, 3.0
_COLOURS = {"steep client": PALETTE[0], "flat client": PALETTE[1]}


def two_bowls(*, distance: float = 3.0, steepness: float = 4.0, steps: int = 3) -> Panel:
    """Two clients' losses before and after adaptation: the best average model, and the best start.

    Args:
        distance: between the clients' optima.
        steepness: how many times as steep the left bowl is as the right one.
        steps: K, of each client's adaptation, and of FedAvg's clients in a round.

    Raises:
        ValueError: if a value is out of its control's bounds.

    Example:
        >>> panel = two_bowls(steepness=1.0)  # doctest: +SKIP
        >>> panel.set(steps=10)  # doctest: +SKIP
    """
    controls = {
        "distance": slider("distance of the optima", distance, 0.0, 4.0, 0.25),
        "steepness": slider("times as steep", steepness, 1.0, 9.0, 0.5),
        "steps": slider("steps K", steps, 1, 12, 1),
    }
    return Panel("two_bowls", controls, BowlsPicture().show)


class _Side:
    """The artists of one of the two axes: the bowls, their mean, and the points on it."""

    def __init__(self, axes: Axes) -> None:
        axes.set(xlim=(-_REACH, _REACH), ylim=(-0.1, _HEIGHT), yticks=range(4))
        axes.set_xlabel("parameter θ, the same for both clients at the start", fontsize=12)
        axes.tick_params(labelsize=11)
        axes.grid(alpha=0.3)
        self._title = axes.set_title("", fontsize=13)
        self._bowls = [
            axes.plot([], [], color=colour, linewidth=1.8, label=name)[0] for name, colour in _COLOURS.items()
        ]
        (self._mean,) = axes.plot([], [], color="black", linewidth=2.5, label="mean of both")
        style: dict[str, Any] = {"linestyle": "", "color": "black", "markeredgecolor": "white"}
        self._points = [
            axes.plot([], [], marker=marker, markersize=size, label=name, **style)[0]
            for name, marker, size in (
                ("best average (FedSGD)", "o", 12),
                ("FedAvg(K) comes to rest", "s", 11),
                ("best start for K steps", "*", 19),
            )
        ]
        # The best start may lie above the picture on the left; its place is seen in any case.
        self._place = axes.axvline(0, color="black", linestyle=":", linewidth=1.2)
        self.named = [*self._bowls, self._mean, *self._points]
        self.moving = [self._place, *self.named, self._title]

    def show(self, title: str, at: np.ndarray, losses: np.ndarray, points: list[tuple[float, float]]) -> None:
        """Show losses [places, clients] at places [places], and the points (place, mean loss)."""
        self._title.set_text(title)
        for line, of_client in zip(self._bowls, losses.T, strict=True):
            line.set_data(at, of_client)
        self._mean.set_data(at, losses.mean(1))
        for mark, (place, loss) in zip(self._points, points, strict=True):
            mark.set_data([place], [loss])
        self._place.set_xdata([points[-1][0]] * 2)


class BowlsPicture:
    """Losses at a common point on the left, after each client's own steps from there on the right.

    The figure is made once; `show` only moves its lines.
    """

    def __init__(self) -> None:
        self._figure = Figure(figsize=(10.4, 4.9))
        left, right = self._figure.subplots(1, 2, sharey=True)
        self._figure.subplots_adjust(0.06, 0.32, 0.995, 0.93, 0.06)
        left.set_ylabel("loss", fontsize=12)
        self._before, self._after = _Side(left), _Side(right)
        style = {"color": "0.35", "linestyle": "", "marker": ".", "markersize": 9}
        self._ways = [left.plot([], [], **style)[0] for _ in _COLOURS]
        self._ways[0].set_label("each client's K steps from the best average")
        handles = [*self._before.named, self._ways[0]]
        self._figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=11)
        animate(self._before.moving, self._after.moving, self._ways)

    def show(self, distance: float, steepness: float, steps: int) -> tuple[Figure, str]:
        """The figure for these settings, and its words as HTML."""
        bowls = steep_and_flat(distance, steepness)
        average, start = bowls.best_average(), bowls.best_start(steps)
        places = np.array([average, bowls.resting_point(steps), start])
        at = np.linspace(-_REACH, _REACH, 301)
        means = []
        for side, number, title in (
            (self._before, 0, "before adaptation"),
            (self._after, steps, f"after {steps} step{'s' if steps > 1 else ''} of each client"),
        ):
            mean = bowls.losses(places[:, None], number).mean(1)
            side.show(title, at, bowls.losses(at[:, None], number), list(zip(places, mean, strict=True)))
            means.append(mean)
        ways = np.stack([bowls.adapted(np.array([average]), number) for number in range(steps + 1)])
        heights = 0.5 * bowls.curvatures * (ways - bowls.optima) ** 2
        for line, x, y in zip(self._ways, ways.T, heights.T, strict=True):
            line.set_data(x, y)
        (before_average, _, before_start), (after_average, after_rest, after_start) = means
        local = f"{steps} local step{'s' if steps > 1 else ''}"
        words = (
            f"<b>Best average model</b>, θ = {average:.2f}: mean loss {before_average:.2f}, and "
            f"{after_average:.2f} after adaptation. <b>Best start</b>, θ = {start:.2f}: {before_start:.2f}, "
            f"and {after_start:.2f} after. To start from the best average costs "
            f"{after_average - after_start:.2f}. FedAvg with {local} comes to rest at θ = {places[1]:.2f}: "
            f"{after_rest:.2f} after adaptation."
        ).replace("-", "−")
        return self._figure, words
