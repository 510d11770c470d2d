"""Reading SQLite files that others have written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from fl_meta.data.files.errors import DataFileError, reading

# Called with a query and its values; gives the rows.
Select = Callable[..., Generator[tuple[Any, ...], None, None]]


@contextmanager
def selecting(path: Path) -> Iterator[Select]:
    """A function that reads rows of a SQLite file, which is closed after this block.

    Nothing is written beside the file, whatever damage makes of its header.
    """
    for left in (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-journal")):
        if left.exists() and left.stat().st_size:
            raise DataFileError(
                f"{path}: a program that was writing it was stopped, and left {left.name} beside it: "
                "open and close the file with the program sqlite3, or get it again"
            )
    kind = "a SQLite file of this data set"
    with reading(path, kind):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    # The cursors too are closed here: each keeps the file open, and an error's traceback keeps the cursor.
    with closing(connection), ExitStack() as cursors:

        def select(query: str, *values: Any) -> Generator[tuple[Any, ...], None, None]:
            with reading(path, kind):
                cursor = cursors.enter_context(closing(connection.execute(query, values)))
                # Not "yield from", which would close the cursor, perhaps in another thread.
                for row in cursor:  # noqa: UP028
                    yield row

        ((pages,), (size,)) = (next(select(f"PRAGMA {what}")) for what in ("page_count", "page_size"))
        # SQLite itself reads zeros in place of a truncated last page.
        if path.stat().st_size < pages * size:
            raise DataFileError(
                f"{path}: damaged, cut off after {path.stat().st_size:,} of its {pages * size:,} bytes"
            )
        yield select
