"""Write files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

_MAKE_ROOM = "make room there, or choose another folder"
_MAY_WRITE = "choose a folder you may write to"
ADVICE = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EACCES: _MAY_WRITE,
    errno.EPERM: _MAY_WRITE,
    errno.EROFS: _MAY_WRITE,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links lead in a circle; choose another name",
    errno.EISDIR: "name a file in it",
}
"""What to do about a file that cannot be written, by the number of the system's error."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary_path)`, then rename the result to `path`.

    A process killed at any moment leaves either the old file or the new one; so does a machine that loses its
    power. What the process wrote beside the file until then is removed by the next call for the same file,
    or by `remove_unfinished`. If several processes write one file at once, the last one's is kept, whole.

    A symbolic link stays and its target is written. A file that exists keeps its permissions, and is not
    replaced if it may not be written to. If it has other hard links, they keep the old content.

    Raises:
        OSError: if the file cannot be written; the message names it, and says what to do.
    """
    try:
        target = _followed(path)
        mode = _mode_of(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target)
        with _beside(target) as (file, temporary):
            if mode is not None:
                temporary.chmod(mode)
            write(temporary)
            # A full disk may be noticed only now, and must be before the old file is gone.
            os.fsync(file.fileno())
            temporary.replace(target)
    except OSError as error:
        raise OSError(
            f"cannot write {path.name} into {path.parent}: {error.strerror or error}; "
            f"{ADVICE.get(error.errno or 0, _MAY_WRITE)}"
        ) from error


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes left beside a file that they were writing.

    What a living process is writing stays. So does what cannot be removed or locked.
    """
    with suppress(OSError):
        target = _followed(path)
        prefix, suffix = _affixes(target)
        for other in target.parent.glob(f"{escape(prefix)}*{escape(suffix)}"):
            with suppress(OSError), other.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink()


@contextmanager
def _beside(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file beside another, locked as long as its process lives, and its path; removed at the end."""
    prefix, suffix = _affixes(target)
    kept = False
    while not kept:
        temporary = target.with_name(f"{prefix}{secrets.token_hex(8)}{suffix}")
        with temporary.open("xb") as file:
            try:
                with suppress(OSError):  # a file system without locks: then nobody else can lock it either
                    fcntl.flock(file, fcntl.LOCK_EX)
                # Before it was locked, another process may have taken it for one that was left behind.
                kept = os.fstat(file.fileno()).st_nlink > 0
                if kept:
                    yield file, temporary
            finally:
                temporary.unlink(missing_ok=True)


def _affixes(target: Path) -> tuple[str, str]:
    """How the names of temporary files begin and end: short enough for any name that is itself allowed.

    They keep the suffix, because writers such as numpy's look at it.
    """
    return f".{target.name[:30]}.", f".unfinished{target.suffix[:20]}"


def _followed(path: Path) -> Path:
    """The file that a symbolic link leads to, which need not exist yet; another path as it is."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _mode_of(target: Path) -> int | None:
    """The permissions of a file that may be replaced; None if there is none yet."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, f"{target} is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(f"{target} is not a file that can be replaced")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, f"{target} is read-only")
    return stat.S_IMODE(mode)
