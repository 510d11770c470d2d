"""Programs that are stopped and killed: no process and no file stays, and what was finished is kept."""

from __future__ import annotations

import errno
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from killed_programs import FL_META, Program, has_ended, listen_to_signals, record_program, wait_until
from small_notebooks import write_notebook
from small_results import tiny

from fl_meta.evidence import results
from fl_meta.evidence.results import compute, file_name, read_result
from fl_meta.support.guard import MARK, clean_up
from fl_meta.support.run_folder import environment_of, run_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

CONFIG = tiny(folds=4)
SEEDS = range(4)
# A child, one in another session, and one that ignores what asks it to end; and files.
CHILDREN = """
import os, pathlib, subprocess, tempfile, time
here = pathlib.Path({folder!r})
stubborn = "trap '' HUP INT TERM; sleep 60; sleep 60"
children = [
    subprocess.Popen(["sleep", "60"]),
    subprocess.Popen(["sleep", "60"], start_new_session=True),
    subprocess.Popen(["sh", "-c", stubborn], start_new_session=True),
]
tempfile.mkdtemp(), tempfile.mkstemp()
(here / "{name}").write_text(" ".join(str(child.pid) for child in children))
"""
POOL = """
from fl_meta.evidence.processes import processes
with processes(2) as pool:
    pool.submit(time.sleep, 0).result()
    here.joinpath("pool").touch()
    pool.submit(time.sleep, 60).result()
"""


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """What a test that fails has started ends, too."""
    yield
    while Program.started:
        program = Program.started.pop()
        program.left(seconds=0)
        program.process.communicate()


@pytest.fixture(scope="module")
def expected() -> dict[int, results.Result]:
    """The results of an undisturbed run."""
    return {seed: timeless(compute(CONFIG, seed)) for seed in SEEDS}


def timeless(result: results.Result) -> results.Result:
    return replace(result, seconds=0.0)


def finished(folder: Path) -> dict[int, results.Result]:
    """The results that are in a folder; but for what is being written, nothing else may be in it."""
    paths = {seed: folder / file_name(CONFIG, seed) for seed in SEEDS}
    lock = f".{file_name(CONFIG, 0).removesuffix('-seed0.json')}.lock"
    names = {path.name for path in folder.glob("*") if ".unfinished" not in path.suffixes}
    assert names <= {path.name for path in paths.values()} | {lock}
    return {seed: timeless(read_result(path)) for seed, path in paths.items() if path.exists()}


def computed(folder: Path) -> bool:
    return all((folder / f"computed{seed}").exists() for seed in SEEDS)


REPRODUCE = [*FL_META, "reproduce", "--output", "report"]


# Recording ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_finished_is_kept_and_the_rest_computed_by_the_next_run(
    tmp_path: Path, expected: dict[int, results.Result]
) -> None:
    command = record_program(tmp_path)
    program = Program(command, tmp_path, WAIT="yes")
    assert wait_until(lambda: computed(tmp_path) and len(finished(tmp_path / "results")) == 2)
    program.end(signal.SIGKILL)
    assert program.left() == ([], [])
    assert finished(tmp_path / "results") == {seed: expected[seed] for seed in (0, 1)}

    # This time nobody is there to take the results of the other two when they are finished.
    program = Program(command, tmp_path, WAIT="yes")
    for seed in (2, 3):
        (tmp_path / f"computed{seed}").unlink()
    assert wait_until(lambda: computed(tmp_path))
    program.process.send_signal(signal.SIGSTOP)
    (tmp_path / "go").touch()
    assert wait_until(lambda: len(finished(tmp_path / "results")) == 4)
    program.end(signal.SIGKILL, group=True)
    assert program.left() == ([], [])
    assert finished(tmp_path / "results") == expected


