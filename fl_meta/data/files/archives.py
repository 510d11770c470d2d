"""Taking files out of archives that somebody else has made, without harm."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

# What comes out of an archive may be so many times its size; TFF's own have less than 30. So many bytes do no
# harm whatever the archive's size.
LARGEST_RATIO = 100
HARMLESS = 32 << 20
_CHUNK = 1 << 16
_OPENERS: dict[str, Callable[..., Any]] = {".lzma": lzma.open, ".bz2": bz2.open, ".gz": gzip.open}
_DAMAGED = (
    EOFError,
    OSError,
    RuntimeError,
    lzma.LZMAError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def unpack(archive: Path, target: Path, wanted: Iterable[str], limit: int) -> None:
    """Take files out of an archive, wherever in it they are, and put them into a folder, all or none.

    Args:
        archive: its name ends in .zip, .tar.gz, .tar.bz2 or .tar.lzma; or in .gz, .bz2 or .lzma if it is one
            compressed file, which gets the one name wanted.
        target: a folder that exists.
        wanted: names of the files, without folders.
        limit: the most bytes that may come out of it; nor, beyond `HARMLESS`, more than
            `LARGEST_RATIO` times its size.

    Raises:
        ValueError: if the archive is damaged, has links, special files or paths that lead out of it, is too
            large, or has not each file once.
        OSError: if the files cannot be written.
    """
    names = list(wanted)
    limit = min(limit, max(HARMLESS, LARGEST_RATIO * archive.stat().st_size))
    declared = written = 0
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as folder:
        try:
            for member, size, stream in _members(archive, names[0]):
                declared += size
                path = Path(folder, PurePosixPath(member).name)
                if path.exists():
                    raise ValueError(f"{archive}: holds {path.name} twice; nothing of it was unpacked")
                if path.name in names and declared <= limit:
                    with path.open("wb") as file:
                        while written <= limit and (chunk := stream.read(_CHUNK)):
                            written += file.write(chunk)
                if max(declared, written) > limit:
                    raise ValueError(
                        f"{archive}: more than {limit:,} bytes come out of it; nothing of it was unpacked"
                    )
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            raise ValueError(f"{archive}: damaged, or of another kind ({error}); delete it") from error
        missing = [name for name in names if not Path(folder, name).exists()]
        if missing:
            raise ValueError(f"{archive}: holds no {missing[0]}; delete it")
        for name in names:
            Path(folder, name).replace(target / name)


def _members(archive: Path, single: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    """The name, size and content of each plain file; for a compressed file `single`, and 0 as the size."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                _check_member(archive, info.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
                if not info.is_dir():
                    with opened.open(info) as stream:
                        yield info.filename, info.file_size, stream
        return
    with _OPENERS[archive.suffix](archive) as stream:
        if ".tar" not in archive.suffixes:
            yield single, 0, stream
            return
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                plain = (member.isreg() and not member.issparse()) or member.isdir()
                _check_member(archive, member.name, plain=plain)
                if member.isreg() and (content := tar.extractfile(member)):
                    yield member.name, member.size, content


def _check_member(archive: Path, name: str, *, plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if not plain or path.is_absolute() or ".." in path.parts:
        what = "leads out of the folder" if plain else "is a link or no plain file"
        raise ValueError(f"{archive}: is not safe, {name!r} {what}; nothing of it was unpacked")
