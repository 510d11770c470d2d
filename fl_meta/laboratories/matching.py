"""FedAvg's model and a centralized one, matched at any initial accuracy along their recorded curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fl_meta.evidence.result_types import CrossedResult
from fl_meta.support.array_types import FloatArray

TARGETS = np.arange(1.0, 100.0)
"""Initial accuracies at which models can be matched, in percent."""


def personalized_at(curve: Sequence[tuple[int, float, float]], targets: FloatArray) -> FloatArray:
    """The personalized accuracy where a path of training first reaches initial accuracies.

    Between two points of the path both accuracies are interpolated.

    Args:
        curve: rounds (or steps), initial and personalized accuracy at each point, in [0, 1].
        targets: initial accuracies in percent [targets].

    Returns:
        in percent [targets]; NaN below the first point and where the path never comes.

    Example:
        >>> personalized_at([(1, 0.2, 0.3), (2, 0.4, 0.6), (4, 0.3, 0.7)], np.array([10, 30, 50]))
        array([nan, 45., nan])
    """
    _, initial, personalized = 100 * np.array(curve, dtype=float).T
    # What lies below an earlier point is never reached for the first time.
    new = np.flatnonzero(initial > np.maximum.accumulate(np.concatenate([[-np.inf], initial[:-1]])))
    found = np.full(len(targets), np.nan)
    for first in new[1:]:
        start = first - 1
        top = initial[:first].max()
        at = (targets > top) & (targets <= initial[first])
        share = (targets[at] - initial[start]) / (initial[first] - initial[start])
        found[at] = personalized[start] + share * (personalized[first] - personalized[start])
    found[targets == initial[0]] = personalized[0]
    return found


def matched_everywhere(cells: Sequence[CrossedResult], arm: str) -> FloatArray:
    """The personalized accuracy of an arm at each of `TARGETS`, as a mean over the folds of a replicate.

    Args:
        cells: of one design, all folds of each replicate.
        arm: an arm with a curve.

    Returns:
        in percent [replicates, targets]; NaN where a fold of the replicate does not come.

    Raises:
        KeyError: if the cells have no curve of the arm.

    Example:
        >>> ours = matched_everywhere(cells, FEDAVG)  # doctest: +SKIP
        >>> ours - matched_everywhere(cells, CENTRALIZED_SGD)  # doctest: +SKIP
    """
    ordered = sorted(cells, key=lambda cell: cell.seed)
    found = np.array([personalized_at(cell.curves[arm], TARGETS) for cell in ordered])
    means: FloatArray = found.reshape(-1, cells[0].config.folds, len(TARGETS)).mean(axis=1)
    return means
