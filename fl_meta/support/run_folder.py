"""The temporary folder of a run, which goes when the run ends, and with it the processes it has started."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_meta.support.guard import MARK, clean_up, start_guard

try:
    import fcntl
except ImportError:  # Windows: nothing tells whether the run of a folder still lives, so none is cleared
    fcntl = None  # type: ignore[assignment]

PREFIX = "fl_meta_run_"


def environment_of(folder: Path) -> dict[str, str]:
    """The environment variables of processes that belong to a run: they keep their temporary files in it."""
    return {MARK: str(folder)} | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))


@contextmanager
def run_folder(also_after_exec: bool = False) -> Iterator[Path]:
    """A temporary folder for what a run needs, as long as the context lasts and this process lives.

    Whatever ends this process, SIGKILL for example, a guard then removes the folder and, on Linux, ends the
    processes that were started with the variables of `environment_of`. If the guard was killed as well, this
    user's next run does both (not on Windows).

    Args:
        also_after_exec: the run goes on when this process becomes another program.
    """
    _clear_stale()
    folder, lock = _new_folder()
    guard = start_guard(folder, () if lock is None else (lock,))
    assert guard.stdin is not None
    if also_after_exec:
        for descriptor in (guard.stdin.fileno(), lock):
            if descriptor is not None:
                os.set_inheritable(descriptor, True)
    try:
        yield folder
    finally:
        clean_up(folder)
        guard.communicate()
        if lock is not None:
            os.close(lock)


def _new_folder() -> tuple[Path, int | None]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _locked(folder)
        if fcntl is None or (lock is not None and folder.exists()):
            return folder, lock
        if lock is not None:  # before it was locked, another run took it for one that was left behind
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None if another process holds it."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _clear_stale() -> None:
    """Clean up after this user's runs that were killed together with their guards."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _locked(folder)
        if lock is not None:
            if os.fstat(lock).st_uid == os.getuid():
                clean_up(folder)
            os.close(lock)
