"""Fetching the public files of a data set: resumed after an interruption, verified, unpacked."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import IO

import numpy as np
import pooch
import requests

from fl_meta.data.catalogue import CATALOGUE, Download, existing, folder, folder_of, located, located_options
from fl_meta.data.files.archives import unpack
from fl_meta.data.files.checksum import RECORD, compare, forgetting, read_record, remember, verify
from fl_meta.data.files.errors import DataFileError
from fl_meta.support.atomic_files import ADVICE, write_atomically

# Called with a file's name, how many of its bytes have arrived, and how many it has (None if unknown).
Progress = Callable[[str, int, int | None], object]

# What there is to say of a file that nothing can be compared with.
UNKNOWN = "checksum unknown"
_CHUNK = 1 << 16
_TIMEOUT = 30  # seconds without a byte
# Those that requests would undo, and could not tell the whole from a part.
_ENCODINGS = {"gzip", "x-gzip", "deflate", "br", "zstd"}


def fetch(name: str, progress: Progress) -> list[Path]:
    """Fetch the files of a data set into its sub-folder of `folder()`; unpack them, or build what is read.

    An interrupted download is left as FILE.part, and the next call resumes it. A file or archive that was
    put there by hand is verified and used. If all files are there already, nothing is done.

    Raises:
        ConnectionError: if a file cannot be downloaded; the message says what to do without a network.
        DataFileError: if a file is not the one that was published or fetched before.
        OSError: if the disk is full or the folder cannot be written to.
    """
    entry = CATALOGUE[name]
    if not entry.forms:
        origin = f"comes with the package {entry.package}" if entry.package else "is generated"
        raise ValueError(f"{name} has no files to fetch: it {origin}")
    if paths := located(name):
        return paths
    form = entry.forms[0]
    if not form.downloads:
        return [existing(name, file) for file in form.files]
    target = folder_of(name, folder())
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot create the folder {target}: {error.strerror}") from error
    for download in form.downloads:
        path = target / download.file
        put_by_hand = path.is_file()
        try:
            _retrieve(name, download, path, progress)
        except requests.RequestException as error:
            with suppress(OSError):
                target.rmdir()  # only if it is empty
            urls = " and ".join(f"{each.url} as {target / each.file}" for each in form.downloads)
            raise ConnectionError(
                f"{name}: cannot fetch {download.url}: {_reason(error)}. Once you are online, run `fl-meta "
                f"data fetch {name}` again: it resumes where it stopped. Or download {urls} on another "
                f"machine, and run the same command to verify and unpack what you put there"
            ) from error
        except OSError as error:
            advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE else ""
            problem = f"cannot fetch {download.file} into {target}: {error.strerror or error}{advice}"
            raise OSError(problem) from error
        if download.builder:
            _build(name, download, path, progress)
        elif download.unpacks_to:
            checksums = unpack(path, target, download.unpacks_to, download.unpacked_bytes)
            remember(name, *(target / file for file in checksums), checksums=checksums)
        if download.unpacks_to and not put_by_hand:
            path.unlink()
    return located(name)


def check_files(name: str) -> Iterator[tuple[Path, int, str]]:
    """Each file of a data set, its size in bytes, and what its checksum was compared with."""
    paths = located(name) or [existing(name, file) for file in CATALOGUE[name].forms[0].files]
    for path in [*paths, *(path for each in located_options(name).values() for path in each)]:
        compared = compare(name, path)[0] or UNKNOWN
        yield path, path.stat().st_size, compared


def _build(name: str, download: Download, archive: Path, progress: Progress) -> None:
    """Make the .npz file of a data set from an archive whose files are in another format."""
    (file,) = download.unpacks_to
    target = archive.with_name(file)
    arrays = resolve_name(download.builder)(archive, partial(progress, file))
    write_atomically(target, lambda temporary: np.savez_compressed(temporary, **arrays))
    remember(name, target)


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, _UnusableAnswerError):
        return str(error)
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was lost"
    if isinstance(error, requests.exceptions.Timeout):
        return "the server does not answer"
    return "no connection"


def _retrieve(name: str, download: Download, path: Path, progress: Progress) -> None:
    """Bring a file to its path, or verify the one that is there."""
    first = read_record(path.parent).get(path.name)
    checksum = download.checksum or (f"sha256:{first['sha256']}" if first else None)
    forget = forgetting(path.parent, path.name) if first and not download.checksum else ""
    if path.is_file():
        sha256 = verify(path, download.bytes, checksum, forget and f", or {forget}")
        remember(name, path, checksums={path.name: sha256})
        return
    part = path.with_name(f"{path.name}.part")

    def resume(_url: str, temporary: str, _pooch: object) -> None:
        with _locked(part) as file:
            _complete(download, file, progress, has_checksum=checksum is not None)
        part.replace(temporary)

    # At INFO pooch reports the sha256 of a file for which it was given none.
    pooch.get_logger().setLevel("WARNING")
    try:
        # pooch verifies the checksum and moves the file to its path in one step.
        pooch.retrieve(download.url, checksum, path.name, path.parent, downloader=resume)
    except ValueError as error:
        hint = f" It is that of the first download, in {RECORD}; {forget}" if forget else ""
        raise DataFileError(f"{download.url}: {error}{hint}") from error
    remember(name, path)


# What pooch does not have: resuming a partial file ----------------------------------------------------------


class _RemoteFileChangedError(Exception):
    """The partial file is not the beginning of the file that the server has now."""


class _UnusableAnswerError(requests.RequestException):
    """The server sends something, but not the bytes of the file."""


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """The partial file, open for appending by this process alone; deleted if it is left empty."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"another process is fetching {part}; wait for it to finish") from error
        try:
            yield file
        finally:
            if not file.seek(0, os.SEEK_END):
                part.unlink()


