"""The mean effect over clients and training runs, with an interval that knows about both.

Clients are divided into folds, and each fold is held out by several training runs, its *replicates*. Every
client of a fold is scored in every run of that fold: clients and runs are *crossed*. A bootstrap over clients
sees only the luck of the clients. If training again would move all clients together, its interval is too
narrow, however many clients there are.

The model of a difference is: effect + fold + run + client + rest. What each of them adds to the variance of
the mean comes from mean squares. Two of them enter only where the data speak for them, because folds and
replicates are few, and an interval with few degrees of freedom is wide:

- what replicates of the same number have *in common over all folds*, if their means over all clients differ
  more than those of independent runs would (an F test, p below `AGREEMENT`);
- effects of *folds*, if the folds' means differ more than clients and runs explain (p below `DIFFERENCE`).

Sources: Searle, Casella and McCulloch 1992 (components of variance); Satterthwaite 1946 (degrees of freedom);
Schuirmann 1987 (two one-sided tests).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc, stdtr, stdtrit

from fl_meta.evaluation.bootstrap import Interval
from fl_meta.support.array_types import FloatArray, as_array

LEAST_REPLICATES = 3
AGREEMENT = 0.3
DIFFERENCE = 0.02


@dataclass(frozen=True)
class CrossedEffect:
    """A mean over clients and training runs, and how certain it is.

    Attributes:
        estimate: mean over all clients of their mean over the replicates.
        standard_error: of the estimate, in the unit of the values.
        degrees_of_freedom: of Student's t distribution that (estimate − truth) / standard_error follows.
        client_spread: standard deviation over clients of what a client keeps in every run; like the other
            spreads estimated, and 0 where the data show less than the rest alone would give.
        run_spread: standard deviation over training runs of what a run does to all clients of its fold.
        fold_spread: standard deviation over folds of what all runs of a fold have in common; 0 for one fold.
        rest_spread: standard deviation of what is particular to one client in one run.
        replicates_agree: whether the interval allows for something that replicates have in common over folds.
        folds_differ: whether the interval allows for effects of folds.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: float
    client_spread: float
    run_spread: float
    fold_spread: float
    rest_spread: float
    replicates_agree: bool
    folds_differ: bool

    def interval(self, level: float = 0.95) -> Interval:
        """The interval at a level between 0 and 1.

        Raises:
            ValueError: if the level is not.

        Example:
            >>> print(crossed_mean([[[1, 2, 3], [2, 2, 5], [0, 2, 4]]]).interval(0.9))
            2.333 [-0.1445, 4.811]
        """
        if not 0 < level < 1:
            raise ValueError(f"level={level} is not between 0 and 1")
        half = self.standard_error * float(stdtrit(self.degrees_of_freedom, (1 + level) / 2))
        return Interval(self.estimate, self.estimate - half, self.estimate + half, level)

    @property
    def p(self) -> float:
        """Two-sided p value of no effect: below 0.05 exactly if the 95 % interval leaves 0 out.

        Example:
            >>> round(crossed_mean([[[1, 2, 3], [2, 2, 5], [0, 2, 4]]]).p, 3)
            0.112
        """
        return min(2 * self._beyond(abs(self.estimate)), 1.0)

    def equivalence_p(self, margin: float) -> float:
        """p value of an effect of `margin` or more in either direction, by two one-sided tests.

        It is below 0.05 exactly if the 90 % interval lies between −margin and margin.

        Raises:
            ValueError: if the margin is not a finite number above 0.

        Example:
            >>> round(crossed_mean([[[1, 2, 3], [2, 2, 5], [0, 2, 4]]]).equivalence_p(5), 3)
            0.044
        """
        if not 0 < margin < math.inf:
            raise ValueError(f"margin={margin} must be a finite number above 0")
        return self._beyond(margin - abs(self.estimate))

    def _beyond(self, distance: float) -> float:
        """Probability that the error of the estimate exceeds `distance`."""
        if self.standard_error == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(stdtr(self.degrees_of_freedom, -distance / self.standard_error))


