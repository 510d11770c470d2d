"""Run experiments side by side, one process each, which end with the process that started them."""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing import get_context, parent_process, resource_tracker, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import FrameType
from typing import Any, TypeVar

import torch

from fl_meta.support.guard import start_guard

T = TypeVar("T")

undisturbed = Lock()
"""Held by a process while it writes what it has computed: told to end, it ends after that."""

_SIGNALS = [signal.SIGTERM, signal.SIGHUP]


class RemoteTracebackError(Exception):
    """The cause of an error in a process of its own: its traceback there, as text."""


class ProcessEndedError(BrokenExecutor):
    """A process was ended from outside, or crashed, before it had an answer."""


@contextmanager
def processes(number: int) -> Iterator[Executor]:
    """An executor that starts a process for each task, as many at once as given; they share the cores.

    An exception in the block, Ctrl-C for example, ends the processes at once and silently. They also end with
    this process, whatever ends it. One that is killed fails its own task alone, with a `ProcessEndedError`.

    The processes do not start as copies of this one: with a copy of its threads they would hang. They are
    copies of a process that has imported everything and computed nothing.
    """
    executor = OwnProcesses(number, threads=max(1, torch.get_num_threads() // number))
    try:
        yield executor
        executor.shutdown()
    except BaseException:
        executor.end()
        raise


class OwnProcesses(Executor):
    """The executor of `processes`: each of its threads takes a task, waits for its process, and so on."""

    def __init__(self, number: int, threads: int) -> None:
        self._threads = threads
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([f"{__package__}.results"])
        _guard_sockets()
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._running: set[BaseProcess] = set()
        self._changing = Lock()
        self._ended = False
        # Daemons: a thread that waits for a process to start must not keep this process from ending.
        self._lanes = [Thread(target=self._work, daemon=True) for _ in range(number)]
        for lane in self._lanes:
            lane.start()

    def submit(self, function: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """Run a function in a process of its own; it, its arguments and its result are pickled."""
        future: Future[T] = Future()
        self._tasks.put((future, partial(function, *arguments, **named)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Start nothing after the tasks that were submitted, or are under way, and wait for them."""
        with suppress(Empty):
            while cancel_futures:
                if task := self._tasks.get_nowait():
                    task[0].cancel()
        for _ in self._lanes:
            self._tasks.put(None)
        if wait:
            for lane in self._lanes:
                lane.join()

    def end(self) -> None:
        """End the processes and cancel what waits."""
        with self._changing:
            self._ended = True
            for process in self._running:
                process.terminate()
        self.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        # The server that makes the copies inherits these: Ctrl-C in a terminal reaches every process of the
        # group, and in the server it would show a traceback. First the tracker, which unblocks them again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, *_SIGNALS])
        while (task := self._tasks.get()) is not None:
            future, call = task
            if future.set_running_or_notify_cancel():
                try:
                    result = self._in_a_process(call)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

    def _in_a_process(self, call: Callable[[], Any]) -> Any:
        ours, theirs = self._context.Pipe(duplex=False)
        with ours:
            with theirs:
                process = self._context.Process(target=_serve, args=(theirs, self._threads, call))
                # The server that makes it may be gone, or the system allow no more files or processes.
                try:
                    process.start()
                except (EOFError, OSError) as failure:
                    reason = str(failure) or "its server has ended"
                    raise ProcessEndedError(f"before it could start ({reason})") from failure
            with self._changing:
                self._running.add(process)
                if self._ended:
                    process.terminate()
            try:
                error, result = ours.recv()
            except (EOFError, OSError):  # it has ended without an answer, or in the middle of one
                process.join()
                raise ProcessEndedError(_how_it_ended(process.exitcode or 0)) from None
            finally:
                with self._changing:
                    self._running.discard(process)
            process.join()
        if error is not None:
            raise error from RemoteTracebackError(f"in a process of its own:\n{result}")
        return result


def _how_it_ended(exitcode: int) -> str:
    number = -exitcode if exitcode < 0 else exitcode - 128
    if number not in set(signal.Signals):
        return f"with exit status {exitcode}"
    name = signal.Signals(number).name
    return f"by {name}, probably for lack of memory" if name == "SIGKILL" else f"by {name}"


@cache
def _guard_sockets() -> None:
    """Let a guard remove the folder of multiprocessing's sockets, should this process be killed.

    The path of a socket has at most 104 bytes on some systems, of which its own name and folder take 32.
    """
    usual = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > 70:
        tempfile.tempdir = "/tmp"
    try:
        folder = Path(util.get_temp_dir())
    finally:
        tempfile.tempdir = usual
    guard = start_guard(folder)
    # After multiprocessing itself, whose priority is −100.
    util.Finalize(None, guard.communicate, exitpriority=-200)


def _serve(connection: Connection, threads: int, call: Callable[[], Any]) -> None:
    """What a process does: send None and a result, or an error and its traceback as text."""
    _end_when_told()
    torch.set_num_threads(threads)
    answer: tuple[BaseException | None, Any]
    try:
        answer = None, call()
    except BaseException as error:
        answer = _picklable(error), "".join(traceback.format_exception(error))
    with suppress(BrokenPipeError):
        connection.send(answer)


def _picklable(error: BaseException) -> BaseException:
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_when_told() -> None:
    """End this process when it is told to, or when the one that started it has ended."""

    def told(number: int, _: FrameType | None) -> None:
        Thread(target=_end, args=(128 + number,), daemon=True).start()

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, told)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that started this one
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        _end(1)

    Thread(target=watch, daemon=True).start()


def _end(status: int) -> None:
    with undisturbed:
        os._exit(status)
