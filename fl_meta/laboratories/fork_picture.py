"""A fork in training, as a picture and as a panel: which server keeps the model nearest to the optimum?"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.fork import (
    AS_BEFORE,
    CLIENTS_PER_ROUND,
    FORK,
    ROUNDS_AFTER_FORK,
    RUNS,
    distances,
    drawn_optima,
    mean_optima,
    train_past_fork,
)
from fl_meta.laboratories.panel import Panel, choice, stops
from fl_meta.laboratories.plane import SERVERS
from fl_meta.plots.style import PALETTE

SERVER_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_MOMENTUM = "SGD, momentum 0.9"
_SHOWN = 40  # rounds before the fork
_SIZE, _HIGHEST = 3.6, 2.6  # half the side of the plane; the largest distance that is shown


def after_the_fork(*, server: str = _MOMENTUM, server_rate: float = 1.0, clients_per_round: int = 5) -> Panel:
    """FedAvg in the plane up to a fork, and a server of your choice after it.

    The arguments are the first settings of the controls; with these defaults FedAvg goes on as before.

    Args:
        server: the server's optimizer after the fork, a key of `SERVERS`.
        server_rate: its learning rate, one of `SERVER_RATES`.
        clients_per_round: before and after the fork, one of `CLIENTS_PER_ROUND`.

    Raises:
        ValueError: if a value is not one of these.

    Example:
        >>> panel = after_the_fork(server="Adam", server_rate=0.1)  # doctest: +SKIP
        >>> panel.set(clients_per_round=20)  # doctest: +SKIP
    """
    controls = {
        "server": choice("server after the fork", server, tuple(SERVERS)),
        "server_rate": stops("server rate", server_rate, SERVER_RATES),
        "clients_per_round": stops("clients a round", clients_per_round, CLIENTS_PER_ROUND),
    }
    presets = {
        "smaller rate": {"server": _MOMENTUM, "server_rate": 0.1},
        "Adam": {"server": "Adam", "server_rate": 0.1},
    }
    return Panel("after_the_fork", controls, ForkPicture().show, presets=presets)


class ForkPicture:
    """One run in the plane on the left; on the right, for all runs, the distance from the optimum by round.

    The figure is made once; `show` only moves its lines.
    """

    def __init__(self) -> None:
        self._figure = Figure(figsize=(10, 4.6))
        plane, curves = self._figure.subplots(1, 2, width_ratios=(1, 1.25))
        self._figure.subplots_adjust(0.02, 0.13, 0.985, 0.92, 0.14)
        plane.set(xlim=(-_SIZE, _SIZE), ylim=(-_SIZE, _SIZE), aspect="equal", xticks=[], yticks=[])
        plane.set_title("one run", fontsize=13)
        clients = drawn_optima()[-1, :, 0]
        plane.plot(*clients.T, "o", color="0.85", markersize=4, label="optima of clients")
        style = {"marker": ".", "markersize": 5, "linewidth": 1}
        (self._before,) = plane.plot([], [], color="0.45", label="before the fork", **style)
        (self._after,) = plane.plot([], [], color=PALETTE[0], label="after it", **style)
        (self._optimum,) = plane.plot(0, 0, "k*", markersize=13, label="optimum of all")
        plane.legend(fontsize=10, ncols=2, loc="upper center", frameon=False)

        rounds = np.arange(-_SHOWN, ROUNDS_AFTER_FORK + 1)
        (self._reference,) = curves.plot(
            rounds, np.zeros(len(rounds)), "--", color="0.45", label="FedAvg as before"
        )
        (self._curve,) = curves.plot(
            rounds[_SHOWN:],
            np.zeros(ROUNDS_AFTER_FORK + 1),
            color=PALETTE[0],
            linewidth=2.5,
            label="after the fork, as chosen",
        )
        curves.axvline(0, color="black", linewidth=0.8)
        curves.set(xlim=(rounds[0], rounds[-1]), ylim=(0, _HIGHEST))
        curves.set_xlabel("rounds since the fork", fontsize=12)
        curves.set_title(f"distance from the optimum ({RUNS} runs)", fontsize=13)
        curves.grid(alpha=0.3)
        curves.legend(fontsize=11, loc="upper right", frameon=False)
        animate([self._before, self._after, self._optimum, self._reference, self._curve])

    def show(self, server: str, server_rate: float, clients_per_round: int) -> tuple[Figure, str]:
        """The figure for these settings, and its words as HTML."""
        means = mean_optima(clients_per_round)
        path = train_past_fork(means, SERVERS[server](server_rate), FORK)
        away, as_before = (distances(one) for one in (path, train_past_fork(means, AS_BEFORE, FORK)))
        self._before.set_data(*path[FORK - _SHOWN : FORK + 1, 0].T)
        self._after.set_data(*path[FORK:, 0].T)
        self._reference.set_ydata(as_before[FORK - _SHOWN :])
        self._curve.set_ydata(away[FORK:])
        words = (
            f"<b>{server}</b> with rate {server_rate:g}, {clients_per_round} clients a round: "
            f"{ROUNDS_AFTER_FORK} rounds after the fork the model is {away[-1]:.2f} from the optimum of all "
            f"clients (root mean square of {RUNS} runs), and {as_before[-1]:.2f} if FedAvg goes on as before."
        )
        return self._figure, words
