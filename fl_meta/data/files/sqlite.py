"""Reading SQLite files that others have written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a SQLite file."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            ((pages,), (size,)) = (
                connection.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size")
            )
            # SQLite itself reads zeros in place of a truncated last page.
            if path.stat().st_size < pages * size:
                raise ValueError(
                    f"{path}: damaged, cut off after {path.stat().st_size:,} of its {pages * size:,} bytes"
                )
            yield connection
    except sqlite3.Error as error:
        raise ValueError(f"{path}: damaged, or not a SQLite file of this data set ({error})") from error
