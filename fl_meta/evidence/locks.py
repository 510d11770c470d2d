"""One process computes, another that asks for the same waits for it and says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm


@contextmanager
def alone(path: Path, awaited: Sequence[Path], progress: bool) -> Iterator[None]:
    """Hold a lock, whose file is removed at the end.

    While another process holds it, a bar says which one, and how many of the awaited files are there.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        title = f"waiting for process {_holder(path)}, which computes {path.stem[1:]}"
        with tqdm(total=len(awaited), desc=title, unit="seed", disable=not progress) as bar:
            while not lock.is_locked:
                bar.n = sum(file.exists() for file in awaited)
                bar.refresh()
                with suppress(Timeout):
                    lock.acquire(timeout=1)
    try:
        with suppress(OSError):  # a full disk
            path.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        # Before it is released: whoever waits finds out that its file is gone, and makes a new one.
        with suppress(OSError):
            path.unlink()
        lock.release()


def remove_stale(path: Path) -> None:
    """Remove the file of a lock whose holder was killed; one that is held stays."""
    if path.exists():
        lock = FileLock(path)
        with suppress(OSError), lock.acquire(timeout=0):
            path.unlink()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # it has just ended
        return "unknown"
