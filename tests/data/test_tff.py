"""TFF's EMNIST, CIFAR-100 and Shakespeare in SQLite; its Shakespeare in HDF5 is in test_real.py.

The files are written here with Python's sqlite3 and with tf.train.Example's bytes put together by hand, after
the documentation of the wire format, so that nothing of the reader is on both sides.
"""

import lzma
import re
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_meta.data import load_dataset
from fl_meta.data.encoding import decode
from fl_meta.data.files.tf_example import features
from fl_meta.data.published.cifar import CIFAR100_CLASSES, COARSE_OF_FINE
from fl_meta.data.published.tensorflow_federated import (
    load_cifar100_tff,
    load_emnist_tff,
    load_shakespeare_tff,
)

Split = dict[str, list[bytes]]  # the examples of each client
WRITERS = {"f0000_14": ([3, 61, 10], [36]), "f4099_10": ([0], [9, 35])}  # labels of both parts


def varint(number: int) -> bytes:
    number %= 2**64
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values: Any) -> bytes:
    """A Feature: text, floats or whole numbers."""
    if isinstance(values, bytes):
        return field(1, field(1, values))
    values = np.atleast_1d(values).ravel()
    if values.dtype.kind == "f":
        return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))
    return field(3, field(1, b"".join(varint(int(value)) for value in values)))


def example(**values: Any) -> bytes:
    entries = (field(1, field(1, key.encode()) + field(2, feature(value))) for key, value in values.items())
    return field(1, b"".join(entries))


