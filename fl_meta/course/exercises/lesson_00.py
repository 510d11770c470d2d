"""Exercises of lesson 00: one model for everybody, then one for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_meta.course.answers import choice, number
from fl_meta.course.registry import exercise
from fl_meta.evaluation.personalization import PersonalizationTable

MANY_OR_FEW = ("many", "few")


@exercise("00.1", stars=1)
def _second_epoch(answer: Any, table: PersonalizationTable) -> str | None:
    """By how many points the second epoch of adaptation raises the mean accuracy by client."""
    accuracy = 100 * table.summary().test_accuracy_by_client
    return number(
        answer,
        float(accuracy[2] - accuracy[1]),
        unit="per cent",
        mistakes={
            float(accuracy[2] - accuracy[0]): "This is what both epochs add. What does the second add?",
            float(accuracy[1] - accuracy[0]): "This is what the first epoch adds.",
        },
        hint="Take two neighbouring entries of the row test_accuracy_by_client.",
    )


@exercise("00.2", stars=2)
def _who_counts_more(answer: Any) -> str | None:
    """Who counts more in a mean by example, and who tends to gain more: who has many examples."""
    if not isinstance(answer, Mapping) or set(answer) != {"count more", "gain more"}:
        return "Give two words, under the names 'count more' and 'gain more'."
    words = {
        "count more": "In a mean over examples, how often does a client with many of them appear?",
        "gain more": "With how many examples is it easier to adapt?",
    }
    for name, word in words.items():
        if wrong := choice(answer[name], "many", MANY_OR_FEW, words={"few": word}):
            return f"{name}: {wrong}"
    return None


@exercise("00.3", stars=3)
def _identical_writers(answer: Any, gain_of_different: float) -> str | None:
    """The gain of writers who are alike: far below that of writers who differ, of either sign."""
    given = answer.item() if hasattr(answer, "item") else answer
    if wrong := number(answer, given if isinstance(given, (int, float)) else 0.0):
        return wrong
    if abs(given) > abs(gain_of_different) / 2:
        return (
            "This is no small part of what different writers gain. Did you give both style=0 and "
            "label_skew=0, and train on these writers?"
        )
    return None
