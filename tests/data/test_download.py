"""Fetching from a server that resumes, cuts, lies or is not there; each in this process, none elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_files import FORMATS, UNIPEN, UNIPEN_FILES, name_of, write_unipen

from fl_meta.data import load_dataset
from fl_meta.data.catalogue import CATALOGUE, DataSet, Download, Form, located
from fl_meta.data.files.download import check_files, fetch

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)
DATES = ("Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT")


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Site:
    """A server, what it has, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True  # whether it sends a part, if asked for one,
    shift: int = 0  # and how far from there it begins
    modified: str | None = DATES[0]
    # After so many bytes of an answer the connection is cut; one entry is used up by each request.
    cuts: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    here = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, wanted = self.path[1:], self.headers["Range"]
            here.asked.append((name, wanted))
            if name not in here.files:
                self.send_error(404)
                return
            content, partial = here.files[name], bool(wanted and here.ranges)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + here.shift if partial else 0
            if start >= len(content):
                self.answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            headers = {"Content-Length": str(len(content) - start)}
            if here.modified is not None:
                headers["Last-Modified"] = here.modified
            if partial:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206 if partial else 200, headers)
            end = start + here.cuts.pop(0) if here.cuts else len(content)
            self.wfile.write(content[start:end])

        def answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield here
        server.shutdown()
        thread.join()


