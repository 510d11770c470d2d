"""Means over clients with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl_meta.support.array_types import refuse_masked
from fl_meta.support.random_streams import random_stream


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval at the given level (0.95 means 95 %)."""

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

    Clients are resampled, not examples, because a client's examples are alike. For the paired interval give
    one difference per client (personalized − initial). For a single client, which cannot be resampled, the
    interval is [NaN, NaN].

    Example:
        >>> print(bootstrap_mean([0.1, 0.2, 0.0, 0.3]))
        0.15 [0.05, 0.25]

    Args:
        values: one value per client [clients].
        weights: one weight per client [clients], for example its number of test predictions; None is equal.
        level: coverage of the interval, between 0 and 1.
        resamples: number of bootstrap samples.
        seed: for the resampling.

    Raises:
        ValueError: if there are no clients, a value or weight is not finite, no weight is positive,
            or `level` or `resamples` is out of range.

    Source: Efron's percentile bootstrap.
    """
    refuse_masked("values", values)
    refuse_masked("weights", () if weights is None else weights)
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


# Consecutive tests often have the same number of clients, and drawing takes longer than the test itself.
@lru_cache(maxsize=1)
def _picks(seed: int, clients: int, resamples: int) -> NDArray[np.int64]:
    return random_stream(seed, "bootstrap", clients).integers(clients, size=(resamples, clients))
