"""A guard: a process that cleans up after another one, whatever ends that.

A program that is killed cannot clean up. So one that starts other processes, or keeps files in a temporary
folder, first starts a guard: this file, with the folder as its argument and the reading end of a pipe as
standard input. When the program is gone, so is the other end of the pipe; the guard then ends the processes
that belong to the folder and removes the folder.

A process belongs to the folder if its environment says so in `FL_META_RUN`. Children inherit that, whatever
their session. It is read from `/proc`, which only Linux has; elsewhere only the folder is removed.

It is run by its path and without site-packages, so it imports from the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "FL_META_RUN"


def start_guard(folder: Path, inherited: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Start a guard of this process and a folder; closing its standard input makes it clean up and end.

    It has a session of its own, so that what a terminal or a scheduler sends to a group does not reach it.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).absolute()), str(folder.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A guard belongs to no run: it must outlive the one in which it was started.
        env={name: value for name, value in os.environ.items() if name != MARK},
        cwd=folder.anchor or "/",
        pass_fds=inherited,
        start_new_session=True,
    )


def clean_up(folder: Path) -> None:
    """End the processes that belong to a folder or to one inside it, and remove the folder."""
    _end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _end_processes(folder: Path) -> None:
    # Again until none is left, because one that was not looked at yet may start another; but not for ever,
    # because one may wait for a disk that does not answer.
    for _ in range(250):
        processes = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _belongs(path, folder)]
        if not processes:
            return
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _belongs(process: Path, folder: Path) -> bool:
    try:
        entries = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended meanwhile, or is somebody else's
        return False
    mark = os.fsencode(f"{MARK}={folder}")
    return any(entry == mark or entry.startswith(mark + b"/") for entry in entries)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    clean_up(Path(sys.argv[1]))
