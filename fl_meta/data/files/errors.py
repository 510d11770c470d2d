"""One kind of error for a data file that is damaged, or is not what it should be."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DataFileError(ValueError):
    """A file of a data set is damaged, or is not what it should be; the message names the file."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever damaged bytes make the readers in this block raise becomes a `DataFileError`: not {kind}.

    An error of the disk, such as a file that may not be read, stays one, and names the file.
    """
    try:
        yield
    except (DataFileError, ModuleNotFoundError):
        raise
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        # A damaged offset makes them seek to where no byte can be: EINVAL is no error of the disk.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            if error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise DataFileError(
            f"{path}: damaged, or not {kind} ({error!r}); delete it and get it again"
        ) from error
