"""Exercises of lesson 08: the playground."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fl_meta.course.answers import number
from fl_meta.course.functions import function
from fl_meta.course.registry import exercise
from fl_meta.support.array_types import FloatArray

_FEDAVG = (1.0, 1.0, 1.0, 1.0, 1.0)

# Effects in points [folds, replicates], and how many replicates are chosen.
_RUNS = [
    (np.array([[1.0, -2.0, 0.5, 1.5], [0.5, -1.0, 2.0, -0.4], [-0.2, -0.5, 0.6, 0.3]]), 1),
    (np.array([[1.0, -2.0, 0.5, 1.5, -3.0], [0.5, -1.0, 2.0, -0.4, 1.1]]), 2),
    (np.array([[-1.4, 2.0, -1.5, -0.9, 2.6, -2.5], [0.5, 0.7, -0.3, 0.2, -0.8, -0.6]]), 3),
]


def _another_story(runs: FloatArray, n: int) -> float:
    chosen = [runs[:, columns].mean() for columns in _choices(runs, n)]
    return float(np.mean(np.sign(chosen) != np.sign(runs.mean())))


def _single_runs(runs: FloatArray, n: int) -> float:
    return float(np.mean(np.sign(runs) != np.sign(runs.mean())))


def _counted(runs: FloatArray, n: int) -> float:
    return _another_story(runs, n) * len(_choices(runs, n))


def _same_story(runs: FloatArray, n: int) -> float:
    return 1 - _another_story(runs, n)


def _first_ones(runs: FloatArray, n: int) -> float:
    return float(np.sign(runs[:, :n].mean()) != np.sign(runs.mean()))


def _folds_apart(runs: FloatArray, n: int) -> float:
    return float(np.mean([_another_story(fold[None], n) for fold in runs]))


def _choices(runs: FloatArray, n: int) -> list[list[int]]:
    return [list(columns) for columns in combinations(range(runs.shape[1]), n)]


@exercise("08.1", stars=1)
def _same_place(answer: Any) -> str | None:
    """The heterogeneity at which FedSGD and MAML(1) end at the same place: 0."""
    return number(
        answer,
        0.0,
        digits=None,
        mistakes={
            1.0: "Here the clients differ most. Do the two stars lie at the same place?",
            0.05: "They lie close together here, but the two losses are not both on their dotted lines.",
        },
        hint="Compare the stars of both algorithms. When does one step help all clients equally?",
    )


@exercise("08.2", stars=2)
def _better_mix(answer: Any, accuracies_of: Callable[[Sequence[float]], tuple[float, float]]) -> str | None:
    """Five weights whose initial and personalized accuracies are above those of FedAvg(5)."""
    try:
        weights = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return "Give five numbers between brackets, separated by commas."
    if weights.shape != (5,):
        return f"Give five weights, one each for g₁ to g₅; there are {weights.size} here."
    if not np.isfinite(weights).all():
        return "A weight must be a finite number."
    if np.array_equal(weights, _FEDAVG):
        return "These are FedAvg(5)'s own weights."
    own, others = accuracies_of(tuple(weights.tolist())), accuracies_of(_FEDAVG)
    behind = [
        f"{name} ({mine:.1f} %, FedAvg(5) {other:.1f} %)"
        for name, mine, other in zip(("initial", "personalized"), own, others, strict=True)
        if mine <= other
    ]
    if not behind:
        return None
    if not weights.any():
        return "With all weights 0 the model does not move."
    return f"Not above FedAvg(5) yet: {' and '.join(behind)}. Which gradients does FOMAML(4) send?"


@exercise("08.3", stars=2)
def _never_right(answer: Any, met: Any) -> str | None:
    """How many test glyphs are wrong at every epoch, and how many of these are of characters not seen."""
    if not isinstance(answer, Mapping) or set(answer) != {"never right", "never seen"}:
        return "Give both counts, under the names 'never right' and 'never seen'."
    never = ~met.right.any(axis=0)
    unseen = ~np.isin(met.truth, met.client.train_y)
    wrong_first, wrong_last = (int((~met.right[epoch]).sum()) for epoch in (0, -1))
    wrong = number(
        answer["never right"],
        int(never.sum()),
        digits=None,
        mistakes={
            wrong_first: "These are wrong before adaptation. Some of them are right later.",
            wrong_last: "These are wrong after the last epoch. Some of them were right earlier.",
            int((~met.right).any(axis=0).sum()): "These are wrong at some epoch, not at every one.",
        },
        hint="A glyph counts if it is right at no epoch, from 0 to the last.",
    )
    if wrong:
        return f"never right: {wrong}"
    wrong = number(
        answer["never seen"],
        int((never & unseen).sum()),
        digits=None,
        mistakes={
            int(unseen.sum()): "Some of these were read rightly at some epoch.",
            int((never & ~unseen).sum()): "These are the others, whose character is in the train part.",
            len(np.unique(met.truth[never & unseen])): "This counts characters. Count glyphs.",
        },
        hint="Which of the glyphs that are never right show a character without a train image?",
    )
    return f"never seen: {wrong}" if wrong else None


@exercise("08.4", stars=3)
def _stories(answer: Any) -> str | None:
    """A function of runs [folds, replicates] and n: the share of choices with another sign."""
    return function(
        answer,
        _another_story,
        _RUNS,
        mistakes=[
            (_same_story, "This is the share that tells the same story."),
            (_counted, "This is their number. Of how many choices?"),
            (_single_runs, "This judges single runs of one fold. A choice takes n columns, of all folds."),
            (_first_ones, "This looks at the first n replicates alone. Which other choices are there?"),
            (_folds_apart, "This judges each fold by itself. A chosen replicate is in all folds."),
        ],
        hint="`itertools.combinations` lists all choices of n columns.",
    )
