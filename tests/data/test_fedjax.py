"""FedJAX's SQLite files; what may be wrong in any format is in test_readers.py."""

import importlib.util
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import ADAM, FORMATS, HASHES, PUCK, ROLES, WRITERS, fedjax_data, fedjax_sqlite, papers

from fl_meta.data import load_dataset
from fl_meta.data.encoding import decode
from fl_meta.data.published.fedjax import load_emnist_fedjax

EMNIST = FORMATS["emnist_fedjax"].files


@pytest.fixture
def folder(place: Path, small: Callable[..., Path]) -> Path:
    small("emnist_fedjax")
    small("shakespeare_fedjax")
    return place


def assert_both_are_read() -> None:
    data = load_dataset("emnist_fedjax")
    # TFF's ids, without the hash, in their own order.
    assert data.client_ids == ("f0000_14", "f4099_10") and data.num_classes == 62
    assert data.x.dtype == np.float32 and data.y.dtype == np.int64
    for writer, (train, test) in WRITERS.items():
        client = data[writer]
        assert client.train_y.tolist() == train and client.test_y.tolist() == test
        # Ink is 1 here.
        assert np.array_equal(client.train_x, 1 - papers(train))
        assert np.array_equal(client.test_x, 1 - papers(test))
    said = load_dataset("shakespeare_fedjax", positions=5)
    assert said.client_ids == (ADAM, PUCK)
    for role, (train_lines, test_lines) in ROLES.items():
        assert decode(said[role].train_y) == "".join(f"{line}\n" for line in train_lines)
        assert decode(said[role].test_y) == "".join(f"{line}\n" for line in test_lines)


@pytest.mark.usefixtures("folder")
def test_clients_have_their_examples_with_ink_as_one() -> None:
    assert_both_are_read()


BUILD = """
import json, sys
import numpy as np
from fedjax.core.sqlite_federated_data import SQLiteFederatedDataBuilder
for path, clients in json.load(sys.stdin).items():
    with SQLiteFederatedDataBuilder(path) as builder:
        builder.add_many([
            (client_id.encode(), {
                key: np.array([v.encode() for v in values], object) if kind == "text"
                else np.array(values, kind)
                for key, (kind, values) in arrays.items()
            })
            for client_id, arrays in clients
        ])
"""


def python_with_fedjax() -> str:
    if importlib.util.find_spec("fedjax"):
        return sys.executable
    peers = Path(__file__).parents[2] / "build" / "peers"
    if list(peers.glob("lib/python3*/site-packages/fedjax")):
        return str(peers / "bin" / "python")
    pytest.skip("FedJAX is installed neither here nor in build/peers: its own files are not tested")


