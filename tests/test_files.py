import os
import stat
from pathlib import Path

import pytest

from fl_meta.support.atomic_files import write_atomically


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
