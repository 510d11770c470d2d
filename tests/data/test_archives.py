"""Archives: what is wanted comes out, and nothing that could do harm."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from small_files import Pipe

from fl_meta.data.files import archives
from fl_meta.data.files.archives import LARGEST_RATIO, unpack

TEXT = bytes(range(256)) * 4
KINDS = {"gz": gzip.compress, "bz2": bz2.compress, "lzma": lzma.compress, "xz": lzma.compress}


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
    checksums = unpack(archive_of(tmp_path / name, *members), target, ["a.bin", "b.bin"], 10**6)
    assert checksums == {"a.bin": hashlib.sha256(TEXT).hexdigest(), "b.bin": hashlib.sha256(b"b").hexdigest()}
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


@pytest.mark.parametrize("name", ["x.7z", "x.tar", "x"])
def test_a_kind_that_is_not_known_is_said(tmp_path: Path, target: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TEXT)
    assert_refused(
        tmp_path / name, target, r"its name ends with none of \.gz, \.tgz, \.bz2, \.lzma, \.xz, \.zip"
    )


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


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.tar.bz2", "x.tar.lzma", "x.gz", "x.bz2", "x.lzma"])
def test_a_compressed_file_is_read_to_its_end(tmp_path: Path, target: Path, kind: str) -> None:
    path = archive_of(tmp_path / kind, ("a.bin", TEXT))
    whole = path.read_bytes()
    # Empty; cut in the checksum; a checksum of something else; something that is no stream after the end.
    for damaged in (b"", whole[:-1], whole[:-6] + b"?" + whole[-5:], whole + b"more", whole + whole[:20]):
        path.write_bytes(damaged)
        assert_refused(path, target, "damaged, or not an archive")
    path.write_bytes(whole + bytes(1_000))  # zeros that fill up a block
    unpack(path, target, ["a.bin"], 10**6)
    assert (target / "a.bin").read_bytes() == TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_every_stream_of_a_compressed_file_counts(tmp_path: Path, target: Path, kind: str) -> None:
    first, second = (KINDS[kind](part) for part in (TEXT[:500], TEXT[500:]))
    path = tmp_path / f"x.{kind}"
    path.write_bytes(first + second)
    unpack(path, target, ["a.bin"], 10**6)
    assert (target / "a.bin").read_bytes() == TEXT
    (target / "a.bin").unlink()
    path.write_bytes(first + b"?" + second[1:])
    assert_refused(path, target, "damaged, or not an archive")


@pytest.mark.parametrize("kind", ["x.xz", "x.lzma", "x.gz", "x.bz2", "x.tar.xz", "x.tar.lzma", "x.zip"])
@pytest.mark.parametrize("size", [0, 1, 13, 1_000, 100_000])
def test_zeros_are_not_an_empty_file(tmp_path: Path, target: Path, kind: str, size: int) -> None:
    """What a lost disk leaves, or a download for which room was made; liblzma takes it for an empty file."""
    (tmp_path / kind).write_bytes(bytes(size))
    assert_refused(tmp_path / kind, target, "damaged, or not an archive")


def test_an_xz_file_is_not_in_the_older_format(tmp_path: Path, target: Path) -> None:
    """Which has no checksums."""
    (tmp_path / "x.xz").write_bytes(lzma.compress(TEXT, format=lzma.FORMAT_ALONE))
    assert_refused(tmp_path / "x.xz", target, "damaged, or not an archive")


def test_a_list_of_files_that_breaks_off_is_refused(tmp_path: Path, target: Path) -> None:
    """tarfile itself takes a damaged header for the end, here before a second a.bin."""
    path = archive_of(tmp_path / "x.tar.gz", ("a.bin", TEXT), ("in/a.bin", TEXT))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[content.index(b"in/a.bin")] ^= 1
    path.write_bytes(gzip.compress(content))
    assert_refused(path, target, "damaged, its list of files breaks off")


def test_an_lzma_header_that_asks_for_all_memory_is_refused(tmp_path: Path, target: Path) -> None:
    content = bytearray(lzma.compress(TEXT, format=lzma.FORMAT_ALONE))
    content[1:5] = (2**31).to_bytes(4, "little")  # the size of the dictionary
    (tmp_path / "x.lzma").write_bytes(content)
    assert_refused(tmp_path / "x.lzma", target, "damaged, or not an archive .*[Mm]emory")


def test_an_offset_beyond_the_beginning_of_a_zip_is_damage(tmp_path: Path, target: Path) -> None:
    """Python seeks there, and the system answers "invalid argument"."""
    path = archive_of(tmp_path / "x.zip", ("a.bin", TEXT))
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    content[end + 16 : end + 20] = (2**31).to_bytes(4, "little")  # of the list of files
    path.write_bytes(content)
    assert_refused(path, target, "damaged, or not an archive")


@pytest.mark.parametrize("streamed", [False, True])
def test_zeros_in_the_list_of_a_zip_do_not_mean_an_empty_file(
    tmp_path: Path, target: Path, streamed: bool
) -> None:
    """Zeros in the place of a file's sizes and checksum are those of an empty file."""
    packed = Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("a.bin", TEXT)
    path, content = tmp_path / "x.zip", bytearray(packed.getvalue())
    path.write_bytes(content)
    unpack(path, target, ["a.bin"], 10**6)
    (target / "a.bin").unlink()
    start = content.rindex(b"PK\1\2")
    content[start + 16 : start + 28] = bytes(12)
    path.write_bytes(content)
    assert_refused(path, target, "damaged, or not an archive .*two checksums of 'a.bin'")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("x.tar.gz", ""), *((kind, name) for kind in ("x.tar.gz", "x.zip") for name in (".", "in/..", "in/."))],
)
def test_a_file_without_a_name_is_refused_in_these_words(
    tmp_path: Path, target: Path, name: str, kind: str
) -> None:
    archive = archive_of(tmp_path / kind, ("a.bin", TEXT), (name, b"x"))
    assert_refused(archive, target, "is not the name of a file|leads out of the folder")


@pytest.mark.parametrize(
    ("kind", "folder"), [("x.tar.gz", special(".", tarfile.DIRTYPE)), ("x.zip", ("./", b""))]
)
def test_the_folder_itself_may_be_in_an_archive(
    tmp_path: Path, target: Path, kind: str, folder: tarfile.TarInfo | tuple[str, bytes]
) -> None:
    """As `tar -C folder -czf x.tar.gz .` packs it; and a name that no disk takes harms nobody."""
    unpack(
        archive_of(tmp_path / kind, folder, ("./a.bin", TEXT), ("b" * 990, b"x")), target, ["a.bin"], 10**6
    )
    assert [path.name for path in target.iterdir()] == ["a.bin"]


def test_a_full_disk_is_no_damage(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive_of(tmp_path / "x.tar.gz", ("a.bin", TEXT))
    opened = Path.open

    def full(path: Path, mode: str = "r") -> IO[bytes]:
        return opened(Path("/dev/full") if path.name == "a.bin" else path, mode)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left") as caught:
            unpack(path, target, ["a.bin"], 10**6)
    assert f"cannot unpack {path} into {target}: No space left on device; make room" in str(caught.value)
    assert list(target.iterdir()) == []


def test_what_a_killed_unpacking_left_goes_with_the_next(tmp_path: Path, target: Path) -> None:
    (target / ".unpacking-old").mkdir()
    (target / ".unpacking-old" / "a.bin").write_bytes(TEXT)
    unpack(archive_of(tmp_path / "x.zip", ("a.bin", TEXT)), target, ["a.bin"], 10**6)
    assert [path.name for path in target.iterdir()] == ["a.bin"]


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
