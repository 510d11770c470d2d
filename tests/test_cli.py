"""The command line: exit statuses, what is printed, and errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from small_notebooks import VERDICT, write_notebook
from small_results import TINY, tiny

from fl_meta import reproduction
from fl_meta.command_line import notebooks as notebook_commands
from fl_meta.command_line.executors import executor
from fl_meta.data.catalogue import CATALOGUE, DataSet, Download, Form
from fl_meta.data.synthetic.linear_mixture import load_synthetic
from fl_meta.evidence import results
from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.experiments import published_scores as benchmark
from fl_meta.experiments.crossed_settings import DESIGNS, Design
from fl_meta.experiments.recorded import RECORDED_EXPERIMENTS
from fl_meta.experiments.settings import PROFILES
from fl_meta.experiments.table_one_settings import CrossedTableOne
from fl_meta.reproduction import runner
from fl_meta.reproduction.runner import Failure, NotebookRun, Plan

Command = Callable[..., tuple[Any, str, str]]
OWN_FOLDER = """
import os
assert os.environ["FL_META_EXPERIMENTS"].endswith("/build/report/experiments")
effect = seed"""


@pytest.fixture
def refused(fl_meta: Command) -> Callable[..., str]:
    """The message of bad input: one line after the usage, and no traceback; the exit status is 2."""

    def run(*arguments: object) -> str:
        status, _, errors = fl_meta(*arguments)
        assert status == 2 and "Traceback" not in errors
        return errors.strip().splitlines()[-1]

    return run


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    (folder / "notebooks").mkdir()
    parameters = 'profile = "laptop"\nseed = 0.0'
    write_notebook(folder / "notebooks/01_fails.ipynb", ["1 / 0"], parameters)
    write_notebook(folder / "notebooks/02_gain.ipynb", [OWN_FOLDER + VERDICT], parameters)
    return folder


@pytest.fixture
def folder_of_toys(toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(toys)
    return toys


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Writers are drawn for these tests alone; no real data set is there."""
    folder = str(tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("FL_META_CACHE", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", folder)
    monkeypatch.delenv("FL_META_DATA", raising=False)
    monkeypatch.delenv("FL_META_EXPERIMENTS", raising=False)


# Notebooks and their report -------------------------------------------------------------------------------


def test_reproduce_ends_with_verdicts_and_the_path_of_the_report(
    folder_of_toys: Path, fl_meta: Command
) -> None:
    status, printed, progress = fl_meta("reproduce", "--profile", "smoke", "--set", "seed=1.5")
    assert status == 1 and "FL_META_EXPERIMENTS" not in os.environ
    assert "gain   toy (synthetic)  ✔ reproduced  +1.50   [+1.00, +2.00]  points  smoke" in printed
    assert printed.splitlines()[-1] == "report: build/report/index.html"
    assert "FAILED: 01_fails" in printed
    assert "2] 01_fails: " in progress and "cell 2 of 2: ZeroDivisionError: division by zero" in progress
    assert "2] 02_gain: " in progress, "a notebook that fails does not stop the others"
    html = (folder_of_toys / "build/report/index.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in html and "1 / 0" in html
    assert "fl-meta reproduce --profile smoke --set seed=1.5" in html

    status, shown, note = fl_meta("verdicts")
    title, _, table = shown.partition("\n\n")
    assert (status, title) == (0, "report in build/report") and table.strip() in printed
    assert "these notebooks failed in that report: 01_fails" in note
    status, shown, _ = fl_meta("verdicts", "--json")
    (verdict,) = json.loads(shown)
    expected = {"claim": "gain", "dataset": "toy (synthetic)", "verdict": "reproduced", "profile": "smoke"}
    assert status == 0 and verdict.items() >= (expected | {"effect": 1.5}).items()
    assert verdict["interval"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("reproduc", "invalid choice: 'reproduc'"),
        ("lab", "invalid choice: 'lab'"),
        ("reproduce --profile smok", "invalid choice: 'smok'"),
        ("reproduce --set sead=1", "01_fails.ipynb has no parameter 'sead'; did you mean 'seed'?"),
        ("reproduce --set seed", "'seed' is not of the form NAME=VALUE"),
        ("reproduce --set profile=full", "choose the profile with --profile"),
        ("reproduce --output notebooks/01_fails.ipynb/x", "cannot write the report into"),
        ("reproduce --output .", "would overwrite the notebooks"),
        ("reproduce --notebooks elsewhere", "--notebooks"),
        ("reproduce --dask tcp://host:8786", "--workers and --dask compute the evidence of --profile full"),
        ("reproduce --dask tcp://host:8786 --workers 2", "not allowed with argument --dask"),
        ("reproduce --seed 1", "unrecognized arguments: --seed 1"),
        ("verdicts --output elsewhere", "no report in elsewhere; make one with: make reproduce"),
        ("verdicts --port=1", "unrecognized arguments: --port=1"),
        ("notebooks build 03_new", "no notebook [0-9][0-9]_*.py"),
        ("notebooks check", "no notebook [0-9][0-9]_*.py"),
        ("record writers", "no recorded experiment 'writers'; there are table_one-writers, table_one-"),
        ("record crossed-unipen62-stable", "unipen62"),
        ("record --workers 0", "'0' is not a whole number of at least 1"),
        ("record --workers two", "'two' is not a whole number of at least 1"),
        ("published --dataset femnist", "no published scores for 'femnist'; there are some for synthetic, "),
        ("published --dataset synthetic --method fedavg", "no method 'fedavg'; there are 'Local', 'FedAvg'"),
        ("published --dataset cifar10", "cifar10"),
        ("published --dataset synthetic --seeds 0", "'0' is not a whole number of at least 1"),
        ("rerun", "the following arguments are required: FILE"),
        ("rerun elsewhere.json", "elsewhere.json is not a result file"),
        ("data fetch cifar11", "no data set 'cifar11'; there are writers, "),
        ("data check cifar11", "no data set 'cifar11'; there are writers, "),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    folder_of_toys: Path, refused: Callable[..., str], arguments: str, message: str
) -> None:
    assert message in refused(*arguments.split())
    assert not (folder_of_toys / "data").exists(), "nothing was recorded"


def test_help_and_version(fl_meta: Command) -> None:
    commands = ("reproduce", "verdicts", "play", "notebooks", "data", "published", "record", "rerun")
    text = ""
    for command in ("", *commands, "notebooks build", "data fetch"):
        status, printed, _ = fl_meta(*command.split(), "--help")
        assert status == 0
        text += printed
    assert all(f"\n    {command} " in text for command in commands)
    assert "fl-meta reproduce --profile smoke" in text and "exit status" in text
    assert all(profile in text for profile in PROFILES)
    assert all(f"\n  {name}\n" in text for name in RECORDED_EXPERIMENTS)
    assert fl_meta("--version")[1].startswith("fl_meta 0.")


@pytest.mark.parametrize("arguments", [["--help"], ["record", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"""import sys
from fl_meta.command_line.main import main
try:
    main({arguments})
except SystemExit:
    heavy = {{"torch", "pandas", "numpy", "matplotlib"}}
    print(*heavy & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "usage: fl-meta" in done.stdout and done.stderr.split() == []


def test_ctrl_c_between_notebooks_reports_what_was_done(
    folder_of_toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command
) -> None:
    def interrupted(plan: Plan, output: Path, profile: str) -> Iterator[NotebookRun]:
        yield NotebookRun("01_fails", output / "01_fails.ipynb", 1.0, {}, (Failure("", "", "E", ""),))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_all", interrupted)
    status, printed, errors = fl_meta("reproduce", "--output", tmp_path)
    assert status == 130 and "stopped; the report has what was done" in errors
    assert "NOT DONE: 01_fails, 02_gain" in printed
    assert "not run (stopped)" in (tmp_path / "index.html").read_text(encoding="utf-8")
    # Before anything has run there is nothing to report.
    monkeypatch.setattr(runner, "plan", Mock(side_effect=KeyboardInterrupt))
    assert fl_meta("reproduce") == (130, "", "fl-meta: stopped\n")


def _runs(pid: int) -> bool:
    """Whether there is such a process; one that has ended and that nobody has asked about does not count."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.slow
def test_ctrl_c_stops_the_kernels_that_run_and_what_they_have_started(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    pids = [tmp_path / f"0{number}" for number in (1, 2, 3)]
    for marker in pids:
        source = f"""import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "60"])
pathlib.Path({str(marker)!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(60)"""
        write_notebook(tmp_path / f"notebooks/{marker.name}_slow.ipynb", [source])
    command = [
        sys.executable,
        "-c",
        # Tests that run in the background of a shell have Ctrl-C switched off.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fl_meta.command_line.main import main; sys.exit(main())",
        "reproduce",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not all(one.exists() and one.read_text() for one in pids[:2]) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert not pids[2].exists()
    assert "stopped; the report has what was done" in errors and "Traceback" not in errors
    assert "report: build/report/index.html" in printed
    for pid in " ".join(one.read_text() for one in pids[:2]).split():
        assert not _runs(int(pid))


def test_play_becomes_a_server_with_this_environments_kernel(
    folder_of_toys: Path,
    monkeypatch: pytest.MonkeyPatch,
    fl_meta: Command,
    refused: Callable[..., str],
) -> None:
    class ReplacedError(Exception):
        pass

    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        raise ReplacedError(program, command, environment["JUPYTER_PREFER_ENV_PATH"])

    monkeypatch.setattr(notebook_commands.os, "execve", execve)
    # Voilà is an extra and may be missing; so may the playground.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "Voilà is not installed; run: pip install 'fl_meta[play]'" in refused("play")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert "no notebook notebooks/08_playground.ipynb" in refused("play")
    playground = folder_of_toys / "notebooks/08_playground.ipynb"
    playground.touch()
    with pytest.raises(ReplacedError) as replaced:
        fl_meta("play", "--port=1")
    playground.unlink()
    _, command, environment = replaced.value.args
    assert command[1:4] == ["-m", "voila", "notebooks/08_playground.ipynb"] and environment == "1"
    assert "--Voila.ip=127.0.0.1" in command and command[-1] == "--port=1"


def test_notebooks_build_and_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command, refused: Callable[..., str]
) -> None:
    (tmp_path / "01_a.py").write_text("# %%\n1\n")
    folder = "--notebooks", tmp_path
    status, printed, _ = fl_meta("notebooks", "check", *folder)
    assert status == 1 and "01_a.ipynb is missing; run: fl-meta notebooks build 01_a" in printed
    monkeypatch.setattr(reproduction, "check_notebooks", lambda folder: [])
    assert fl_meta("notebooks", "check", *folder)[0] == 0
    assert "needs a parameter profile" in refused("notebooks", "build", "01_a", *folder)
    for failures in ((), (Failure("", "", "E", ""),)):
        run = NotebookRun("01_a", tmp_path, 1.0, {}, failures)
        monkeypatch.setattr(reproduction, "build_notebook", lambda source, run=run: run)
        assert fl_meta("notebooks", "build", *folder)[0] == len(failures)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    # The pipe is closed before anything is printed, as `| head` does after a while.
    reading, writing = os.pipe()
    os.close(reading)
    program = (
        "import sys; from fl_meta.command_line import main as cli, notebooks;"
        "notebooks._verdicts = lambda _: print('x' * 100_000) or 1;"
        "sys.exit(cli.main(['verdicts']))"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


# Recorded results -----------------------------------------------------------------------------------------


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pools of processes that were asked for; one thread takes their place."""
    asked: list[int] = []

    @contextmanager
    def processes(number: int) -> Iterator[ThreadPoolExecutor]:
        asked.append(number)
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr("fl_meta.evidence.processes.processes", processes)
    monkeypatch.setattr(results, "processes", processes)
    return asked


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, CrossedTableOne]:
    """Two small experiments are all that is recorded; the working directory is an empty one."""
    configs = {"table_one-one": TINY, "table_one-two": tiny(local_epochs=(2,))}
    monkeypatch.setattr("fl_meta.command_line.results.RECORDED_EXPERIMENTS", configs)
    monkeypatch.chdir(tmp_path)
    return configs


def test_record_computes_what_is_missing_and_says_where(
    tmp_path: Path,
    pools: list[int],
    two: dict[str, CrossedTableOne],
    monkeypatch: pytest.MonkeyPatch,
    fl_meta: Command,
) -> None:
    status, printed, progress = fl_meta("record", "table_one-two", "--replicates", 1, "--workers", 3)
    assert (status, printed) == (0, "[1/1] table_one-two: 1 replicate of 2 folds\n")
    assert "seed" in progress and pools == [3]
    names = {results.file_name(two["table_one-two"], seed) for seed in (0, 1)}
    assert {path.name for path in (tmp_path / "data/results").iterdir()} == names

    computed = []
    compute = results.compute
    monkeypatch.setattr(results, "compute", lambda *what: computed.append(what) or compute(*what))
    status, printed, _ = fl_meta("record", "--replicates", 1)
    assert status == 0 and computed == [(TINY, 0), (TINY, 1)]
    lines = [line.split(":")[0] for line in printed.splitlines()]
    assert lines == ["[1/2] table_one-one", "[2/2] table_one-two"]
    status, printed, _ = fl_meta("record", "--results", "elsewhere", "table_one-one")
    assert (status, printed) == (0, "[1/1] table_one-one: 4 replicates of 2 folds\n")
    assert len(list((tmp_path / "elsewhere").glob("*.json"))) == 8


@pytest.mark.usefixtures("pools")
def test_record_keeps_what_is_done_before_an_error(
    tmp_path: Path, two: dict[str, CrossedTableOne], refused: Callable[..., str]
) -> None:
    (tmp_path / results.file_name(two["table_one-two"], 1)).write_text("{")
    assert "is not a result file" in refused("record", "--replicates", 1, "--results", tmp_path)
    assert len(results.recorded(TINY, tmp_path)) == 2


@pytest.mark.usefixtures("pools")
def test_published_shows_ours_beside_the_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command
) -> None:
    small = load_synthetic(num_clients=10, dimension=150, test_examples=10)
    monkeypatch.setattr(benchmark, "load_dataset", lambda name: small)
    asked = ["published", "--dataset", "synthetic", "--profile", "smoke", "--results", tmp_path]
    status, printed, _ = fl_meta(*asked, "--method", "FedAvg", "--method", "Local", "--seeds", 2)
    rows = {row[0]: row for line in printed.splitlines() if (row := line.split())}
    assert status == 0 and (rows["FedAvg+"][1], rows["FedAvg+"][-1]) == ("2", "68.9")
    assert (rows["Local"][1], rows["Local"][-1]) == ("2", "–"), "not published, and shown as that"
    assert "rounds 4 (published: 200)" in printed
    assert len(list(tmp_path.iterdir())) == 4

    monkeypatch.setattr(results, "compute", lambda *what: pytest.fail(f"{what} is there already"))
    assert fl_meta(*asked, "--method", "FedAvg")[0] == 0


def test_recorded_experiments_have_the_names_of_their_files() -> None:
    for name, config in RECORDED_EXPERIMENTS.items():
        if isinstance(config, Design):
            assert DESIGNS[name.removeprefix("crossed-")] is config
        elif isinstance(config, CrossedTableOne):
            assert results.file_name(config, 0).startswith(f"crossed_{name}-")
        else:
            assert results.file_name(config, 0).startswith(f"{name}-")


@pytest.mark.slow
def test_ctrl_c_stops_the_processes_and_keeps_what_is_done(tmp_path: Path) -> None:
    # The first seed is there; the second would take days.
    config = tiny(rounds=10**7, every=10**7)
    done = tmp_path / results.file_name(config, 0)
    results.write_result(replace(results.compute(TINY, 0), config=config), done)
    before = done.read_bytes()
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fl_meta.command_line import main as cli, results\n"
        "from fl_meta.experiments.settings import Setting\n"
        "from fl_meta.experiments.table_one_settings import CrossedTableOne, TableOne\n"
        f"if __name__ == '__main__':\n"
        f"    results.RECORDED_EXPERIMENTS = {{'one': {config!r}}}; sys.exit(cli.main())"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "program.py", "record", "--replicates", "1", "--results", str(tmp_path)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    shown = b""
    while b"0/1" not in shown:
        shown += (more := process.stderr.read1())
        assert more, shown
    process.send_signal(signal.SIGINT)
    # Their end of the pipe closes when the processes end; until then this waits.
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.endswith(b"fl-meta: stopped\n"), errors
    assert b"Traceback" not in shown + errors and printed == b""
    assert done.read_bytes() == before and len(list(tmp_path.glob("*.json"))) == 1


def changed_by(difference: float, result: CrossedTableOneResult) -> CrossedTableOneResult:
    """The result with other personalized accuracies of every held-out client."""
    (cell,) = result.cells
    initial, personalized = cell.equal_work.accuracy
    personalized = tuple(accuracy + difference for accuracy in personalized)
    reading = replace(cell.equal_work, accuracy=(initial, personalized))
    return replace(result, cells=(replace(cell, equal_work=reading),))


@pytest.mark.parametrize(
    ("difference", "status", "says", "points"),
    [
        (0.0, 0, "agrees", "0.00"),
        (0.019, 0, "agrees", "1.90"),
        (0.03, 1, "DOES NOT AGREE", "3.00"),
        (-0.03, 1, "DOES NOT AGREE", "3.00"),
    ],
)
def test_rerun_says_whether_a_result_agrees(
    difference: float, status: int, says: str, points: str, tmp_path: Path, fl_meta: Command
) -> None:
    path, other = tmp_path / "one.json", tmp_path / "other.json"
    result = results.compute(TINY, 1)
    results.write_result(changed_by(difference, result), path)
    results.write_result(result, other)
    before = path.read_bytes()
    ended, printed, _ = fl_meta("rerun", path, other)
    first, second = printed.splitlines()
    assert ended == status
    assert first.startswith(f"{path}: {says}, the largest difference of a mean accuracy is {points} points")
    assert second.startswith(f"{other}: agrees,") and "is 0.00 points (2 are allowed)" in second
    assert path.read_bytes() == before


ELSEWHERE = asdict(tiny(setting=replace(TINY.setting, dataset="unipen62")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data": {"name": "writers", "label": "writers", "sha256": "0123"}},
            "two.json was computed on other data: sha256 0123, but 'writers' here has",
        ),
        ({"config": ELSEWHERE}, "unipen62"),
        ({"seed": None, "format": 7}, "two.json has format 7"),
    ],
)
def test_rerun_refuses_what_it_cannot_compare_before_it_computes(
    change: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    good, bad = tmp_path / "one.json", tmp_path / "two.json"
    results.write_result(results.compute(TINY, 0), good)
    bad.write_text(json.dumps(json.loads(good.read_text()) | change))
    monkeypatch.setattr(results, "compute", lambda *_: pytest.fail("nothing is computed"))
    assert message in refused("rerun", good, bad)


# Data sets ------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of data sets, and no other."""
    monkeypatch.setenv("FL_META_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


def put_cifar(places: Path, content: bytes) -> Path:
    """A file where that of CIFAR-10 belongs."""
    path = places / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_data_list_says_what_is_here_and_how_to_get_the_rest(places: Path, fl_meta: Command) -> None:
    path = put_cifar(places, b"12345" * 100_000)
    status, printed, _ = fl_meta("data", "list")
    lines = printed.splitlines()
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line[:1].strip()}
    assert status == 0 and set(CATALOGUE) < set(rows)
    assert rows["cifar10"] == f"0.5 MB   yes, in {path.parent}"
    assert rows["cifar100"] == "168.5 MB   no: fl-meta data fetch cifar100"
    assert rows["unipen62"] == "?   no: fl-meta data fetch unipen62"
    assert rows["cifar10_subset"] == "?   no, and it has no address"
    assert rows["synthetic"] == "-   yes, made here"
    assert rows["writers"].startswith("-   yes, Hershey-Fonts 2")
    below = lines[lines.index(next(line for line in lines if line.startswith("cifar100 "))) + 1 :][:3]
    assert "CIFAR-100" in below[0] and "licence: " in below[1] and "https://www.cs.toronto.edu" in below[2]
    assert lines[-1] == f"files are fetched into {places}"


def test_data_fetch_of_what_is_here_or_has_no_address(
    places: Path, fl_meta: Command, refused: Callable[..., str]
) -> None:
    path = put_cifar(places, b"anything")
    assert fl_meta("data", "fetch", "cifar10") == (0, f"cifar10 is here already: {path}\n", "")
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    expected = f"Put cifar100_subset.npz there, as {places / 'cifar100' / 'cifar100_subset.npz'}"
    assert expected in refused("data", "fetch", "cifar100_subset")


def test_data_fetch_says_where_the_files_are(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command
) -> None:
    (tmp_path / "toy.bin").write_bytes(b"12345")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    download = Download(f"http://127.0.0.1:{server.server_port}/toy.bin", bytes=5)
    toy = DataSet("a toy", "none", forms=(Form(("toy.bin",), (download,)),))
    monkeypatch.setitem(CATALOGUE, "toy", toy)
    with server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.01)
        try:
            status, printed, _ = fl_meta("data", "fetch", "toy")
        finally:
            server.shutdown()
    assert (status, printed) == (0, f"toy is here: {places / 'toy' / 'toy.bin'}\n")
    assert (places / "toy" / "toy.bin").read_bytes() == b"12345"


def test_data_check_counts_or_says_in_one_line_what_is_wrong(
    places: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command
) -> None:
    def fails(name: str) -> str:
        status, _, errors = fl_meta("data", "check", name)
        assert status == 1
        (error,) = errors.splitlines()
        return error

    assert "Run `fl-meta data fetch cifar10`" in fails("cifar10")
    path = put_cifar(places, b"anything")
    assert f"{path}: has 8 bytes, but must have 170,052,171" in fails("cifar10")
    path = places / "unipen62" / "unipen62.npz"
    path.parent.mkdir(parents=True)
    images, numbers = np.zeros((10, 28, 28), dtype=np.uint8), np.arange(10)
    names = {"writer_codes": np.array(["abc00", "xyz00"]), "classes": np.array(["0", "1"])}
    np.savez(path, images=images, labels=numbers % 2, writers=numbers // 5, **names)
    assert "holds 2 classes, 2 writers, 10 images; the whole" in fails("unipen62")
    counts = {"classes": 2, "writers": 2, "images": 10}
    monkeypatch.setitem(CATALOGUE, "unipen62", replace(CATALOGUE["unipen62"], counts=counts))
    status, shown, _ = fl_meta("data", "check", "unipen62")
    assert status == 0 and "unipen62: 2 clients, 10 examples" in shown
    assert shown.startswith(f"{path}: {path.stat().st_size:,} bytes, checksum unknown\n")


def test_a_dask_scheduler_computes_instead_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Client:
        def __init__(self, address: str) -> None:
            asked.append(address)

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *error: object) -> None:
            asked.append("closed")

        def get_executor(self) -> str:
            return "an executor"

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    with executor(Namespace(dask="tcp://host:1", workers=None)) as pool:
        assert pool == "an executor" and asked == ["tcp://host:1"]
    assert asked[1:] == ["closed"]
    with executor(Namespace(dask=None, workers=None)) as pool:
        assert pool is None
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ModuleNotFoundError, match=r"pip install 'fl_meta\[dask\]'"),
        executor(Namespace(dask="tcp://host:1", workers=None)),
    ):
        pass
