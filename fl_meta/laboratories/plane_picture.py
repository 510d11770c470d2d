"""A federation in the plane, as a picture and as a panel."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.sent import formula_of
from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.panel import Panel, choice, slider
from fl_meta.laboratories.plane import PLANE_ALGORITHMS, SERVERS, START, quadratics, train_in_plane
from fl_meta.plots.style import PALETTE

ROUNDS_IN_PLANE = 60
_WIDTH, _HEIGHT = 3.7, 2.9
_CONTOUR = 0.05  # a client's loss on the rim of its ellipse


def federation_in_the_plane(
    *,
    algorithm: str = "FedAvg",
    steps: int = 5,
    client_rate: float = 0.3,
    server: str = "SGD",
    server_rate: float = 1.0,
    heterogeneity: float = 1.0,
    rounds: int = 30,
) -> Panel:
    """Five clients with quadratic losses: the server's path, and one adaptation step of each client.

    The arguments are the first settings of the controls.

    Args:
        algorithm: a key of `PLANE_ALGORITHMS`.
        steps: local steps K.
        client_rate: the clients' learning rate β.
        server: a key of `SERVERS`.
        server_rate: the server's learning rate.
        heterogeneity: from 0, where all clients have the same loss, to 1.
        rounds: number of rounds.

    Raises:
        ValueError: if a value is out of its control's bounds.

    Example:
        >>> panel = federation_in_the_plane(algorithm="MAML", steps=2)  # doctest: +SKIP
        >>> panel.set(heterogeneity=0.5)  # doctest: +SKIP
    """
    controls = {
        "algorithm": choice("algorithm", algorithm, tuple(PLANE_ALGORITHMS)),
        "steps": slider("local steps K", steps, 1, 10, 1),
        "client_rate": slider("client rate β", client_rate, 0.02, 0.6, 0.02),
        "server": choice("server optimizer", server, tuple(SERVERS)),
        "server_rate": slider("server rate", server_rate, 0.05, 2.0, 0.05),
        "heterogeneity": slider("heterogeneity (0: alike)", heterogeneity, 0.0, 1.0, 0.05),
        "rounds": slider("rounds", rounds, 1, ROUNDS_IN_PLANE, 1),
    }
    picture = PlanePicture()

    def draw(**values: Any) -> tuple[Figure, str]:
        controls["steps"].disabled = values["algorithm"] == "FedSGD"
        return picture.show(**values)

    return Panel("federation_in_the_plane", controls, draw)


class PlanePicture:
    """The plane of parameters on the left, the clients' mean loss over the rounds on the right.

    The figure is made once; `show` only moves its lines, so that the picture follows a slider at once.
    """

    def __init__(self) -> None:
        self._figure = Figure(figsize=(10.4, 4.8))
        plane, losses = self._figure.subplots(1, 2, width_ratios=(1.25, 1))
        self._figure.subplots_adjust(0.04, 0.22, 0.99, 0.93, 0.14)
        limits = {"xlim": (-_WIDTH, _WIDTH), "ylim": (-_HEIGHT, _HEIGHT)}
        plane.set(**limits, aspect="equal", xticks=[], yticks=[])
        self._title = plane.set_title("", fontsize=13)
        colours = PALETTE[:5]
        self._ellipses = [
            plane.add_patch(Ellipse((0, 0), 1, 1, color=colour, alpha=0.15, linewidth=0))
            for colour in colours
        ]
        style = {"marker": ".", "markersize": 6, "linewidth": 1.3}
        self._local = [plane.plot([], [], color=colour, **style)[0] for colour in colours]
        style = {"linestyle": ":", "marker": "^", "markersize": 10, "markeredgecolor": "black"}
        self._adapted = [
            plane.plot([], [], color=colour, linewidth=2.5, markevery=[1], **style)[0] for colour in colours
        ]
        self._optima = [plane.plot([], [], "o", color=colour, markersize=16)[0] for colour in colours]
        self._numbers = [
            plane.text(0, 0, f"{i}", ha="center", va="center", color="white", weight="bold", fontsize=11)
            for i in range(1, 6)
        ]
        (self._path,) = plane.plot([], [], "k.-", markersize=5, linewidth=1.2)
        plane.plot(*START, "ks", markersize=8)
        (self._end,) = plane.plot([], [], "k*", markersize=18, markeredgecolor="white")
        _key(plane)

        self._curves, self._smallest, self._texts = [], [], []
        for i, (colour, marker) in enumerate(zip(PALETTE, "os", strict=False)):
            self._curves += losses.plot([], [], color=colour, marker=marker)
            self._smallest.append(losses.axhline(0, color=colour, linestyle=":", linewidth=1.5))
            corner = {"x": 0.97, "y": 0.95 - 0.08 * i, "ha": "right", "va": "top"}
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            self._texts.append(losses.text(**corner, s="", transform=losses.transAxes, fontsize=13, bbox=box))
        losses.set(xlim=(-1, ROUNDS_IN_PLANE + 1), ylim=(0, 3.6), yticks=range(4))
        losses.set_xticks(range(0, ROUNDS_IN_PLANE + 1, 20))
        losses.set_xlabel("round", fontsize=12)
        losses.set_title("loss, mean of the clients (dotted: best possible)", fontsize=13)
        losses.tick_params(labelsize=11)
        losses.grid(alpha=0.3)
        animate(self._ellipses, self._local, self._adapted, self._optima, self._numbers)
        animate([self._path, self._end, self._title], self._curves, self._smallest, self._texts)

    def show(
        self,
        algorithm: str,
        steps: int,
        client_rate: float,
        server: str,
        server_rate: float,
        heterogeneity: float,
        rounds: int,
    ) -> tuple[Figure, str]:
        """The figure for these settings, and its words as HTML."""
        clients = quadratics(heterogeneity)
        row = PLANE_ALGORITHMS[algorithm](steps, SGD(client_rate), SERVERS[server](server_rate))
        path, local = train_in_plane(clients, row, rounds)
        adapted = clients.adapted(path, client_rate)
        for i, curvature in enumerate(clients.curvatures):
            lengths, directions = np.linalg.eigh(curvature)
            ellipse = self._ellipses[i]
            ellipse.set_center(tuple(clients.optima[i]))
            ellipse.width, ellipse.height = 2 * np.sqrt(2 * _CONTOUR / lengths)
            ellipse.angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
            self._local[i].set_data(*local[:, i].T)
            self._adapted[i].set_data(*np.stack([path[-1], adapted[-1, i]]).T)
            self._optima[i].set_data(*clients.optima[i][:, None])
            self._numbers[i].set_position(tuple(clients.optima[i]))
        self._path.set_data(*path.T)
        self._end.set_data(*path[-1:].T)
        self._title.set_text(f"{row.name}, server {server}: {rounds} rounds")

        means = {
            "initial": clients.losses(path[:, None]).mean(1),
            "after one step": clients.losses(adapted).mean(1),
        }
        smallest = clients.smallest_losses(client_rate)
        for i, (name, mean) in enumerate(means.items()):
            self._curves[i].set_data(np.arange(rounds + 1), mean)
            self._curves[i].set_markevery(max(rounds // 10, 1))
            self._smallest[i].set_ydata([smallest[i], smallest[i]])
            self._texts[i].set_text(f"{'●■'[i]} {name}: {mean[-1]:.2f} (best {smallest[i]:.2f})")

        initial, after = (mean[-1] for mean in means.values())
        counts = "by its number of examples" if row.weights == "examples" else "as much as any other"
        words = (
            f"<b>{row.name}</b>: a client sends {_subscripts(formula_of(row.sends))}, and counts {counts}. "
            f"The mean loss is {initial:.2f} at the global model, and {after:.2f} after one step of each "
            "client."
        )
        if np.any(np.abs(path) > (_WIDTH, _HEIGHT)):
            words += " <b>The server's path leaves the picture: lower the rates.</b>"
        return self._figure, words


def _subscripts(text: str) -> str:
    return re.sub(r"_(\w)|_\{(.*?)\}", r"<sub>\1\2</sub>", escape(text))


def _key(axes: Axes) -> None:
    """Explain lines and marks, which mean the same in every colour."""
    grey = "0.45"
    axes.plot([], [], "o", color=grey, markersize=11, label="a client's optimum")
    axes.plot([], [], ".-", color=grey, label="local steps, last round")
    axes.plot([], [], "k.-", label="server, from ■ to ★")
    axes.plot([], [], "^:", color=grey, linewidth=2.5, label="one adaptation step")
    axes.legend(frameon=False, fontsize=12, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0.0))
