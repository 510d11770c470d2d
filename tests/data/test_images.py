"""CIFAR's archives, the subsets of it, and EMNIST's IDX files, as small files that are written here."""

import gzip
import hashlib
import io
import pickle
import re
import struct
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_meta.data import load_dataset
from fl_meta.data.files.idx import read_idx
from fl_meta.data.files.plain_pickle import load_plain
from fl_meta.data.published import cifar as images
from fl_meta.data.published.cifar import CIFAR100_CLASSES, COARSE_OF_FINE
from fl_meta.data.published.emnist import load_emnist

ARCHIVES = {
    "cifar10": ("cifar-10-python.tar.gz", "cifar-10-batches-py", "CIFAR10_MD5", "labels"),
    "cifar100": ("cifar-100-python.tar.gz", "cifar-100-python", "CIFAR100_MD5", "fine_labels"),
}


def photos(labels: list[int]) -> np.ndarray:
    """Images [examples, 3, 32, 32] whose planes are 255, 10 and the label; the end of the first row is 0."""
    made = np.zeros((len(labels), 3, 32, 32), np.uint8)
    made[:, 0], made[:, 1] = 255, 10
    made[:, 2] = np.array(labels, np.uint8).reshape(-1, 1, 1)
    made[:, :, 0, 31] = 0
    return made


def batch(labels: list[int], key: str, protocol: int = 2, /, **changed: Any) -> bytes:
    """What is in a file of the archives."""
    content = {"data": photos(labels).reshape(-1, 3072), key: labels, "filenames": ["a.png"] * len(labels)}
    return pickle.dumps(content | changed, protocol)


def batches(name: str, protocol: int = 2) -> dict[str, bytes]:
    key = ARCHIVES[name][3]
    if name == "cifar100":
        return {"train": batch([99, 0, 7], key, protocol), "test": batch([4, 50], key, protocol)}
    train = {f"data_batch_{i}": batch([i, 9 - i], key, protocol) for i in range(1, 6)}
    return train | {"test_batch": batch([0, 9], key, protocol)}


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def cifar(
    place: Path, expect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, dict[str, bytes]], Path]:
    """`cifar(name, files)` writes the archive whose checksums and counts are the published ones."""

    def write(name: str, files: dict[str, bytes]) -> Path:
        archive, folder, table, _ = ARCHIVES[name]
        published = {file: hashlib.md5(data).hexdigest() for file, data in batches(name).items()}
        for file, md5 in published.items():
            monkeypatch.setitem(getattr(images, table), file, md5)
        train, test = (10, 2) if name == "cifar10" else (3, 2)
        expect(name, train_images=train, test_images=test)
        return write_archive(
            place / name / archive, {f"{folder}/{file}": data for file, data in files.items()}
        )

    return write


def assert_cifar_is_read(name: str) -> str:
    data = load_dataset(name)
    train, test = ([1, 8, 2, 7, 3, 6, 4, 5, 5, 4], [0, 9]) if name == "cifar10" else ([99, 0, 7], [4, 50])
    assert data.name == name and data.client_ids == ("pooled",)
    assert data.num_classes == len(data.class_names) == (10 if name == "cifar10" else 100)
    client = data["pooled"]
    assert client.train_y.tolist() == train and client.test_y.tolist() == test
    for x, labels in ((client.train_x, train), (client.test_x, test)):
        assert x.dtype == np.float32 and x.shape == (len(labels), 3, 32, 32)
        assert np.array_equal(np.rint(x * 255), photos(labels))
    return data.fingerprint


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_and_its_unpacked_folder_are_the_same(
    name: str, cifar: Callable[[str, dict[str, bytes]], Path]
) -> None:
    path = cifar(name, batches(name))
    before = assert_cifar_is_read(name)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing was written
    with tarfile.open(path) as archive:
        archive.extractall(path.parent, filter="data")
    path.unlink()
    assert assert_cifar_is_read(name) == before


