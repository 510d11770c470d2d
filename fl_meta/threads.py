"""How many threads compute: one inside an operation, several over clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_allowed: ContextVar[int | None] = ContextVar("threads allowed", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch's operations on one thread, as a `with` block or as a decorator `@one_thread()`.

    A client's batches are small. Splitting one over threads gains little, costs ten times more beside
    another busy process (the threads wait for each other by spinning), and makes the last bits of a sum
    depend on the number of cores.
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
    """PyTorch's number of threads, or what it was outside of all `one_thread`: workers that one may start.

    It is the number of cores, unless OMP_NUM_THREADS or `torch.set_num_threads` says otherwise.
    """
    return _allowed.get() or torch.get_num_threads()
