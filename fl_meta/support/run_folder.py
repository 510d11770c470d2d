"""The temporary folder of a run, which goes when the run ends, and with it the processes it has started."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fl_meta.support.guard import MARK, clean_up, start_guard

PREFIX = "fl_meta_run_"


def environment_of(folder: Path) -> dict[str, str]:
    """The environment variables of processes that belong to a run: they keep their temporary files in it."""
    return {MARK: str(folder)} | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))


@contextmanager
def run_folder(also_after_exec: bool = False) -> Iterator[Path]:
    """A temporary folder for what a run needs, as long as the context lasts and this process lives.

    Whatever ends this process, SIGKILL for example, a guard then removes the folder and, on Linux, ends the
    processes that were started with the variables of `environment_of`. If the guard was killed as well, this
    user's next run does both.

    Args:
        also_after_exec: the run goes on when this process becomes another program.
    """
    _clear_stale()
    folder, lock = _new_folder()
    guard = start_guard(folder, (lock,))
    assert guard.stdin is not None
    if also_after_exec:
        for descriptor in (guard.stdin.fileno(), lock):
            os.set_inheritable(descriptor, True)
    try:
        yield folder
    finally:
        clean_up(folder)
        guard.communicate()
        os.close(lock)


def _new_folder() -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Before it is locked, another run may take it for one that was left behind.
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: then nobody else can lock it either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def _clear_stale() -> None:
    """Clean up after this user's runs that were killed together with their guards."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, no folder, or locked by a run that lives
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    clean_up(folder)
            finally:
                os.close(descriptor)
