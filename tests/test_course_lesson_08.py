"""Lesson 08's exercises: right answers in several forms, and wrong ones that students give."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from course_answers import assert_right, assert_wrong

from fl_meta.course import check
from fl_meta.laboratories.mixing import small_writers, train_mix


def accuracies_of(weights: Sequence[float]) -> tuple[float, float]:
    """As in the lesson."""
    run = train_mix(small_writers(), tuple(weights), 0.5, 3.0, 20)
    return run.initial[-1], run.personalized[-1]


MIX = {"accuracies_of": accuracies_of}
# Glyphs of six characters after 0, 1 and 2 epochs: three are never right, of characters 3, 4 and 4, and the
# train part has 3. Character 5 has no train image either, but is read rightly once.
MET = {
    "met": SimpleNamespace(
        right=np.array([[1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0, 1]], dtype=bool),
        truth=np.array([0, 1, 3, 4, 4, 5, 2]),
        client=SimpleNamespace(train_y=np.array([0, 1, 1, 2, 3])),
    )
}


def means(runs: Any, n: int) -> Any:
    return np.array([runs[:, list(chosen)].mean() for chosen in combinations(range(runs.shape[1]), n)])


def by_pandas(runs: Any, n: int) -> float:
    """The share of choices with another sign, through the means of the replicates."""
    replicates = pd.DataFrame(runs).mean()
    chosen = pd.Series([sum(part) for part in combinations(replicates, n)])
    return float((chosen * replicates.sum() <= 0).mean())


RIGHT: list[tuple[str, Any, dict[str, Any]]] = [
    ("08.1", 0, {}),
    ("08.1", 0.0, {}),
    ("08.2", (0, 0, 0, 0, 5), MIX),
    ("08.2", [0, 0, 0, 0, 5.0], MIX),
    ("08.2", np.array([0.0, 0.0, 0.0, 0.0, 5.0]), MIX),
    ("08.3", {"never right": 3, "never seen": 2}, MET),
    ("08.3", {"never right": np.int64(3), "never seen": 2.0}, MET),
    ("08.4", lambda runs, n: (np.sign(means(runs, n)) != np.sign(runs.mean())).mean(), {}),
    ("08.4", by_pandas, {}),
]
WRONG: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("08.1", 1.0, "differ most", {}),
    ("08.1", 0.05, "close together", {}),
    ("08.1", 0.5, "Compare the stars", {}),
    ("08.1", "0", "without quotation marks", {}),
    ("08.2", (1, 1, 1, 1, 1), "own weights", MIX),
    ("08.2", (1, 0, 0, 0, 0), "initial (", MIX),
    ("08.2", (0, 0, 0, 0, 0), "does not move", MIX),
    ("08.2", (1, 1, 1), "five weights", MIX),
    ("08.2", "FOMAML(4)", "five numbers", MIX),
    ("08.2", (0, 0, 0, 0, float("nan")), "finite", MIX),
    ("08.3", {"never right": 5, "never seen": 2}, "before adaptation", MET),
    ("08.3", {"never right": 4, "never seen": 2}, "after the last epoch", MET),
    ("08.3", {"never right": 6, "never seen": 2}, "at some epoch", MET),
    ("08.3", {"never right": 7, "never seen": 2}, "at no epoch", MET),
    ("08.3", {"never right": 3, "never seen": 3}, "read rightly at some epoch", MET),
    ("08.3", {"never right": 3, "never seen": 1}, "Count glyphs", MET),
    ("08.3", {"never right": 3, "never seen": 0}, "without a train image", MET),
    ("08.3", 3, "both counts", MET),
    ("08.4", lambda runs, n: (np.sign(means(runs, n)) == np.sign(runs.mean())).mean(), "the same story", {}),
    ("08.4", lambda runs, n: (np.sign(means(runs, n)) != np.sign(runs.mean())).sum(), "Of how many", {}),
    ("08.4", lambda runs, n: (np.sign(runs) != np.sign(runs.mean())).mean(), "single runs", {}),
    ("08.4", lambda runs, n: float(runs[:, :n].mean() * runs.mean() < 0), "first n replicates", {}),
    (
        "08.4",
        lambda runs, n: np.mean([(means(fold[None], n) * fold.mean() < 0).mean() for fold in runs]),
        "each fold by itself",
        {},
    ),
    ("08.4", lambda runs, n: means(runs, n), "shape", {}),
    ("08.4", 0.25, "without parentheses", {}),
]


@pytest.mark.parametrize(("name", "answer", "given"), RIGHT)
def test_right_answers(name: str, answer: Any, given: dict[str, Any]) -> None:
    assert_right(name, answer, **given)


@pytest.mark.parametrize(("name", "answer", "word", "given"), WRONG)
def test_wrong_answers_get_a_useful_word(name: str, answer: Any, word: str, given: dict[str, Any]) -> None:
    assert_wrong(name, answer, word, **given)


def test_a_mix_that_wins_in_one_accuracy_alone_is_told_about_the_other() -> None:
    accuracies = {(1.0,) * 5: (50.0, 60.0), (0.0, 0.0, 0.0, 1.0, 1.0): (45.0, 62.0)}
    reply = check.answer("08.2", (0, 0, 0, 1, 1), accuracies_of=accuracies.__getitem__)
    assert "initial (45.0 %" in reply.words and "personalized" not in reply.words
