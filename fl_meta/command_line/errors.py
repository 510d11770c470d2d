"""Report bad input in one line on standard error."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fl_meta.support.atomic_files import ADVICE

# An error that comes here with its number may be of reading as well as of writing.
_MAY_USE = "see who may read and write it"
_ADVICE = ADVICE | {errno.EACCES: _MAY_USE, errno.EPERM: _MAY_USE}


@contextmanager
def bad_input(
    errors: tuple[type[Exception], ...] = (ValueError, OSError, ModuleNotFoundError), status: int = 2
) -> Iterator[None]:
    """Turn an error that the user's input caused into one line and an exit status."""
    try:
        yield
    except errors as error:
        print(f"fl-meta: error: {explained(error)}", file=sys.stderr)
        raise SystemExit(status) from None


def explained(error: Exception) -> str:
    """What an error says, in one line; if it is the system's, with the file first and what to do last."""
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename is not None else ""
        todo = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
        return f"{file}{error.strerror}{todo}"
    message = "; ".join([str(error), *getattr(error, "__notes__", [])])
    return " ".join(line.strip() for line in message.splitlines()) or type(error).__name__
