"""Handwriting of real writers in .npz files; what may be wrong in any format is in test_readers.py."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import npz_arrays, numbered

from fl_meta.data import load_dataset
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.arrays import read_arrays
from fl_meta.data.published.handwriting import load_mnist_by_writer, load_unipen62

NAMES = ("mnist_by_writer", "unipen62")


@pytest.mark.parametrize(
    ("name", "ids"),
    [("mnist_by_writer", ("writer_0000", "writer_0002")), ("unipen62", ("abc00", "xyz00"))],
)
def test_every_writer_has_their_own_images_with_their_labels(
    small: Callable[..., Path], name: str, ids: tuple[str, str]
) -> None:
    small(name)
    data = load_dataset(name)
    assert data.class_names == tuple("0123456789") and data.x.shape == (11, 28, 28)
    # The writer of one image cannot be split.
    assert data.client_ids == ids
    arrays = npz_arrays(name)
    for writer, client in zip((0, 2), data, strict=True):
        images = np.concatenate([client.train_x, client.test_x])
        numbers = np.rint(images[:, 1, 2] * 255).astype(int)
        assert sorted(numbers) == np.flatnonzero(arrays["writers"] == writer).tolist()
        assert (images[:, 0, 0] == 1).all() and images.min() == 0
        assert np.array_equal(np.concatenate([client.train_y, client.test_y]), arrays["labels"][numbers])
        # A fifth of five or six examples, rounded.
        assert len(client.test_x) == 1 and len(client.train_x) == len(numbers) - 1


@given(writers=st.lists(st.integers(0, 5), min_size=2, max_size=40), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_writer_of_two_or_more_images_has_both_parts_and_no_image_is_lost(
    small: Callable[..., Path], expect: Callable[..., None], writers: list[int], data: st.DataObject
) -> None:
    if max(Counter(writers).values()) < 2:
        writers = [*writers, writers[0]]
    number_of, size = Counter(writers), len(writers)
    labels = data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    np.savez(
        small("mnist_by_writer") / "mnist_by_writer.npz",
        images=numbered(size),
        labels=np.array(labels, dtype=np.uint8),
        writers=np.array(writers, dtype=np.int16),
    )
    expect("mnist_by_writer", classes=10, writers=len(number_of), images=size)
    loaded = load_mnist_by_writer()
    assert dict(zip(loaded.client_ids, loaded.counts.tolist(), strict=True)) == {
        f"writer_000{writer}": count for writer, count in number_of.items() if count >= 2
    }
    assert loaded.train_counts.min() >= 1 and loaded.test_counts.min() >= 1
    numbers = np.rint(np.asarray(loaded.x)[:, 1, 2] * 255).astype(int)
    assert sorted(numbers) == [i for i, writer in enumerate(writers) if number_of[writer] >= 2]
    assert loaded.y.tolist() == [labels[number] for number in numbers]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_of_an_npz_is_harmless_or_an_error_that_names_the_file(
    small: Callable[..., Path], data: st.DataObject
) -> None:
    path = small("unipen62") / "unipen62.npz"
    whole = load_unipen62().fingerprint
    changed = bytearray(path.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        fingerprint = load_unipen62().fingerprint
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert fingerprint == whole  # a date, for example: the data is protected by checksums


def test_a_pickle_in_a_file_is_not_loaded(small: Callable[..., Path]) -> None:
    path = small("unipen62") / "unipen62.npz"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (path.parent / "sprung",))

    np.savez(path, **npz_arrays("unipen62") | {"labels": np.array([Trap()] * 12, dtype=object)})
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not an .npz file without pickled")):
        load_unipen62()
    assert not (path.parent / "sprung").exists()


def test_a_header_that_says_less_than_there_is_does_not_hide_the_rest(tmp_path: Path) -> None:
    """NumPy reads as many values as the header says, which ends before the checksum is compared."""
    path = tmp_path / "numbers.npz"
    np.savez(path, numbers=np.arange(9_999, dtype=np.uint8))
    assert read_arrays(path, "numbers")[0].shape == (9_999,)
    path.write_bytes(path.read_bytes().replace(b"'shape': (9999,), }", b"'shape': (99,), }  "))
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged")):
        read_arrays(path, "numbers")


def test_a_single_array_is_not_an_npz(small: Callable[..., Path]) -> None:
    path = small("unipen62") / "unipen62.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged")):
        load_unipen62()


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in NAMES for key in npz_arrays(name) if key != "source_index"]
)
def test_a_missing_array_is_an_error(small: Callable[..., Path], name: str, key: str) -> None:
    path, arrays = small(name) / f"{name}.npz", npz_arrays(name)
    del arrays[key]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=re.escape(f"{path}: has no array {key!r}")):
        load_dataset(name)


@pytest.mark.parametrize(
    ("key", "values", "problem"),
    [
        ("labels", np.zeros((12, 1), int), "labels have shape (12, 1)"),
        ("writers", np.zeros(11, int), "writers have shape (11,)"),
        ("writers", np.array(["0"] * 12), "writers have shape (12,) and type <U"),
        ("writer_codes", ["abc00", "abc01"], "writers[0] is 2, out of range [0, 2)"),
        ("writer_codes", ["abc00", "abc01", "abc00"], "writer_codes must be a row of distinct strings"),
        ("writer_codes", [1, 2, 3], "writer_codes must be a row of distinct strings"),
        ("classes", [["0", "1"]], "classes must be a row of distinct strings; it has shape (1, 2)"),
        ("classes", list("0123456789A"), "holds 11 classes, 3 writers, 12 images"),
    ],
)
def test_a_wrong_array_is_an_error_that_names_file_and_problem(
    small: Callable[..., Path], key: str, values: Any, problem: str
) -> None:
    path = small("unipen62") / "unipen62.npz"
    np.savez(path, **npz_arrays("unipen62") | {key: np.array(values)})
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_unipen62()


# The real files -------------------------------------------------------------------------------------------


def real(name: str) -> FederatedDataset:
    """The real data set, where its files are."""
    folder = os.environ.get("FL_META_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"FL_META_DATA names no folder with {name}: the real files are not tested")
    return load_dataset(name)


@pytest.fixture(scope="module", params=NAMES)
def handwriting(request: pytest.FixtureRequest) -> Iterator[FederatedDataset]:
    return real(request.param)


def test_all_writers_are_there_with_all_their_images(handwriting: FederatedDataset) -> None:
    # Counted when the data was chosen.
    writers, images = {"mnist_by_writer": (539, 60_000), "unipen62": (252, 84_625)}[handwriting.name]
    assert len(handwriting) == writers and handwriting.counts.sum() == images == len(handwriting.x)
    x = np.asarray(handwriting.x)
    assert x.dtype == np.float32 and (x.min(), x.max()) == (0, 1)
    assert np.array_equal(handwriting.test_counts, np.rint(handwriting.counts * 0.2))
    assert f"{writers} clients" in repr(handwriting)
    # Ink is bright and rare, and in the middle rather than in the corners.
    assert x.mean() < 0.3 and x[:, 10:18, 10:18].mean() > 10 * x[:, :3, :3].mean()


def test_every_digit_of_mnist_is_there_as_often_as_mnist_has_it() -> None:
    data = real("mnist_by_writer")
    # The known composition of MNIST's training set.
    mnist = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.class_counts().sum(axis=0).tolist() == mnist
    assert data.class_names == tuple("0123456789")


def test_unipen_has_62_classes_and_the_two_writers_who_wrote_much() -> None:
    data = real("unipen62")
    assert "".join(data.class_names) == "".join(map(chr, [*range(48, 58), *range(65, 91), *range(97, 123)]))
    assert (data.class_counts().sum(axis=0) > 0).all()
    assert data.counts[[data.position("val00"), data.position("val01")]].sum() == 8_877
