"""Fetching the public files of a data set: resumed where it was cut off, verified, unpacked."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

import pooch
import requests

from fl_meta.data.catalogue import CATALOGUE, Download, existing, folder, folder_of, located
from fl_meta.data.files.archives import unpack
from fl_meta.support.atomic_files import write_atomically

# Called with the file's name, how many bytes of it are here, and how many it has, None if that is not known.
Progress = Callable[[str, int, int | None], object]

# Beside the files: the size and sha256 that each had when it was fetched.
RECORD = "fetched.json"
_CHUNK = 1 << 16
_SECONDS = 30  # without a byte, then a connection counts as cut


def fetch(name: str, progress: Progress) -> list[Path]:
    """Fetch the files of a data set into its sub-folder of `folder()`, and unpack them.

    What was cut off or stopped lies there as FILE.part, and the next call goes on with it. A file or archive
    that somebody has put there by hand is verified and used. If all files are here, nothing is done.

    Returns:
        The files, as `located` does.

    Raises:
        FileNotFoundError: if no address gives them; the message says what to put where.
        ConnectionError: if an address cannot be reached; the message says what to put where.
        ValueError: if the data set comes with a package, a file has not the size or the checksum that it must
            have, or an archive is damaged, unsafe, too large or has not what it must have.
        OSError: if the files cannot be written, or another fetch is writing them.
    """
    entry = CATALOGUE[name]
    if not entry.forms:
        origin = f"comes with the package {entry.package}" if entry.package else "is made here"
        raise ValueError(f"{name} has no files to fetch: it {origin}")
    if here := located(name):
        return here
    form = entry.forms[0]
    if not form.downloads:
        return [existing(name, file) for file in form.files]
    target = folder_of(name, folder())
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the folder {target}: {error.strerror}") from error
    for download in form.downloads:
        path = target / download.file
        put_by_hand = path.is_file()
        try:
            _retrieve(download, path, progress)
        except requests.RequestException as error:
            urls = " and ".join(f"{one.url} as {target / one.file}" for one in form.downloads)
            raise ConnectionError(
                f"{name}: cannot fetch {download.url}: {_reason(error)}. With a network, run `fl-meta data "
                f"fetch {name}` again: it goes on where it stopped. Or download on another machine {urls}, "
                f"and run the same command, which verifies and unpacks what lies there"
            ) from error
        if download.unpacks_to:
            unpack(path, target, download.unpacks_to, download.unpacked_bytes)
            _remember(*(target / file for file in download.unpacks_to))
            if not put_by_hand:
                path.unlink()
    return located(name)


def check_files(name: str) -> Iterator[tuple[Path, int, str]]:
    """Each file of a data set, its size in bytes, and what its checksum was compared with.

    Raises:
        FileNotFoundError: if a file is missing; the message says what to run or what to put where.
        ValueError: if the size or the checksum of a file is not what it must be.
    """
    forms = CATALOGUE[name].forms
    published = {one.file: one for form in forms for one in form.downloads if not one.unpacks_to}
    for path in located(name) or [existing(name, file) for file in forms[0].files]:
        compared = "checksum not known"
        if seen := _record(path.parent).get(path.name):
            _verify(path, seen["bytes"], f"sha256:{seen['sha256']}")
            compared = "checksum as it was fetched"
        download = published.get(path.name)
        if download and download.checksum:
            _verify(path, download.bytes, download.checksum)
            compared = "checksum as published"
        yield path, path.stat().st_size, compared


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.exceptions.Timeout):
        return "the server does not answer"
    return "no connection"


def _verify(path: Path, size: int | None, checksum: str | None) -> None:
    found = path.stat().st_size
    algorithm, _, digest = (checksum or "").partition(":")
    if size is not None and found != size:
        problem = f"has {found:,} bytes, but it must have {size:,}"
    elif checksum and pooch.file_hash(str(path), alg=algorithm) != digest:
        problem = f"has not the checksum {checksum}"
    else:
        return
    raise ValueError(f"{path}: {problem}; it is damaged or another file: delete it, and fetch it again")


def _record(target: Path) -> dict[str, Any]:
    """The sizes and checksums of the files of a folder when they were fetched."""
    path = target / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it") from error
    return record


def _remember(*paths: Path) -> None:
    target = paths[0].parent
    record = _record(target)
    for path in paths:
        record[path.name] = {"bytes": path.stat().st_size, "sha256": pooch.file_hash(str(path))}
    text = json.dumps(record, indent=1) + "\n"
    write_atomically(target / RECORD, lambda temporary: temporary.write_text(text, encoding="utf-8"))


# Downloading ----------------------------------------------------------------------------------------------


class _RemoteFileChangedError(Exception):
    """A partial file is the beginning of another one than is there now."""


@dataclass
class _Sink:
    """Where pooch writes what arrives."""

    download: Download
    file: IO[bytes]
    total: int | None
    progress: Progress

    def write(self, chunk: bytes) -> None:
        size = self.file.tell() + len(chunk)
        if self.download.bytes is not None and size > self.download.bytes:
            raise _wrong_size(self.download, size)
        self.file.write(chunk)
        self.progress(self.download.file, size, self.total)

    def flush(self) -> None:
        self.file.flush()


def _retrieve(download: Download, path: Path, progress: Progress) -> None:
    """Bring a file to its place, or verify the one that lies there."""
    seen = _record(path.parent).get(path.name)
    checksum = download.checksum or (f"sha256:{seen['sha256']}" if seen else None)
    if path.is_file():
        _verify(path, download.bytes, checksum)
        _remember(path)
        return
    part = path.with_name(f"{path.name}.part")

    def resume(url: str, temporary: str, _: object) -> None:
        _complete(download, part, progress, checked=checksum is not None)
        part.replace(temporary)

    # At INFO pooch tells the sha256 of a file for which it was given none.
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(download.url, checksum, path.name, path.parent, downloader=resume)
    except ValueError as error:
        first = "" if download.checksum or not seen else f" It is that of the first download, in {RECORD}."
        raise ValueError(f"{download.url}: {error}{first}") from error
    _remember(path)


def _complete(download: Download, part: Path, progress: Progress, *, checked: bool) -> None:
    """Download what a partial file lacks, and try again as long as each time more of it has come."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"another fetch is writing {part}; wait for it") from error
        try:
            while True:
                offset = file.seek(0, os.SEEK_END)
                try:
                    _continue(download, file, part, progress, checked=checked)
                    break
                except _RemoteFileChangedError:
                    file.truncate(0)
                except requests.RequestException as error:
                    if error.response is not None or file.seek(0, os.SEEK_END) <= offset:
                        raise
            size = file.seek(0, os.SEEK_END)
            if not size or download.bytes not in (None, size):
                raise _wrong_size(download, size)
        except ValueError:
            file.truncate(0)
            raise
        finally:
            if not file.seek(0, os.SEEK_END):
                part.unlink()


