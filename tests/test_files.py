import errno
import fcntl
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fl_meta.support import atomic_files
from fl_meta.support.atomic_files import remove_unfinished, write_atomically


def test_a_new_file_in_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "table.csv"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_text("old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        seen.append((path.read_text(), temporary.parent, temporary.suffix))
        temporary.write_text("whole")

    write_atomically(path, write)
    # A rename is atomic within one folder only; writers such as numpy's look at the suffix.
    assert seen == [("old", tmp_path, ".safetensors")]
    assert path.read_text() == "whole"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error("no more")

    with pytest.raises(error, match="no more"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("depth", ["", "folder"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, depth: str) -> None:
    # Not by permissions: root may write anywhere.
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("in the way")
    folder = not_a_folder / depth
    with pytest.raises(OSError, match=rf"cannot write table\.csv into {folder}: .*choose a folder") as caught:
        write_atomically(folder / "table.csv", lambda temporary: temporary.write_text("new"))
    assert isinstance(caught.value.__cause__, OSError)
    assert not_a_folder.read_text() == "in the way"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_mode_is_that_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "atomic", lambda temporary: temporary.write_text("new"))
        (tmp_path / "plain").write_text("new")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("atomic", "plain")]
    assert modes[0] == modes[1]


# Left behind by a kill ------------------------------------------------------------------------------------

# Writes half of a file, says so, and waits; on a line of its input it writes the rest.
WRITER = """
import sys
from pathlib import Path
from fl_meta.support.atomic_files import write_atomically

def write(temporary):
    temporary.write_text("half")
    print(temporary.name, flush=True)
    sys.stdin.readline()
    temporary.write_text("theirs")

write_atomically(Path(sys.argv[1]), write)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is in the middle of writing `run.npz`."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "run.npz")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("clear", ["write", "remove"])
def test_what_a_killed_process_left_is_removed(
    tmp_path: Path, writer: subprocess.Popen[str], clear: str
) -> None:
    path = tmp_path / "run.npz"
    left = tmp_path / writer.stdout.readline().strip()
    others = [tmp_path / name for name in (".run.npz.backup", ".run.0a.unfinished.npz", "run.npz.unfinished")]
    for other in others:
        other.touch()
    writer.kill()
    writer.wait()
    assert left.read_text() == "half" and not path.exists()
    if clear == "write":
        write_atomically(path, lambda temporary: temporary.write_text("ours"))
        assert path.read_text() == "ours"
    else:
        remove_unfinished(path)
        assert not path.exists()
    assert not left.exists() and all(other.exists() for other in others)


def test_what_a_living_process_writes_is_left_to_it(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    path = tmp_path / "run.npz"
    theirs = tmp_path / writer.stdout.readline().strip()
    remove_unfinished(path)
    write_atomically(path, lambda temporary: temporary.write_text("ours"))
    assert path.read_text() == "ours" and theirs.read_text() == "half"
    writer.communicate("go on\n", timeout=60)
    assert writer.returncode == 0
    assert path.read_text() == "theirs" and list(tmp_path.iterdir()) == [path]


def test_a_file_taken_away_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "run", fcntl.flock
    seen = []

    def late(file: object, operation: int) -> None:
        (new,) = tmp_path.iterdir()
        seen.append(new)
        if len(seen) == 1:  # another process is quicker, and finds it unlocked
            new.unlink()
        lock(file, operation)

    monkeypatch.setattr(atomic_files.fcntl, "flock", late)
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path] and len(seen) == 2


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic_files.fcntl, "flock", no_lock)
    path, perhaps_alive = tmp_path / "run", tmp_path / ".run.0a.unfinished"
    perhaps_alive.touch()
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and perhaps_alive.exists()


HAMMER = """
import sys
from pathlib import Path
from fl_meta.support.atomic_files import write_atomically

for number in range(150):
    write_atomically(Path(sys.argv[1]), lambda temporary: temporary.write_text(sys.argv[2] * 5000))
"""


def test_several_processes_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", HAMMER, str(path)]
    processes = [subprocess.Popen([*command, letter], stderr=subprocess.PIPE) for letter in "abc"]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    content = path.read_text()
    assert content in {letter * 5000 for letter in "abc"}
    assert list(tmp_path.iterdir()) == [path]


# Links and other things that may be in the file's place ---------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_links_are_written_through(tmp_path: Path, exists: bool) -> None:
    real, first, second = tmp_path / "disk" / "real.npz", tmp_path / "first", tmp_path / "links" / "second"
    if exists:
        real.parent.mkdir()
        real.write_text("old")
    second.parent.mkdir()
    second.symlink_to("../disk/real.npz")
    first.symlink_to(second)
    seen = []

    def write(temporary: Path) -> None:
        seen.append((temporary.parent, temporary.suffix))
        temporary.write_text("new")

    write_atomically(first, write)
    assert first.is_symlink() and second.is_symlink() and first.read_text() == real.read_text() == "new"
    # Beside the target, which may be on another disk.
    assert seen == [(real.parent, ".npz")] and list(real.parent.iterdir()) == [real]


def link_in_a_circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (link_in_a_circle, "its links lead in a circle; choose another name"),
        (Path.mkdir, "is a folder; name a file in it"),
        (os.mkfifo, "is not a file that can be replaced"),
        (lambda path: path.symlink_to("/dev/null"), "/dev/null is not a file that can be replaced"),
    ],
    ids=["circle", "folder", "pipe", "device"],
)
def test_what_is_no_file_is_not_replaced(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "run"
    make(path)
    before = path.lstat()
    with pytest.raises(OSError, match=rf"cannot write run into {tmp_path}: .*{message}"):
        write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.lstat() == before and list(tmp_path.iterdir()) == [path]
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_exists_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "run"
    path.write_text("old")
    path.chmod(mode)
    modes = []
    write_atomically(path, lambda temporary: modes.append(temporary.stat().st_mode))
    modes.append(path.stat().st_mode)
    # Already while it is written: what is private never lies open.
    assert [stat.S_IMODE(each) for each in modes] == [mode, mode]


def test_a_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    path.write_text("old")
    # Not by permissions: root may write to anything.
    monkeypatch.setattr(atomic_files.os, "access", lambda *what: what != (path, os.W_OK))
    with pytest.raises(OSError, match=r"cannot write run .*run is read-only; choose"):
        write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name", ["n" * 255, "n" * 251 + ".npz", "[!a]*?.[npz]", "😀" * 63, "n." + "s" * 253, ".n"]
)
def test_every_name_that_a_file_may_have(tmp_path: Path, name: str) -> None:
    for content in ("old", "new"):
        write_atomically(tmp_path / name, partial(Path.write_text, data=content))
        assert (tmp_path / name).read_text() == content and len(list(tmp_path.iterdir())) == 1


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long; choose a shorter name"):
        write_atomically(tmp_path / ("n" * 256), lambda temporary: temporary.write_text("new"))
    assert list(tmp_path.iterdir()) == []


# No room --------------------------------------------------------------------------------------------------


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=rf"cannot write run into {tmp_path}: File too large; raise the"):
            write_atomically(path, lambda temporary: temporary.write_text("x" * 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_that_is_noticed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "run"
    path.write_text("old")
    monkeypatch.setattr(atomic_files.os, "fsync", full)
    with pytest.raises(OSError, match=rf"cannot write run into {tmp_path}: No space left on device; make"):
        write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