@pytest.fixture
def offer(site: Site, place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a data set of one download into the catalogue; returns the folder into which it is fetched."""

    def offered(content: bytes = CONTENT, file: str = "toy.bin", **known: object) -> Path:
        site.files[file] = content
        download = Download(**({"url": f"{site.url}/{file}"} | known))
        form = Form(download.unpacks_to or (file,), (download,))
        monkeypatch.setitem(CATALOGUE, "toy", DataSet("a toy", "none", forms=(form,)))
        return place / "toy"

    return offered


def quiet(*_: object) -> None:
    """Progress that nobody sees."""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def wrong(message: str) -> str:
    with pytest.raises(ValueError, match=message) as caught:
        fetch("toy", quiet)
    return str(caught.value)


def stopped(folder: Path) -> bytes:
    """Fetch, and stop after 400,000 bytes; returns what has arrived."""

    def stop(_file: str, here: int, _all: int | None) -> None:
        if here > 400_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("toy", stop)
    assert names(folder) == {"toy.bin.part"}
    return (folder / "toy.bin.part").read_bytes()


# Whole, and in pieces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [None, sha256(CONTENT), f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_file_is_fetched_once_and_its_checksum_kept(
    site: Site, offer: Callable[..., Path], checksum: str | None, size: int | None
) -> None:
    folder = offer(bytes=size, checksum=checksum)
    shown: list[tuple[str, int, int | None]] = []
    assert fetch("toy", lambda *now: shown.append(now)) == [folder / "toy.bin"]
    assert (folder / "toy.bin").read_bytes() == CONTENT and names(folder) == {"toy.bin", "fetched.json"}
    seen = json.loads((folder / "fetched.json").read_text())["toy.bin"]
    assert seen == {
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "mtime_ns": (folder / "toy.bin").stat().st_mtime_ns,
    }
    assert shown[-1] == ("toy.bin", len(CONTENT), len(CONTENT)) and shown == sorted(shown)
    fetch("toy", quiet)
    assert site.asked == [("toy.bin", None)]


def test_a_download_that_is_cut_goes_on_where_it_stopped(site: Site, offer: Callable[..., Path]) -> None:
    folder = offer(checksum=sha256(CONTENT))
    site.cuts = [300_000, 200_000]
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == CONTENT
    offsets = [int(wanted[6:-1]) for _, wanted in site.asked if wanted]
    assert len(offsets) == 2 and 200_000 <= offsets[0] <= 300_000 <= offsets[1] <= 500_000


def test_a_stopped_download_leaves_a_part_and_the_next_fetch_completes_it(
    site: Site, offer: Callable[..., Path]
) -> None:
    folder = offer(checksum=sha256(CONTENT))
    part = stopped(folder)
    assert len(part) > 400_000 and CONTENT.startswith(part)
    fetch("toy", quiet)
    assert site.asked == [("toy.bin", None), ("toy.bin", f"bytes={len(part)}-")]
    assert (folder / "toy.bin").read_bytes() == CONTENT and "toy.bin.part" not in names(folder)


@pytest.mark.parametrize(("answer", "requests"), [({"ranges": False}, 2), ({"shift": 1}, 3)])
def test_a_server_that_sends_another_part_than_asked_for_does_not_spoil_the_file(
    site: Site, offer: Callable[..., Path], answer: dict[str, Any], requests: int
) -> None:
    folder = offer(checksum=sha256(CONTENT))
    vars(site).update(answer, cuts=[300_000])
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == CONTENT and len(site.asked) == requests


@pytest.mark.parametrize(("more", "requests"), [(b"", 1), (b"more", 2)])
def test_a_part_that_is_complete_is_used_and_one_that_is_too_long_is_not(
    site: Site, offer: Callable[..., Path], more: bytes, requests: int
) -> None:
    folder = offer(checksum=sha256(CONTENT))
    folder.mkdir(parents=True)
    (folder / "toy.bin.part").write_bytes(CONTENT + more)
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == CONTENT and len(site.asked) == requests
    assert names(folder) == {"toy.bin", "fetched.json"}


@pytest.mark.parametrize("changed", [True, False])
def test_without_a_checksum_two_files_are_not_put_together(
    site: Site, offer: Callable[..., Path], changed: bool
) -> None:
    folder = offer()
    stopped(folder)
    if changed:
        site.files["toy.bin"], site.modified = OTHER, DATES[1]
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == (OTHER if changed else CONTENT)
    assert [wanted is None for _, wanted in site.asked] == [True, False, *([True] if changed else [])]


@pytest.mark.parametrize("date", [None, "no date", "Mon, 01 Jan 99999 00:00:00 GMT", "0", ""])
def test_a_part_that_nothing_vouches_for_is_not_completed(
    site: Site, offer: Callable[..., Path], date: str | None
) -> None:
    """A Last-Modified that is no date is like none."""
    folder = offer()
    site.modified = date
    part = stopped(folder)
    site.files["toy.bin"] = OTHER
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == OTHER
    assert [wanted for _, wanted in site.asked] == [None, f"bytes={len(part)}-", None]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_as_long_as_the_file_is_not_taken_for_it(
    site: Site, offer: Callable[..., Path], size: int | None
) -> None:
    folder = offer(bytes=size)
    folder.mkdir(parents=True)
    (folder / "toy.bin.part").write_bytes(OTHER)
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == CONTENT


def test_a_part_with_the_date_of_the_servers_file_is_completed(
    site: Site, offer: Callable[..., Path]
) -> None:
    folder = offer()
    part = stopped(folder)
    fetch("toy", quiet)
    assert [wanted for _, wanted in site.asked] == [None, f"bytes={len(part)}-"]
    assert (folder / "toy.bin").read_bytes() == CONTENT


def test_a_server_that_cuts_every_answer_is_not_asked_forever(site: Site, offer: Callable[..., Path]) -> None:
    folder = offer()
    site.modified, site.cuts = None, [300_000] * 100
    with pytest.raises(ConnectionError, match="the connection was lost"):
        fetch("toy", quiet)
    assert len(site.asked) < 10 and names(folder) == {"toy.bin.part"}


def test_a_full_disk_is_said_with_the_file_and_the_folder(offer: Callable[..., Path]) -> None:
    folder = offer()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(
        OSError, match=f"cannot fetch toy.bin into {folder}: No space left on device; make room"
    ):
        fetch("toy", full)


def test_a_file_that_is_being_fetched_is_not_fetched_by_another(offer: Callable[..., Path]) -> None:
    folder = offer()

    def again(*_: object) -> None:
        with pytest.raises(OSError, match=r"another process is fetching .*toy.bin.part; wait for it"):
            fetch("toy", quiet)

    fetch("toy", again)
    assert (folder / "toy.bin").read_bytes() == CONTENT


# Wrong bytes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "messages"),
    [
        (
            {"checksum": sha256(CONTENT)},
            ("does not match", sha256(CONTENT)[7:], sha256(OTHER)[7:], "/toy.bin"),
        ),
        ({"bytes": 999_999}, ("has 1,000,000 bytes, but must have 999,999",)),
        ({"bytes": 1_000_001}, ("has 1,000,000 bytes, but must have 1,000,001",)),
    ],
)
def test_another_checksum_or_size_is_an_error_and_leaves_nothing(
    offer: Callable[..., Path], known: dict[str, object], messages: tuple[str, ...]
) -> None:
    folder = offer(OTHER, **known)
    said = wrong(messages[0])
    assert all(message in said for message in messages) and names(folder) == set()


def test_a_second_download_is_compared_with_the_first(site: Site, offer: Callable[..., Path]) -> None:
    folder = offer()
    fetch("toy", quiet)
    (folder / "toy.bin").unlink()
    site.files["toy.bin"] = OTHER
    said = wrong("does not match .* that of the first download, in fetched.json")
    assert names(folder) == {"fetched.json"}
    assert f"delete 'toy.bin' from {folder / 'fetched.json'}" in said
    (folder / "fetched.json").write_text("{}")
    assert fetch("toy", quiet) == [folder / "toy.bin"]
    assert (folder / "toy.bin").read_bytes() == OTHER


def test_an_archive_put_there_by_hand_gets_the_same_advice(offer: Callable[..., Path]) -> None:
    archives = [lzma.compress(content, preset=0) for content in (CONTENT, OTHER)]
    folder = offer(archives[0], "toy.xz", unpacks_to=("toy.bin",), unpacked_bytes=2_000_000)
    fetch("toy", quiet)
    (folder / "toy.bin").unlink()
    (folder / "toy.xz").write_bytes(archives[1])
    assert f"delete 'toy.xz' from {folder / 'fetched.json'}" in wrong("does not match the checksum")
    (folder / "fetched.json").unlink()
    assert fetch("toy", quiet) == [folder / "toy.bin"]
    assert (folder / "toy.bin").read_bytes() == OTHER


# Servers that answer in other words than the file ----------------------------------------------------------


@pytest.fixture
def answering(offer: Callable[..., Path]) -> Iterator[Callable[..., Path]]:
    """`answering(answer, …)`: a server that sends exactly these bytes, the last of them again and again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers: list[bytes] = []

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        if not (received := connection.recv(1 << 16)):
                            return
                        request += received
                    connection.sendall(answers.pop(0) if len(answers) > 1 else answers[0])

        thread = threading.Thread(target=serve)
        thread.start()

        def answering(*given: bytes, **known: object) -> Path:
            answers[:] = given
            return offer(url=f"http://127.0.0.1:{server.getsockname()[1]}/toy.bin", **known)

        yield answering
        socket.create_connection(server.getsockname()).close()
        thread.join()


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


PACKED = gzip.compress(CONTENT, compresslevel=1)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (answer("202 Accepted", b"come back later"), "the server answers 202 Accepted"),
        (answer("203 Non-Authoritative", b"changed on its way"), "the server answers 203"),
        (answer("204 No Content"), "the server answers 204 No Content"),
        (answer("300 Multiple Choices", b"choose"), "the server answers 300 Multiple Choices"),
        (answer("302 Found", b"it has moved"), "the server answers 302 Found"),
        (answer("200 OK", b"<html>", Content_Type="text/html; charset=utf-8"), "sends a web page instead"),
        (
            answer("206 Partial", CONTENT[9:], Content_Range="bytes 9-999999/1000000"),
            "sends bytes 9-999999 instead of the whole",
        ),
        (answer("206 Partial", CONTENT), "sends a part instead of the whole"),
        (answer("200 OK", PACKED[:5000], Content_Encoding="gzip"), "packs it with gzip, though"),
        (answer("200 OK", PACKED, Content_Encoding="x-gzip"), "packs it with x-gzip"),
        (answer("206 Partial", CONTENT[:9], Content_Range="bytes 0-8/1000000"), "the connection was lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_what_is_not_the_whole_file_is_not_kept_as_it(
    answering: Callable[..., Path], given: bytes, reason: str, size: int | None
) -> None:
    folder = answering(given, bytes=size)
    with pytest.raises(ConnectionError, match=reason):
        fetch("toy", quiet)
    assert names(folder) <= {"toy.bin.part"}


@pytest.mark.parametrize("checksum", [None, sha256(CONTENT)])
@pytest.mark.parametrize("length", [True, False])
def test_a_server_that_sends_less_than_was_asked_for_is_asked_on(
    answering: Callable[..., Path], checksum: str | None, length: bool
) -> None:
    """In pieces of 400,000 bytes; without a Content-Length a connection that is cut looks the same."""

    def piece(start: int) -> bytes:
        body = CONTENT[start : start + 400_000]
        sizes = {"Content_Length": str(len(body))} if length else {}
        covered = f"bytes {start}-{start + len(body) - 1}/{len(CONTENT)}"
        return answer("206 Partial", body, Last_Modified=DATES[0], Content_Range=covered, **sizes)

    folder = answering(*(piece(start) for start in (0, 400_000, 800_000)), checksum=checksum)
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == CONTENT


def test_more_than_the_server_itself_says_is_not_kept(answering: Callable[..., Path]) -> None:
    covered = "bytes 0-9/10"
    folder = answering(answer("206 Partial", CONTENT, Content_Range=covered))
    wrong("the server sends more than 10 bytes; they were not kept")
    assert names(folder) == set()


def test_a_part_is_not_completed_if_nobody_says_how_long_the_file_is(answering: Callable[..., Path]) -> None:
    whole = answer("200 OK", CONTENT, Content_Length=str(len(CONTENT)))
    rest = answer("206 Partial", CONTENT[9:99], Content_Range="bytes 9-98/*", Content_Length="90")
    folder = answering(rest, whole, checksum=sha256(CONTENT))
    folder.mkdir(parents=True)
    (folder / "toy.bin.part").write_bytes(CONTENT[:9])
    fetch("toy", quiet)
    assert (folder / "toy.bin").read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_verified_and_kept(site: Site, offer: Callable[..., Path]) -> None:
    archive = lzma.compress(CONTENT, preset=0)
    known = {"checksum": sha256(archive), "unpacks_to": ("toy.bin",), "unpacked_bytes": 2_000_000}
    folder = offer(archive, "toy.lzma", **known)
    folder.mkdir(parents=True)
    (folder / "toy.lzma").write_bytes(archive[:-1] + b"?")
    wrong("toy.lzma: does not match the checksum sha256:.*delete it and fetch it again")
    (folder / "toy.lzma").write_bytes(archive)
    assert fetch("toy", quiet) == [folder / "toy.bin"]
    assert names(folder) == {"toy.lzma", "toy.bin", "fetched.json"} and site.asked == []


# No network -----------------------------------------------------------------------------------------------


def test_without_a_network_it_says_what_to_download_and_where_to_put_it(offer: Callable[..., Path]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # a port at which nobody listens
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/toy.bin"
        folder = offer(url=url)
        with pytest.raises(ConnectionError, match="no connection") as caught:
            fetch("toy", quiet)
    message = str(caught.value)
    assert f"{url} as {folder / 'toy.bin'}" in message and "`fl-meta data fetch toy`" in message
    assert "\n" not in message and not folder.exists()


def test_what_the_server_refuses_is_said(site: Site, offer: Callable[..., Path]) -> None:
    folder = offer()
    site.files.clear()
    with pytest.raises(ConnectionError, match="the server answers 404 Not Found"):
        fetch("toy", quiet)
    assert names(folder) == set()


def test_a_connection_that_stays_cut_leaves_what_came(site: Site, offer: Callable[..., Path]) -> None:
    folder = offer()
    site.cuts = [300_000, 0]
    with pytest.raises(ConnectionError, match="the connection was lost"):
        fetch("toy", quiet)
    assert names(folder) == {"toy.bin.part"}


def test_what_has_no_address_is_an_error_that_says_what_to_do(place: Path) -> None:
    with pytest.raises(ValueError, match="writers has no files to fetch: it comes with the package Hershey"):
        fetch("writers", quiet)
    with pytest.raises(FileNotFoundError, match=r"Put cifar10_subset.npz there"):
        fetch("cifar10_subset", quiet)
    assert not place.exists()


def test_a_folder_that_cannot_be_made_is_named(offer: Callable[..., Path]) -> None:
    folder = offer()
    folder.parent.write_text("a file")
    with pytest.raises(OSError, match=f"cannot create the folder {folder}"):
        fetch("toy", quiet)


# Built from what is published in another format ------------------------------------------------------------


@pytest.fixture
def published(site: Site, small: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Small files of a format are at the site; returns the folder into which they are fetched."""

    def publish(key: str) -> Path:
        folder, name = small(key), name_of(key)
        for file in FORMATS[key].files:
            site.files[file] = (folder / file).read_bytes()
            (folder / file).unlink()
        forms = tuple(
            replace(form, downloads=tuple(replace(d, url=f"{site.url}/{d.file}") for d in form.downloads))
            for form in CATALOGUE[name].forms
        )
        monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], forms=forms))
        return folder

    return publish


def test_mnist_by_writer_is_fetched_from_three_addresses(
    site: Site, published: Callable[..., Path], small: Callable[..., Path]
) -> None:
    folder = published("mnist_by_writer in IDX")
    paths = fetch("mnist_by_writer", quiet)
    assert {path.name for path in paths} == set(site.files) == names(folder) - {"fetched.json"}
    assert [told for *_, told in check_files("mnist_by_writer")] == ["checksum as published"] * 3
    fetched = load_dataset("mnist_by_writer")
    for path in paths:
        path.unlink()
    (folder / "fetched.json").unlink()
    small("mnist_by_writer")
    assert fetched.fingerprint == load_dataset("mnist_by_writer").fingerprint


def test_unipen62_is_built_once_from_the_archive_that_is_fetched(
    site: Site, published: Callable[..., Path]
) -> None:
    folder = published("unipen62 archive")
    shown: list[tuple[str, int, int | None]] = []
    (built,) = fetch("unipen62", lambda *now: shown.append(now))
    assert built == folder / "unipen62.npz" and names(folder) == {"unipen62.npz", "fetched.json"}
    assert {file for file, *_ in shown} == {UNIPEN, "unipen62.npz"} and shown[-1][1] == shown[-1][2]
    data = load_dataset("unipen62")
    assert data.client_ids == ("lou00", "pri00", "pri01")
    assert [told for *_, told in check_files("unipen62")] == ["checksum as when it was fetched or checked"]
    fetch("unipen62", quiet)
    assert site.asked == [(UNIPEN, None)]
    # The same as from the archive itself, and as from an archive put there by hand, which stays.
    (folder / "unipen62.npz").unlink()
    (folder / UNIPEN).write_bytes(site.files[UNIPEN])
    assert located("unipen62") == [] and load_dataset("unipen62").fingerprint == data.fingerprint
    fetch("unipen62", quiet)
    assert names(folder) == {UNIPEN, "unipen62.npz", "fetched.json"} and len(site.asked) == 1
    assert load_dataset("unipen62").fingerprint == data.fingerprint


def test_an_archive_with_too_little_is_kept_and_nothing_is_built(
    place: Path, expect: Callable[..., None]
) -> None:
    expect("unipen62", classes=62, writers=3, images=8)
    folder = place / "unipen62"
    folder.mkdir(parents=True)
    write_unipen(folder, files={path: text for path, text in UNIPEN_FILES.items() if "/lou/" not in path})
    problem = (
        f"{folder / UNIPEN}: holds 62 classes, 2 writers, 6 images; the whole data set has 62 classes, 3"
    )
    with pytest.raises(ValueError, match=problem):
        fetch("unipen62", quiet)
    assert names(folder) == {UNIPEN, "fetched.json"}


# Archives, and checking -----------------------------------------------------------------------------------


def test_an_archive_is_unpacked_and_goes(offer: Callable[..., Path]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("inner/a.bin", CONTENT)
        opened.writestr("inner/b.bin", OTHER)
    both = ("a.bin", "b.bin")
    folder = offer(packed.getvalue(), "toy.zip", unpacks_to=both, unpacked_bytes=3_000_000)
    assert fetch("toy", quiet) == [folder / name for name in both]
    assert names(folder) == {*both, "fetched.json"} and (folder / "b.bin").read_bytes() == OTHER
    sizes = [(path, size) for path, size, _ in check_files("toy")]
    assert sizes == [(folder / name, 1_000_000) for name in both]
    for damaged, message in (
        (OTHER[:-1] + b"?", f"{folder / 'b.bin'}: does not match the checksum {sha256(OTHER)}"),
        (OTHER[:-1], r"b.bin: has 999,999 bytes, but must have 1,000,000"),
    ):
        (folder / "b.bin").write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            list(check_files("toy"))
    (folder / "b.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*b.bin"):
        list(check_files("toy"))


def test_checking_says_what_the_checksum_was_compared_with(offer: Callable[..., Path]) -> None:
    folder = offer(checksum=sha256(CONTENT))
    folder.mkdir(parents=True)
    path = folder / "toy.bin"
    path.write_bytes(CONTENT)
    assert list(check_files("toy")) == [(path, 1_000_000, "checksum as published")]
    path.write_bytes(OTHER)
    with pytest.raises(ValueError, match="does not match the checksum"):
        list(check_files("toy"))
    offer()
    assert list(check_files("toy")) == [(path, 1_000_000, "checksum unknown")]
    path.unlink()
    fetch("toy", quiet)
    assert list(check_files("toy")) == [(path, 1_000_000, "checksum as when it was fetched or checked")]
    (folder / "fetched.json").write_text("{")
    with pytest.raises(ValueError, match=r"fetched.json: damaged"):
        list(check_files("toy"))


def test_the_second_of_two_files_is_fetched_where_the_first_is_here(
    site: Site, offer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = offer()
    site.files["second.bin"] = OTHER
    urls = [f"{site.url}/{file}" for file in ("toy.bin", "second.bin")]
    both = Form(("toy.bin", "second.bin"), tuple(map(Download, urls)))
    monkeypatch.setitem(CATALOGUE, "toy", replace(CATALOGUE["toy"], forms=(both,)))
    site.cuts = [len(CONTENT), 0]
    with pytest.raises(ConnectionError) as caught:
        fetch("toy", quiet)
    assert all(f"{url} as " in str(caught.value) for url in urls)
    assert names(folder) == {"toy.bin", "fetched.json"}
    fetch("toy", quiet)
    assert [name for name, _ in site.asked] == ["toy.bin", "second.bin", "second.bin"]
    assert names(folder) == {"toy.bin", "second.bin", "fetched.json"}
