"""A second stage of training in the plane, from a fork on: how far does luck keep the model from the optimum?

In each round a few clients are drawn. A client's loss is ½ ‖θ − a‖², and its local steps bring it `PULL` of
the way to its own optimum a. So the pseudo-gradient is `PULL` · (θ − mean of the drawn clients' optima): it
points to the optimum of all clients, but for the luck of the draw.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.laboratories.plane import START, server_steps
from fl_meta.support.array_types import FloatArray

PULL = 0.5  # K steps with rate β bring a client 1 − (1 − β)ᴷ of the way
AS_BEFORE = SGD(1.0, momentum=0.9)
FORK, ROUNDS_AFTER_FORK, RUNS = 60, 40, 200
CLIENTS_PER_ROUND = (1, 2, 5, 10, 20)


def train_past_fork(means: FloatArray, server: SGD | Adam, fork: int) -> FloatArray:
    """Train several runs side by side from `START`, with `AS_BEFORE` up to the fork and `server` after it.

    As in the recorded designs, the optimizer after the fork starts without memory of the rounds before.

    Args:
        means: the mean optimum of the clients of each round, in each run [rounds, runs, 2].
        server: the server's optimizer after the fork.
        fork: number of rounds before it.

    Returns:
        the models [rounds + 1, runs, 2].

    Example:
        >>> train_past_fork(mean_optima(clients_per_round=5), Adam(0.1), FORK).shape
        (101, 200, 2)
    """
    before, after = server_steps(AS_BEFORE), server_steps(server)
    path = [np.broadcast_to(START, means.shape[1:])]
    for number, mean in enumerate(means):
        step = before if number < fork else after
        path.append(path[-1] - step(PULL * (path[-1] - mean)))
    return np.stack(path)


def distances(path: FloatArray) -> FloatArray:
    """Root mean square, over the runs, of the distance from the optimum of all clients [rounds + 1]."""
    distance: FloatArray = np.sqrt((path**2).sum(axis=-1).mean(axis=-1))
    return distance


@cache
def mean_optima(clients_per_round: int) -> FloatArray:
    """The mean optimum of the clients of each round, in each run [rounds, runs, 2].

    A client's optimum is drawn from a normal distribution around 0. Fewer clients a round are the first of
    more, so that settings are compared with the same luck.
    """
    mean: FloatArray = drawn_optima()[:, :, :clients_per_round].mean(axis=2)
    return mean


@cache
def drawn_optima() -> FloatArray:
    """The optima of the clients of each round and run [rounds, runs, most clients, 2]."""
    shape = (FORK + ROUNDS_AFTER_FORK, RUNS, max(CLIENTS_PER_ROUND), 2)
    return np.random.default_rng(0).normal(size=shape)