def _complete(download: Download, file: IO[bytes], progress: Progress, *, has_checksum: bool) -> None:
    """Download what a partial file lacks, and reconnect as long as each connection brings more of it."""
    furthest, foreign = file.seek(0, os.SEEK_END), True
    try:
        while True:
            offset = file.seek(0, os.SEEK_END)
            try:
                _download_rest(download, file, offset, progress, has_checksum=has_checksum)
                break
            except _RemoteFileChangedError:
                file.truncate(0)
                # What an earlier call left does not count; but a server whose file can never be resumed, and
                # that cuts it again and again, must not be asked forever.
                furthest, foreign = 0 if foreign else furthest, False
            except requests.RequestException as error:
                arrived = file.seek(0, os.SEEK_END)
                if error.response is not None or arrived <= furthest:
                    raise
                furthest = arrived
        _check_size(download, file.seek(0, os.SEEK_END))
    except ValueError:
        file.truncate(0)
        raise


def _check_size(download: Download, size: int) -> None:
    if not size or download.bytes not in (None, size):
        expected = "" if download.bytes is None else f", but must have {download.bytes:,}"
        raise ValueError(f"the file on the server has {size:,} bytes{expected}; it was not kept")


def _download_rest(
    download: Download, file: IO[bytes], offset: int, progress: Progress, *, has_checksum: bool
) -> None:
    """Request everything from `offset` on, once."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with requests.get(download.url, headers=headers, timeout=_TIMEOUT, stream=True) as response:
        covered, _, total = response.headers.get("Content-Range", "").partition("/")
        date = _last_modified(response)
        # A part may be of another file, unless a checksum will be compared or the date is that of the part.
        vouched = has_checksum or (date is not None and os.fstat(file.fileno()).st_mtime == date)
        same_file = not offset or vouched
        if offset and response.status_code == 416:
            # Nothing comes after the end of a complete file.
            if total != str(offset) or not same_file:
                raise _RemoteFileChangedError
            return
        _refuse_unusable(response)
        if response.status_code == 206:
            # Without a total nobody could tell when the file is complete.
            if not covered.startswith(f"bytes {offset}-") or not total.isdecimal() or not same_file:
                if offset:
                    raise _RemoteFileChangedError
                raise _UnusableAnswerError(f"the server sends {covered or 'a part'} instead of the whole")
        else:  # the server sends the whole file, even if only the rest was requested
            file.truncate(0)
            total = response.headers.get("Content-Length", "")
        size = int(total) if total.isdecimal() else download.bytes
        if size is not None:
            _check_size(download, size)
        arrived = file.seek(0, os.SEEK_END)
        try:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                arrived = file.seek(0, os.SEEK_END)
                if size is not None and arrived > size:
                    raise ValueError(f"the server sends more than {size:,} bytes; they were not kept")
                progress(download.file, arrived, size)
        finally:
            if date is not None:
                file.flush()
                os.utime(file.fileno(), (date, date))
        if size is not None and arrived < size:  # a server may send less than was asked for
            raise requests.exceptions.ChunkedEncodingError(f"{arrived:,} of {size:,} bytes")


def _refuse_unusable(response: requests.Response) -> None:
    """Refuse an answer that is an error, a note or a page, or that is packed for its way."""
    response.raise_for_status()
    if response.status_code not in (200, 206):
        raise requests.HTTPError(response=response)
    encodings = {each.strip().lower() for each in response.headers.get("Content-Encoding", "").split(",")}
    if packed := encodings & _ENCODINGS:
        raise _UnusableAnswerError(f"the server packs it with {min(packed)}, though it was asked not to")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _UnusableAnswerError("the server sends a web page instead, perhaps to log in")


def _last_modified(response: requests.Response) -> float | None:
    """When the server's file was last changed, in seconds since 1970; None if it gives no date."""
    try:
        return parsedate_to_datetime(response.headers["Last-Modified"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError, OSError):
        return None