@pytest.mark.parametrize("name", ARCHIVES)
def test_without_files_an_error_says_what_to_run(name: str, place: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"fl-meta data fetch {name}") as caught:
        load_dataset(name)
    assert str(place / name / ARCHIVES[name][0]) in str(caught.value)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("packed", [True, False])
def test_a_pickle_that_would_run_something_is_refused(
    tmp_path: Path, cifar: Callable[[str, dict[str, bytes]], Path], packed: bool
) -> None:
    trap = batch([0, 9], "labels", labels=Trap(tmp_path / "sprung"))
    files = batches("cifar10") | {"test_batch": trap}
    path = cifar("cifar10", files)
    if not packed:
        path.unlink()
        path = path.parent / "cifar-10-batches-py" / "test_batch"
        path.parent.mkdir()
        for file, data in files.items():
            (path.parent / file).write_bytes(data)
    with pytest.raises(ValueError, match=r"which no array of numbers needs") as caught:
        load_dataset("cifar10")
    assert str(caught.value).startswith(f"{path}: test_batch is damaged")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)  # it would have
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"labels": [3, 10]}, "labels[1] is 10, out of range [0, 10)"),
        ({"labels": [-1, 3]}, "labels[0] is -1, out of range [0, 10)"),
        ({"labels": [3]}, "labels have shape (1,) and type int64; expected one whole number for each of 2"),
        ({"labels": [3.5, 1]}, "labels have shape (2,) and type float64"),
        ({"labels": ["3", "1"]}, "labels have shape (2,) and type <U1"),
        ({"data": [1, 2]}, "images are no array of uint8 of shape (…, 3072)"),
        ({"data": np.zeros((2, 3071), np.uint8)}, "images are no array of uint8 of shape (…, 3072)"),
        ({"data": np.zeros((2, 3072))}, "images are no array of uint8 of shape (…, 3072)"),
        ({"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2, 3]}, "holds 3 test images; the whole data"),
        # As many images, all labels in range, but not those of CIFAR-10.
        ({"labels": [9, 0]}, "test_batch has the md5"),
    ],
)
def test_a_wrong_batch_is_an_error_that_names_the_file(
    cifar: Callable[[str, dict[str, bytes]], Path], changed: dict[str, Any], problem: str
) -> None:
    path = cifar("cifar10", batches("cifar10") | {"test_batch": batch([0, 9], "labels", **changed)})
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_dataset("cifar10")


def test_the_labels_of_the_other_archive_are_an_error(cifar: Callable[[str, dict[str, bytes]], Path]) -> None:
    path = cifar("cifar100", batches("cifar100") | {"test": batch([4, 50], "coarse_labels")})
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: test is damaged, or has no arrays 'data' and 'fine_")
    ):
        load_dataset("cifar100")


