"""How many times as much one quantity varies from run to run as another that the same runs have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from fl_meta.evaluation.bootstrap import Interval
from fl_meta.support.array_types import FloatArray, as_array

LEAST_RUNS = 3


def spread(runs: FloatArray) -> FloatArray:
    """Standard deviation over the replicates of a fold, pooled over folds: [..., folds, runs] to [...].

    Folds hold out different clients, so what separates their means is not the luck of training.

    Example:
        >>> float(spread(np.array([[1.0, 2.0, 3.0], [10.0, 12.0, 14.0]])))
        1.5811388300841898
    """
    *_, folds, replicates = runs.shape
    pooled: FloatArray = np.sqrt(_squares(runs) / (folds * (replicates - 1)))
    return pooled


def run_means(folds: Sequence[FloatArray]) -> FloatArray:
    """The mean over clients of each run, from each fold's values [runs, clients]: [folds, runs].

    Example:
        >>> run_means([np.array([[1.0, 2], [3, 4]]), np.array([[5.0], [6]])])
        array([[1.5, 3.5],
               [5. , 6. ]])
    """
    return np.array([fold.mean(axis=1) for fold in folds])


def another_run(means: FloatArray, fold: int, level: float = 0.95) -> Interval:
    """Where one more training run of a fold is expected, from the runs that there are.

    It is the *prediction interval* mean ± t · s · √(1 + 1/R), wider than that of the mean of the R runs. The
    spread s is taken from all folds together.

    Args:
        means: a value of each run [folds, replicates], two replicates or more.
        fold: whose mean the interval is about.
        level: how often the run lies within it.

    Source: the prediction interval of one more observation from a normal distribution.

    Example:
        >>> print(another_run(np.array([[1.0, 2.0, 3.0], [10.0, 12.0, 14.0]]), fold=0))
        2 [-3.069, 7.069]
    """
    folds, replicates = means.shape
    t = float(stdtrit(folds * (replicates - 1), (1 + level) / 2))
    half = t * float(spread(means)) * math.sqrt(1 + 1 / replicates)
    center = float(means[fold].mean())
    return Interval(center, center - half, center + half, level)


def spread_ratio(ours: ArrayLike, theirs: ArrayLike, level: float = 0.95) -> Interval:
    """The ratio of two standard deviations over runs, as the geometric mean over cells.

    The runs are paired: a run has one value of either quantity in every cell, and they may depend on each
    other. The interval is a jackknife of the logarithm of the ratio, in which each run is left out once with
    all its values, so it needs no assumption about that dependence. Student's t has as many degrees of
    freedom as the pooled standard deviations.

    Args:
        ours: [cells, folds, runs], three runs or more; the mean of each fold is taken off.
        theirs: the other quantity, of the same shape.
        level: coverage of the interval, between 0 and 1.

    Raises:
        ValueError: if shapes are others, a value is not finite, `level` is out of range, or something does
            not vary, so that there is no ratio.

    Source: Miller 1968, Jackknifing variances. A test of one cell that is exact for normal values is that of
    Pitman 1939 and Morgan 1939; with few or heavy-tailed runs it misses, and cells cannot be pooled.

    Example:
        >>> initial = [[[0.50, 0.58, 0.42, 0.55], [0.60, 0.49, 0.57, 0.52]]]
        >>> personalized = [[[0.80, 0.81, 0.79, 0.82], [0.78, 0.79, 0.80, 0.79]]]
        >>> print(spread_ratio(initial, personalized))
        5.603 [2.715, 11.56]
    """
    first, second = _checked("ours", ours), _checked("theirs", theirs)
    if first.shape != second.shape:
        raise ValueError(f"ours {first.shape} and theirs {second.shape} must have the same shape")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is not between 0 and 1")
    _, folds, replicates = first.shape
    runs = folds * replicates
    estimate = float(np.mean(np.log(spread(first) / spread(second))))
    without = (np.log(_squares_without(first) / _squares_without(second)) / 2).mean(axis=0)  # [folds, runs]
    error = math.sqrt((runs - 1) * without.var())
    half = error * float(stdtrit(folds * (replicates - 1), (1 + level) / 2))
    return Interval(math.exp(estimate), math.exp(estimate - half), math.exp(estimate + half), level)


def _squares(runs: FloatArray) -> FloatArray:
    """Squares around the means of folds, summed over folds and runs."""
    squares: FloatArray = runs.var(axis=-1).sum(axis=-1) * runs.shape[-1]
    return squares


def _squares_without(runs: FloatArray) -> FloatArray:
    """The same without each run [cells, folds, runs]: the mean of its fold moves as well."""
    replicates = runs.shape[-1]
    share = (runs - runs.mean(axis=-1, keepdims=True)) ** 2 * replicates / (replicates - 1)
    squares: FloatArray = _squares(runs)[:, None, None] - share
    return squares


def _checked(name: str, values: ArrayLike) -> FloatArray:
    array = as_array(name, values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has values of type {array.dtype}; give numbers")
    if array.ndim != 3 or 0 in array.shape or array.shape[-1] < LEAST_RUNS:
        raise ValueError(f"{name} {array.shape} must be [cells, folds, runs] with {LEAST_RUNS} runs or more")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")
    # Below this there is nothing but rounding.
    least = 1e-12 * _squares(array) + 1e-28 * (array**2).max(axis=(1, 2))
    if (_squares_without(array) <= least[:, None, None]).any():
        raise ValueError(f"{name} varies in at most one run of a cell, so there is no ratio of spreads")
    return array
