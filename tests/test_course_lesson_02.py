"""Lesson 02's exercises: right answers in several forms, and wrong ones that students give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from course_answers import assert_right, assert_wrong

from fl_meta.course import check
from fl_meta.experiments.paper_table_one import PAPER_TABLE_ONE

RATIOS = PAPER_TABLE_ONE.initial_spread / PAPER_TABLE_ONE.personalized_spread
Accuracies = Sequence[float]


def losses(initial: Accuracies, personalized: Accuracies) -> Any:
    """[E, 2]"""
    table = np.array([initial, personalized]).T
    return table.max(axis=0) - table


RIGHT: list[tuple[str, Any]] = [
    ("02.1", 120),
    ("02.1", 120.0),
    ("02.2", {"phones": "rounds", "hospitals": "work"}),
    ("02.2", {"hospitals": "Work", "phones": " Rounds "}),
    ("02.3", RATIOS.prod() ** (1 / len(RATIOS))),
    ("02.3", round(float(np.exp(np.log(RATIOS).mean())), 1)),
    ("02.4", lambda initial, personalized: losses(initial, personalized).max(axis=1).min()),
    (
        "02.4",
        lambda a, b: pd.DataFrame([max(a) - np.array(a), max(b) - np.array(b)]).max(axis=0).min(),
    ),
]
WRONG: list[tuple[str, Any, str]] = [
    ("02.1", 30, "equal rounds"),
    ("02.1", 7.5, "more rounds, or fewer"),
    ("02.1", 600, "How many rounds"),
    ("02.1", "120", "without quotation marks"),
    ("02.2", {"phones": "work", "hospitals": "work"}, "phones: Not work. Is computing"),
    ("02.2", {"phones": "rounds", "hospitals": "rounds"}, "hospitals: Not rounds. What is on the bill"),
    ("02.2", {"phones": "epochs", "hospitals": "work"}, "none of: rounds, work"),
    ("02.2", "rounds", "two words"),
    ("02.3", float(RATIOS.mean()), "arithmetic"),
    ("02.3", float(RATIOS.median()), "median"),
    ("02.3", float(np.log(RATIOS).mean()), "one step is missing"),
    ("02.3", float(np.exp(-np.log(RATIOS).mean())), "wrong way round"),
    ("02.3", RATIOS, "8 values"),
    ("02.4", lambda a, b: losses(a, b).sum(axis=1).min(), "adds the two losses"),
    ("02.4", lambda a, b: losses(a, b).min(axis=1).min(), "smaller of the two"),
    ("02.4", lambda a, b: losses(a, b).max(), "worst E"),
    (
        "02.4",
        lambda a, b: losses(a, b)[[int(np.argmax(a)), int(np.argmax(b))]].max(axis=1).min(),
        "best for neither",
    ),
    ("02.4", lambda a, b: int(losses(a, b).max(axis=1).argmin()), "Try E by E"),
    ("02.4", 0.05, "without parentheses"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers(name: str, answer: Any) -> None:
    assert_right(name, answer)


@pytest.mark.parametrize(("name", "answer", "word"), WRONG)
def test_wrong_answers_get_a_useful_word(name: str, answer: Any, word: str) -> None:
    assert_wrong(name, answer, word)


def test_no_reply_tells_the_number_of_rounds() -> None:
    for answer in range(0, 119):
        assert "120" not in repr(check.answer("02.1", answer))