def test_files_that_fedjax_itself_writes(folder: Path) -> None:
    python, files = python_with_fedjax(), dict[str, Any]()
    for part, name in enumerate(("train", "test")):
        files[str(folder / "emnist_fedjax" / EMNIST[part])] = [
            (
                f"{prefix}:{writer}",
                {"pixels": ("float32", papers(labels[part]).tolist()), "label": ("int32", labels[part])},
            )
            for prefix, (writer, labels) in zip(HASHES, WRITERS.items(), strict=True)
        ]
        files[str(folder / "shakespeare_fedjax" / f"shakespeare_{name}.sqlite")] = [
            (f"{prefix}:{role}", {"snippets": ("text", said[part])})
            for prefix, (role, said) in zip(HASHES, PUCK, ROLES.items(), strict=True)
        ]
    for path in files:
        Path(path).unlink()
    done = subprocess.run(
        [python, "-c", BUILD], input=json.dumps(files), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_both_are_read()


@given(
    arrays=st.lists(
        st.tuples(st.sampled_from(["float32", "float64", "int8", "int32", "uint8"]), st.integers(0, 3)),
        min_size=1,
        max_size=3,
    ),
    number=st.integers(0, 4),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_array_is_read_as_it_was_written(place: Path, arrays: list[tuple[str, int]], number: int) -> None:
    from fl_meta.data.published.fedjax import read_clients

    written = {
        f"{i}": np.arange(number * 2**axes).astype(kind).reshape(number, *[2] * axes)
        for i, (kind, axes) in enumerate(arrays)
    }
    fedjax_sqlite(place / "any.sqlite", [(b"a", fedjax_data(**written), number)])
    found = read_clients(place / "any.sqlite", lambda path, client_id, columns: columns)
    assert found.keys() == {"a"} and found["a"].keys() == written.keys()
    for key, values in written.items():
        assert found["a"][key].dtype == values.dtype and np.array_equal(found["a"][key], values)


def test_a_client_without_examples_has_an_empty_part_whatever_type_it_has(
    folder: Path, expect: Callable[..., None]
) -> None:
    expect("emnist_fedjax", writers=1, train_images=0, test_images=1)
    for file, arrays in zip(EMNIST, ([np.array([])] * 2, [papers([3]), np.array([3])]), strict=True):
        pixels, labels = arrays
        row = (b"w", fedjax_data(pixels=pixels, label=labels), len(labels))
        fedjax_sqlite(folder / "emnist_fedjax" / file, [row])
    data = load_emnist_fedjax()
    assert data["w"].train_x.shape == (0, 28, 28) and data["w"].test_y.tolist() == [3]
    assert (data.x.dtype, data.y.dtype) == (np.float32, np.int64)


def test_damage_to_the_names_of_tables_and_to_their_text_is_one_error(folder: Path) -> None:
    """sqlite3 itself raises UnicodeDecodeError where it quotes a damaged name."""
    path = folder / "emnist_fedjax" / EMNIST[0]
    whole = path.read_bytes()
    start = whole.index(b"CREATE TABLE federated_data")
    for place in range(start - 20, start + 60):
        for byte in (0xFF, 0xC3, 0):
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            try:
                load_emnist_fedjax()
            except ValueError as error:
                assert str(error).startswith(f"{path}: ")


def test_nothing_is_written_beside_a_database(folder: Path) -> None:
    path = folder / "emnist_fedjax" / EMNIST[0]
    before = sorted(path.parent.iterdir())
    content = bytearray(path.read_bytes())
    content[18:20] = b"\2\2"  # says that there is a write-ahead log
    path.write_bytes(content)
    load_emnist_fedjax()
    assert sorted(path.parent.iterdir()) == before
    for suffix in ("-wal", "-journal"):
        left = path.with_name(path.name + suffix)
        left.write_bytes(b"unfinished")
        with pytest.raises(ValueError, match=re.escape(f"{path}: a program that was writing it was stopped")):
            load_emnist_fedjax()
        left.unlink()


def client(labels: list[int], number: int | None = None, **changed: Any) -> tuple[bytes, bytes, int]:
    arrays = {"pixels": papers([3] * len(labels)), "label": np.array(labels)} | changed
    return b"w", fedjax_data(**arrays), len(labels) if number is None else number


def packed(values: object) -> tuple[bytes, bytes, int]:
    return b"w", zlib.compress(msgpack.packb(values)), 1


DAMAGED = "the data of client 'w' is damaged"
OBJECTS = msgpack.ExtType(1, msgpack.packb(([1], "object", b"8 bytes!")))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([client([3], number=2)], "pixels of client 'w' has 1 examples, but the column num_examples says 2"),
        ([client([3], label=np.array([1, 2]))], "label of client 'w' has 2 examples, but the column"),
        ([(b"w", fedjax_data(label=np.array([3])), 1)], "client 'w' has no array 'pixels'; it has label"),
        ([(b"w", client([3])[1][:-9], 1)], DAMAGED),
        ([(b"w", "text", 1)], DAMAGED),
        ([(b"w", zlib.compress(bytes(40_000_000)), 1)], f"{DAMAGED} (it is cut off, or larger"),
        ([(b"w", client([3])[1][:-4], 1)], f"{DAMAGED} (it is cut off, or larger"),
        ([packed([1, 2])], DAMAGED),
        ([packed({"label": 3})], f"{DAMAGED} (it is not"),
        (
            [packed({"label": msgpack.ExtType(9, b"")})],
            f"{DAMAGED} (an object of type 9, which is not an array)",
        ),
        ([packed({"label": OBJECTS})], DAMAGED),
        ([(b"\xff\xfe", client([3])[1], 1)], r"the client id b'\xff\xfe' is not UTF-8 text"),
        ([(7, client([3])[1], 1)], "the client id 7 is not UTF-8 text"),
        (
            [(f"{prefix}:w".encode(), client([3])[1], 1) for prefix in HASHES],
            "holds client 'w' twice",
        ),
    ],
)
def test_a_wrong_client_is_an_error_that_names_file_and_client(
    folder: Path, rows: list[tuple[object, object, int]], problem: str
) -> None:
    path = folder / "emnist_fedjax" / EMNIST[1]
    fedjax_sqlite(path, rows)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_emnist_fedjax()
