"""Ctrl-C, SIGTERM and a closed terminal end the program in order: with one line, and with nothing left."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Timer
from types import FrameType

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

_received: list[int] = []
_terminals: list[int] = []


class Stopped(KeyboardInterrupt):
    """Raised by the first signal. Whatever handles Ctrl-C handles the other signals, too."""


def stop_in_order() -> None:
    """Let signals end this program by an exception; what it ignores, as under nohup, stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.unraisablehook = _not_lost
    _terminals.extend(stream for stream in (1, 2) if os.isatty(stream))
    _end_with_make()


def received() -> bool:
    """Whether a signal has come."""
    return bool(_received)


def exit_status() -> int:
    """128 and the number of the first signal, as a shell says it: 130 for Ctrl-C."""
    return 128 + (_received or [signal.SIGINT])[0]


def last_moments() -> None:
    """Nothing is left to do: from now on Ctrl-C ends the program at once; other signals come too late."""
    _received.append(signal.SIGINT)


def _stop(number: int, _: FrameType | None) -> None:
    first = not _received
    _received.append(number)
    if number == signal.SIGHUP:
        # The terminal is gone; writing to it would be an error in whatever writes.
        for stream in _terminals:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    if first:
        raise Stopped
    # A second Ctrl-C is impatience; the others may come twice, for the process and for its group. What this
    # program has started ends by itself when it is gone.
    if number == signal.SIGINT:
        with suppress(OSError):
            os.write(2, b"\nfl-meta: stopped at once\n")
        os._exit(exit_status())


def _not_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Send again, a moment later, what came where Python cannot raise, as in a `__del__`."""
    if isinstance(unraisable.exc_value, Stopped):
        number = _received[0]
        _received.clear()
        Timer(0.05, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _end_with_make() -> None:
    """Ask for SIGTERM when make is killed: SIGKILL is a signal that make cannot pass on."""
    parent = Path(f"/proc/{os.getppid()}/comm")
    if sys.platform == "linux" and parent.exists() and parent.read_text().strip() in ("make", "gmake"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
