"""Damaged files, by the hundred: what is loaded is refused or equal, and whatever the bytes, in our words.

Formats without a checksum of their own cannot tell a flipped bit from data. With the record of a fetch, every
change is refused.
"""

from __future__ import annotations

import bz2
import faulthandler
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from small_files import FORMATS, UNIPEN, UNIPEN_FILES, Pipe, name_of, write_unipen

from fl_meta.data import load_dataset
from fl_meta.data.catalogue import located
from fl_meta.data.files.archives import unpack
from fl_meta.data.files.checksum import RECORD, remember

FEW, MANY = 200, 3_000
# Marks the number of cases.
cases = pytest.mark.parametrize(
    "number", [pytest.param(FEW, marks=pytest.mark.slow), pytest.param(MANY, marks=pytest.mark.campaign)]
)
HANGS = 300  # seconds
# Formats that have a checksum over everything that is read, or whose file has a published one.
CHECKED = {
    *("mnist_by_writer", "unipen62", "cifar10_subset", "cifar100_subset"),
    *("emnist compressed", "cifar10", "cifar100", "mnist_by_writer in IDX", "unipen62 archive"),
}


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A test that does not end is ended, with a traceback."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """The bytes with one thing wrong, more often than not near the beginning or the end."""
    where = int(len(whole) * random.choice([random.random(), random.random() ** 6, 1 - random.random() ** 6]))
    length = int(random.choice([1, 4, 16, 512]))
    changed = bytearray(whole)
    match random.integers(6):
        case 0 | 1:
            where = min(where, len(whole) - 1)
            changed[where] ^= 1 << random.integers(8)
        case 2:
            del changed[where:]
        case 3:
            changed[where : where + length] = bytes(len(changed[where : where + length]))
        case 4:
            changed[where : where + length] = random.bytes(len(changed[where : where + length]))
        case 5:
            changed[where:where] = random.bytes(length)
    return bytes(changed)


def content(key: str) -> tuple[str, tuple[str, ...]]:
    """All that training sees of a data set."""
    data = load_dataset(name_of(key))
    return data.fingerprint, data.class_names


def files_of(key: str, folder: Path) -> list[Path]:
    return [folder / file for file in FORMATS[key].files]


def outcomes(files: list[Path], number: int, read: Callable[[], object]) -> Counter[str]:
    """How often damage to one of the files is refused by name, harmless, or gives other content."""
    right, whole = read(), {path: path.read_bytes() for path in files}
    found = Counter[str]()
    for seed in range(number):
        random = np.random.default_rng(seed)
        path = files[random.integers(len(files))]
        changed = damaged(whole[path], random)
        if changed == whole[path]:
            continue
        path.write_bytes(changed)
        try:
            found["equal" if read() == right else "other"] += 1
        except (ValueError, OSError) as error:
            found["refused"] += 1
            assert any(str(file) in str(error) for file in files), f"seed {seed}: {error!r} names no file"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {path} is refused with a raw error") from error
        path.write_bytes(whole[path])
    assert read() == right
    print(dict(found))
    return found


@cases
@pytest.mark.parametrize("key", FORMATS)
def test_what_was_fetched_is_refused_after_any_change(
    small: Callable[..., Path], key: str, number: int
) -> None:
    files = files_of(key, small(key))
    remember(name_of(key), *files)
    found = outcomes(files, number // 2, lambda: content(key))
    assert found["refused"] == found.total() > number // 3


@cases
@pytest.mark.parametrize("key", FORMATS)
def test_what_nothing_is_known_of_is_refused_equal_or_has_no_checksum(
    small: Callable[..., Path], key: str, number: int
) -> None:
    found = outcomes(files_of(key, small(key)), number, lambda: content(key))
    assert found["refused"] > number // 4
    assert not (key in CHECKED and found["other"])


@cases
def test_a_damaged_record_is_refused_or_tells_the_same(small: Callable[..., Path], number: int) -> None:
    folder = small("femnist_leaf")
    files = located("femnist_leaf")
    for path in files:
        os.utime(path, (10**9, 10**9))
    remember("femnist_leaf", *files)
    found = outcomes([folder / RECORD], number, lambda: content("femnist_leaf"))
    assert found["refused"] > number // 3 and not found["other"]


@cases
def test_damaged_text_of_unipen_is_refused_or_read(small: Callable[..., Path], number: int) -> None:
    """The checksum of the archive does not see what was wrong before it was packed."""
    folder = small("unipen62 archive")
    names, read = sorted(UNIPEN_FILES), 0
    for seed in range(number):
        random = np.random.default_rng(seed)
        name = names[random.integers(len(names))]
        text = damaged(UNIPEN_FILES[name].encode(), random).decode("latin-1")
        write_unipen(folder, files=UNIPEN_FILES | {name: text})
        try:
            load_dataset("unipen62")
            read += 1
        except ValueError as error:
            assert str(folder / UNIPEN) in str(error), f"seed {seed}: {error!r} names no file"
    assert number // 10 < read < number


# Archives -------------------------------------------------------------------------------------------------

TEXT = b"To be, or not to be: that is the question.\n" * 40 + np.random.default_rng(0).bytes(1_500)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
}


def tar(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def zipped(method: int, kind: type[io.BytesIO] = io.BytesIO) -> bytes:
    packed = kind()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("in/a.bin", TEXT)
        archive.writestr("in/read.me", b"no")
    return packed.getvalue()


HALVES = TEXT[:1_000], TEXT[1_000:]
TAR = tar(("in/a.bin", TEXT), ("in/read.me", b"no"))
ARCHIVES = (
    {f"x.{kind}": packer(TEXT) for kind, packer in PACKERS.items()}
    | {f"x.tar.{kind}": packer(TAR) for kind, packer in PACKERS.items()}
    | {f"two streams.{kind}": b"".join(map(packer, HALVES)) for kind, packer in PACKERS.items()}
    | {"deflated.zip": zipped(zipfile.ZIP_DEFLATED), "stored.zip": zipped(zipfile.ZIP_STORED)}
    | {"streamed.zip": zipped(zipfile.ZIP_DEFLATED, Pipe)}
    | {"bzip2.zip": zipped(zipfile.ZIP_BZIP2), "lzma.zip": zipped(zipfile.ZIP_LZMA)}
    | {"alone.lzma": lzma.compress(TEXT, format=lzma.FORMAT_ALONE), "x.tgz": gzip.compress(TAR)}
)
WITHOUT_CHECKSUM = {"alone.lzma"}


@cases
@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_refused_or_unpacked_right(tmp_path: Path, name: str, number: int) -> None:
    path = tmp_path / name
    path.write_bytes(ARCHIVES[name])
    target = tmp_path / "target"
    target.mkdir()

    def unpacked() -> bytes:
        unpack(path, target, ["a.bin"], 10**6)
        return (target / "a.bin").read_bytes()

    assert unpacked() == TEXT
    found = outcomes([path], number, unpacked)
    assert found["refused"] > number // 3
    assert name in WITHOUT_CHECKSUM or not found["other"]
    assert {each.name for each in target.iterdir()} == {"a.bin"}
