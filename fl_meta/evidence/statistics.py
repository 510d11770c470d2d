"""Intervals and tests over clients, paired: each client is compared with itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl_meta.support.random_streams import stream


@dataclass(frozen=True)
class Interval:
    """An estimate with the interval that covers it at the given level (0.95 means 95 %)."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap_mean(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Interval:
    """The (weighted) mean over clients, with its percentile bootstrap interval.

    Clients are resampled, not examples: a client's examples share one style. Give differences per client
    (personalized − initial) and the interval is the paired one. A single client gives the interval
    [NaN, NaN]: there is nothing to resample.

    Args:
        values: one value per client [clients].
        weights: one weight per client [clients], for example its number of test predictions; None is equal.
        level: of the interval, between 0 and 1.
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: if there are no clients, a value or weight is not finite, no weight is positive,
            or `level` or `resamples` is out of range.

    Source: Efron's percentile bootstrap.
    """
    data = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(data) if weights is None else np.asarray(weights, dtype=np.float64)
    if data.ndim != 1 or data.shape != weight.shape or len(data) == 0:
        raise ValueError(f"values {data.shape} and weights {weight.shape} must be [clients], at least one")
    if not np.isfinite(data).all() or not 0 < weight.sum() < np.inf or weight.min() < 0:
        raise ValueError("values must be finite, weights 0 or more with a positive, finite sum")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is not between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be 1 or more")
    estimate = float(data @ weight / weight.sum())
    if len(data) == 1:
        return Interval(estimate, float("nan"), float("nan"), level)
    picks = _picks(seed, len(data), resamples)
    sums = weight[picks].sum(axis=1)
    # A resample of clients that all weigh nothing has no mean.
    means = (data * weight)[picks].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


def sign_flip_p(values: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of paired differences, one per client: how often random signs give a mean as far from 0.

    Raises:
        ValueError: if there are no values, or one is not finite.

    Source: Fisher's randomization test.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0 or not np.isfinite(data).all():
        raise ValueError(f"values {data.shape} must be finite, [clients], at least one")
    signs = _signs(seed, len(data), resamples)
    # The observed signs are one of the possibilities. Rounding must not make equal means differ.
    as_far = np.abs(signs @ data) >= abs(data.sum()) - 1e-12 * np.abs(data).sum()
    return float((as_far.sum() + 1) / (resamples + 1))


# Many tests in a row are on equally many clients; drawing takes longer than the test. Nobody writes to them.
@lru_cache(maxsize=1)
def _picks(seed: int, clients: int, resamples: int) -> NDArray[np.int64]:
    return stream(seed, "bootstrap", clients).integers(clients, size=(resamples, clients))


@lru_cache(maxsize=1)
def _signs(seed: int, clients: int, resamples: int) -> NDArray[np.float64]:
    return stream(seed, "sign flips", clients).choice([-1.0, 1.0], size=(resamples, clients))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for how many there are: below 0.05 with at most 5 % risk of a single false one.

    Source: Holm 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return [float(p) for p in corrected]


def smallest_effect(spread: float, num_clients: int) -> float:
    """The mean difference that a paired test with so many clients finds in 4 of 5 cases, at the 5 % level.

    Args:
        spread: standard deviation of the differences over clients, in their unit.
        num_clients: held-out clients together.
    """
    return (1.96 + 0.84) * spread / math.sqrt(num_clients)
