"""Run experiments side by side, one process each."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_all_start_methods, get_context

import torch


@contextmanager
def processes(number: int) -> Iterator[Executor]:
    """A pool of processes that share the cores; Ctrl-C ends them at once and silently.

    The processes do not start as copies of this one: with a copy of its threads they would hang. Where the
    system can, they are copies of a process that has imported everything and computed nothing.
    """
    others = set(active_children())
    threads = max(1, torch.get_num_threads() // number)
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([f"{__package__}.results"])
    pool = ProcessPoolExecutor(number, context, initializer=_begin, initargs=(threads,))
    try:
        yield pool
    except KeyboardInterrupt:
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
