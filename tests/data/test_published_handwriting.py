"""Handwriting of real writers in .npz files; what may be wrong in any format is in test_readers.py."""

import gzip
import os
import re
import shutil
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import FORMATS, MNIST, UNIPEN, idx, mnist_table, npz_arrays, numbered, write_archive

from fl_meta.data import load_dataset
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files import archives
from fl_meta.data.files.arrays import read_arrays
from fl_meta.data.files.idx import read_idx
from fl_meta.data.published import unipen
from fl_meta.data.published.handwriting import load_mnist_by_writer, load_unipen62
from fl_meta.data.published.unipen import read_unipen

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


# MNIST's files, with QMNIST's table ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["mnist_by_writer", "unipen62"])
def test_both_forms_of_a_data_set_are_one_data_set(small: Callable[..., Path], key: str) -> None:
    """A result that was recorded with one of them can be computed again with the other."""
    raw = {"mnist_by_writer": "mnist_by_writer in IDX", "unipen62": "unipen62 archive"}[key]
    folder = small(raw)
    data = load_dataset(key)
    if key == "unipen62":
        arrays = read_unipen(folder / UNIPEN, lambda *_: None)
        np.savez_compressed(folder / "unipen62.npz", **arrays)
    else:
        small(key)
    for file in FORMATS[raw].files:
        (folder / file).unlink()
    again = load_dataset(key)
    assert again.fingerprint == data.fingerprint and again.client_ids == data.client_ids
    assert (again.name, again.class_names, again.source) == (data.name, data.class_names, data.source)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda y: y[:-1], "has 11 rows, but train-images-idx3-ubyte.gz has 12 images"),
        (
            lambda y: (y + (np.arange(12) == 3)) % 10,
            "its digit 3 is a 3, but train-labels-idx1-ubyte.gz says 2",
        ),
    ],
)
def test_a_table_of_other_digits_is_an_error_that_names_it(
    small: Callable[..., Path], publish: Callable[[str, Path], None], change: Any, problem: str
) -> None:
    path, arrays = small("mnist_by_writer in IDX") / MNIST[2], npz_arrays("mnist_by_writer")
    labels = change(arrays["labels"])
    path.write_bytes(gzip.compress(idx(mnist_table(labels, arrays["writers"][: len(labels)]), 12)))
    publish("mnist_by_writer", path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_mnist_by_writer()


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            idx(np.zeros((12, 8))),
            "begins with 00000802 and the sizes (12, 8); an IDX file of int32 of shape (…, 8)",
        ),
        (idx(np.zeros((12, 7)), 12), "begins with 00000c02 and the sizes (12, 7)"),
        (idx(np.zeros((12, 8)), 12)[:-1], "has 383 bytes of values, but its header says 384"),
    ],
)
def test_a_table_of_another_type_or_size_is_an_error(
    small: Callable[..., Path], publish: Callable[[str, Path], None], table: bytes, problem: str
) -> None:
    path = small("mnist_by_writer in IDX") / MNIST[2]
    path.write_bytes(gzip.compress(table))
    publish("mnist_by_writer", path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_mnist_by_writer()


def test_the_numbers_of_a_table_are_big_endian_and_signed(tmp_path: Path) -> None:
    values = np.array([[1, 256, 65_536], [-1, 2**31 - 1, -(2**31)]])
    (tmp_path / "numbers").write_bytes(idx(values, 12))
    read = read_idx(tmp_path / "numbers", (3,), "i4")
    assert read.dtype == np.int32 and np.array_equal(read, values)


@pytest.mark.parametrize("numbers", [8, 10**9])
def test_a_small_gz_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: int
) -> None:
    """Whatever its header says."""
    monkeypatch.setattr(archives, "HARMLESS", 1_000)
    path = tmp_path / "numbers.gz"
    header = bytes([0, 0, 8, 1]) + numbers.to_bytes(4, "big")
    path.write_bytes(gzip.compress(header + bytes(10**6)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(f"{path}: holds more than ")):
            read_idx(path, ())
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_a_small_npz_does_not_fill_the_memory(
    small: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small("unipen62") / "unipen62.npz"
    np.savez_compressed(path, **npz_arrays("unipen62") | {"images": np.zeros((10_000, 28, 28), np.uint8)})
    monkeypatch.setattr(archives, "HARMLESS", 1_000)
    with pytest.raises(ValueError, match=re.escape(f"{path}: holds 7,8") + ".* bytes, and may hold"):
        load_dataset("unipen62")


def test_an_npz_with_an_array_twice_is_refused(small: Callable[..., Path]) -> None:
    path = small("unipen62") / "unipen62.npz"
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr("labels.npy", archive.read("labels.npy"))
    with pytest.raises(ValueError, match=re.escape(f"{path}: holds labels.npy twice")):
        load_dataset("unipen62")


@pytest.mark.parametrize("key", ["writer_codes", "classes"])
def test_half_a_character_in_a_name_is_an_error_that_names_the_file(
    small: Callable[..., Path], key: str
) -> None:
    path, arrays = small("unipen62") / "unipen62.npz", npz_arrays("unipen62")
    arrays[key][0] = "\ud800"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not an .npz file whose {key}")):
        load_dataset("unipen62")


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


def real_folder(name: str) -> Path:
    """A folder of the real files, where they are."""
    folder = Path(os.environ.get("FL_META_DATA") or "nowhere") / name
    if not folder.is_dir():
        pytest.skip(f"FL_META_DATA names no folder with {name}: the real files are not tested")
    return folder


def test_mnist_s_files_give_the_data_set_of_the_npz(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publish: Callable[[str, Path], None]
) -> None:
    """The images are those of the .npz, written as MNIST's file; the table is QMNIST's own."""
    npz, table = real_folder("mnist_by_writer") / "mnist_by_writer.npz", real_folder("qmnist") / MNIST[2]
    whole = load_dataset("mnist_by_writer")
    images, labels, order = read_arrays(npz, "images", "labels", "source_index")
    folder = tmp_path / "mnist_by_writer"
    folder.mkdir()
    for file, values in zip(MNIST, (images[np.argsort(order)], labels[np.argsort(order)]), strict=False):
        (folder / file).write_bytes(gzip.compress(idx(values), 1))
        publish("mnist_by_writer", folder / file)
    shutil.copy(table, folder / MNIST[2])
    monkeypatch.setenv("FL_META_DATA", str(tmp_path))
    data = load_dataset("mnist_by_writer")
    assert data.client_ids == whole.client_ids and data.fingerprint == whole.fingerprint


def test_unipen_s_own_files_give_the_images_of_the_npz(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, expect: Callable[..., None]
) -> None:
    """Of four writers: others, made up here, take the numbers between theirs."""
    raw = real_folder("unipen_raw")
    images, labels, writers, codes, classes = read_arrays(
        real_folder("unipen62") / "unipen62.npz", "images", "labels", "writers", "writer_codes", "classes"
    )
    texts = {
        f"unipen/CDROM/train_r01_v07/{path.relative_to(raw).as_posix()}": path.read_bytes()
        for path in raw.glob("*/**/*.dat")
    }
    for number in (1, 2, 3, 4, 6):
        made_up = f'.WRITER_ID aga{number:02d}\n.PEN_DOWN\n1 2\n.SEGMENT CHARACTER 0 OK "1"\n'
        texts[f"unipen/CDROM/train_r01_v07/data/1a/aga/aga{number:02d}.dat"] = made_up.encode()
    folder = tmp_path / "unipen62"
    folder.mkdir()
    write_archive(folder / UNIPEN, texts)
    chosen = np.flatnonzero(np.isin(codes, ["aga00", "aga05", "aga07", "aga08"]))
    rows = np.isin(writers, chosen)
    expect("unipen62", classes=62, writers=4, images=int(rows.sum()))
    monkeypatch.setenv("FL_META_DATA", str(tmp_path))
    monkeypatch.setattr(unipen, "WRITERS", {"aga": "0 5 7-8"})
    data = load_dataset("unipen62")
    (folder / UNIPEN).unlink()
    kept = {"images": images[rows], "labels": labels[rows], "writer_codes": codes[chosen], "classes": classes}
    np.savez(folder / "unipen62.npz", writers=np.searchsorted(chosen, writers[rows]), **kept)
    whole = load_dataset("unipen62")
    assert whole.counts.tolist() == [194, 186, 160, 189] and data.client_ids == whole.client_ids
    assert data.fingerprint == whole.fingerprint
