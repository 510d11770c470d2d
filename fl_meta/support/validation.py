"""Checks of numbers that a user gives."""

from __future__ import annotations

import math
import operator
from typing import Any


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """The value as Python's own `int`; NumPy's integers are accepted too.

    Raises:
        ValueError: if it is not a whole number, or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name}={value!r} must be a whole number of {least} or more")
    return number


def positive_number(name: str, value: float) -> float:
    """The value as Python's own `float`.

    Raises:
        ValueError: if it is 0, negative, infinite or NaN.
    """
    if not 0 < (number := _number(value)) < math.inf:
        raise ValueError(f"{name}={value!r} must be a finite number above 0")
    return number


def share(name: str, value: float) -> float:
    """The value as Python's own `float`.

    Raises:
        ValueError: if it is not a number from 0 to below 1.
    """
    if not 0 <= (number := _number(value)) < 1:
        raise ValueError(f"{name}={value!r} is not in [0, 1)")
    return number


def _number(value: Any) -> float:
    """NaN for what is no number; text is none, even if it spells one."""
    try:
        return math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        return math.nan
