"""What is known of a file is compared when it is loaded: size and time, then the checksum."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from small_files import DIGITS, WRITER_COUNTS, papers, write_hdf5

from fl_meta.command_line.errors import explained
from fl_meta.command_line.main import main
from fl_meta.data import load_dataset
from fl_meta.data.files import checksum
from fl_meta.data.files.checksum import RECORD, compare, remember, verify_known

OLD = (10**9, 10**9)  # long ago


@pytest.fixture
def npz(small: Callable[..., Path]) -> Path:
    """A data set of one file that no address gives, changed long ago."""
    path = small("unipen62") / "unipen62.npz"
    os.utime(path, OLD)
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files of which a checksum was computed."""
    paths, digests = list[Path](), checksum.digests

    def counted(path: Path, *algorithms: str) -> dict[str, str]:
        paths.append(path)
        return digests(path, *algorithms)

    monkeypatch.setattr(checksum, "digests", counted)
    return paths


def flip(path: Path, *, time: tuple[int, int] | None = None) -> None:
    """Change one byte, and give the file another time."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if time:
        os.utime(path, time)


def record(path: Path) -> dict[str, dict[str, object]]:
    return dict(json.loads((path.parent / RECORD).read_bytes()))


def test_a_file_with_the_same_size_and_time_is_not_read_again(npz: Path, read: list[Path]) -> None:
    remember("unipen62", npz)
    read.clear()
    load_dataset("unipen62")
    assert read == []
    # So damage that changes neither is seen by `data check` alone, as the documentation says.
    flip(npz, time=OLD)
    verify_known("unipen62", npz)
    with pytest.raises(ValueError, match="does not match the checksum"):
        compare("unipen62", npz)


def test_another_time_alone_costs_one_reading(npz: Path, read: list[Path]) -> None:
    remember("unipen62", npz)
    os.utime(npz, (10**9 + 7,) * 2)
    read.clear()
    load_dataset("unipen62")
    assert read == [npz]
    read.clear()
    load_dataset("unipen62")
    assert read == []


@pytest.mark.parametrize("change", [flip, lambda path: path.write_bytes(path.read_bytes() + b"\0")])
def test_another_size_or_content_is_refused_and_says_what_to_do(
    npz: Path, change: Callable[[Path], None]
) -> None:
    remember("unipen62", npz)
    before = record(npz)
    change(npz)
    with pytest.raises(ValueError, match=re.escape(f"{npz}: ")) as caught:
        load_dataset("unipen62")
    assert f"delete 'unipen62.npz' from {npz.parent / RECORD}" in str(caught.value)
    assert record(npz) == before


@pytest.mark.parametrize("key", ["unipen62", "cifar10"])
def test_a_change_after_the_comparison_is_not_recorded_as_right(
    small: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A file with a record, and one with a published checksum: neither may vouch for what came after it."""
    path = next(each for each in small(key).iterdir() if each.name != RECORD)
    os.utime(path, OLD)
    if key == "unipen62":
        remember(key, path)
    os.utime(path, (10**9 + 7,) * 2)
    right, compared = hashlib.sha256(path.read_bytes()).hexdigest(), checksum.compare

    def changed(name: str, file: Path) -> object:
        result = compared(name, file)
        flip(file)
        return result

    monkeypatch.setattr(checksum, "compare", changed)
    verify_known(key, path)
    monkeypatch.setattr(checksum, "compare", compared)
    assert record(path)[path.name]["sha256"] == right
    with pytest.raises(ValueError, match="does not match the checksum"):
        compared(key, path)
    assert record(path)[path.name].get("mtime_ns") != path.stat().st_mtime_ns


