"""Archives and compressed files, read safely: no links, no paths out of the folder, no endless content.

They are read to their end. The modules gzip, bz2 and lzma take an empty file, or one whose second stream is
damaged, for a shorter one, and tarfile leaves the end of the stream unread, where gzip's checksum is. pooch's
processors neither bound what comes out of an archive nor take a file from whichever folder it is in.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.data.files.locks import locked
from fl_meta.support.atomic_files import ADVICE

# At most this many times an archive's own size may come out of it; TFF's archives have less than 30. An
# amount that does no harm is allowed whatever the ratio.
LARGEST_RATIO = 100
HARMLESS = 32 << 20
_CHUNK = 1 << 16
_ZEROS = 13  # the length of the header of the older format of .lzma
_UNPACKING = ".unpacking-"
# A damaged header may ask for 4 GiB of memory; what `xz -9` writes needs 65 MiB.
_LZMA_MEMORY = 1 << 29
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": partial(zlib.decompressobj, zlib.MAX_WBITS + 16),  # + 16: with gzip's header and checksum
    ".tgz": partial(zlib.decompressobj, zlib.MAX_WBITS + 16),
    ".bz2": bz2.BZ2Decompressor,
    ".lzma": partial(lzma.LZMADecompressor, memlimit=_LZMA_MEMORY),
    ".xz": partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY),
}


def unpack(archive: Path, target: Path, names: Sequence[str], limit: int) -> dict[str, str]:
    """Take files out of an archive, from any folder in it, and put them into `target`: all or none.

    The archive is a .zip, .tar.gz, .tar.bz2, .tar.xz or .tar.lzma, or a single file compressed like these,
    which gets the first of `names`. At most `limit` bytes may come out of it. Every checksum in it is
    compared; the older of the two formats of .lzma has none.

    Returns:
        The sha256 of each file, by name.

    Raises:
        DataFileError: if the archive is damaged, unsafe, or lacks a file; nothing is unpacked.
        OSError: if the folder cannot be written to, or the disk is full.
    """
    checksums = dict[str, str]()
    try:
        with (
            locked(target) as alone,
            tempfile.TemporaryDirectory(dir=target, prefix=_UNPACKING) as folder,
            closing(members(archive, names[0], limit)) as opened,
        ):
            # What an unpacking that was killed has left.
            for left in target.glob(f"{_UNPACKING}*") if alone else []:
                if left != Path(folder):
                    shutil.rmtree(left, ignore_errors=True)
            for path, pieces in opened:
                name = path.rpartition("/")[2]
                if name in checksums:
                    raise DataFileError(f"{archive}: holds {name} twice; nothing was unpacked")
                # A member that is not wanted is read too: what it holds counts.
                wanted, checksum = name in names, hashlib.sha256()
                with Path(folder, name).open("wb") if wanted else nullcontext() as file:
                    for piece in pieces:
                        if file:
                            file.write(piece)
                            checksum.update(piece)
                if wanted:
                    checksums[name] = checksum.hexdigest()
            for name in names:
                if name not in checksums:
                    raise DataFileError(f"{archive}: does not hold {name}; delete it")
            for name in names:
                Path(folder, name).replace(target / name)
            return checksums
    except OSError as error:
        reading_it = error.filename == str(archive)
        advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE and not reading_it else ""
        problem = f"cannot unpack {archive} into {target}: {error.strerror or error}{advice}"
        raise OSError(problem) from error


def most_content(size: int) -> int:
    """How many bytes may come out of so many compressed ones."""
    return max(HARMLESS, LARGEST_RATIO * size)


def members(archive: Path, single: str, limit: int) -> Generator[tuple[str, Iterator[bytes]], None, None]:
    """The path and the content, piece by piece, of each regular file, in the order of the archive.

    The content must be read before the next file is asked for. Close the generator if you do not read it to
    the end; only there is the archive known to be whole.

    Raises:
        DataFileError: if the archive is damaged or unsafe, or if all that is read of the files is more than
            `limit`, or more than so small an archive may hold.
    """
    limit, total = min(limit, most_content(archive.stat().st_size)), 0

    def counted(pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal total
        for piece in pieces:
            total += len(piece)
            if total > limit:
                raise _too_much(archive, limit)
            yield piece

    with closing(_members(archive, single, limit)) as opened:
        for path, pieces in opened:
            yield path, counted(pieces)


def _members(archive: Path, single: str, limit: int) -> Generator[tuple[str, Iterator[bytes]], None, None]:
    """See `members`; only what a .tar contains besides the files is bounded here."""
    with reading(archive, "an archive of its kind"):
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as opened:
                for info in opened.infolist():
                    kind = stat.S_IFMT(info.external_attr >> 16)
                    plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                    _check_member(archive, info.filename, plain=plain, folder=info.is_dir())
                    if not info.is_dir():
                        _check_crc(archive, info)
                        with opened.open(info) as content:
                            yield info.filename, _pieces(archive, content)
        elif ".tar" in archive.suffixes or archive.suffix == ".tgz":
            with closing(decompressed(archive)) as pieces:
                stream: Any = io.BufferedReader(_Stream(archive, pieces, limit + HARMLESS), _CHUNK)
                with tarfile.open(fileobj=stream, mode="r|") as tar:
                    for member in tar:
                        plain = (member.isreg() and not member.issparse()) or member.isdir()
                        _check_member(archive, member.name, plain=plain, folder=member.isdir())
                        if file := tar.extractfile(member):
                            yield member.name, _pieces(archive, file)
                    # tarfile takes a damaged header for the end, which is nothing but zeros.
                    rest: Any = tar.fileobj
                    while piece := rest.read(_CHUNK):
                        if piece.strip(b"\0"):
                            raise DataFileError(
                                f"{archive}: damaged, its list of files breaks off; delete it"
                            )
        else:
            yield single, decompressed(archive)


def decompressed(path: Path) -> Generator[bytes, None, None]:
    """The content of a .gz, .bz2 or .lzma file, piece by piece, to the verified end of its last stream."""
    if path.suffix not in _DECOMPRESSORS:
        raise DataFileError(f"{path}: its name ends with none of {', '.join(_DECOMPRESSORS)}, .zip")
    data = b""
    with reading(path, "an archive of its kind"), path.open("rb") as file:
        # The older format of .lzma takes them for an empty file.
        if not file.read(_ZEROS).strip(b"\0"):
            raise EOFError("it is empty, or begins with zeros alone")
        file.seek(0)
        while True:
            stream = _DECOMPRESSORS[path.suffix]()
            while not stream.eof:
                piece = stream.decompress(data, _CHUNK)
                data = getattr(stream, "unconsumed_tail", b"")  # zlib's; the others keep it themselves
                if piece:
                    yield piece
                elif not stream.eof and not data:
                    data = file.read(_CHUNK)
                    if not data:
                        raise EOFError("it ends in the middle of a stream")
            data = stream.unused_data
            # Zeros may fill a file up; what else follows is another stream.
            while not data.lstrip(b"\0"):
                data = file.read(_CHUNK)
                if not data:
                    return
            data = data.lstrip(b"\0")


def content(path: Path) -> bytes:
    """All of a .gz, .bz2 or .lzma file, if it is not more than can come out of a file of its size."""
    limit, total, pieces = most_content(path.stat().st_size), 0, list[bytes]()
    for piece in decompressed(path):
        total += len(piece)
        if total > limit:
            raise _too_much(path, limit)
        pieces.append(piece)
    return b"".join(pieces)


def _pieces(archive: Path, content: IO[bytes]) -> Iterator[bytes]:
    with reading(archive, "an archive of its kind"):
        while piece := content.read(_CHUNK):
            yield piece


def _check_crc(archive: Path, info: zipfile.ZipInfo) -> None:
    """Compare the checksum in the list of a .zip with that beside the file: zeros would mean an empty one."""
    with archive.open("rb") as file:
        file.seek(info.header_offset)
        flags, crc, _, _, name, extra = struct.unpack("<6xH6xLLLHH", file.read(30))
        if flags & 8:  # it comes after the file
            file.seek(name + extra + info.compress_size, io.SEEK_CUR)
            behind = file.read(8)
            (crc,) = struct.unpack("<L", behind[4:] if behind[:4] == b"PK\x07\x08" else behind[:4])
    if crc != info.CRC:
        raise zipfile.BadZipFile(f"two checksums of {info.filename!r}")


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file to read, of at most `limit` bytes."""

    def __init__(self, path: Path, pieces: Iterator[bytes], limit: int) -> None:
        self.path, self.pieces, self.limit = path, pieces, limit
        self.piece, self.total = b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.piece = self.piece or next(self.pieces, b"")
        count = min(len(buffer), len(self.piece))
        buffer[:count], self.piece = self.piece[:count], self.piece[count:]
        self.total += count
        if self.total > self.limit:
            raise _too_much(self.path, self.limit)
        return count


def _too_much(archive: Path, limit: int) -> DataFileError:
    return DataFileError(f"{archive}: holds more than {limit:,} bytes; nothing was unpacked")


def _check_member(archive: Path, name: str, *, plain: bool, folder: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    last = name.rpartition("/")[2]
    if not plain:
        problem = "is a link or not a regular file"
    elif path.is_absolute() or ".." in path.parts:
        problem = "leads out of the folder"
    elif last in ("", ".") and not folder:
        problem = "is not the name of a file"
    else:
        return
    raise DataFileError(f"{archive}: unsafe, {name!r} {problem}; nothing was unpacked")
