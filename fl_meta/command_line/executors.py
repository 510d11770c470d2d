"""Where long computations of a command run: processes of this machine, or a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from fl_meta.command_line.arguments import at_least_one


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Add the options that `executor` reads."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--workers",
        type=at_least_one,
        metavar="N",
        help="processes at once, each for one seed (default: one more than cores)",
    )
    group.add_argument(
        "--dask", metavar="ADDRESS", help="a dask scheduler, for example tcp://host:8786, computes instead"
    )


@contextmanager
def executor(options: argparse.Namespace) -> Iterator[Executor | None]:
    """The executor that was asked for, or None.

    Raises:
        ModuleNotFoundError: if dask is not installed.
        OSError: if no scheduler answers at the address.
    """
    from fl_meta.evidence.processes import processes

    if options.dask:
        try:
            from distributed import Client
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("dask is not installed; run: pip install 'fl_meta[dask]'") from error
        with Client(options.dask) as client:  # type: ignore[no-untyped-call]
            yield client.get_executor()
    elif options.workers:
        with processes(options.workers) as pool:
            yield pool
    else:
        yield None
