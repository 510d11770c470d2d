"""What the commands print, wherever it goes: encodings that lack characters, pipes, closed and full files."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.command_line import main as cli
from fl_meta.command_line import notebooks as notebook_commands
from fl_meta.command_line.output import prepare_output
from fl_meta.evidence.verdicts import MARKS, Verdict

COMMANDS = ("reproduce", "verdicts", "play", "notebooks", "notebooks build", "notebooks check")
COMMANDS += ("data", "data list", "data fetch", "data check", "published", "record", "rerun")
ENCODINGS = ("ascii", "latin-1", "cp1252", "cp437", "koi8-r", "utf-8")
NOTHING_RECORDED = ("--results", "no results")
Run = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command whose output knows this encoding alone; its exit status, what it printed, its errors."""

    def run(encoding: str, *arguments: object) -> tuple[Any, str, str]:
        streams = [io.BytesIO(), io.BytesIO()]
        with monkeypatch.context() as patch:
            for name, stream in zip(("stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, io.TextIOWrapper(stream, encoding=encoding, write_through=True))
            try:
                status: Any = cli.main([str(argument) for argument in arguments])
            except SystemExit as stopped:
                status = stopped.code
            printed, errors = (stream.getvalue().decode(encoding) for stream in streams)
        return status, printed, errors

    return run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with one verdict of each kind, and characters of many kinds."""
    folder = tmp_path_factory.mktemp("report")
    verdicts = [
        Verdict("gain", "θ − β∇L “é” 😀", "toy — synthetic", mark, -1.5, (-2.0, 1.0), "points", "smoke")
        for mark in MARKS
    ]
    value = {"verdicts": [verdict.as_json() for verdict in verdicts], "failed": ["01_déjà"]}
    (folder / "verdicts.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_help_and_list_is_printed(run: Run, encoding: str) -> None:
    for command in (*(f"{command} --help" for command in ("", *COMMANDS)), "data list"):
        status, printed, errors = run(encoding, *command.split())
        assert status == 0 and errors == ""
        assert "\\" not in printed, "each character of our own has a similar one"
    assert "Konečný" in run("utf-8", "--help")[1] and "Konecny" in run("ascii", "--help")[1]


def test_verdicts_stay_a_table_that_can_be_read(run: Run, report: Path) -> None:
    _, whole, _ = run("utf-8", "verdicts", *NOTHING_RECORDED, "--output", report)
    status, plain, errors = run("ascii", "verdicts", *NOTHING_RECORDED, "--output", report)
    assert status == 0 and errors == "fl-meta: these notebooks failed in that report: 01_deja\n"
    marks = [re.search(rf"(\S+) {verdict}", plain).group(1) for verdict in MARKS]
    assert marks == [*"+x?+=oxx"] and "-1.50   [-2.00, +1.00]" in plain
    assert plain.splitlines()[3].startswith("-----  ")
    assert [len(line) for line in plain.splitlines()] == [len(line) for line in whole.splitlines()]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_means_the_same_in_every_encoding(run: Run, report: Path, encoding: str) -> None:
    status, printed, _ = run(encoding, "verdicts", "--json", *NOTHING_RECORDED, "--output", report)
    assert status == 0
    assert json.loads(printed) == json.loads((report / "verdicts.json").read_text())["verdicts"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_that_are_no_text_are_told(run: Run, encoding: str) -> None:
    name = os.fsdecode(b"caf\xe9")
    status, _, errors = run(encoding, "verdicts", *NOTHING_RECORDED, "--output", name)
    assert status == 2 and errors.startswith(r"fl-meta: error: no report in caf\xe9; make one with")
    assert run(encoding, "data", "fetch", name)[0] == 2


@given(st.text(st.characters(exclude_characters="\r\n")))
def test_any_text_is_printed_and_what_can_be_shown_is_not_changed(text: str) -> None:
    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = io.BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding=encoding, newline="\n"))
            prepare_output()
            print(text, flush=True)
            printed = stream.getvalue().decode(encoding).removesuffix("\n")
        shown = [character for character in text if not _lacks(encoding, character)]
        assert not any(_lacks(encoding, character) for character in printed)
        assert len(shown) == len(text) or printed != text
        if len(shown) == len(text):
            assert printed == text


def _lacks(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return True
    return False


# Real pipes and files -------------------------------------------------------------------------------------

PROGRAM = """
import sys
from fl_meta.command_line import main as cli, notebooks
notebooks._verdicts = lambda _: {} or 0
sys.exit(cli.main(['verdicts']))
"""
PRINTING = "print('\\u2714' * 100_000)"


def ended(body: str, redirection: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command with this body, in a shell with this redirection."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONUNBUF")}
    shell = f'exec "$0" -c "$1" {redirection}'
    command = ["sh", "-c", shell, sys.executable, PROGRAM.format(body)]
    return subprocess.run(command, capture_output=True, env=environment | variables, check=False)


def test_a_terminal_of_an_old_locale() -> None:
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = ended(PRINTING, **old)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"+" * 100_000 + b"\n", b"")


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_full_disk_under_standard_output_is_one_line(variables: dict[str, str]) -> None:
    done = ended(PRINTING, "> /dev/full", **variables)
    assert done.returncode == 2
    told = b"fl-meta: error: standard output: No space left on device; make room there, or choose another"
    assert done.stderr == told + b" folder\n"


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_help_that_nobody_reads_is_no_error(variables: dict[str, str]) -> None:
    body = "__import__('fl_meta').command_line.main.main(['record', '--help'])"
    done = ended(body, "| true", **variables)
    assert done.stderr == b""


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_is_no_error(redirection: str) -> None:
    done = ended(f"{PRINTING} or print('note', file=sys.stderr)", redirection)
    assert done.returncode == 0
    assert done.stdout.decode() == ("" if ">&-" in redirection.split() else "✔" * 100_000 + "\n")
    assert done.stderr == (b"" if "2>&-" in redirection else b"note\n")


def test_another_broken_pipe_is_not_taken_for_a_reader_that_has_gone() -> None:
    # A process of a pool that has died, for example: the command has not done what was asked.
    done = ended("(_ for _ in ()).throw(BrokenPipeError(32, 'Broken pipe', 'a worker'))")
    assert (done.returncode, done.stderr) == (2, b"fl-meta: error: a worker: Broken pipe\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(28, "No space left on device", "/x/y"),
            "/x/y: No space left on device; make room there, or",
        ),
        (
            PermissionError(13, "Permission denied", "/x"),
            "/x: Permission denied; see who may read and write it",
        ),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory\n"),
        (OSError("two\n  lines"), "two lines\n"),
        (OSError(), "OSError\n"),
    ],
)
def test_what_the_system_refuses_is_one_line_that_names_the_file(
    monkeypatch: pytest.MonkeyPatch, run: Run, error: OSError, message: str
) -> None:
    def refused(_: object) -> int:
        raise error

    monkeypatch.setattr(notebook_commands, "_verdicts", refused)
    status, _, errors = run("utf-8", "verdicts")
    assert status == 2 and errors.startswith(f"fl-meta: error: {message}") and errors.count("\n") == 1
