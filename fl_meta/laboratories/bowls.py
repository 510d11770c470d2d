"""Clients with quadratic losses on a line: where training leads, and where adaptation had better start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fl_meta.support.array_types import FloatArray


@dataclass(frozen=True)
class Bowls:
    """Clients whose losses are L_i(θ) = ½ h_i (θ − a_i)², for a model with one parameter θ.

    A client's step of gradient descent multiplies its distance θ − a_i by 1 − β h_i. So each of the points
    that are asked for here is a mean of the optima, with weights of its own.

    Attributes:
        optima: a_i [clients].
        curvatures: h_i > 0 [clients].
        rate: the clients' learning rate β, so small that β h_i ≤ 1.

    Example:
        >>> bowls = Bowls(np.array([-2.0, 2.0]), np.array([3.0, 1.0]), rate=0.25)
        >>> bowls.best_average(), bowls.best_start(steps=1)
        (-1.0, 1.0)
    """

    optima: FloatArray
    curvatures: FloatArray
    rate: float

    def losses(self, at: FloatArray, steps: int) -> FloatArray:
        """Each client's loss after its own steps of gradient descent from common points [..., 1].

        Returns:
            losses [..., clients]; those of the common points themselves with 0 steps.
        """
        losses: FloatArray = 0.5 * self.curvatures * (self.adapted(at, steps) - self.optima) ** 2
        return losses

    def adapted(self, at: FloatArray, steps: int) -> FloatArray:
        """Where the steps take each client [..., clients] from common points [..., 1]."""
        places: FloatArray = self.optima + self._left(steps) * (at - self.optima)
        return places

    def best_average(self) -> float:
        """The point with the smallest mean loss: here the mean gradient is 0, so FedSGD stays."""
        return self._mean_of_optima(self.curvatures)

    def best_start(self, steps: int) -> float:
        """The common point with the smallest mean loss after each client's own steps."""
        return self._mean_of_optima(self.curvatures * self._left(steps) ** 2)

    def resting_point(self, steps: int) -> float:
        """Where FedAvg with so many local steps and equal weights stays: the clients' models have this mean.

        Raises:
            ValueError: if there are no steps.
        """
        if steps < 1:
            raise ValueError(f"steps={steps}: without a local step FedAvg stays everywhere; give 1 or more")
        return self._mean_of_optima(1 - self._left(steps))

    def _left(self, steps: int) -> FloatArray:
        """The share of its distance that each client still has after the steps."""
        left: FloatArray = (1 - self.rate * self.curvatures) ** steps
        return left

    def _mean_of_optima(self, weights: FloatArray) -> float:
        return float(np.average(self.optima, weights=weights))


_FLAT = 0.5  # curvature of the flat bowl
_RATE = 0.2


def steep_and_flat(distance: float, steepness: float) -> Bowls:
    """Two bowls whose optima are so far apart, the left one so many times as steep as the right one.

    Example:
        >>> steep_and_flat(distance=4, steepness=3).curvatures.tolist()
        [1.5, 0.5]
    """
    return Bowls(distance * np.array([-0.5, 0.5]), _FLAT * np.array([steepness, 1.0]), _RATE)
