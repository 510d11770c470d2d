"""Exercises of lesson 04: the best average model and the best start."""

from __future__ import annotations

from typing import Any

import numpy as np

from fl_meta.course.answers import choice, number
from fl_meta.course.functions import function
from fl_meta.course.registry import exercise
from fl_meta.support.array_types import FloatArray

VERDICTS = ("reproduced", "no difference", "undecided", "premise not met", "contradicted")
_CASES = [
    (np.array([-2.0, 2.0]), np.array([2.0, 0.5]), 0.2, 3),
    (np.array([1.0, 4.0, -3.0]), np.array([0.3, 1.1, 2.4]), 0.3, 2),
    (np.array([0.0, 1.0, 2.0, 7.0]), np.array([1.0, 0.2, 0.6, 3.0]), 0.1, 8),
]


def _best_start(optima: FloatArray, curvatures: FloatArray, rate: float, steps: int) -> float:
    return float(np.average(optima, weights=curvatures * (1 - rate * curvatures) ** (2 * steps)))


def _resting_point(optima: FloatArray, curvatures: FloatArray, rate: float, steps: int) -> float:
    return float(np.average(optima, weights=1 - (1 - rate * curvatures) ** steps))


def _best_average(optima: FloatArray, curvatures: FloatArray, rate: float, steps: int) -> float:
    return float(np.average(optima, weights=curvatures))


def _middle(optima: FloatArray, curvatures: FloatArray, rate: float, steps: int) -> float:
    return float(optima.mean())


def _not_squared(optima: FloatArray, curvatures: FloatArray, rate: float, steps: int) -> float:
    return float(np.average(optima, weights=curvatures * (1 - rate * curvatures) ** steps))


def _only_distances(optima: FloatArray, curvatures: FloatArray, rate: float, steps: int) -> float:
    return float(np.average(optima, weights=(1 - rate * curvatures) ** (2 * steps)))


def _what_is_left(optima: FloatArray, curvatures: FloatArray, rate: float, steps: int) -> float:
    return float(np.average(optima, weights=(1 - rate * curvatures) ** steps))


@exercise("04.1", stars=1)
def _equally_steep(answer: Any) -> str | None:
    """The best start for two equally steep bowls with optima at −1 and 4: in the middle."""
    return number(
        answer,
        1.5,
        mistakes={
            2.5: "This is half of their distance. Where on the axis is the middle?",
            5.0: "This is their distance.",
            -1.0: "The other client would be no better off than before. Who needs an advantage?",
            4.0: "The other client would be no better off than before. Who needs an advantage?",
        },
        hint="Set the slider so that both are equally steep. What remains the same when K changes?",
    )


@exercise("04.2", stars=2)
def _start(answer: Any) -> str | None:
    """A function of optima, curvatures, rate and steps: the point with the smallest mean loss afterwards."""
    return function(
        answer,
        _best_start,
        _CASES,
        mistakes=[
            (_not_squared, "The loss has the square of the distance. How often does the factor enter?"),
            (
                _only_distances,
                "A step shortens the distance; how much loss does a distance mean in each bowl?",
            ),
            (_best_average, "This is the best average model. Where do the steps come in?"),
            (_middle, "This is the middle of the optima. Do all clients need the start equally?"),
            (
                _resting_point,
                "This is where FedAvg comes to rest. Here the loss after the steps is asked for.",
            ),
        ],
        hint="With which curvature is the loss after the steps a bowl again?",
    )


@exercise("04.3", stars=3)
def _rest(answer: Any) -> str | None:
    """A function of optima, curvatures, rate and steps: the point that a round of FedAvg does not move."""
    return function(
        answer,
        _resting_point,
        _CASES,
        mistakes=[
            (_best_average, "So it is for a single local step, as in FedSGD. What is different with more?"),
            (_middle, "So it is if all clients arrive at their optima, after very many steps."),
            (_best_start, "This is the best start. FedAvg goes in its direction, but not to it."),
            (_what_is_left, "This weighs by what is left of a distance. How far has the client moved?"),
        ],
        hint="How far does client i move in K steps? These moves add up to 0.",
    )


@exercise("04.4", stars=2)
def _row_of_a_paper(answer: Any) -> str | None:
    """The verdict on a rival that is below Reptile in both accuracies."""
    return choice(
        answer,
        "premise not met",
        VERDICTS,
        words={
            "reproduced": "The interval leaves 0 out. But which model is better in initial accuracy?",
            "contradicted": "The sign is the claim's. But what does the claim presuppose?",
            "no difference": "The interval leaves 0 out. Does the claim speak of such a rival?",
            "undecided": "The effect is clear. Does the claim speak of such a rival?",
        },
    )
