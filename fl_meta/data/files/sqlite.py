"""Reading SQLite files that somebody else has made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a SQLite file that can only read.

    Raises:
        ValueError: if the file is damaged, was cut off, or is no SQLite file, or lacks a table that is asked
            for in the `with` block; the message names the file.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            ((pages,), (size,)) = (
                connection.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size")
            )
            # SQLite itself reads zeros where the last page was cut off.
            if path.stat().st_size < pages * size:
                raise ValueError(
                    f"{path}: damaged, it has {path.stat().st_size:,} bytes of the {pages * size:,} that it "
                    "should have: it was cut off"
                )
            yield connection
    except sqlite3.Error as error:
        raise ValueError(f"{path}: damaged, or not a SQLite file of this data set ({error})") from error