def write_sqlite(path: Path, splits: dict[str, Split], numbers: Iterable[tuple[str, str, int]] = ()) -> None:
    """A database as TFF's, with the clients in turn; `numbers` are further rows of client_metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")  # faster
    connection.execute(
        "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
        "serialized_example_proto BLOB NOT NULL)"
    )
    connection.execute("CREATE INDEX idx_examples_client_id_split ON examples (split_name, client_id)")
    connection.execute(
        "CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL, "
        "num_examples INTEGER NOT NULL)"
    )
    rows = [
        (place, split, client, blob)
        for split, clients in splits.items()
        for client, blobs in clients.items()
        for place, blob in enumerate(blobs)
    ]
    # Examples of a client are in their order, but not next to each other.
    connection.executemany("INSERT INTO examples VALUES (?, ?, ?)", [row[1:] for row in sorted(rows)])
    known = [(c, s, len(blobs)) for s, clients in splits.items() for c, blobs in clients.items()]
    connection.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", [*known, *numbers])
    connection.commit()
    connection.close()


def paper(label: int) -> np.ndarray:
    """TFF's image of a label: paper is 1, and ink at the place of the label."""
    image = np.ones((28, 28), np.float32)
    image[label // 28, label % 28] = 0.25
    return image


def writers(part: int, labels: dict[str, tuple[list[int], list[int]]] = WRITERS) -> Split:
    return {
        writer: [example(label=label, pixels=paper(label)) for label in parts[part]]
        for writer, parts in labels.items()
    }


def write_emnist(path: Path) -> None:
    digits = {"f0000_14": ([3, 8], [1])}
    write_sqlite(
        path,
        {
            "all_train": writers(0),
            "all_test": writers(1),
            "digits_only_train": writers(0, digits),
            "digits_only_test": writers(1, digits),
        },
    )


@pytest.fixture
def emnist(place: Path, expect: Callable[..., None]) -> Path:
    path = place / "emnist_tff" / "emnist_all.sqlite"
    write_emnist(path)
    expect(
        "emnist_tff",
        writers=2,
        train_images=4,
        test_images=3,
        digits_writers=1,
        digits_train_images=2,
        digits_test_images=1,
    )
    return path


def assert_emnist_is_read() -> str:
    data = load_dataset("emnist_tff")
    assert data.client_ids == tuple(sorted(WRITERS)) and data.num_classes == 62
    assert "".join(data.class_names[i] for i in (0, 9, 10, 35, 36, 61)) == "09AZaz"
    assert data.x.dtype == np.float32 and data.x.shape == (7, 28, 28) and data.y.dtype == np.int64
    for writer, parts in WRITERS.items():
        client = data[writer]
        seen = ((client.train_x, client.train_y), (client.test_x, client.test_y))
        for labels, (x, y) in zip(parts, seen, strict=True):
            # Ink is 1 here, and examples are in the order of the file.
            assert y.tolist() == labels
            assert np.array_equal(x, [1 - paper(label) for label in y])
            assert x.reshape(len(x), -1).sum(axis=1).tolist() == [0.75] * len(x)
    return data.fingerprint


@pytest.mark.usefixtures("emnist")
def test_emnist_has_the_writers_images_with_ink_as_one() -> None:
    assert_emnist_is_read()


@pytest.mark.usefixtures("emnist")
def test_the_digits_are_another_split() -> None:
    data = load_emnist_tff(only_digits=True)
    assert data.client_ids == ("f0000_14",) and data.class_names == tuple("0123456789")
    assert data["f0000_14"].train_y.tolist() == [3, 8] and data["f0000_14"].test_y.tolist() == [1]


def test_a_packed_file_is_unpacked_beside_it_once(emnist: Path) -> None:
    packed = emnist.with_suffix(".sqlite.lzma")
    packed.write_bytes(lzma.compress(emnist.read_bytes(), format=lzma.FORMAT_ALONE))
    whole = emnist.read_bytes()
    emnist.unlink()
    assert_emnist_is_read()
    assert emnist.read_bytes() == whole
    packed.write_bytes(b"no longer read")
    assert_emnist_is_read()
    assert sorted(path.name for path in emnist.parent.iterdir()) == [emnist.name, packed.name]


@pytest.mark.parametrize("share", [0, 0.4, 0.9])
def test_a_packed_file_that_was_cut_off_is_an_error_and_leaves_nothing(emnist: Path, share: float) -> None:
    packed = emnist.with_suffix(".sqlite.lzma")
    whole = lzma.compress(emnist.read_bytes())
    packed.write_bytes(whole[: int(share * len(whole))])
    emnist.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{packed}: damaged")):
        load_emnist_tff()
    assert [path.name for path in emnist.parent.iterdir()] == [packed.name]


def test_the_older_files_give_the_same_data_set(emnist: Path) -> None:
    before = assert_emnist_is_read()
    data = load_emnist_tff()
    emnist.unlink()
    for part in ("train", "test"):
        with h5py.File(emnist.parent / f"fed_emnist_{part}.h5", "w") as file:
            for client in data:
                labels = getattr(client, f"{part}_y").astype(np.int32)
                file[f"examples/{client.client_id}/label"] = labels
                file[f"examples/{client.client_id}/pixels"] = np.array([paper(label) for label in labels])
    assert assert_emnist_is_read() == before


def test_without_files_an_error_says_what_to_run(place: Path) -> None:
    with pytest.raises(FileNotFoundError, match="fl-meta data fetch emnist_tff") as caught:
        load_emnist_tff()
    assert str(place / "emnist_tff") in str(caught.value)


@pytest.mark.usefixtures("emnist")
def test_without_protobuf_an_error_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from fl_meta.data.files import tf_example

    tf_example._example_class.cache_clear()
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(ModuleNotFoundError, match="run `pip install protobuf`"):
        load_emnist_tff()


def wrong(**changed: Any) -> bytes:
    return example(**({"label": 5, "pixels": paper(5)} | changed))


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (wrong(label=62), "label of client 'f0000_14'[0] is 62, out of range [0, 62)"),
        (wrong(label=-1), "label of client 'f0000_14'[0] is -1, out of range"),
        (wrong(label=[1, 2]), "label of client 'f0000_14' has shape (1, 2)"),
        (wrong(label=5.0), "label of client 'f0000_14' has shape (1, 1) and type float32"),
        (wrong(pixels=paper(5)[1:]), "pixels of client 'f0000_14' has shape (1, 756)"),
        (wrong(pixels=2 * paper(5)), "pixels of client 'f0000_14' are not all in [0, 1]"),
        (wrong(pixels=np.nan * paper(5)), "pixels of client 'f0000_14' are not all in [0, 1]"),
        (wrong(pixels=b"\0" * 784), "pixels of client 'f0000_14' has shape (1, 1) and type object"),
        (example(label=5), "client 'f0000_14' has no array 'pixels'; it has label"),
        (wrong()[:-9], "an example of client 'f0000_14' is damaged"),
        (b"\xff" * 30, "an example of client 'f0000_14' is damaged"),
        (b"", "client 'f0000_14' has no array 'pixels'"),
    ],
)
def test_a_wrong_example_is_an_error_that_names_file_and_client(
    emnist: Path, blob: bytes, problem: str
) -> None:
    write_sqlite(emnist, {"all_train": writers(0) | {"f0000_14": [blob]}, "all_test": writers(1)})
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: {problem}")):
        load_emnist_tff()


