"""Checks that students call in a notebook: `from fl_meta.course import check`.

A check says that an answer is right, or what is off; it never shows the answer. It raises no error about an
answer, so that a notebook with blanks runs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from fl_meta.course.registry import NotFilledInError, bind, exercise_named

Verdict = Literal["right", "wrong", "not filled in", "noted"]
MARKS: dict[Verdict, str] = {"right": "✔", "wrong": "✘", "not filled in": "…", "noted": "·"}

_predictions: dict[str, Any] = {}


@dataclass(frozen=True, repr=False)
class Reply:
    """What a check says. It is true if the answer is right, and shows itself as a line of text."""

    name: str
    verdict: Verdict
    words: str

    def __bool__(self) -> bool:
        return self.verdict == "right"

    def __repr__(self) -> str:
        return f"{MARKS[self.verdict]} {self.name}: {self.words}"


def answer(name: str, answer: Any, **given: Any) -> Reply:
    """Whether the answer to an exercise is right, or what is off.

    Args:
        name: the exercise, for example "01.2".
        answer: the student's: a number, a word, a set of words, a function, an array, as the exercise asks.
        given: what the exercise needs from the notebook.

    Raises:
        ValueError: if there is no such exercise.
        TypeError: if something that it needs is not given.

    Example:
        >>> from fl_meta.course import check
        >>> check.answer("01.1", ..., K=5)
        … 01.1: nothing is filled in yet: replace `...` and run this again.
        >>> check.answer("01.1", 1, K=5)
        ✘ 01.1: One vector goes to the server. How many gradients are summed up in it?
    """
    one = exercise_named(name)
    try:
        bind(one, given)
        if any(part is ... for part in _parts(answer)):
            raise NotFilledInError("nothing is filled in yet: replace `...` and run this again.")
        wrong = one.judge(answer, **given)
    except NotFilledInError as blank:
        return Reply(name, "not filled in", str(blank))
    return Reply(name, "wrong", wrong) if wrong else Reply(name, "right", "right.")


def predict(name: str, value: Any) -> Reply:
    """Keep what a student expects, before the run. Every prediction is accepted.

    Args:
        name: for example "01.a"; a second prediction of the same name replaces the first.
        value: a number or a word, or a dictionary of them.

    Example:
        >>> from fl_meta.course import check
        >>> check.predict("01.a", 0.3)
        · 01.a: you predict 0.3. Run on, and compare.
    """
    if any(part is ... for part in _parts(value)):
        _predictions.pop(name, None)
        return Reply(name, "not filled in", "no prediction yet: replace `...`. Nobody marks it.")
    _predictions[name] = value
    return Reply(name, "noted", f"you predict {_shown(value)}. Run on, and compare.")


def prediction(name: str, measured: Any) -> Reply:
    """Put what the run gave beside what was predicted. It does not judge.

    Args:
        name: the same as in `predict`.
        measured: of the same kind as the prediction.

    Example:
        >>> from fl_meta.course import check
        >>> check.predict("01.a", 0.3)
        · 01.a: you predict 0.3. Run on, and compare.
        >>> check.prediction("01.a", 0.25)
        · 01.a: you predicted 0.3, the run gives 0.25: lower by 0.05.
    """
    if name not in _predictions:
        return Reply(name, "not filled in", f"you made no prediction; the run gives {_shown(measured)}.")
    predicted = _predictions[name]
    if isinstance(predicted, Mapping) and isinstance(measured, Mapping) and predicted:
        words = "; ".join(
            f"{key}: {_compared(value, measured[key])}" if key in measured else f"{key}: the run has no such"
            for key, value in predicted.items()
        )
    else:
        words = _compared(predicted, measured)
    return Reply(name, "noted", f"{words}.")


def _parts(answer: Any) -> Iterator[Any]:
    """An answer and what is inside its lists, tuples, sets and dictionaries."""
    yield answer
    if isinstance(answer, (list, tuple, set, frozenset)):
        for part in answer:
            yield from _parts(part)
    elif isinstance(answer, Mapping):
        for part in answer.values():
            yield from _parts(part)


def _compared(predicted: Any, measured: Any) -> str:
    words = f"you predicted {_shown(predicted)}, the run gives {_shown(measured)}"
    if _is_number(predicted) and _is_number(measured) and _shown(predicted) != _shown(measured):
        difference = float(measured) - float(predicted)
        return f"{words}: {'higher' if difference > 0 else 'lower'} by {abs(difference):.2g}"
    return words


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(part)}" for key, part in value.items())
    return f"{float(value):.3g}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