@pytest.mark.slow
def test_a_process_killed_for_memory_is_named_and_does_not_end_the_others(
    tmp_path: Path, expected: dict[int, results.Result]
) -> None:
    program = Program(["nohup", *record_program(tmp_path)], tmp_path, WAIT="yes")
    assert wait_until(lambda: computed(tmp_path))
    os.killpg(program.process.pid, signal.SIGHUP)  # nohup's purpose is that this changes nothing
    other = Program(record_program(tmp_path), tmp_path)
    shown = other.shows("2/4")  # the results that are there, of those it waits for
    waits = f"waiting for process {program.process.pid}, which computes {file_name(CONFIG, 0)[:-11]}"
    assert waits in shown
    printed = other.end(signal.SIGTERM)
    assert other.process.returncode == 143 and printed.endswith("fl-meta: stopped\n"), printed
    assert "Traceback" not in printed and other.left() == ([], [])

    os.kill(int((tmp_path / "computed2").read_text()), signal.SIGKILL)
    (tmp_path / "go").touch()
    printed = program.printed()
    last = printed.splitlines()[-1]
    assert program.process.returncode == 1 and "Traceback" not in printed
    assert last.startswith(
        f"fl-meta: error: the process computing {file_name(CONFIG, 2)} was ended by SIGKILL"
    )
    assert "lack of memory" in last and "what was finished is in results" in last and "--workers 1" in last
    assert program.left() == ([], [])
    assert finished(tmp_path / "results") == {seed: expected[seed] for seed in (0, 1, 3)}


@pytest.mark.slow
def test_ctrl_c_again_and_again_ends_at_once_without_a_traceback(tmp_path: Path) -> None:
    program = Program(record_program(tmp_path), tmp_path, WAIT="yes")
    # The server of the processes is importing now, and was hit by Ctrl-C like everything in a terminal.
    assert wait_until(lambda: any("forkserver" in command for command in program.processes().values()))
    while program.process.poll() is None:
        os.killpg(program.process.pid, signal.SIGINT)
        time.sleep(0.02)
    printed = program.printed()
    assert program.process.returncode in (130, -signal.SIGINT), "which are the same to a shell"
    assert "Traceback" not in printed and "fl-meta: stopped" in printed
    assert program.left() == ([], [])


def test_ctrl_c_where_python_cannot_raise_is_not_lost() -> None:
    code = """if True:
        import signal, sys, time
        from fl_meta.command_line import main, notebooks
        class Delicate:
            def __del__(self):
                signal.raise_signal(signal.SIGTERM)
        def run(_):
            Delicate()
            time.sleep(30)
        notebooks._verdicts = run
        sys.argv[1:] = ["verdicts"]
        sys.exit(main.main())
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (143, "fl-meta: stopped\n")


# Reproducing ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.campaign), signal.SIGKILL])
def test_kernels_end_with_the_program_and_so_does_what_they_have_started(tmp_path: Path, number: int) -> None:
    (tmp_path / "notebooks").mkdir()
    children = CHILDREN.format(folder=str(tmp_path), name="children")
    write_notebook(tmp_path / "notebooks/01_a.ipynb", [children, POOL])
    program = Program(REPRODUCE, tmp_path)
    assert wait_until((tmp_path / "pool").exists)
    assert len(program.processes()) > 5 and any(program.temporary.iterdir())
    printed = program.end(number)
    assert program.left() == ([], [])
    if number == signal.SIGTERM:
        assert program.process.returncode == 143 and "NOT DONE: 01_a" in printed
        assert "stopped; the report has what was done" in printed and "Kernel died" not in printed
        assert (tmp_path / "report/index.html").exists()


@pytest.mark.slow
def test_what_a_kernel_has_started_ends_with_it_however_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "01_ends.ipynb", [CHILDREN.format(folder=str(tmp_path), name="01")])
    killed = CHILDREN.format(folder=str(tmp_path), name="02") + "\nos.kill(os.getpid(), 9)"
    write_notebook(folder / "02_killed.ipynb", [killed])
    # It runs when one of the others has ended.
    looks = f"""
