"""Whole numbers given by a user, checked and made plain."""

from __future__ import annotations

import operator
from typing import Any


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """The value as Python's own `int`, NumPy's whole numbers included.

    Raises:
        ValueError: if it is no whole number, or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name}={value!r} must be a whole number of {least} or more")
    return number