def _wrong_size(download: Download, size: int) -> ValueError:
    wanted = "" if download.bytes is None else f", but it must have {download.bytes:,}"
    return ValueError(f"the file there has {size:,} bytes{wanted}; nothing of it is kept")


def _continue(download: Download, file: IO[bytes], part: Path, progress: Progress, *, checked: bool) -> None:
    """One request for all that a partial file lacks."""
    offset = file.seek(0, os.SEEK_END)
    sink = _Sink(download, file, download.bytes, progress)
    modified: list[float] = []
    responses: list[requests.Response] = []

    def look(response: requests.Response, **_options: object) -> None:
        responses.append(response)
        if response.status_code not in (200, 206):
            return
        changed = response.headers.get("Last-Modified")
        if changed:
            modified.append(parsedate_to_datetime(changed).timestamp())
        if offset and response.status_code == 206:
            span, _, total = response.headers.get("Content-Range", "").partition("/")
            # Where there is no checksum, only the date shows that two halves are not of one file.
            if not span.startswith(f"bytes {offset}-") or (
                modified and not checked and part.stat().st_mtime != modified[-1]
            ):
                raise _RemoteFileChangedError
        else:
            file.truncate(0)  # the server sends all of it, even if the rest was asked for
            file.seek(0)
            total = response.headers.get("Content-Length", "")
        if total.isdecimal():
            sink.total = int(total)
            if download.bytes not in (None, sink.total):
                raise _wrong_size(download, sink.total)

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    get = pooch.HTTPDownloader(chunk_size=_CHUNK, timeout=_SECONDS, headers=headers, hooks={"response": look})
    try:
        get(download.url, sink, None)
    except requests.HTTPError as error:
        if not offset or error.response is None or error.response.status_code != 416:
            raise
        # Nothing comes after the end of a file that is complete.
        if error.response.headers.get("Content-Range") != f"bytes */{offset}":
            raise _RemoteFileChangedError from None
    finally:
        for response in responses:
            response.close()
        if modified:
            file.flush()
            os.utime(part, (modified[-1], modified[-1]))
