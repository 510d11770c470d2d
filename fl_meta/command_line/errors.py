"""Report bad input in one line on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bad_input(
    errors: tuple[type[Exception], ...] = (ValueError, OSError, ModuleNotFoundError), status: int = 2
) -> Iterator[None]:
    """Turn an error that the user's input caused into one line and an exit status."""
    try:
        yield
    except errors as error:
        print(f"fl-meta: error: {error}", file=sys.stderr)
        raise SystemExit(status) from None