import os, pathlib, time
def ended(name):
    path = pathlib.Path({str(tmp_path)!r}, name)
    return path.exists() and not any(os.path.exists(f"/proc/{{pid}}/exe") for pid in path.read_text().split())
deadline = time.monotonic() + 20
while not (ended("01") and ended("02")) and time.monotonic() < deadline:
    time.sleep(0.05)
assert ended("01"), "of the first"
assert ended("02"), "of the second"
"""
    write_notebook(folder / "03_looks.ipynb", [looks])
    program = Program(REPRODUCE, tmp_path)
    printed = program.printed()
    assert program.process.returncode == 1 and "FAILED: 02_killed\n" in printed, printed
    (line,) = [line for line in printed.splitlines() if "DeadKernelError" in line]
    assert "cell 2 of 2" in line and "if memory ran out" in line and "smaller profile" in line
    assert "Traceback" not in printed and program.left() == ([], [])


def test_play_leaves_nothing_when_its_server_is_killed(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/08_playground.ipynb").touch()
    (tmp_path / "voila.py").write_text(
        CHILDREN.format(folder=str(tmp_path), name="children") + "time.sleep(60)"
    )
    program = Program([*FL_META, "play"], tmp_path)
    assert wait_until((tmp_path / "children").exists)
    assert len(program.processes()) >= 4 and any(program.temporary.iterdir())
    program.end(signal.SIGKILL)
    assert program.left() == ([], [])


# Terminals and make ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_the_program_in_order(tmp_path: Path) -> None:
    environment = os.environ | {"WAIT": "yes", "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (Path.cwd(), Path(__file__).parent)))
    command = record_program(tmp_path)
    child, terminal = pty.fork()
    if child == 0:
        listen_to_signals()
        os.chdir(tmp_path)
        os.execve(command[0], command, environment)
    assert wait_until(lambda: computed(tmp_path))
    os.close(terminal)
    ended = []
    assert wait_until(lambda: ended.append(os.waitpid(child, os.WNOHANG)) or ended[-1][0] == child)
    assert os.waitstatus_to_exitcode(ended[-1][1]) == 128 + signal.SIGHUP
    assert len(list((tmp_path / "results").glob("*.json"))) == 2
    assert wait_until(lambda: not list(tmp_path.glob("pymp-*")))


@pytest.mark.campaign
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_a_program_ends_in_order_when_make_is_killed(tmp_path: Path) -> None:
    command = record_program(tmp_path)
    (tmp_path / "Makefile").write_text(f"all:\n\t@{' '.join(command)}\n")
    program = Program(["make"], tmp_path, WAIT="yes")
    assert wait_until(lambda: computed(tmp_path))
    assert "fl-meta: stopped" in program.end(signal.SIGKILL)
    assert program.left() == ([], [])


# Folders of runs ------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_run_ends_what_it_has_started_and_nothing_else(temporary: Path) -> None:
    with run_folder() as folder, subprocess.Popen(["sleep", "60"]) as other:
        belonging = {
            place: subprocess.Popen(["sleep", "60"], env=environment_of(place), start_new_session=True)
            for place in (folder, folder / "inside")
        }
        similar = subprocess.Popen(["sleep", "60"], env={MARK: f"{folder}2"})
        assert belonging[folder].poll() is None
        clean_up(folder / "inside")
        assert belonging[folder / "inside"].wait(10) == -signal.SIGKILL
        assert belonging[folder].poll() is None and folder.exists()
        clean_up(folder)
        assert belonging[folder].wait(10) == -signal.SIGKILL and not folder.exists()
        for process in (other, similar):
            assert process.poll() is None
            process.kill()
        similar.wait()
    assert list(temporary.iterdir()) == []


def test_the_next_run_clears_the_folder_of_one_that_was_killed_with_its_guard(temporary: Path) -> None:
    code = """if True:
        from fl_meta.support.run_folder import environment_of, run_folder
        import os, subprocess, time
        with run_folder() as folder:
            child = subprocess.Popen(["sleep", "60"], env=os.environ | environment_of(folder))
            guard = subprocess.check_output(["pgrep", "-f", f"guard.py {folder}"], text=True)
            print(folder, child.pid, guard, flush=True)
            time.sleep(60)
    """
    command, environment = [sys.executable, "-c", code], os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        folder, child, guard = run.stdout.readline().split()
        with run_folder():
            assert Path(folder).exists(), "its run lives"
        os.kill(int(guard), signal.SIGKILL)
        run.kill()
    assert wait_until(lambda: has_ended(int(guard)))
    assert Path(folder).exists() and not has_ended(int(child)), "nobody was left to do it"
    unrelated = temporary / "fl_meta_run_file"
    unrelated.touch()
    with run_folder():
        assert not Path(folder).exists()
        assert wait_until(lambda: has_ended(int(child)))
    assert list(temporary.iterdir()) == [unrelated]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_another_user_stays(temporary: Path) -> None:
    theirs = temporary / "fl_meta_run_theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with run_folder():
        assert theirs.exists()


def test_temporary_files_on_a_file_system_without_locks(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_lock)
    with run_folder() as first, run_folder() as second:
        assert set(temporary.iterdir()) == {first, second}, "one that lives is not taken for one left behind"
    assert list(temporary.iterdir()) == []


# At random ------------------------------------------------------------------------------------------------

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL]


@pytest.mark.campaign
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("repetition", range(6))
def test_recording_is_killed_at_random_until_it_is_done(
    tmp_path: Path,
    expected: dict[int, results.Result],
    number: signal.Signals,
    group: bool,
    repetition: int,
    record_property: Callable[[str, object], None],
) -> None:
    generator = random.Random(f"{number} {group} {repetition}")
    folder = tmp_path / "results"
    folder.mkdir()
    kills = 0
    before: dict[int, results.Result] = {}
    while len(before) < len(SEEDS):
        program = Program(record_program(tmp_path), tmp_path)
        time.sleep(generator.uniform(0, 4 + 2 * kills))  # longer and longer, for slow machines
        if program.process.poll() is None:
            kills += 1
            printed = program.end(number, group)
            assert printed.count("Traceback") <= (program.process.returncode < 0), printed
        else:
            assert program.process.returncode == 0, program.printed()
            program.printed()
        assert program.left() == ([], [])
        now = finished(folder)
        assert before.items() <= now.items() <= expected.items()
        before = now
    program = Program(record_program(tmp_path), tmp_path)
    assert "1 replicate of 4 folds" in program.printed()
    assert finished(folder) == expected and len(list(folder.iterdir())) == len(SEEDS)
    record_property("kills", kills)


@pytest.mark.campaign
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("repetition", range(6))
def test_reproducing_is_killed_at_random(
    tmp_path: Path, number: signal.Signals, group: bool, repetition: int
) -> None:
    generator = random.Random(f"{number} {group} {repetition}")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01", "02", "03"):
        children = CHILDREN.format(folder=str(tmp_path), name=name)
        write_notebook(folder / f"{name}_a.ipynb", [children, POOL if name == "01" else "1 + 1"])
    program = Program(REPRODUCE, tmp_path)
    time.sleep(generator.uniform(0, 10))
    printed = program.end(number, group)
    assert program.left() == ([], [])
    assert printed.count("Traceback") == 0, printed
    if program.process.returncode > 0 and "the report has what was done" in printed:
        assert (tmp_path / "report/index.html").exists()
    # The next run finds nothing that disturbs it.
    (folder / "01_a.ipynb").unlink()
    program = Program(REPRODUCE, tmp_path)
    printed = program.printed()
    assert program.process.returncode == 0, printed
    assert program.left() == ([], [])
    assert not list((tmp_path / "report").rglob(".*"))
