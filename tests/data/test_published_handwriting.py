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
from fl_meta.data.published.handwriting import load_mnist_by_writer, load_unipen62


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


@pytest.mark.parametrize("name", ["mnist_by_writer", "unipen62"])
def test_a_pickle_in_a_file_is_not_loaded(small: Callable[..., Path], name: str) -> None:
    path = small(name) / f"{name}.npz"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (path.parent / "sprung",))

    trap = np.empty(12, dtype=object)
    trap[:] = [Trap() for _ in range(12)]
    np.savez(path, **npz_arrays(name) | {"labels": trap})
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not an .npz file without pickled")):
        load_dataset(name)
    assert not (path.parent / "sprung").exists()


def test_a_single_array_is_not_an_npz(small: Callable[..., Path]) -> None:
    path = small("unipen62") / "unipen62.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged")):
        load_unipen62()


@pytest.mark.parametrize("key", ["images", "labels", "writers", "writer_codes", "classes"])
@pytest.mark.parametrize("name", ["mnist_by_writer", "unipen62"])
def test_a_missing_array_is_an_error(small: Callable[..., Path], name: str, key: str) -> None:
    path, arrays = small(name) / f"{name}.npz", npz_arrays(name)
    if key not in arrays:
        pytest.skip(f"{name} has no array {key}")
    del arrays[key]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=re.escape(f"{path}: has no array {key!r}")):
        load_dataset(name)


@pytest.mark.parametrize("name", ["mnist_by_writer", "unipen62"])
@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("images", lambda images: images.reshape(12, 784), "images have shape (12, 784)"),
        ("images", lambda images: images[:11], "labels have shape (12,) and type uint8; expected one whole"),
        ("labels", lambda labels: labels[:, None], "labels have shape (12, 1)"),
        ("labels", lambda labels: labels + 1, "labels[10] is 10, out of range [0, 10)"),
        ("writers", lambda writers: writers[1:], "writers have shape (11,)"),
        ("writers", lambda writers: writers.astype(str), "writers have shape (12,) and type <U"),
        ("writers", lambda writers: writers * 0, "holds 10 classes, 1 writers, 12 images; the whole"),
    ],
)
def test_a_damaged_array_is_an_error_that_names_file_and_problem(
    small: Callable[..., Path], name: str, key: str, change: Callable[[np.ndarray], np.ndarray], problem: str
) -> None:
    path, arrays = small(name) / f"{name}.npz", npz_arrays(name)
    np.savez(path, **arrays | {key: change(arrays[key])})
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        load_dataset(name)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("key", "values", "problem"),
    [
        ("writer_codes", ["abc00", "abc01"], "writers[0] is 2, out of range [0, 2)"),
        ("writer_codes", ["abc00", "abc01", "abc00"], "writer_codes must be a row of distinct strings"),
        ("writer_codes", [1, 2, 3], "writer_codes must be a row of distinct strings"),
        ("classes", [["0", "1"]], "classes must be a row of distinct strings; it has shape (1, 2)"),
        ("classes", list("0123456789A"), "holds 11 classes, 3 writers, 12 images"),
    ],
)
def test_damaged_names_are_an_error(
    small: Callable[..., Path], key: str, values: list[Any], problem: str
) -> None:
    path = small("unipen62") / "unipen62.npz"
    np.savez(path, **npz_arrays("unipen62") | {key: np.array(values)})
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_unipen62()


# The real files -------------------------------------------------------------------------------------------


def real(name: str) -> FederatedDataset:
    """The real data set, where its files are."""
    folder = os.environ.get("FL_META_DATA")
    if not folder:
        pytest.skip(f"FL_META_DATA is not set: the real {name} is not tested")
    if not (Path(folder) / name).is_dir():
        pytest.skip(f"there is no folder {name} in {folder}, which FL_META_DATA names")
    return load_dataset(name)


@pytest.fixture(scope="module", params=["mnist_by_writer", "unipen62"])
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
