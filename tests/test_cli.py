"""The command line: exit statuses, what is printed, and errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
import pytest

from fl_meta import cli, notebooks, twins
from fl_meta.notebooks import Failure, NotebookRun, Plan
from fl_meta.verdicts import PROFILES

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
VERDICT = """
from fl_meta.verdicts import Verdict, VerdictTable
one = Verdict("gain", "It helps", "toy (synthetic)", "reproduced", seed, (1.0, 2.0), "points", profile)
VerdictTable((one,))
"""


def write_notebook(path: Path, source: str) -> None:
    parameters = nbformat.v4.new_code_cell('profile = "laptop"\nseed = 0', metadata={"tags": ["parameters"]})
    cells = [parameters, nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC}), path)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    (folder / "notebooks").mkdir()
    write_notebook(folder / "notebooks/01_fails.ipynb", "1 / 0")
    write_notebook(folder / "notebooks/02_gain.ipynb", VERDICT)
    return folder


@pytest.fixture
def here(toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(toys)
    return toys


def fails_with_two(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of bad input: one line after the usage, and no traceback."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


def test_reproduce_ends_with_verdicts_and_the_path_of_the_report(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "--profile", "smoke", "--set", "seed=1.5"]) == 1
    printed, progress = capsys.readouterr()
    assert "gain   toy (synthetic)  ✔ reproduced  +1.50   [+1.00, +2.00]  points  smoke" in printed
    assert printed.splitlines()[-1] == "report: build/report/index.html"
    assert "FAILED: 01_fails" in printed
    assert "[1/2] 01_fails" in progress and "cell 3 of 3: ZeroDivisionError: division by zero" in progress
    assert "[2/2] 02_gain" in progress, "a notebook that fails does not stop the others"
    html = (here / "build/report/index.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in html and "1 / 0" in html
    assert "fl-meta reproduce --profile smoke --set seed=1.5" in html

    assert cli.main(["verdicts"]) == 0
    shown, note = capsys.readouterr()
    assert shown.strip() in printed and "these notebooks failed in that report: 01_fails" in note
    assert cli.main(["verdicts", "--json"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)
    assert {
        key: verdict[key] for key in ("claim", "dataset", "verdict", "effect", "interval", "profile")
    } == {
        "claim": "gain",
        "dataset": "toy (synthetic)",
        "verdict": "reproduced",
        "effect": 1.5,
        "interval": [1.0, 2.0],
        "profile": "smoke",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "--profile", "smok"], "invalid choice: 'smok'"),
        (["reproduce", "--set", "sead=1"], "01_fails.ipynb has no parameter 'sead'; did you mean 'seed'?"),
        (["reproduce", "--set", "seed"], "'seed' is not of the form NAME=VALUE"),
        (["reproduce", "--set", "profile=paper"], "choose the profile with --profile"),
        (["reproduce", "--output", "notebooks/01_fails.ipynb/x"], "cannot write the report into"),
        (["reproduce", "--output", "."], "would overwrite the notebooks"),
        (["reproduce", "--notebooks", "elsewhere"], "--notebooks"),
        (["reproduce", "--seed", "1"], "unrecognized arguments: --seed 1"),
        (["verdicts", "--output", "elsewhere"], "no report in elsewhere; make one with: make reproduce"),
        (["lab", "--notebooks", "elsewhere"], "no notebook"),
        (["notebooks", "build", "03_new"], "no notebook [0-9][0-9]_*.py"),
        (["notebooks", "check"], "no notebook [0-9][0-9]_*.py"),
        (["reproduc"], "invalid choice: 'reproduc'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    here: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails_with_two(arguments, capsys)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["reproduce", "--help"], ["notebooks", "build", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 0
    text = capsys.readouterr().out
    for command in ("reproduce", "verdicts", "lab", "test", "notebooks"):
        assert f"\n    {command} " in text
    assert "fl-meta reproduce --profile smoke" in text and "exit status" in text
    assert all(profile in text for profile in PROFILES)
    assert "fl_meta 0." in text


def test_ctrl_c_between_notebooks_reports_what_was_done(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(plan: Plan, output: Path, profile: str) -> Iterator[NotebookRun]:
        yield NotebookRun("01_fails", output / "01_fails.ipynb", 1.0, {}, (Failure("", "", "E", ""),))
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "run_all", interrupted)
    assert cli.main(["reproduce", "--output", str(tmp_path)]) == 130
    assert "NOT DONE: 01_fails, 02_gain" in capsys.readouterr().out
    assert "not run (stopped)" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_ctrl_c_within_a_notebook_stops_its_kernel(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    write = f"pathlib.Path({str(marker)!r}).write_text(str(os.getpid()))"
    source = f"import os, pathlib, time\n{write}\ntime.sleep(60)"
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks/01_slow.ipynb", source)
    command = [
        sys.executable,
        "-c",
        "import sys; from fl_meta.cli import main; sys.exit(main())",
        "reproduce",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (marker.exists() and marker.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped; the report has what was done" in errors and "Traceback" not in errors
    assert "report: build/report/index.html" in printed
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


def test_ctrl_c_elsewhere_is_quiet(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "plan", interrupted)
    assert cli.main(["reproduce"]) == 130
    assert capsys.readouterr().err == "fl-meta: stopped\n"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have been started; one that has the word 'mypy' fails."""
    started: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 1 if "mypy" in command else 0)

    monkeypatch.setattr("fl_meta.cli.subprocess.run", run)
    return started


def test_lab_becomes_jupyterlab_with_this_environments_kernel(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReplacedError(Exception):
        pass

    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        raise ReplacedError(program, command, environment["JUPYTER_PREFER_ENV_PATH"])

    monkeypatch.setattr("fl_meta.cli.os.execve", execve)
    with pytest.raises(ReplacedError) as replaced:
        cli.main(["lab", "--no-browser"])
    command = [sys.executable, "-m", "jupyterlab", "notebooks", "--no-browser"]
    assert replaced.value.args == (sys.executable, command, "1")


def test_test_runs_every_check_even_if_one_fails(
    tmp_path: Path,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["test"]) == 2
    assert "go to the root of the repository" in capsys.readouterr().err
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "tests").mkdir()
    assert cli.main(["test", "-k", "report"]) == 1
    assert [command[2] for command in commands] == ["ruff", "ruff", "mypy", "pytest"]
    assert commands[-1][3:] == ["-k", "report"]
    assert "FAILED: mypy" in capsys.readouterr().out


def test_notebooks_build_and_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "01_a.py").write_text("# %%\n1\n")
    folder = ["--notebooks", str(tmp_path)]
    assert cli.main(["notebooks", "check", *folder]) == 1
    assert "01_a.ipynb is missing; run: fl-meta notebooks build 01_a" in capsys.readouterr().out
    monkeypatch.setattr(twins, "check", lambda folder: [])
    assert cli.main(["notebooks", "check", *folder]) == 0
    assert "needs a parameter profile" in fails_with_two(["notebooks", "build", "01_a", *folder], capsys)
    for failures in ((), (Failure("", "", "E", ""),)):
        run = NotebookRun("01_a", tmp_path, 1.0, {}, failures)
        monkeypatch.setattr(twins, "build", lambda twin, run=run: run)
        assert cli.main(["notebooks", "build", *folder]) == len(failures)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    # The pipe is closed before anything is printed, as `| head` does after a while.
    reading, writing = os.pipe()
    os.close(reading)
    program = (
        "import sys; from fl_meta import cli; cli._verdicts = lambda _: print('x' * 100_000) or 1;"
        "sys.exit(cli.main(['verdicts']))"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
