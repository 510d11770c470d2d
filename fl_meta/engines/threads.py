"""How many threads to compute with, and how many cores are idle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch

LOAD = Path("/proc/loadavg")  # its fourth word: threads that are running now / all threads
OWN = Path("/proc/self/task")  # this process's threads, with "R" after the name if it is running
_allowed: ContextVar[int | None] = ContextVar("threads allowed", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch's operations on one thread, as a `with` block or as a decorator `@one_thread()`.

    A client's batches are small. Splitting one among threads gains little, can take ten times as long beside
    another busy process (threads spin while they wait for each other), and makes the last bits of a sum
    depend on the number of cores. The stacked engine has larger operations and divides them itself.
    """
    before = torch.get_num_threads()
    token = _allowed.set(allowed_threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _allowed.reset(token)


def allowed_threads() -> int:
    """The number of threads that the caller allows: PyTorch's, as it was outside every `one_thread`.

    This is the number of cores, unless OMP_NUM_THREADS or `torch.set_num_threads` says otherwise.
    """
    return _allowed.get() or torch.get_num_threads()


def idle_cores() -> int:
    """How many of the machine's cores no other process is using at this moment; at least one.

    Threads that share an operation wait for each other at its end, so beside another busy process two are
    slower than one. Linux reports the number of running threads, even inside a container for the whole
    machine; on other systems all cores count as idle.
    """
    cores = os.cpu_count() or 1
    try:
        # PyTorch's own threads run on for a moment after an operation, to be ready for the next. They are
        # counted first: one that ends before the others are counted is not taken for somebody else's.
        own = sum(_runs(thread / "stat") for thread in OWN.iterdir())
        running = int(LOAD.read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return cores
    return max(1, min(cores, cores - running + own))


def _runs(stat: Path) -> bool:
    try:
        return b") R " in stat.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the thread has just ended
        return False
