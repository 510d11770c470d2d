"""Paired tests over clients: each client is compared with itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl_meta.support.array_types import refuse_masked
from fl_meta.support.random_streams import random_stream


def sign_flip_p(values: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p value of paired differences, one per client, by random sign flips.

    It is the share of random sign flips whose mean is at least as far from 0 as the observed mean.

    Raises:
        ValueError: if there are no values, or if one is not finite.

    Source: Fisher's randomization test.

    Example:
        >>> sign_flip_p([0.02, 0.05, 0.01, 0.03, 0.04, 0.03, 0.02, 0.01]) < 0.05
        True
    """
    refuse_masked("values", values)
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0 or not np.isfinite(data).all():
        raise ValueError(f"values {data.shape} must be finite, [clients], at least one")
    signs = _signs(seed, len(data), resamples)
    # The observed signs are one of the possibilities. The tolerance keeps equal means equal despite rounding.
    as_far = np.abs(signs @ data) >= abs(data.sum()) - 1e-12 * np.abs(data).sum()
    return float((as_far.sum() + 1) / (resamples + 1))


@lru_cache(maxsize=1)
def _signs(seed: int, clients: int, resamples: int) -> NDArray[np.float64]:
    return random_stream(seed, "sign flips", clients).choice([-1.0, 1.0], size=(resamples, clients))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for multiple testing: at most 5 % risk of any false one below 0.05.

    Source: Holm 1979.

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return [float(p) for p in corrected]


def smallest_effect(spread: float, num_clients: int) -> float:
    """The mean difference that a paired test at the 5 % level detects with a power of 80 %.

    Args:
        spread: standard deviation of the differences over clients.
        num_clients: number of held-out clients, over all seeds.

    Example:
        >>> round(smallest_effect(spread=0.10, num_clients=100), 3)
        0.028
    """
    return (1.96 + 0.84) * spread / math.sqrt(num_clients)