def test_examples_of_different_length_are_an_error(emnist: Path) -> None:
    blobs = [wrong(), wrong(pixels=paper(5)[1:])]
    write_sqlite(emnist, {"all_train": {"f0000_14": blobs}, "all_test": writers(1)})
    with pytest.raises(ValueError, match="client 'f0000_14' is damaged, or not like the others"):
        load_emnist_tff()


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        (
            [("lost", "all_train", 2)],
            "client 'lost' has 0 examples in split 'all_train', but the table client_",
        ),
        ([("f0000_14", "all_test", 7)], "client 'f0000_14' has 1 examples in split 'all_test'"),
    ],
)
def test_another_number_of_examples_than_the_table_says_is_an_error(
    emnist: Path, numbers: list[tuple[str, str, int]], problem: str
) -> None:
    write_sqlite(emnist, {"all_train": writers(0), "all_test": writers(1)}, numbers)
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: {problem}")):
        load_emnist_tff()


def test_an_example_of_a_client_that_the_table_lacks_is_an_error(emnist: Path) -> None:
    with sqlite3.connect(emnist) as connection:
        connection.execute("DELETE FROM client_metadata WHERE client_id = 'f4099_10'")
    connection.close()
    with pytest.raises(ValueError, match=r"'f4099_10' has 1 examples in split 'all_train', but .* says 0"):
        load_emnist_tff()


def test_another_file_s_splits_are_an_error_that_gives_the_expected_counts(emnist: Path) -> None:
    write_sqlite(emnist, {"train": writers(0), "test": writers(1)})
    problem = "holds 0 writers, 0 train images; the whole data set has 2 writers, 4 train images"
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: {problem}")):
        load_emnist_tff()


@pytest.mark.parametrize(
    ("only_digits", "holds", "published"),
    [
        (False, "2 writers, 4 train images", "3,400 writers, 671,585 train images"),
        (
            True,
            "1 digits writers, 2 digits train images",
            "3,383 digits writers, 341,873 digits train images",
        ),
    ],
)
def test_fewer_images_are_an_error_with_the_published_numbers(
    place: Path, only_digits: bool, holds: str, published: str
) -> None:
    path = place / "emnist_tff" / "emnist_all.sqlite"
    write_emnist(path)
    with pytest.raises(
        ValueError, match=f"{re.escape(str(path))}: holds {holds}; the whole data set has {published}"
    ):
        load_emnist_tff(only_digits=only_digits)


def test_a_writer_without_a_test_part_is_an_error(emnist: Path) -> None:
    write_sqlite(emnist, {"all_train": writers(0), "all_test": {"f0000_14": writers(1)["f0000_14"]}})
    with pytest.raises(ValueError, match="'f4099_10' has one of them"):
        load_emnist_tff()


@pytest.mark.parametrize("share", [0, 0.2, 0.6, 0.95, 0.9999])
def test_a_database_that_was_cut_off_is_an_error_that_names_it(emnist: Path, share: float) -> None:
    whole = emnist.read_bytes()
    emnist.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: ")):
        load_emnist_tff()


def test_a_page_is_not_a_database(emnist: Path) -> None:
    emnist.write_text("<html>404 Not Found</html>" * 99)
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: damaged, or not a SQLite file")):
        load_emnist_tff()


@given(
    floats=st.lists(st.floats(width=32, allow_nan=False), min_size=1),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    text=st.binary(),
)
def test_any_feature_is_read_as_it_was_written(floats: list[float], numbers: list[int], text: bytes) -> None:
    blob = example(floats=np.array(floats, np.float32), numbers=np.array(numbers, np.int64), text=text)
    read = features(Path("file"), "client", [blob, blob])
    assert read["floats"].tolist() == [floats] * 2 and read["floats"].dtype == np.float32
    assert read["numbers"].tolist() == [numbers] * 2
    assert read["text"].tolist() == [[text]] * 2


# CIFAR-100 ------------------------------------------------------------------------------------------------


def photo(label: int, /, **changed: Any) -> bytes:
    """An image whose red, green and blue are 255, 10 and its label."""
    image = np.tile([255, 10, label], (32, 32, 1))
    image[0, 31] = 0  # the last column of the first row
    return example(**({"image": image, "label": label, "coarse_label": COARSE_OF_FINE[label]} | changed))


