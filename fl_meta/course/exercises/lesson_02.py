"""Exercises of lesson 02: the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fl_meta.course.answers import choice, number
from fl_meta.course.functions import function
from fl_meta.course.registry import exercise
from fl_meta.experiments.paper_table_one import PAPER_TABLE_ONE

RULERS = {"phones": "rounds", "hospitals": "work"}
# E = 2, 5, 10, 20; initial and personalized accuracy.
TABLES = [
    ([0.5, 0.6, 0.7, 0.65], [0.8, 0.9, 0.85, 0.82]),
    ([0.7, 0.6, 0.5, 0.4], [0.9, 0.8, 0.7, 0.6]),
    ([0.9, 0.85, 0.2, 0.1], [0.3, 0.85, 0.4, 0.9]),
    ([0.5, 0.1, 0.4, 0.6], [0.9, 0.2, 0.8, 0.3]),
]


@exercise("02.1", stars=1)
def _equal_work(answer: Any) -> str | None:
    """The rounds with E = 5 that are as much local work as 30 rounds with E = 20."""
    return number(
        answer,
        30 * 20 / 5,
        digits=None,
        mistakes={
            30.0: "These are equal rounds. How many local epochs has each model done then?",
            30 * 5 / 20: "Fewer epochs in a round: does that take more rounds, or fewer?",
            30.0 * 20: "This is the work in local epochs. How many rounds of E = 5 is it?",
        },
        hint="Work is E times the number of rounds.",
    )


@exercise("02.2", stars=2)
def _rulers(answer: Any) -> str | None:
    """Phones are short of rounds, hospitals pay for work."""
    if not isinstance(answer, Mapping) or set(answer) != set(RULERS):
        return "Give two words, under the names 'phones' and 'hospitals'."
    words = {
        "phones": "Is computing at night, on the charger, what they are short of?",
        "hospitals": "What is on the bill, the messages or the hours of computing?",
    }
    for name, right in RULERS.items():
        if wrong := choice(answer[name], right, tuple(RULERS.values()), hint=words[name]):
            return f"{name}: {wrong}"
    return None


@exercise("02.3", stars=2)
def _paper_ratio(answer: Any) -> str | None:
    """The geometric mean over the paper's cells of initial spread / personalized spread."""
    initial, personalized = PAPER_TABLE_ONE.initial_spread, PAPER_TABLE_ONE.personalized_spread
    ratios = initial / personalized
    return number(
        answer,
        float(np.exp(np.log(ratios).mean())),
        mistakes={
            float(ratios.mean()): "This is the arithmetic mean of the ratios.",
            float(ratios.median()): "This is the median of the ratios.",
            float(np.log(ratios).mean()): "This is the mean of the logarithms; one step is missing.",
            float(np.exp(-np.log(ratios).mean())): "You have divided the wrong way round.",
            float(initial.mean() / personalized.mean()): "Divide cell by cell, then take the mean.",
        },
        hint="Take the logarithm of each cell's ratio, the mean, and then the exponential.",
    )


@exercise("02.4", stars=3)
def _cost_of_one(answer: Any) -> str | None:
    """The larger of the two losses for the E where it is smallest."""
    return function(
        answer,
        lambda initial, personalized: min(map(max, _losses(initial, personalized))),
        TABLES,
        mistakes=[
            (
                lambda initial, personalized: min(map(sum, _losses(initial, personalized))),
                "This adds the two losses. The larger of them counts.",
            ),
            (
                lambda initial, personalized: min(map(min, _losses(initial, personalized))),
                "This takes the smaller of the two losses; the best E of either model has none.",
            ),
            (
                lambda initial, personalized: max(map(max, _losses(initial, personalized))),
                "This is the worst E. Which one would you choose?",
            ),
            (
                lambda initial, personalized: min(
                    max(_losses(initial, personalized)[int(np.argmax(one))])
                    for one in (initial, personalized)
                ),
                "You may also choose an E that is best for neither.",
            ),
        ],
        hint="Try E by E on paper: two losses each, and the larger of them.",
    )


def _losses(initial: Sequence[float], personalized: Sequence[float]) -> list[tuple[float, float]]:
    """For each E, how far both accuracies are behind their best."""
    return [
        (max(initial) - first, max(personalized) - second)
        for first, second in zip(initial, personalized, strict=True)
    ]
