"""Whether a file is the one that was published or fetched, by its size, time and checksum.

`fetched.json`, in a data set's folder, has the size, the sha256 and the time of change of each file when it
was fetched or checked. While size and time are the same, a file counts as unchanged; if only the time is
another, its checksum decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NotRequired, TypedDict

from fl_meta.data.catalogue import CATALOGUE, Download, existing, folders_of
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.data.files.locks import locked
from fl_meta.support.atomic_files import write_atomically

RECORD = "fetched.json"
_CHUNK = 1 << 18
# A disk's clock is coarse: a file could be changed again within this time, and its time not show it.
_CLOCK_NS = 2 * 10**9


class Known(TypedDict):
    """What the record has of a file."""

    bytes: int
    sha256: str
    # Missing if it was too recent to be trusted.
    mtime_ns: NotRequired[int]


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file, in hexadecimal digits."""
    return digests(path, algorithm)[algorithm]


def digests(path: Path, *algorithms: str) -> dict[str, str]:
    """The checksums of a file by each algorithm, from one reading."""
    hashes = {algorithm: hashlib.new(algorithm) for algorithm in algorithms}
    with reading(path, "a file that can be read"), path.open("rb") as file:
        while piece := file.read(_CHUNK):
            for each in hashes.values():
                each.update(piece)
    return {algorithm: each.hexdigest() for algorithm, each in hashes.items()}


def forgetting(folder: Path, key: str) -> str:
    """What to do so that the record no longer counts for a file."""
    return f"if you meant to change it, or what is recorded is wrong, delete {key!r} from {folder / RECORD}"


def verify(path: Path, size: int | None, checksum: str | None, advice: str = "") -> str:
    """Compare a file with a known size, and with a checksum such as "sha256:…"; None is not compared.

    Returns:
        The file's sha256, from the same reading.
    """
    actual = path.stat().st_size
    algorithm, _, expected = (checksum or "").partition(":")
    if size is not None and actual != size:
        problem = f"has {actual:,} bytes, but must have {size:,}"
    else:
        found = digests(path, "sha256", algorithm or "sha256")
        if not checksum or found[algorithm] == expected:
            return found["sha256"]
        problem = f"does not match the checksum {checksum}"
    raise DataFileError(
        f"{path}: {problem}; it is damaged, or another file: delete it and fetch it again{advice}"
    )


def verified_file(name: str, *files: str) -> Path:
    """The first of a data set's files that exists, after `verify_known`."""
    errors = []
    for file in files:
        try:
            path = existing(name, file)
        except FileNotFoundError as error:
            errors.append(error)
        else:
            verify_known(name, path)
            return path
    raise errors[0]


def verify_known(name: str, path: Path) -> None:
    """Compare a file of a data set with the record or, if that lacks it, with its published checksum.

    If it had to be read for that, the result is recorded where the folder can be written to.

    Raises:
        DataFileError: if the file has changed, or is not what was published.
        OSError: if it cannot be read.
    """
    _require_file(path)
    with path.open("rb") as file:  # whoever may not read it is told so here
        status = os.fstat(file.fileno())
    folder, key = _place(name, path)
    known = read_record(folder).get(key)
    if known and (known["bytes"], known.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
        return
    _, sha256 = compare(name, path)
    if sha256:
        with suppress(OSError):
            # What was compared, not what the file may be by now; and its time from before it was read.
            _record(folder, {key: _known(status, sha256)})


def check_same_files(paths: Sequence[Path]) -> None:
    """Compare the files of one sub-folder, where the names are not fixed, with those in the record.

    Raises:
        DataFileError: if one is new; nothing is compared while the record has none of them.
        FileNotFoundError: if one is gone.
    """
    within, folder = paths[0].parent.name, paths[0].parents[1]
    keys = [key for key in read_record(folder) if key.startswith(f"{within}/")]
    for key in keys:
        if not (folder / key).is_file():
            forget = forgetting(folder, key)
            raise FileNotFoundError(f"{folder / key}: is no longer there; put it back, or {forget}")
    for path in paths:
        if keys and path.relative_to(folder).as_posix() not in keys:
            raise DataFileError(
                f"{path}: was not there when the data set was checked; take it away or, if it belongs there, "
                f"delete {folder / RECORD} and check again"
            )


def compare(name: str, path: Path) -> tuple[str, str]:
    """Compare a file's checksum with all that is known of it.

    Returns:
        What it was compared with, in words, and its sha256; both "" if nothing is known.
    """
    folder, key = _place(name, path)
    compared = sha256 = ""
    _require_file(path)
    if known := read_record(folder).get(key):
        forget = f", or {forgetting(folder, key)}"
        sha256 = verify(path, known["bytes"], f"sha256:{known['sha256']}", forget)
        compared = "checksum as when it was fetched or checked"
    download = _published(name).get(path.name)
    if download and download.checksum:
        # Already compared, if it is that of the record.
        if download.checksum != f"sha256:{sha256}":
            sha256 = verify(path, download.bytes, download.checksum)
        compared = "checksum as published"
    return compared, sha256


def remember(name: str, *paths: Path, checksums: Mapping[str, str] | None = None) -> None:
    """Record the size, checksum and time of files of a data set that are known to be right.

    `checksums` has the sha256 of files, by name, that need not be read for it again.

    Raises:
        OSError: if the folder cannot be written to.
    """
    entries = dict[str, Known]()
    for path in paths:
        status = path.stat()  # before its bytes are read, so that a later change shows
        entries[_place(name, path)[1]] = _known(status, (checksums or {}).get(path.name) or digest(path))
    _record(_place(name, paths[0])[0], entries)


def _known(status: os.stat_result, sha256: str) -> Known:
    known = Known(bytes=status.st_size, sha256=sha256)
    if time.time_ns() - status.st_mtime_ns > _CLOCK_NS:
        known["mtime_ns"] = status.st_mtime_ns
    return known


def _record(folder: Path, entries: Mapping[str, Known]) -> None:
    """Write these entries into the record of a folder."""
    # Where nobody may write, root could.
    if not folder.stat().st_mode & 0o222:
        raise PermissionError(f"cannot write {RECORD} into {folder}: nobody may write there")
    with locked(folder):  # by one process at a time
        record = read_record(folder)
        before = json.dumps(record)
        record |= entries
        if json.dumps(record) != before:
            text = json.dumps(record, indent=1) + "\n"
            write_atomically(folder / RECORD, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_record(folder: Path) -> dict[str, Known]:
    """The record of a folder; empty if there is none."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes())
        for known in record.values():
            if not isinstance(known["bytes"], int) or not isinstance(known["sha256"], str):
                raise TypeError("a size or a checksum is missing")
    except FileNotFoundError:
        return {}
    except IsADirectoryError:
        raise DataFileError(f"{path}: is a folder; remove it") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataFileError(f"{path}: damaged ({_what(error)}); delete it") from error
    return dict[str, Known](record)


def _what(error: Exception) -> str:
    """In words; the text of a KeyError is only the key."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise DataFileError(f"{path}: is a folder, or a link that leads nowhere; remove it")


def _published(name: str) -> dict[str, Download]:
    """The downloads of a data set, by the names of their files."""
    return {download.file: download for form in CATALOGUE[name].forms for download in form.downloads}


def _place(name: str, path: Path) -> tuple[Path, str]:
    """A data set's folder that holds a file, and the file's path in it."""
    folder = next(folder for folder in folders_of(name) if folder in path.parents)
    return folder, path.relative_to(folder).as_posix()