def write_cifar(place: Path, expect: Callable[..., None], *more: bytes) -> Path:
    path = place / "cifar100_tff" / "cifar100.sqlite"
    train = {"0": [*map(photo, range(5)), *more], "7": [photo(label) for label in (99, 99, 98, 97, 96)]}
    write_sqlite(path, {"train": train, "test": {"0": [photo(label) for label in range(50, 60)]}})
    expect("cifar100_tff", train_clients=2, train_images=10 + len(more), test_clients=1, test_images=10)
    return path


def test_cifar_100_has_training_and_test_clients_each_with_both_parts(
    place: Path, expect: Callable[..., None]
) -> None:
    write_cifar(place, expect)
    data = load_dataset("cifar100_tff")
    # Both client 0 are there: they are not the same client.
    assert data.client_ids == ("test_0", "train_0", "train_7")
    assert data.train_counts.tolist() == [8, 4, 4] and data.test_counts.tolist() == [2, 1, 1]
    assert data.x.dtype == np.float32 and data.x.shape == (20, 3, 32, 32)
    assert data.class_names == CIFAR100_CLASSES
    for client, labels in zip(data, ([*range(50, 60)], [*range(5)], [96, 97, 98, 99, 99]), strict=True):
        x = np.concatenate([client.train_x, client.test_x])
        y = np.concatenate([client.train_y, client.test_y])
        assert sorted(y.tolist()) == labels
        assert (x[:, 0, 0, 31] == 0).all() and (x[:, 0, 31, 0] == 1).all()
        assert np.allclose(x[:, 1, 1:], 10 / 255) and np.allclose(x[:, 2, 1, 1] * 255, y)


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (
            photo(3, coarse_label=7),
            "example 5 of client '0' has label 3 with coarse label 7; that of CIFAR-100 is 8",
        ),
        (photo(3, label=100), "label of client '0'[5] is 100, out of range [0, 100)"),
        (photo(3, image=np.full(3072, 256)), "pixels of client '0' are not all in 0 to 255"),
        (photo(3, image=np.full(3072, -1)), "pixels of client '0' are not all in 0 to 255"),
    ],
)
def test_a_mislabelled_photo_is_an_error(
    place: Path, expect: Callable[..., None], blob: bytes, problem: str
) -> None:
    path = write_cifar(place, expect, blob)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_cifar100_tff()


def test_another_number_of_clients_is_an_error(place: Path, expect: Callable[..., None]) -> None:
    path = write_cifar(place, expect)
    expect("cifar100_tff", train_clients=500, train_images=50_000, test_clients=100, test_images=10_000)
    problem = "holds 2 train clients, 10 train images; the whole data set has 500 train clients, 50,000"
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_cifar100_tff()


# Shakespeare ----------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shakespeare_in_sqlite_is_the_text_of_the_snippets(
    place: Path, expect: Callable[..., None], data: st.DataObject
) -> None:
    snippets = st.lists(st.text("To be, or\n", max_size=12), min_size=1, max_size=4)
    roles = data.draw(st.dictionaries(st.sampled_from("ABC"), st.tuples(snippets, snippets), min_size=1))
    splits = {
        split: {role: [example(snippets=text.encode()) for text in parts[i]] for role, parts in roles.items()}
        for i, split in enumerate(("train", "test"))
    }
    write_sqlite(place / "shakespeare_tff" / "shakespeare.sqlite", splits)
    numbers = [sum(len(parts[i]) for parts in roles.values()) for i in (0, 1)]
    expect("shakespeare_tff", roles=len(roles), train_snippets=numbers[0], test_snippets=numbers[1])
    loaded = load_shakespeare_tff(positions=7)
    assert loaded.client_ids == tuple(sorted(roles))
    for role, (train, test) in roles.items():
        assert decode(loaded[role].train_y) == "".join(f"{snippet}\n" for snippet in train)
        assert decode(loaded[role].test_y) == "".join(f"{snippet}\n" for snippet in test)


def test_a_snippet_that_is_a_number_is_an_error(place: Path) -> None:
    path = place / "shakespeare_tff" / "shakespeare.sqlite"
    write_sqlite(path, {"train": {"A": [example(snippets=5)]}, "test": {"A": [example(snippets=b"x")]}})
    with pytest.raises(ValueError, match=re.escape(f"{path}: snippets of client 'A' has shape (1, 1)")):
        load_shakespeare_tff()
