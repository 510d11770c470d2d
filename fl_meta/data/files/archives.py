"""Unpacking downloaded archives safely: no links, no paths out of the folder, no endless content.

pooch's processors neither bound what comes out of an archive nor take a file from whichever folder it is in.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

# At most this many times an archive's own size may come out of it; TFF's archives have less than 30. An
# amount that does no harm is allowed whatever the ratio.
LARGEST_RATIO = 100
HARMLESS = 32 << 20
_CHUNK = 1 << 16
_OPENERS: dict[str, Any] = {".lzma": lzma.open, ".bz2": bz2.open, ".gz": gzip.open}
_DAMAGED = (
    *(EOFError, OSError, RuntimeError, lzma.LZMAError, zlib.error),
    *(tarfile.TarError, zipfile.BadZipFile),
)


def unpack(archive: Path, target: Path, names: Sequence[str], limit: int) -> None:
    """Take files out of an archive, from any folder in it, and put them into `target`: all or none.

    The archive is a .zip, .tar.gz, .tar.bz2 or .tar.lzma, or one file compressed as .gz, .bz2 or .lzma, which
    gets the first of `names`. At most `limit` bytes may come out of it.
    """
    limit = min(limit, max(HARMLESS, LARGEST_RATIO * archive.stat().st_size))
    total = 0
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as folder:
        try:
            for name, content in _members(archive, names[0]):
                path = Path(folder, PurePosixPath(name).name)
                if path.exists():
                    raise ValueError(f"{archive}: holds {path.name} twice; nothing was unpacked")
                # A member that is not wanted is read too: what it holds counts.
                with path.open("wb") if path.name in names else Path(os.devnull).open("wb") as file:
                    while chunk := content.read(_CHUNK):
                        total += len(chunk)
                        if total > limit:
                            raise ValueError(
                                f"{archive}: holds more than {limit:,} bytes; nothing was unpacked"
                            )
                        file.write(chunk)
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's error
            raise ValueError(
                f"{archive}: damaged, or not an archive of its kind ({error}); delete it"
            ) from error
        for name in names:
            if not Path(folder, name).exists():
                raise ValueError(f"{archive}: does not hold {name}; delete it")
        for name in names:
            Path(folder, name).replace(target / name)


def _members(archive: Path, single: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The name and content of each regular file, in the order of the archive."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                _check_member(archive, info.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
                if not info.is_dir():
                    with opened.open(info) as content:
                        yield info.filename, content
    elif ".tar" in archive.suffixes:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                plain = (member.isreg() and not member.issparse()) or member.isdir()
                _check_member(archive, member.name, plain=plain)
                if file := tar.extractfile(member):
                    yield member.name, file
    else:
        with _OPENERS[archive.suffix](archive) as content:
            yield single, content


def _check_member(archive: Path, name: str, *, plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if not plain or path.is_absolute() or ".." in path.parts:
        problem = "leads out of the folder" if plain else "is a link or not a regular file"
        raise ValueError(f"{archive}: unsafe, {name!r} {problem}; nothing was unpacked")
