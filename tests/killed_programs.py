"""Real programs that tests kill: how they are started, what they leave, and an experiment that waits."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

REPOSITORY = Path(__file__).parent.parent
FL_META = [sys.executable, "-c", "import sys; from fl_meta.command_line.main import main; sys.exit(main())"]

# Records one small experiment of four folds. Those from 2 on wait for the file `go` in the working folder, if
# $WAIT is set; `computed` tells which have got there. It is imported by the processes that compute, too.
RECORD = """
import os, pathlib, sys, time
from dataclasses import replace
from fl_meta.command_line import main as cli, results as commands
from small_results import tiny

if __name__ == "__main__":
    commands.RECORDED_EXPERIMENTS = {"table_one-four": tiny(folds=4)}
    sys.exit(cli.main())

from fl_meta.evidence import results
compute = results.EXPERIMENTS["crossed_table_one"].run

def waiting(config, seed):
    outcome = compute(config, seed)
    pathlib.Path(f"computed{seed}").write_text(str(os.getpid()))
    while seed >= 2 and "WAIT" in os.environ and not pathlib.Path("go").exists():
        time.sleep(0.01)
    return outcome

results.EXPERIMENTS["crossed_table_one"] = replace(results.EXPERIMENTS["crossed_table_one"], run=waiting)
"""


class Program:
    """A program in a session of its own, whose environment names it, its children and their children.

    Attributes:
        process: the program itself.
        temporary: the folder in which it keeps its temporary files.
    """

    started: ClassVar[list[Program]] = []

    def __init__(self, command: Sequence[str], folder: Path, **environment: str) -> None:
        # Not in the folder of the test: the path of a socket may not be long.
        self.temporary = Path(tempfile.mkdtemp(prefix="killed_"))
        name = str(uuid4())
        self._entry = f"FL_META_TEST={name}".encode()
        paths = [str(REPOSITORY), str(REPOSITORY / "tests")]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ
            | {"FL_META_TEST": name, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.temporary)}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=listen_to_signals,
        )
        self.started.append(self)

    def end(self, number: int, group: bool = False) -> str:
        """Send a signal to the program, or to all of its group, and return what it has printed."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.printed()

    def shows(self, text: str, seconds: float = 30) -> str:
        """What the program has printed when a text is in it, when it has ended, or after so much time."""
        assert self.process.stdout is not None
        stream, shown, deadline = self.process.stdout.fileno(), b"", time.monotonic() + seconds
        while text.encode() not in shown and (left := deadline - time.monotonic()) > 0:
            if select.select([stream], [], [], left)[0]:
                if not (piece := os.read(stream, 4096)):
                    break
                shown += piece
        return shown.decode()

    def printed(self) -> str:
        """What the program has printed when it has ended."""
        return self.process.communicate(timeout=60)[0]

    def processes(self) -> dict[int, str]:
        """The commands of the processes that there are, by their number."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if self._entry in (path / "environ").read_bytes().split(b"\0"):
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def left(self, seconds: float = 10) -> tuple[list[str], list[str]]:
        """The processes and temporary files that are left after so much time; then they are removed."""
        wait_until(lambda: not self.processes() and not any(self.temporary.glob("*")), seconds)
        processes = self.processes()
        for process in processes:
            os.kill(process, signal.SIGKILL)
        files = sorted(path.name for path in self.temporary.glob("*"))
        shutil.rmtree(self.temporary, ignore_errors=True)
        return list(processes.values()), files


def listen_to_signals() -> None:
    """Switch signals on again that are off in the background of a shell, or under nohup."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def has_ended(process: int) -> bool:
    """Whether a process has ended and holds no lock any longer, even if nobody has asked about it yet."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until a condition holds, but not for ever, and return whether it does."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


def record_program(folder: Path) -> list[str]:
    """The command that records the experiment of `RECORD` in a folder."""
    (folder / "program.py").write_text(RECORD)
    options = ["--results", "results", "--workers", "4", "--replicates", "1"]
    return [sys.executable, "program.py", "record", *options]


class UnpicklableError(Exception):
    """An error that cannot be made again from its message."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def fail_as(kind: str) -> None:
    """Fail, or end, in a process of its own; here, because such a process can import this module."""
    if kind == "unpicklable":
        raise UnpicklableError(1, 2)
    if kind == "memory":
        raise MemoryError("of 8 TB")
    if kind == "exit":
        os._exit(7)
    os.kill(os.getpid(), {"killed": signal.SIGKILL, "crash": signal.SIGSEGV, "told": signal.SIGTERM}[kind])
    time.sleep(60)