def crossed_mean(values: Sequence[ArrayLike]) -> CrossedEffect:
    """The mean over clients and training runs, for other clients and other runs like these.

    Args:
        values: for each fold the paired differences [replicates, clients of the fold], three replicates or
            more, two clients or more.

    Raises:
        ValueError: if a fold has another shape or other replicates than the first, or if a value is masked or
            not finite.

    Example:
        >>> effect = crossed_mean([[[1, 2, 3], [2, 2, 5], [0, 2, 4]], [[2, 4], [1, 3], [2, 3]]])
        >>> print(effect.interval(), round(effect.p, 3))
        2.4 [0.4326, 4.367] 0.029
    """
    folds = _checked(values)
    number, replicates = len(folds), len(folds[0])
    sizes = np.array([fold.shape[1] for fold in folds])
    clients, share = int(sizes.sum()), sizes / sizes.sum()
    run_means = np.array([fold.mean(axis=1) for fold in folds])  # [folds, replicates]
    estimate = float(share @ run_means.mean(axis=1))

    # What each source adds to the variance of the estimate. Clients and runs both have the rest in them, so
    # one rest is taken off their sum.
    client_freedom, run_freedom = clients - number, replicates - 1
    client_variance = sum(_squares(fold.mean(axis=0)) for fold in folds) / client_freedom
    rest_variance = sum(map(_rest_squares, folds)) / (client_freedom * run_freedom)
    client = _Part(client_variance / clients, client_freedom)
    rest = _Part(rest_variance / (clients * replicates), client_freedom * run_freedom)
    # As many degrees as so many folds of equal size would have.
    effective_folds = float((share @ share) ** 2 / (share**2 @ share**2))
    run_squares = float(share**2 @ run_means.var(axis=1, ddof=1))
    run = _Part(run_squares / replicates, effective_folds * run_freedom)
    total = _clients_and_runs(client, run, rest)
    agree, differ, fold_excess = False, False, 0.0
    if number > 1:
        # The runs' squares are those of the replicates' means over all folds, and what is apart from them.
        common = _Part(float((share @ run_means).var(ddof=1)) / replicates, run_freedom)
        apart_value = max(number * run.value - common.value, 0.0) / (number - 1)
        apart = _Part(apart_value, (number - 1) * run_freedom)
        agree = _exceeds(common, apart, AGREEMENT)
        if agree:
            total = _clients_and_runs(client, common, rest)
        fold_squares = float(share**2 @ (run_means.mean(axis=1) - estimate) ** 2)
        fold = _Part(fold_squares * number / (number - 1), number - 1)
        explained = _clients_and_runs(client, apart if agree else run, rest)
        differ = _exceeds(fold, explained, DIFFERENCE)
        if differ:
            total = _sum(fold, common, _Part(-apart.value, apart.freedom)) if agree else fold
        fold_excess = fold.value - explained.value

    return CrossedEffect(
        estimate=estimate,
        standard_error=math.sqrt(total.value),
        degrees_of_freedom=total.freedom,
        client_spread=_root(client_variance - rest_variance / replicates),
        run_spread=_root(replicates * (run.value - rest.value) / float(share @ share)),
        fold_spread=_root(fold_excess / float(share @ share)),
        rest_spread=math.sqrt(rest_variance),
        replicates_agree=agree,
        folds_differ=differ,
    )


class _Part(NamedTuple):
    """What a mean square adds to the variance of the estimate, and its degrees of freedom."""

    value: float
    freedom: float


def _sum(*parts: _Part) -> _Part:
    total = sum(part.value for part in parts)
    spread = sum(part.value**2 / part.freedom for part in parts)
    return _Part(total, total**2 / spread if spread > 0 else parts[0].freedom)


def _clients_and_runs(client: _Part, run: _Part, rest: _Part) -> _Part:
    # Run means that vary less than the rest alone lets them do say nothing of runs.
    return _sum(client, run, _Part(-rest.value, rest.freedom)) if run.value > rest.value else client


def _exceeds(part: _Part, other: _Part, level: float) -> bool:
    if other.value == 0:
        return part.value > 0
    return float(fdtrc(part.freedom, other.freedom, part.value / other.value)) < level


def _squares(values: FloatArray) -> float:
    return float(((values - values.mean()) ** 2).sum())


def _rest_squares(fold: FloatArray) -> float:
    rest = fold - fold.mean(axis=0) - fold.mean(axis=1, keepdims=True) + fold.mean()
    return float((rest**2).sum())


def _root(variance: float) -> float:
    return math.sqrt(max(variance, 0.0))


def _checked(values: Sequence[ArrayLike]) -> list[FloatArray]:
    folds = [as_array(f"fold {number}", fold) for number, fold in enumerate(values)]
    if not folds:
        raise ValueError("values has no folds; give one array [replicates, clients] for each fold")
    for number, fold in enumerate(folds):
        if fold.dtype.kind not in "biuf":
            raise ValueError(f"fold {number} has values of type {fold.dtype}; give numbers")
        if fold.ndim != 2 or fold.shape[1] < 2:
            raise ValueError(
                f"fold {number} has shape {fold.shape}; give [replicates, clients] with at least two clients"
            )
        if len(fold) < LEAST_REPLICATES:
            raise ValueError(
                f"fold {number} has {len(fold)} replicates, and the luck of training shows in no fewer than "
                f"{LEAST_REPLICATES}; train it with other seeds"
            )
        if len(fold) != len(folds[0]):
            raise ValueError(
                f"fold {number} has {len(fold)} replicates and fold 0 has {len(folds[0])}; give all as many"
            )
        if not np.isfinite(fold).all():
            raise ValueError(
                f"fold {number} has values that are not finite; leave such clients out of every run"
            )
    return [fold.astype(np.float64) for fold in folds]
