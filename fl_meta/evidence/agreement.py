"""Whether a result that was computed again agrees with the recorded one, and by how much they differ.

Machines round differently. Training in the unstable regime of the crossed design amplifies this: with few
clients a round and many local epochs, each of them moves far from the others, so a last digit may decide on
which side of a ridge a round ends, and after some hundred rounds another model has come out, as with another
seed. Such a model differs from the recorded one as replicates differ from each other. So a cell agrees if its
mean accuracies differ by no more than `AGREEMENT`, or by no more than `SPREADS` standard deviations over the
recorded replicates of the same fold, of which there must be `LEAST_REPLICATES`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev

from fl_meta.evidence.result_files import ResultError, name_without_seed, read_result
from fl_meta.evidence.result_types import (
    BenchmarkResult,
    CrossedResult,
    CrossedTableOneResult,
    HeterogeneityResult,
    Result,
    TuningResult,
)
from fl_meta.experiments.crossed_settings import Choice
from fl_meta.experiments.outcomes import BOTH, Accuracies, CrossedArm, Measure
from fl_meta.support.text_table import aligned

AGREEMENT = 0.02  # largest difference in a mean accuracy that rounding on another machine may cause
SPREADS = 3.0
LEAST_REPLICATES = 3  # a standard deviation of two numbers says little


@dataclass(frozen=True)
class ArmDifference:
    """How far an arm of a cell is from the recorded one in a mean accuracy.

    Attributes:
        points: the difference, in points.
        spread: standard deviation over the recorded replicates of the fold, in points; NaN for too few.
    """

    arm: str
    measure: Measure
    points: float
    spread: float

    @property
    def spreads(self) -> float:
        """The difference in units of the spread; NaN where that is unknown."""
        return self.points / self.spread if self.spread else math.inf if self.points else 0.0

    @property
    def agrees(self) -> bool:
        """Whether rounding may have caused the difference, by the rule at the top of this module."""
        return self.points <= 100 * AGREEMENT or self.spreads <= SPREADS


@dataclass(frozen=True)
class Agreement:
    """Whether two results agree, a sentence on their difference, and a table of it where there is more."""

    agrees: bool
    text: str
    table: str = ""


def recorded_replicates(path: Path, cell: Result) -> list[CrossedResult]:
    """A cell in a file and the other replicates of its fold, in files beside it; none for other results.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> replicates = recorded_replicates(path, read_result(path))  # doctest: +SKIP
    """
    if not isinstance(cell, CrossedResult):
        return []
    paths = sorted(path.parent.glob(f"{name_without_seed(cell.config)}-seed*.json"))
    beside = {one.seed: one for one in map(read_result, paths)}
    results = (beside | {cell.seed: cell}).values()
    fold, folds = cell.seed % cell.config.folds, cell.config.folds
    return [one for one in results if isinstance(one, CrossedResult) and one.seed % folds == fold]


def agreement(result: Result, again: Result, replicates: Sequence[CrossedResult] = ()) -> Agreement:
    """Compare a recorded result with one that was computed again.

    Args:
        replicates: of a cell of the crossed design, from `recorded_replicates`.

    Raises:
        ResultError: if they are not of the same experiment, seed and data.

    Example:
        >>> again = compute(result.config, result.seed)  # doctest: +SKIP
        >>> agreement(result, again).agrees  # doctest: +SKIP
        True
    """
    if isinstance(result, CrossedResult) and isinstance(again, CrossedResult):
        return _agreement_of_cells(arm_differences(result, again, replicates), len(replicates))
    if isinstance(result, TuningResult) and isinstance(again, TuningResult):
        return _agreement_of_tuning(result, again)
    difference = largest_difference(result, again)
    text = f"the largest difference of a mean accuracy is {_points(100 * difference)}"
    return Agreement(difference <= AGREEMENT, f"{text} ({100 * AGREEMENT:g} are allowed)")


def largest_difference(result: Result, again: Result) -> float:
    """The largest difference in any mean accuracy of two results; 0.02 are two points.

    Raises:
        ResultError: if they are not of the same experiment, seed and data.
    """
    _refuse_others(result, again)
    differences = (
        abs(fmean(a) - fmean(b))
        for ours, theirs in zip(_accuracies(result), _accuracies(again), strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    return max(differences, default=0.0)


def arm_differences(
    cell: CrossedResult, again: CrossedResult, replicates: Sequence[CrossedResult]
) -> list[ArmDifference]:
    """The differences of every arm of a cell in both mean accuracies.

    Raises:
        ResultError: if the cells are not the same one.

    Example:
        >>> arm_differences(cell, again, recorded_replicates(path, cell))[0].spreads  # doctest: +SKIP
        0.7
    """
    _refuse_others(cell, again)
    recorded = [{arm.name: arm for arm in one.arms} for one in replicates]
    differences = []
    for ours, theirs in zip(cell.arms, again.arms, strict=True):
        for measure in BOTH:
            points = abs(_mean(ours, measure) - _mean(theirs, measure))
            means = [_mean(arms[ours.name], measure) for arms in recorded]
            spread = stdev(means) if len(means) >= LEAST_REPLICATES else math.nan
            differences.append(ArmDifference(ours.name, measure, points, spread))
    return differences


def _mean(arm: CrossedArm, measure: Measure) -> float:
    return 100 * float(arm.accuracy_of(measure).mean())


def _agreement_of_cells(differences: Sequence[ArmDifference], replicates: int) -> Agreement:
    most = max(differences, key=lambda one: one.points)
    text = f"the largest difference of a mean accuracy is {_points(most.points)} ({most.arm}, {most.measure})"
    if replicates < LEAST_REPLICATES:
        text += f" ({100 * AGREEMENT:g} are allowed; fewer than {LEAST_REPLICATES} replicates are recorded)"
    else:
        furthest = max(differences, key=lambda one: one.spreads)
        text += f", and {furthest.spreads:.1f} times the spread between the {replicates} recorded replicates"
        text += f" ({furthest.arm}, {furthest.measure}); allowed are {100 * AGREEMENT:g} points or"
        text += f" {SPREADS:g} spreads"
    rows = [
        (one.arm, one.measure, f"{one.points:.2f}", "" if math.isnan(one.spreads) else f"{one.spreads:.1f}")
        for one in differences
    ]
    table = aligned(("arm", "accuracy", "points", "spreads"), rows)
    return Agreement(all(one.agrees for one in differences), text, table)


def _agreement_of_tuning(result: TuningResult, again: TuningResult) -> Agreement:
    # Between options that are almost as good as each other rounding may decide, so that other choices alone
    # are no disagreement. Only what both have tried is compared: where a grid's end was the best in one of
    # them alone, that one has tried more.
    _refuse_others(result, again)
    ours, theirs = map(_validation, (result, again))
    difference = max(abs(ours[option] - theirs[option]) for option in ours.keys() & theirs.keys())
    text = f"the largest difference of a validation accuracy is {_points(100 * difference)}"
    text += f" ({100 * AGREEMENT:g} are allowed)"
    changes = _changes(result.choices, again.choices)
    text += "; other options were chosen" if changes else "; the same options were chosen"
    table = aligned(("arm", "option", "recorded", "now"), changes) if changes else ""
    return Agreement(difference <= AGREEMENT, text, table)


def _validation(result: TuningResult) -> dict[tuple[str, float], float]:
    return {(arm, one.rate): one.validation for arm, tried in result.search.items() for one in tried}


def _changes(recorded: Sequence[Choice], now: Sequence[Choice]) -> list[tuple[str, ...]]:
    """Arm, field, and its value in both, wherever the choices differ."""
    ours, theirs = ({choice.arm: asdict(choice) for choice in choices} for choices in (recorded, now))
    arms = dict.fromkeys((*ours, *theirs))
    names = [field.name for field in fields(Choice)]
    changes = list[tuple[str, ...]]()
    for arm in arms:
        one, other = ours.get(arm, {}), theirs.get(arm, {})
        for name in names:
            if one.get(name) != other.get(name):
                changes.append((arm, name, *(f"{value.get(name, '–')}" for value in (one, other))))
    return changes


def _points(points: float) -> str:
    return f"{points:.2f} points"


def _refuse_others(result: Result, again: Result) -> None:
    for field in ("kind", "config", "seed", "data"):
        ours, theirs = getattr(result, field), getattr(again, field)
        if ours != theirs:
            raise ResultError(f"the results differ in {field}: {ours} and {theirs}")


def _accuracies(result: Result) -> list[Accuracies]:
    match result:
        case HeterogeneityResult():
            return [cell.accuracy for cell in result.cells]
        case CrossedTableOneResult():
            readings = [(cell.equal_rounds, cell.equal_work) for cell in result.cells]
            return [reading.accuracy for both in readings for reading in both]
        case BenchmarkResult():
            return [method.accuracy for method in result.methods]
    raise TypeError(f"a result of an unknown kind: {type(result).__name__}")