def test_a_batch_that_is_missing_or_a_link_is_an_error(
    cifar: Callable[[str, dict[str, bytes]], Path],
) -> None:
    files = batches("cifar100")
    del files["test"]
    path = cifar("cifar100", files)
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not an archive with")):
        load_dataset("cifar100")
    with tarfile.open(path, "w:gz") as archive:
        for name in ("train", "test"):
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    with pytest.raises(ValueError, match=re.escape(f"{path}: cifar-100-python/train is no file")):
        load_dataset("cifar100")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_an_archive_that_was_cut_off_is_an_error(
    cifar: Callable[[str, dict[str, bytes]], Path], share: float
) -> None:
    path = cifar("cifar10", batches("cifar10"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not an archive with")):
        load_dataset("cifar10")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@given(data=st.data())
@settings(max_examples=20)
def test_plain_values_come_out_of_a_pickle(protocol: int, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
    kind = data.draw(st.sampled_from(["u1", "i8", "f4"]))
    array = np.arange(np.prod(shape, dtype=int)).astype(kind).reshape(shape)
    plain = data.draw(st.recursive(st.integers() | st.text(), st.lists))
    read = load_plain(pickle.dumps({"array": array, "plain": plain}, protocol))
    assert read["plain"] == plain
    assert read["array"].dtype == array.dtype and np.array_equal(read["array"], array)


def test_a_pickle_of_python_2_is_read() -> None:
    # Written by hand as cPickle of Python 2 does, with NumPy's names of that time and its strings of bytes.
    by_hand = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x01\x02\x03\x04\x05\xfftb"
        b"U\x06labels](K\x07K\x08eu."
    )
    read = load_plain(by_hand)
    assert read[b"labels"] == [7, 8] and read[b"data"].dtype == np.uint8
    assert read[b"data"].tolist() == [[1, 2, 3], [4, 5, 255]]


@pytest.mark.parametrize(
    "named", [eval, exec, getattr, pickle.loads, np.load, np.fromfile, Path, Counter, np.random.RandomState]
)
def test_whatever_else_a_pickle_names_is_refused(named: object) -> None:
    with pytest.raises(ValueError, match="which no array of numbers needs"):
        load_plain(pickle.dumps(named, 2))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_plain_value_or_an_error(data: bytes) -> None:
    try:
        load_plain(data)
    except ValueError as error:
        assert str(error).startswith("no pickle of plain values and arrays")


# The subsets ----------------------------------------------------------------------------------------------


def write_subset(place: Path, name: str, **changed: Any) -> Path:
    path = place / name / f"{name}_subset.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"coarse_of_class": COARSE_OF_FINE} if name == "cifar100" else {}
    for part, labels in (("train", [3, 9, 1]), ("test", [8])):
        arrays[f"{part}_images"] = photos(labels).transpose(0, 2, 3, 1)
        arrays[f"{part}_labels"] = np.array(labels, np.uint8)
    np.savez_compressed(path, **arrays | changed)
    return path


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_subset_says_that_it_is_one(place: Path, expect: Callable[..., None], name: str) -> None:
    write_subset(place, name)
    expect(f"{name}_subset", train_images=3, test_images=1)
    data = load_dataset(f"{name}_subset")
    assert data.label == f"{name}_subset" and "subset" in data.source and data.client_ids == ("pooled",)
    client = data["pooled"]
    assert client.train_y.tolist() == [3, 9, 1] and client.test_y.tolist() == [8]
    assert np.array_equal(np.rint(client.train_x * 255), photos([3, 9, 1])) and data.y.dtype == np.int64
    assert np.array_equal(np.rint(client.test_x * 255), photos([8])) and data.x.dtype == np.float32


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"test_labels": np.array([100])}, "labels[0] is 100, out of range [0, 100)"),
        ({"test_labels": np.array([1, 2])}, "labels have shape (2,)"),
        ({"test_images": photos([8])}, "images are no array of uint8 of shape (…, 32, 32, 3)"),
        ({"coarse_of_class": np.roll(COARSE_OF_FINE, 1)}, "coarse_of_class is not the order of CIFAR-100's"),
        ({}, "holds 3 train images; the whole data set has 10,000 train images"),
    ],
)
def test_a_wrong_subset_is_an_error_that_names_the_file(
    place: Path, expect: Callable[..., None], changed: dict[str, Any], problem: str
) -> None:
    path = write_subset(place, "cifar100", **changed)
    if changed:
        expect("cifar100_subset", train_images=3, test_images=1)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_dataset("cifar100_subset")


def test_every_superclass_has_five_classes() -> None:
    assert sorted(Counter(COARSE_OF_FINE).items()) == [(coarse, 5) for coarse in range(20)]
    known = {"apple": 4, "beaver": 0, "lawn_mower": 19, "man": 14, "maple_tree": 17, "worm": 13, "bus": 18}
    assert {name: COARSE_OF_FINE[CIFAR100_CLASSES.index(name)] for name in known} == known
    assert len(CIFAR100_CLASSES) == 100 and CIFAR100_CLASSES[:3] == ("apple", "aquarium_fish", "baby")


