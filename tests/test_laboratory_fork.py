"""The fork in the plane: by hand, as the library's rounds, and with the variance that lesson 03 derives."""

import numpy as np
import pytest

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.laboratories.fork import (
    AS_BEFORE,
    CLIENTS_PER_ROUND,
    FORK,
    PULL,
    distances,
    mean_optima,
    train_past_fork,
)
from fl_meta.laboratories.plane import PLANE_ALGORITHMS, START, Quadratics, round_in_plane


@pytest.mark.parametrize(
    ("server", "end"),
    [
        # After the first round the model is at (−1.4, −1.1). The second pseudo-gradient is (−1.2, 0.95).
        (SGD(0.5), (-0.8, -1.575)),
        (AS_BEFORE, (-0.2, -2.05)),  # without the momentum of the round before the fork
        (Adam(0.25), (-1.15, -1.35)),
    ],
)
def test_one_round_before_the_fork_and_one_after_it_by_hand(
    server: SGD | Adam, end: tuple[float, ...]
) -> None:
    assert tuple(START) == (-2.8, -2.2)
    means = np.array([[(0.0, 0.0)], [(1.0, -3.0)]])
    path = train_past_fork(means, server, fork=1)
    np.testing.assert_allclose(path[:, 0], np.stack([START, (-1.4, -1.1), end]), atol=1e-7)


def test_a_round_is_one_of_fedavg() -> None:
    optima = np.random.default_rng(1).normal(size=(5, 2))
    clients = Quadratics(optima, np.broadcast_to(np.eye(2), (5, 2, 2)), np.full(5, 10))
    rate = 1 - (1 - PULL) ** (1 / 3)  # three steps with it go PULL of the way
    direction, _ = round_in_plane(clients, START, PLANE_ALGORITHMS["FedAvg"](3, SGD(rate), SGD(1.0)))
    path = train_past_fork(optima.mean(0)[None, None], SGD(1.0), fork=0)
    np.testing.assert_allclose(path[1, 0], START - direction)


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_the_noise_is_that_of_the_formula(rate: float) -> None:
    clients = 5
    means = np.random.default_rng(2).normal(size=(600, 400, 2)) / np.sqrt(clients)
    path = train_past_fork(means, SGD(rate), fork=0)
    squares = distances(path)[100:] ** 2 / 2  # of one coordinate
    assert squares.mean() == pytest.approx(rate * PULL / (2 - rate * PULL) / clients, rel=0.03)


def test_distances_are_root_mean_squares_over_runs() -> None:
    path = np.array([[(3.0, 4.0), (0.0, 1.0)], [(0.0, 0.0), (0.0, 2.0)]])
    np.testing.assert_allclose(distances(path), [np.sqrt(13), np.sqrt(2)])


def test_more_clients_a_round_and_a_damped_server_are_nearer_to_the_optimum() -> None:
    ends = {
        (clients, server): distances(train_past_fork(mean_optima(clients), server, FORK))[-1]
        for clients in CLIENTS_PER_ROUND
        for server in (AS_BEFORE, SGD(0.1, momentum=0.9), Adam(0.1))
    }
    for server in (AS_BEFORE, SGD(0.1, momentum=0.9), Adam(0.1)):
        of_server = [ends[clients, server] for clients in CLIENTS_PER_ROUND]
        assert of_server == sorted(of_server, reverse=True)
    for clients in CLIENTS_PER_ROUND:
        assert (
            max(ends[clients, SGD(0.1, momentum=0.9)], ends[clients, Adam(0.1)])
            < ends[clients, AS_BEFORE] / 2
        )
