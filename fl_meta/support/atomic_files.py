"""Write files so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary_path)`, then rename the result to `path`.

    A process killed at any moment leaves either the old file or the new one.

    Raises:
        OSError: if the folder cannot be made or written to; the message names it.
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary_name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise OSError(
            f"cannot write {path.name} into {folder}: {error.strerror}; choose a folder you may write to"
        ) from error
    os.close(descriptor)
    temporary = Path(temporary_name)
    try:
        write(temporary)
        # mkstemp makes the file private; give it the mode any new file of this user would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
