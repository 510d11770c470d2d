"""Bad input as one line on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _bad_input(
    errors: tuple[type[Exception], ...] = (ValueError, OSError, ModuleNotFoundError),
    status: int = 2,
) -> Iterator[None]:
    """Turn an error about what the user gave into one line and exit status 2, or another."""
    try:
        yield
    except errors as error:
        print(f"fl-meta: error: {error}", file=sys.stderr)
        raise SystemExit(status) from None
