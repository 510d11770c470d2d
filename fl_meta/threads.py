"""One intra-op thread for the local loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch's operations on one thread, as a `with` block or as a decorator `@one_thread()`.

    A client's batches are small. Splitting one over threads gains little, costs ten times more beside
    another busy process (the threads wait for each other by spinning), and makes the last bits of a sum
    depend on the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