def test_nothing_is_recorded_where_nobody_may_write(npz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even by root, for whom the system would let it pass."""
    remember("unipen62", npz)
    before = record(npz)
    os.utime(npz, (10**9 + 7,) * 2)
    npz.parent.chmod(0o555)
    load_dataset("unipen62")
    assert record(npz) == before
    npz.parent.chmod(0o755)
    (npz.parent / RECORD).unlink()
    npz.parent.chmod(0o555)
    assert main(["data", "check", "unipen62"]) == 0
    assert "not recorded: " in capsys.readouterr().out and not (npz.parent / RECORD).exists()
    npz.parent.chmod(0o755)


def test_a_record_without_times_is_compared_once_and_gets_them(npz: Path, read: list[Path]) -> None:
    known = {"bytes": npz.stat().st_size, "sha256": hashlib.sha256(npz.read_bytes()).hexdigest()}
    (npz.parent / RECORD).write_text(json.dumps({"unipen62.npz": known, "other": known}))
    load_dataset("unipen62")
    assert record(npz) == {"unipen62.npz": known | {"mtime_ns": 10**18}, "other": known}
    read.clear()
    load_dataset("unipen62")
    assert read == []
    (npz.parent / RECORD).write_text(json.dumps({"unipen62.npz": known | {"sha256": "0" * 64}}))
    with pytest.raises(ValueError, match=f"does not match the checksum sha256:{'0' * 64}"):
        load_dataset("unipen62")


def test_a_time_of_just_now_is_not_trusted(npz: Path) -> None:
    """Two changes within a tick of the disk's clock have the same time."""
    npz.touch()
    remember("unipen62", npz)
    now = npz.stat().st_mtime_ns
    flip(npz)
    os.utime(npz, ns=(now, now))
    with pytest.raises(ValueError, match="does not match the checksum"):
        load_dataset("unipen62")


def test_a_folder_that_cannot_be_written_to_is_no_error(npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember("unipen62", npz)
    before = record(npz)
    os.utime(npz, (10**9 + 7,) * 2)

    def refuse(*_: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr(checksum, "write_atomically", refuse)
    load_dataset("unipen62")
    assert record(npz) == before
    flip(npz)
    with pytest.raises(ValueError, match="does not match the checksum"):
        load_dataset("unipen62")


def test_what_nobody_vouches_for_is_loaded_and_not_recorded(npz: Path) -> None:
    load_dataset("unipen62")
    assert [path.name for path in npz.parent.iterdir()] == ["unipen62.npz"]


def test_a_published_checksum_counts_for_a_file_put_there_by_hand(
    small: Callable[..., Path], read: list[Path]
) -> None:
    path = small("cifar10") / "cifar-10-binary.tar.gz"
    os.utime(path, OLD)
    load_dataset("cifar10")
    known = record(path)
    assert read == [path] and known.keys() == {path.name}
    assert known[path.name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    read.clear()
    load_dataset("cifar10")
    assert read == []
    flip(path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: does not match the checksum")):
        load_dataset("cifar10")


def test_files_in_sub_folders_have_their_own_entries(small: Callable[..., Path]) -> None:
    folder = small("femnist_leaf")
    paths = sorted(folder.glob("*/*.json"))
    remember("femnist_leaf", *paths)
    assert record(folder / "any").keys() == {path.relative_to(folder).as_posix() for path in paths}
    load_dataset("femnist_leaf")
    text = paths[0].read_text()
    # Another digit of a pixel: JSON of the same length.
    paths[0].write_text(text.replace("0.25", "0.75", 1))
    with pytest.raises(ValueError, match=re.escape(f"{paths[0]}: does not match the checksum")):
        load_dataset("femnist_leaf")
    paths[0].write_text(text)
    stray = paths[0].with_name("more.json")
    stray.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{stray}: was not there when the data set was checked")):
        load_dataset("femnist_leaf")
    stray.unlink()
    paths[0].rename(paths[0].with_name("other.json"))
    with pytest.raises(FileNotFoundError, match=re.escape(f"{paths[0]}: is no longer there; put it back")):
        load_dataset("femnist_leaf")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe\xff",
        b'{"unipen62.npz": 5}',
        b'{"unipen62.npz": {"bytes": 5}}',
        b'{"unipen62.npz": {"bytes": "5", "sha256": "0"}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_record_is_one_error_that_names_it(npz: Path, content: bytes) -> None:
    path = npz.parent / RECORD
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged")):
        load_dataset("unipen62")


def test_a_folder_in_place_of_the_record_is_said(npz: Path) -> None:
    (npz.parent / RECORD).mkdir()
    with pytest.raises(ValueError, match=re.escape(f"{npz.parent / RECORD}: is a folder; remove it")):
        load_dataset("unipen62")


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(path: Path, *args: str, **options: str) -> object:
        if path == npz:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=re.escape(str(npz))) as caught:
        load_dataset("unipen62")
    assert explained(caught.value) == f"{npz}: Permission denied; see who may read and write it"


def test_data_check_looks_at_the_digits_too(
    small: Callable[..., Path], expect: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A split of its own, which `only_digits=True` reads."""
    folder = small("emnist_tff in HDF5")
    paths = [folder / f"fed_emnist_digitsonly_{split}.h5" for split in ("train", "test")]
    for path, labels in zip(paths, ([3, 8], [1]), strict=True):
        write_hdf5(path, {"f0000_14": {"pixels": papers(labels), "label": np.array(labels)}})
    expect("emnist_tff", **WRITER_COUNTS, **DIGITS)
    assert main(["data", "check", "emnist_tff"]) == 0
    said = capsys.readouterr().out
    assert "2 clients" in said and "1 clients" in said and all(str(path) in said for path in paths)
    assert {path.name for path in paths} < record(paths[0]).keys()
    flip(paths[1], time=OLD)
    with pytest.raises(SystemExit, match="1"):
        main(["data", "check", "emnist_tff"])
    assert f"{paths[1]}: does not match the checksum" in capsys.readouterr().err


def test_data_check_records_what_nothing_was_known_of_once_it_is_loaded(
    npz: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "check", "unipen62"]) == 0
    said = capsys.readouterr().out
    assert "checksum unknown\n" in said and "recorded in fetched.json: a later change will be noticed" in said
    assert record(npz)["unipen62.npz"]["bytes"] == npz.stat().st_size
    assert main(["data", "check", "unipen62"]) == 0
    said = capsys.readouterr().out
    assert "checksum as when it was fetched or checked\n" in said and "recorded" not in said
    flip(npz, time=OLD)
    with pytest.raises(SystemExit, match="1"):
        main(["data", "check", "unipen62"])
    assert f"{npz}: does not match the checksum" in capsys.readouterr().err
    # What cannot be loaded is not recorded, and a folder that cannot be written to is no error.
    (npz.parent / RECORD).unlink()
    whole = npz.read_bytes()
    npz.write_bytes(whole[:-40])
    with pytest.raises(SystemExit, match="1"):
        main(["data", "check", "unipen62"])
    assert not (npz.parent / RECORD).exists()
    npz.write_bytes(whole)
    monkeypatch.setattr(checksum, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError("read only")))
    assert main(["data", "check", "unipen62"]) == 0
    assert "The checksums are not recorded: read only" in capsys.readouterr().out
