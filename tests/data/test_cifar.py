"""CIFAR's binary archives and the subsets of it; what is damaged is in test_readers.py."""

import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_files import CIFAR_ARCHIVES, cifar_files, cifar_records, photos, write_archive, write_subset

from fl_meta.data import load_dataset
from fl_meta.data.published.cifar import CIFAR100_CLASSES, COARSE_OF_FINE


@pytest.mark.parametrize(
    ("key", "train", "test"),
    [
        ("cifar10", [1, 8, 2, 7, 3, 6, 4, 5, 5, 4], [0, 9]),
        ("cifar100", [99, 0, 7], [4, 50]),
        ("cifar10_subset", [3, 9, 1], [8]),
        ("cifar100_subset", [3, 9, 1], [8]),
    ],
)
def test_the_images_are_there_in_their_order(
    small: Callable[..., Path], key: str, train: list[int], test: list[int]
) -> None:
    folder = small(key)
    before = {*folder.iterdir(), folder / "fetched.json"}
    data = load_dataset(key)
    assert data.client_ids == ("pooled",) and data.num_classes == (10 if "cifar10_" in f"{key}_" else 100)
    assert ("subset" in data.source) == ("subset" in data.label) == ("subset" in key)
    client = data["pooled"]
    assert client.train_y.tolist() == train and client.test_y.tolist() == test
    for x, labels in ((client.train_x, train), (client.test_x, test)):
        assert np.array_equal(np.rint(x * 255), photos(labels))
    assert before.issuperset(folder.iterdir())  # nothing was unpacked beside it


def test_an_archive_that_differs_in_a_byte_is_an_error(small: Callable[..., Path]) -> None:
    """As many images, all labels in range, but not those of CIFAR-10."""
    path = small("cifar10") / CIFAR_ARCHIVES["cifar10"]
    size = path.stat().st_size
    changed = bytearray(path.read_bytes())
    changed[4] ^= 1  # the date in gzip's head, which nothing else protects
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=re.escape(f"{path}: does not match the checksum sha256:")):
        load_dataset("cifar10")
    path.write_bytes(bytes(changed) + b"\0")
    with pytest.raises(ValueError, match=f"has {size + 1:,} bytes, but must have {size:,}"):
        load_dataset("cifar10")


TEST = "cifar-100-binary/test.bin"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (cifar_records("cifar100", photos([4, 50]), [4, 50], coarse=3), f"image 0 in {TEST} has label 4"),
        (None, f"does not hold the file {TEST}"),
    ],
)
def test_a_wrong_file_in_an_archive_is_an_error(
    small: Callable[..., Path], publish: Callable[[str, Path], None], content: bytes | None, problem: str
) -> None:
    path = small("cifar100") / CIFAR_ARCHIVES["cifar100"]
    files = {name: data for name, data in cifar_files("cifar100").items() if name != TEST}
    write_archive(path, files if content is None else files | {TEST: content})
    publish("cifar100", path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_dataset("cifar100")


def test_a_link_in_an_archive_is_not_followed(
    small: Callable[..., Path], publish: Callable[[str, Path], None]
) -> None:
    path = small("cifar100") / CIFAR_ARCHIVES["cifar100"]
    with tarfile.open(path, "w:gz") as archive:
        for name in ("train.bin", "test.bin"):
            member = tarfile.TarInfo(f"cifar-100-binary/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    publish("cifar100", path)
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: unsafe, 'cifar-100-binary/train.bin' is a link")
    ):
        load_dataset("cifar100")


def test_bytes_that_are_no_archive_are_an_error(
    small: Callable[..., Path], publish: Callable[[str, Path], None]
) -> None:
    path = small("cifar10") / CIFAR_ARCHIVES["cifar10"]
    whole = path.read_bytes()
    for content in (b"", whole[:300], b"<html>404 Not Found</html>"):
        path.write_bytes(content)
        publish("cifar10", path)
        with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
            load_dataset("cifar10")


def test_superclasses_in_another_order_are_an_error_that_names_the_file(small: Callable[..., Path]) -> None:
    path = small("cifar100_subset") / "cifar100_subset.npz"
    write_subset("cifar100", path.parent, coarse_of_class=np.roll(COARSE_OF_FINE, 1))
    with pytest.raises(ValueError, match=re.escape(f"{path}: coarse_of_class is not the order of CIFAR-100")):
        load_dataset("cifar100_subset")


def test_every_superclass_has_five_classes() -> None:
    assert sorted(Counter(COARSE_OF_FINE).items()) == [(coarse, 5) for coarse in range(20)]
    known = {"apple": 4, "beaver": 0, "lawn_mower": 19, "man": 14, "maple_tree": 17, "worm": 13, "bus": 18}
    assert {name: COARSE_OF_FINE[CIFAR100_CLASSES.index(name)] for name in known} == known
    assert len(CIFAR100_CLASSES) == 100 and CIFAR100_CLASSES[:3] == ("apple", "aquarium_fish", "baby")
