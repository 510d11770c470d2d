"""A federation in the plane: clients with quadratic losses, trained in a hundredth of a second.

A NumPy copy of the library's training, vectorized over clients; `tests/test_laboratory_plane.py` compares
it with `fl_meta.training.pseudo_gradient` and `fl_meta.algorithms.server_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.table import Algorithm, fedavg, fedsgd, fomaml, maml, reptile
from fl_meta.support.array_types import FloatArray
from fl_meta.support.validation import whole_number

PLANE_ALGORITHMS: Mapping[str, Callable[[int, SGD, SGD | Adam], Algorithm]] = {
    "FedSGD": lambda _, client, server: fedsgd(client=client, server=server, batch_size=None),
    "FedAvg": lambda steps, client, server: fedavg(
        steps=steps, client=client, server=server, batch_size=None
    ),
    "Reptile": lambda steps, client, server: reptile(steps, client=client, server=server, batch_size=None),
    "FOMAML": lambda steps, client, server: fomaml(steps, client=client, server=server, batch_size=None),
    "MAML": lambda steps, client, server: maml(steps, client=client, server=server, batch_size=None),
}
"""The table of algorithms: each makes a row from K, client and server optimizer. FedSGD ignores K."""

SERVERS: Mapping[str, Callable[[float], SGD | Adam]] = {
    "SGD": SGD,
    "SGD, momentum 0.9": lambda rate: SGD(rate, momentum=0.9),
    "Adam": Adam,
}


def server_steps(optimizer: SGD | Adam) -> Callable[[FloatArray], FloatArray]:
    """A new server optimizer: a function from each round's pseudo-gradient to the step to subtract.

    The arithmetic is that of `algorithms.server_step`, without weight decay.
    """
    mean, square, count = np.zeros(()), np.zeros(()), 0

    def step(gradient: FloatArray) -> FloatArray:
        nonlocal mean, square, count
        count += 1
        if isinstance(optimizer, SGD):
            mean = optimizer.momentum * mean + gradient
            return optimizer.learning_rate * mean
        mean = optimizer.beta1 * mean + (1 - optimizer.beta1) * gradient
        square = optimizer.beta2 * square + (1 - optimizer.beta2) * gradient**2
        scale = np.sqrt(square / (1 - optimizer.beta2**count)) + optimizer.epsilon
        unbiased: FloatArray = mean / (1 - optimizer.beta1**count)
        return optimizer.learning_rate * unbiased / scale

    return step


START = np.array([-2.8, -2.2])
OPTIMA = np.array([(-2.1, 0.4), (-0.9, 2.0), (1.6, 1.7), (2.4, -0.5), (0.6, -1.9)])
CURVATURES = np.array([(1.8, 0.5), (0.3, 0.2), (0.5, 0.15), (0.25, 0.25), (1.5, 0.2)])  # by main axis
ANGLES = np.array([0.2, 1.2, -0.6, 0.0, 2.2])
COMMON_CURVATURES = np.array((0.7, 0.3))
EXAMPLES = np.array([40, 10, 20, 10, 20])


@dataclass(frozen=True)
class Quadratics:
    """Clients whose losses are L_i(θ) = ½ (θ − a_i)ᵀ H_i (θ − a_i), in the plane.

    Attributes:
        optima: a_i [clients, 2].
        curvatures: H_i, symmetric [clients, 2, 2].
        examples: number of train examples [clients].
    """

    optima: FloatArray
    curvatures: FloatArray
    examples: NDArray[np.int64]

    def gradients(self, at: FloatArray) -> FloatArray:
        """∇L_i at a point for each client, both [..., clients, 2]."""
        return self.curved(at - self.optima)

    def curved(self, vectors: FloatArray) -> FloatArray:
        """H_i times a vector for each client, both [..., clients, 2]."""
        product: FloatArray = (self.curvatures @ vectors[..., None])[..., 0]
        return product

    def losses(self, at: FloatArray) -> FloatArray:
        """L_i [..., clients] at a point for each client [..., clients, 2]."""
        away = at - self.optima
        losses: FloatArray = 0.5 * (away * self.curved(away)).sum(-1)
        return losses

    def adapted(self, at: FloatArray, client_rate: float) -> FloatArray:
        """Where one gradient step takes each client [..., clients, 2] from common points [..., 2]."""
        start = at[..., None, :]
        return start - client_rate * self.gradients(start)

    def smallest_losses(self, client_rate: float) -> tuple[float, float]:
        """The smallest mean loss that a common point can have, before and after one step of every client."""
        smallest = []
        identity = np.eye(2)
        for step in (identity, identity - client_rate * self.curvatures):
            # A step maps θ − a_i to (I − βH_i)(θ − a_i), so the loss after it is quadratic too.
            after = step @ self.curvatures @ step
            best = np.linalg.solve(after.sum(0), (after @ self.optima[..., None]).sum(0))[:, 0]
            smallest.append(float(replace(self, curvatures=after).losses(best[None]).mean()))
        return smallest[0], smallest[1]


def quadratics(heterogeneity: float) -> Quadratics:
    """Five clients in the plane; with heterogeneity 0 all have the same loss, and 1 is the most.

    Example:
        >>> quadratics(heterogeneity=0.5).optima.shape
        (5, 2)
    """
    angles = heterogeneity * ANGLES
    axes = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], -1).reshape(-1, 2, 2)
    along = COMMON_CURVATURES ** (1 - heterogeneity) * CURVATURES**heterogeneity
    curvatures = np.swapaxes(axes, 1, 2) @ (along[..., None] * axes)
    return Quadratics(heterogeneity * OPTIMA, curvatures, EXAMPLES)


def round_in_plane(
    clients: Quadratics, at: FloatArray, algorithm: Algorithm
) -> tuple[FloatArray, FloatArray]:
    """One round with full batches, in which all clients take part, from the global parameters `at` [2].

    Returns the pseudo-gradient [2], and the clients' paths [local steps + 1, clients, 2].
    """
    rate = algorithm.client.learning_rate
    points = [np.broadcast_to(at, clients.optima.shape)]
    gradients = []
    for _ in range(whole_number("planned_steps", algorithm.planned_steps)):
        gradients.append(clients.gradients(points[-1]))
        points.append(points[-1] - rate * gradients[-1])
    if algorithm.sends_last:
        points.pop()  # the client sends the last gradient without a step along it
        sent = gradients[-1]
    else:
        sent = np.sum(gradients, axis=0)
    if algorithm.second_order:
        for _ in points[1:]:
            sent = sent - rate * clients.curved(sent)
    weights = np.array([algorithm.weight(int(number)) for number in clients.examples])
    return rate * weights @ sent / weights.sum(), np.stack(points)


def train_in_plane(clients: Quadratics, algorithm: Algorithm, rounds: int) -> tuple[FloatArray, FloatArray]:
    """Train from `START`.

    Args:
        clients: the clients, all of which take part in every round.
        algorithm: a row of the table whose local work is counted in steps.
        rounds: number of rounds, at least 1.

    Returns:
        The server's path [rounds + 1, 2], and the clients' paths in the last round
        [local steps + 1, clients, 2].

    Example:
        >>> algorithm = PLANE_ALGORITHMS["MAML"](2, SGD(0.3), SGD(1.0))
        >>> path, local = train_in_plane(quadratics(1.0), algorithm, rounds=30)
        >>> path.shape, local.shape
        ((31, 2), (3, 5, 2))
    """
    step = server_steps(algorithm.server)
    path = [START]
    for _ in range(rounds):
        direction, local = round_in_plane(clients, path[-1], algorithm)
        path.append(path[-1] - step(direction))
    return np.stack(path), local
