"""Judging functions and values with many entries. Returns what is off, or None if the answer is right."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_meta.course.answers import with_hint
from fl_meta.course.registry import NotFilledInError

Function = Callable[..., Any]
Case = tuple[Any, ...]
Entries = dict[str, NDArray[np.float64]]

_TOLERANCE = 1e-5
"""Relative, over all entries: float32 and another order of summation are right as well."""


def function(
    answer: Any,
    oracle: Function,
    cases: Sequence[Case] | Mapping[str, Sequence[Case]],
    *,
    mistakes: Sequence[tuple[Function, str]] = (),
    hint: str = "",
) -> str | None:
    """Judge a function by what it returns.

    Args:
        answer: the student's function.
        oracle: a right one.
        cases: the arguments of each call; the student's function gets copies. Or, under their names, several
            forms of arguments, of which it must do with one: PyTorch tensors or models' parameters.
        mistakes: wrong functions that are expected from students, and what to say about each.
        hint: what to say about the others.

    Raises:
        NotFilledInError: if the function returns nothing.

    Example:
        >>> cases = [(1.0, 2.0), (3.0, 0.5), (-1.0, 4.0)]
        >>> difference = lambda a, b: a - b
        >>> function(lambda left, right: left - right, difference, cases)
        >>> function(lambda left, right: right - left, difference, cases)
        'The size is right. Look at the sign.'
        >>> function(max, difference, cases, mistakes=[(max, "The larger one is not the distance.")])
        'The larger one is not the distance.'
        >>> function(3.0, difference, cases)
        '3.0 is no function; give the function itself, without parentheses behind its name.'
    """
    if not callable(answer):
        return f"{answer!r} is no function; give the function itself, without parentheses behind its name."
    forms = cases if isinstance(cases, Mapping) else {"": cases}
    crashes, words = [], []
    for form in forms.values():
        try:
            returned = [answer(*copy.deepcopy(case)) for case in form]
        except Exception as error:  # whatever a student's function raises
            crashes.append(f"Your function raises {type(error).__name__}: {error}")
            continue
        wrong = _judge(returned, oracle, form, mistakes, hint)
        if wrong is None:
            return None
        words.append(wrong)
    return (words or crashes)[0]


def values(answer: Any, expected: Any, *, hint: str = "") -> str | None:
    """Judge an array, a tensor, a list of numbers, or a model's parameters.

    Example:
        >>> values([0.5, 0.25], np.array([0.5, 0.25]))
        >>> values([5.0, 2.5], np.array([0.5, 0.25]))
        'The direction is right, the length is not: it is 10 times as long as it should be.'
    """
    right = _entries(expected)
    given = _entries(answer)
    if isinstance(right, str):
        raise TypeError(f"what is expected is no numbers: {right}")
    if isinstance(given, str):
        return given
    return None if _agree([given], [right]) else _difference([given], [right], hint)


def _judge(
    returned: Sequence[Any],
    oracle: Function,
    cases: Sequence[Case],
    mistakes: Sequence[tuple[Function, str]],
    hint: str,
) -> str | None:
    if all(one is None or one is ... for one in returned):
        raise NotFilledInError("the function returns nothing yet: replace `...`, and end with `return`.")
    given = []
    for one in returned:
        entries = _entries(one)
        if isinstance(entries, str):
            return entries
        given.append(entries)
    right = _results(oracle, cases)
    if _agree(given, right):
        return None
    for mistake, word in mistakes:
        if _agree(given, _results(mistake, cases)):
            return word
    return _difference(given, right, hint, cases)


def _results(function: Function, cases: Sequence[Case]) -> list[Entries]:
    results = []
    for case in cases:
        entries = _entries(function(*copy.deepcopy(case)))
        if isinstance(entries, str):
            raise TypeError(f"a function of the exercise returns no numbers: {entries}")
        results.append(entries)
    return results


def _difference(
    given: Sequence[Entries], right: Sequence[Entries], hint: str, cases: Sequence[Case] = ()
) -> str:
    """What is off with results, taken together, that do not all agree with the right ones."""
    for one, other in zip(given, right, strict=True):
        if one.keys() != other.keys():
            return with_hint(f"The parts are not those of a right answer: {', '.join(one) or 'none'}.", hint)
        for name in one:
            if one[name].shape != other[name].shape:
                what = f"{name} has" if name else "It has"
                return with_hint(f"{what} the shape {list(one[name].shape)}, which cannot be right.", hint)
            if not np.isfinite(one[name]).all():
                return with_hint("There is NaN or infinity in it.", hint)
    if _agree([_scaled(one, -1.0) for one in given], right):
        return with_hint("The size is right. Look at the sign.", hint)
    factor = _common_factor(given, right)
    if factor is not None:
        direction = "The direction is right, the length is not"
        return with_hint(f"{direction}: it is {factor:.3g} times as long as it should be.", hint)
    if not cases:
        return with_hint("Neither its direction nor its length is right.", hint)
    wrong = [case for case, one, other in zip(cases, given, right, strict=True) if not _same(one, other)]
    words = f"It is right for {len(cases) - len(wrong)} of the {len(cases)} inputs tried."
    if all(isinstance(part, (int, float)) for part in wrong[0]):
        words += f" One where it is not: {', '.join(f'{part:g}' for part in wrong[0])}."
    return with_hint(words, hint)


def _agree(given: Sequence[Entries], right: Sequence[Entries]) -> bool:
    return all(
        one.keys() == other.keys()
        and all(one[name].shape == other[name].shape for name in other)
        and _same(one, other)
        for one, other in zip(given, right, strict=True)
    )


def _same(one: Entries, other: Entries) -> bool:
    error = sum(float(((one[name] - other[name]) ** 2).sum()) for name in other)
    return error <= _TOLERANCE**2 * sum(float((entry**2).sum()) for entry in other.values()) + 1e-24


def _scaled(one: Entries, factor: float) -> Entries:
    return {name: factor * entry for name, entry in one.items()}


def _common_factor(given: Sequence[Entries], right: Sequence[Entries]) -> float | None:
    """The positive factor by which all results are too long, if there is one."""
    pairs = [(one[name], other[name]) for one, other in zip(given, right, strict=True) for name in other]
    square = sum(float((other**2).sum()) for _, other in pairs)
    product = sum(float((one * other).sum()) for one, other in pairs)
    if product <= 0 or sum(other.size for _, other in pairs) < 2:
        return None
    factor = product / square
    return factor if _agree(given, [_scaled(other, factor) for other in right]) else None


def _entries(value: Any) -> Entries | str:
    """All numbers of a value by name, or what it is instead."""
    if value is None:
        return "It returns nothing for some inputs; every way through it must end with `return`."
    parts = value if isinstance(value, Mapping) else {"": value}
    entries = {}
    for name, part in parts.items():
        try:
            array = np.asarray(part.detach().cpu() if hasattr(part, "detach") else part, dtype=np.float64)
        except (TypeError, ValueError):
            return f"A {type(part).__name__} is no number and no array of numbers."
        entries[str(name)] = array
    return entries
