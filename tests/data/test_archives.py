"""Archives: what is wanted comes out, and nothing that could do harm."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_meta.data.files import archives
from fl_meta.data.files.archives import LARGEST_RATIO, unpack

TEXT = bytes(range(256)) * 4
KINDS = {"gz": gzip.compress, "bz2": bz2.compress, "lzma": lzma.compress}


def archive_of(path: Path, *members: tarfile.TarInfo | tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    """An archive, of the kind that its name says; a name without .tar or .zip is a single compressed file."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in members:
                opened.writestr(name, content)
        return path
    packed = io.BytesIO()
    if ".tar" in path.suffixes:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for member in members:
                if isinstance(member, tarfile.TarInfo):
                    tar.addfile(member)
                else:
                    info = tarfile.TarInfo(member[0])
                    info.size = len(member[1])
                    tar.addfile(info, io.BytesIO(member[1]))
    else:
        packed.write(members[0][1])
    path.write_bytes(KINDS[path.suffix[1:]](packed.getvalue()))
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty folder; whatever else changes beside it is harm."""
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def assert_refused(archive: Path, target: Path, message: str, *, limit: int = 10**6) -> None:
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(ValueError, match=message) as caught:
        unpack(archive, target, ["a.bin"], limit)
    assert str(archive) in str(caught.value)
    assert sorted(target.parent.rglob("*")) == before and list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar.bz2", "x.tar.lzma", "x.zip"])
def test_what_is_wanted_comes_out(tmp_path: Path, target: Path, name: str) -> None:
    folder = ("in/", b"") if name == "x.zip" else special("in", tarfile.DIRTYPE)
    members = (folder, ("in/b.bin", b"b"), ("in/a.bin", TEXT), ("in/read.me", b"no"))
    unpack(archive_of(tmp_path / name, *members), target, ["a.bin", "b.bin"], 10**6)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a.bin": TEXT, "b.bin": b"b"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_compressed_file_gets_its_name(tmp_path: Path, target: Path, kind: str) -> None:
    (tmp_path / f"x.{kind}").write_bytes(KINDS[kind](TEXT))
    unpack(tmp_path / f"x.{kind}", target, ["a.bin"], 10**6)
    assert (target / "a.bin").read_bytes() == TEXT


@pytest.mark.parametrize("name", ["../a.bin", "in/../../a.bin", "/tmp/a.bin", "..\\a.bin"])
@pytest.mark.parametrize("kind", ["x.tar.gz", "x.zip"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, target: Path, name: str, kind: str) -> None:
    # Also where it is another file than the one wanted.
    archive = archive_of(tmp_path / kind, ("a.bin", TEXT), (f"{name}2", b"x"))
    assert_refused(archive, target, "leads out of the folder")
    assert_refused(archive_of(tmp_path / kind, (name, b"x")), target, "leads out of the folder")


@pytest.mark.parametrize(
    "member",
    [
        special("a.bin", tarfile.SYMTYPE, "/etc/passwd"),
        special("a.bin", tarfile.LNKTYPE, "../other"),
        special("b.bin", tarfile.LNKTYPE, "a.bin"),
        special("a.bin", tarfile.CHRTYPE),
        special("a.bin", tarfile.BLKTYPE),
        special("a.bin", tarfile.FIFOTYPE),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, target: Path, member: tarfile.TarInfo) -> None:
    archive = archive_of(tmp_path / "x.tar.gz", ("read.me", b"x"), member)
    assert_refused(archive, target, "is a link or not a regular file")


def test_links_in_a_zip_are_refused(tmp_path: Path, target: Path) -> None:
    info = zipfile.ZipInfo("a.bin")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = archive_of(tmp_path / "x.zip", (info, b"/etc/passwd"))
    assert_refused(archive, target, "is a link or not a regular file")


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.tar.bz2", "x.zip", "x.gz", "x.bz2", "x.lzma"])
def test_a_bomb_is_refused(tmp_path: Path, target: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the absolute bound, and by the ratio where that allows much."""
    monkeypatch.setattr(archives, "HARMLESS", 0)
    path = archive_of(tmp_path / kind, ("a.bin", bytes(3_000_000)))
    most = path.stat().st_size * LARGEST_RATIO
    assert most < 3_000_000
    assert_refused(path, target, "more than 1,000 bytes", limit=1_000)
    assert_refused(path, target, f"more than {most:,} bytes", limit=10**12)


def test_a_little_that_shrank_much_is_no_bomb(tmp_path: Path, target: Path) -> None:
    zeros = bytes(1_000_000)
    path = tmp_path / "small.lzma"
    path.write_bytes(lzma.compress(zeros, format=lzma.FORMAT_ALONE))
    assert path.stat().st_size * LARGEST_RATIO < len(zeros)
    unpack(path, target, ["small"], 10**9)
    assert (target / "small").read_bytes() == zeros


def test_the_bound_is_on_all_files_together(tmp_path: Path, target: Path) -> None:
    archive = archive_of(tmp_path / "x.zip", ("a.bin", TEXT), ("b.bin", TEXT))
    assert_refused(archive, target, "more than 2,047 bytes", limit=2_047)
    unpack(archive, target, ["a.bin", "b.bin"], 2_048)


def test_a_file_that_is_there_twice_or_not_at_all_is_refused(tmp_path: Path, target: Path) -> None:
    twice = archive_of(tmp_path / "x.tar.gz", ("a.bin", TEXT), ("in/a.bin", b"x"))
    assert_refused(twice, target, "holds a.bin twice")
    assert_refused(archive_of(tmp_path / "x.zip", ("b.bin", TEXT)), target, "does not hold a.bin")


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.tar.bz2", "x.tar.lzma", "x.zip", "x.gz", "x.bz2", "x.lzma"])
def test_what_is_damaged_or_truncated_is_refused(tmp_path: Path, target: Path, kind: str) -> None:
    path = archive_of(tmp_path / kind, ("a.bin", TEXT))
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"<html>please log in</html>"):
        path.write_bytes(damaged)
        assert_refused(path, target, "damaged, or not an archive")


def test_a_stop_in_the_middle_leaves_nothing(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(tmp_path / "x.zip", ("a.bin", TEXT), ("b.bin", TEXT))
    members = archives.members

    def stopped(path: Path, single: str, limit: int) -> Iterator[tuple[str, Iterator[bytes]]]:
        opened = members(path, single, limit)
        yield next(opened)
        assert list(target.rglob("a.bin"))
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "members", stopped)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, target, ["a.bin", "b.bin"], 10**6)
    assert list(target.iterdir()) == []