# EMNIST ---------------------------------------------------------------------------------------------------


def idx(values: np.ndarray, magic: int = 8) -> bytes:
    head = struct.pack(f">4B{values.ndim}I", 0, 0, magic, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def letters(labels: list[int]) -> np.ndarray:
    """Upright images: a bar across the top, and the label at the left of the third row."""
    made = np.zeros((len(labels), 28, 28), np.uint8)
    made[:, 0, :] = 255
    made[:, 2, 0] = labels
    return made


def write_emnist(place: Path, packed: bool = True, **changed: bytes) -> Path:
    folder = place / "emnist"
    folder.mkdir(parents=True, exist_ok=True)
    for part, labels in (("train", [0, 61, 35]), ("test", [10])):
        files = {
            f"{part}-images-idx3": idx(letters(labels).transpose(0, 2, 1)),
            f"{part}-labels-idx1": idx(np.array(labels)),
        }
        for kind, data in files.items():
            data = changed.get(kind.replace("-", "_"), data)
            path = folder / f"emnist-byclass-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_letters_of_emnist_stand_upright(place: Path, expect: Callable[..., None], packed: bool) -> None:
    write_emnist(place, packed)
    expect("emnist", train_images=3, test_images=1)
    data = load_dataset("emnist")
    client = data["pooled"]
    assert client.train_y.tolist() == [0, 61, 35] and client.test_y.tolist() == [10]
    assert data.x.dtype == np.float32 and np.array_equal(np.rint(client.train_x * 255), letters([0, 61, 35]))
    assert (client.test_x[0, 0] == 1).all() and [data.class_names[i] for i in (0, 61, 35, 10)] == [*"0zZA"]


IMAGES, LABELS = letters([0, 61, 35]).transpose(0, 2, 1), np.array([0, 61, 35])


@pytest.mark.parametrize(
    ("kind", "data", "problem"),
    [
        (
            "images-idx3",
            idx(IMAGES)[:-1],
            "has 2,351 bytes of values, but its head says 2,352; it is damaged",
        ),
        ("images-idx3", idx(IMAGES) + b"\0", "has 2,353 bytes of values"),
        ("images-idx3", idx(IMAGES, magic=9), "begins with 00000903"),
        ("images-idx3", idx(LABELS), "begins with 00000801"),
        ("images-idx3", idx(IMAGES[:, 1:]), "begins with 00000803 and the sizes (3, 27, 28)"),
        ("images-idx3", b"", "begins with  and the sizes ()"),
        ("images-idx3", idx(IMAGES)[:10], "begins with 00000803 and the sizes"),
        ("images-idx3", idx(IMAGES[:2]), "holds 2 train images; the whole data set has 3 train images"),
        ("labels-idx1", idx(np.array([0, 62, 1])), "labels[1] is 62, out of range [0, 62)"),
        ("labels-idx1", idx(LABELS[:2]), "holds 2 train images; the whole data set has 3 train images"),
        ("labels-idx1", idx(IMAGES), "begins with 00000803"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_a_wrong_idx_file_is_an_error_that_names_it(
    place: Path, expect: Callable[..., None], kind: str, data: bytes, problem: str, packed: bool
) -> None:
    expect("emnist", train_images=3, test_images=1)
    folder = write_emnist(place, packed, **{f"train_{kind.replace('-', '_')}": data})
    path = folder / f"emnist-byclass-train-{kind}-ubyte{'.gz' if packed else ''}"
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_emnist()


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_packed_file_that_was_cut_off_is_an_error(place: Path, share: float) -> None:
    path = write_emnist(place) / "emnist-byclass-train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not a gzip file")):
        read_idx(path, (28, 28))


def test_without_files_an_error_names_the_first(place: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"emnist-byclass-train-images-idx3-ubyte\.gz"):
        load_emnist()
    assert not place.exists()
