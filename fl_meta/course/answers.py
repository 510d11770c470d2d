"""Judging numbers and words. Each function returns what is off, or None if the answer is right."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Collection, Mapping
from decimal import Decimal
from numbers import Real
from typing import Any, Literal

import numpy as np

Unit = Literal["share", "per cent"]

_CLOSE = 0.05
"""A relative error below this is called close."""


def number(
    answer: Any,
    expected: float,
    *,
    digits: int | None = 2,
    unit: Unit | None = None,
    mistakes: Mapping[float, str] | None = None,
    hint: str = "",
) -> str | None:
    """Judge a number.

    Args:
        answer: the student's; NumPy's and PyTorch's numbers count as well.
        expected: the right one.
        digits: so many significant digits are enough; None asks for the exact number.
        unit: what the question asks for, so that 27 for 0.27 and 0.27 for 27 get a word of their own.
        mistakes: what to say about wrong numbers that are expected from students.
        hint: what to say last about all others.

    Example:
        >>> number(0.333, 1 / 3), number(0.33, 1 / 3)
        (None, None)
        >>> number(33, 1 / 3, unit="share")
        '33 is in per cent; the question asks for a share, between 0 and 1.'
        >>> number(0.5, 1 / 3, mistakes={1 / 2: "Count the client that is held out as well."})
        'Count the client that is held out as well.'
    """
    given = _as_number(answer)
    if isinstance(given, str):
        return given
    if _near(given, expected, digits):
        return None
    for value, word in (mistakes or {}).items():
        if _near(given, value, digits):
            return word
    shown = f"{given:.4g}"
    if unit == "per cent" and _near(100 * given, expected, digits):
        return f"{shown} is a share; the question asks for per cent."
    if unit == "share" and _near(given / 100, expected, digits):
        return f"{shown} is in per cent; the question asks for a share, between 0 and 1."
    if _near(-given, expected, digits):
        return with_hint("The size is right. Look at the sign.", hint)
    if expected and any(_near(given * 10.0**power, expected, digits) for power in (-3, -2, -1, 1, 2, 3)):
        return with_hint(f"{shown} has the right digits and the point in a wrong place.", hint)
    if digits and abs(given - expected) <= _CLOSE * abs(expected):
        return with_hint(f"{shown} is close, but not right to {digits} digits: round only at the end.", hint)
    return with_hint(f"{shown} is too {'large' if given > expected else 'small'}.", hint)


def choice(
    answer: Any,
    right: str | Collection[str],
    options: Collection[str],
    *,
    words: Mapping[str, str] | None = None,
    hint: str = "",
) -> str | None:
    """Judge the choice of one of some words. Capitals, spaces, hyphens and accents do not matter.

    Args:
        answer: the student's.
        right: the right word, or several of which each is right.
        options: all words to choose from.
        words: what to say about a wrong one.
        hint: what to say about the others.

    Example:
        >>> choice("fed avg", "FedAvg", ["FedAvg", "Reptile"])
        >>> choice("reptile", "FedAvg", ["FedAvg", "Reptile"], hint="Who weighs more?")
        'Not Reptile. Who weighs more?'
        >>> choice("FedAvgg", "FedAvg", ["FedAvg", "Reptile"])
        "'FedAvgg' is none of: FedAvg, Reptile. Did you mean FedAvg?"
    """
    if not isinstance(answer, str):
        return (
            f"{_kind(answer)} is no choice; write one of these between quotation marks: {', '.join(options)}."
        )
    chosen = _option(answer, options)
    if chosen is None:
        return _no_option(answer, options)
    if chosen in ((right,) if isinstance(right, str) else right):
        return None
    return (words or {}).get(chosen) or with_hint(f"Not {chosen}.", hint)


def subset(
    answer: Any,
    right: Collection[str],
    options: Collection[str],
    *,
    words: Mapping[str, str] | None = None,
    hint: str = "",
) -> str | None:
    """Judge the choice of any number of words, in any order; otherwise as `choice`.

    Example:
        >>> subset({"maml", "fomaml"}, ["MAML", "FOMAML"], ["MAML", "FOMAML", "FedSGD"])
        >>> subset(["MAML", "FedSGD"], ["MAML", "FOMAML"], ["MAML", "FOMAML", "FedSGD"])
        '1 of 2 belongs to it; 1 is missing.'
    """
    if isinstance(answer, str) or not isinstance(answer, Collection):
        example = "such as {'…', '…'}"
        return f"{_kind(answer)} is not a set; write one or more words, {example}, of: {', '.join(options)}."
    chosen = set()
    for part in answer:
        option = _option(part, options) if isinstance(part, str) else None
        if option is None:
            return _no_option(part, options)
        chosen.add(option)
    wrong, missing = chosen - set(right), set(right) - chosen
    if not wrong and not missing:
        return None
    for option in sorted(wrong):
        if option in (words or {}):
            return (words or {})[option]
    belong = len(chosen) - len(wrong)
    counted = f"{belong} of {len(chosen)} {'belongs' if belong == 1 else 'belong'} to it"
    are = "is" if len(missing) == 1 else "are"
    return with_hint(f"{counted}; {len(missing)} {are} missing." if missing else f"{counted}.", hint)


def with_hint(sentence: str, hint: str) -> str:
    """Both as one text."""
    return f"{sentence} {hint}".strip()


def _near(given: float, expected: float, digits: int | None) -> bool:
    if digits is None:
        return math.isclose(given, expected, rel_tol=1e-9, abs_tol=1e-12)
    # Half a unit of the last digit, for whoever rounds; for zero, as for a number just below 1.
    place = math.floor(math.log10(abs(expected))) if expected else -1
    return abs(given - expected) <= 0.5 * 10.0 ** (place - digits + 1) * (1 + 1e-9)


def _as_number(answer: Any) -> float | str:
    """The answer as a float, or what kind of thing it is instead."""
    if callable(answer):
        return "This is a function; the question asks for a number. Call it."
    if isinstance(answer, str):
        return f"{answer!r} is text; write the number without quotation marks, with a point: 0.5."
    if not isinstance(answer, (bool, Real, Decimal)) and getattr(answer, "size", None) is not None:
        # Arrays have a size, PyTorch's tensors a method of that name.
        values = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
        if values.size != 1:
            return f"This has {values.size} values; the question asks for one number."
        answer = values.item()
    if isinstance(answer, bool) or not isinstance(answer, (Real, Decimal)):
        return f"{_kind(answer)} is no number."
    given = float(answer)
    return (
        given
        if math.isfinite(given)
        else f"The result of the calculation is {given}. Was there a division by 0?"
    )


def _kind(answer: Any) -> str:
    if answer is None:
        return "None"
    text = repr(answer)
    return text if len(text) <= 30 else f"A {type(answer).__name__}"


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[\s_\-–−.,'\"]+", "", "".join(c for c in decomposed if not unicodedata.combining(c)))


def _option(text: str, options: Collection[str]) -> str | None:
    plain = {_plain(option): option for option in options}
    if len(plain) < len(options):
        raise ValueError(f"some of these options differ in signs and spaces only: {', '.join(options)}")
    return plain.get(_plain(text))


def _no_option(answer: Any, options: Collection[str]) -> str:
    words = f"{_kind(answer)} is none of: {', '.join(options)}."
    plain = {_plain(option): option for option in options}
    nearest = difflib.get_close_matches(_plain(str(answer)), plain, n=1)
    return f"{words} Did you mean {plain[nearest[0]]}?" if nearest else words
