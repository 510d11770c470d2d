"""The exercises by id. Those of lesson NN are in `fl_meta/course/exercises/lesson_NN.py`.

What is right is computed there, from what the notebook passes. So a notebook for students holds neither the
answer nor the code that finds it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fl_meta.course import exercises

Judge = Callable[..., str | None]
AnyJudge = TypeVar("AnyJudge", bound=Judge)

MOST_STARS = 3


class NotFilledInError(Exception):
    """The answer is still the blank that the notebook came with."""


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: the lesson's number and its own, "01.2".
        stars: from 1 (read the text again) to 3 (an afternoon).
        judge: takes the answer, and by name what it needs from the notebook; returns what is off, or None if
            nothing is.
    """

    name: str
    stars: int
    judge: Judge

    @property
    def needs(self) -> list[str]:
        """The names of what the notebook passes besides the answer."""
        return list(inspect.signature(self.judge).parameters)[1:]


_exercises: dict[str, Exercise] = {}


def exercise(name: str, *, stars: int) -> Callable[[AnyJudge], AnyJudge]:
    """Register a function that judges the answer to an exercise.

    Args:
        name: "NN.M", the lesson's number and the exercise's.
        stars: how hard it is, 1 to 3.

    Raises:
        ValueError: if the name is taken or has another form, or there are no such stars.

    Example:
        >>> from fl_meta.course import check, number
        >>> @exercise("99.1", stars=1)
        ... def _(answer, clients):
        ...     return number(answer, len(clients), digits=None, hint="Count the clients of the round.")
        >>> check.answer("99.1", 4, clients=["a", "b", "c"])
        ✘ 99.1: 4 is too large. Count the clients of the round.
    """
    lesson, _, own = name.partition(".")
    if not (len(lesson) == 2 and lesson.isdecimal() and own.isdecimal()):
        raise ValueError(f"an exercise is called NN.M, for example 01.2, not {name!r}")
    if stars not in range(1, MOST_STARS + 1):
        raise ValueError(f"exercise {name} has stars={stars!r}; choose 1 to {MOST_STARS}")

    def register(judge: AnyJudge) -> AnyJudge:
        there = _exercises.get(name)
        # Running a cell or importing a module again replaces a function by itself.
        if there and there.judge.__module__ != judge.__module__:
            raise ValueError(f"exercise {name} is already in {there.judge.__module__}")
        _exercises[name] = Exercise(name, stars, judge)
        return judge

    return register


def exercise_named(name: str) -> Exercise:
    """The exercise with this name.

    Raises:
        ValueError: if there is none; the message has the names that the lesson has.
    """
    module = f"lesson_{name[:2]}"
    if module in {found.name for found in pkgutil.iter_modules(exercises.__path__)}:
        importlib.import_module(f"{exercises.__name__}.{module}")
    if name not in _exercises:
        nearest = difflib.get_close_matches(name, _exercises, n=1)
        meant = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"there is no exercise {name!r}{meant}")
    return _exercises[name]


def bind(one: Exercise, given: dict[str, Any]) -> None:
    """Check that a notebook passes what the exercise needs.

    Raises:
        TypeError: if something is missing or too much.
        NotFilledInError: if something passed is still a blank.
    """
    try:
        inspect.signature(one.judge).bind(None, **given)
    except TypeError as error:
        call = "".join(f", {name}={name}" for name in one.needs)
        raise TypeError(f"{error}; write check.answer({one.name!r}, answer{call})") from None
    for name, value in given.items():
        if value is ...:
            raise NotFilledInError(f"{name} is still `...`; it comes from an earlier cell.")
