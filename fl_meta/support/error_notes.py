"""Say in an error where it happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noting(where: str) -> Iterator[None]:
    """Add a note to every error raised inside; its type and its own message stay as they are."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise
