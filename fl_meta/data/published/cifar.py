"""CIFAR-10 and CIFAR-100, which have no users: one client, "pooled", whom partitioners divide."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fl_meta.data.catalogue import check_counts, existing
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.arrays import any_of, check_range, read_arrays
from fl_meta.data.files.plain_pickle import load_plain
from fl_meta.data.published.assembly import Examples, pooled_client
from fl_meta.support.array_types import Array

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The superclasses of CIFAR-100 in the order of their numbers, with the classes of each.
_TABLE = """
    aquatic_mammals: beaver dolphin otter seal whale
    fish: aquarium_fish flatfish ray shark trout
    flowers: orchid poppy rose sunflower tulip
    food_containers: bottle bowl can cup plate
    fruit_and_vegetables: apple mushroom orange pear sweet_pepper
    household_electrical_devices: clock keyboard lamp telephone television
    household_furniture: bed chair couch table wardrobe
    insects: bee beetle butterfly caterpillar cockroach
    large_carnivores: bear leopard lion tiger wolf
    large_man-made_outdoor_things: bridge castle house road skyscraper
    large_natural_outdoor_scenes: cloud forest mountain plain sea
    large_omnivores_and_herbivores: camel cattle chimpanzee elephant kangaroo
    medium_mammals: fox porcupine possum raccoon skunk
    non-insect_invertebrates: crab lobster snail spider worm
    people: baby boy girl man woman
    reptiles: crocodile dinosaur lizard snake turtle
    small_mammals: hamster mouse rabbit shrew squirrel
    trees: maple_tree oak_tree palm_tree pine_tree willow_tree
    vehicles_1: bicycle bus motorcycle pickup_truck train
    vehicles_2: lawn_mower rocket streetcar tank tractor"""
_MEMBERS = [line.partition(":")[2].split() for line in _TABLE.strip().splitlines()]
# The classes are numbered by the alphabet.
CIFAR100_CLASSES = tuple(sorted(name for members in _MEMBERS for name in members))
# The superclass, 0 to 19, of each of the 100 classes.
COARSE_OF_FINE: tuple[int, ...] = tuple(
    next(coarse for coarse, members in enumerate(_MEMBERS) if name in members) for name in CIFAR100_CLASSES
)

# Published with torchvision: the md5 of each file in the archives.
CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR100_MD5 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
MOST_BYTES = 2**28  # of one file in an archive: the largest of the real ones has 155 MB


def load_cifar10() -> FederatedDataset:
    """CIFAR-10, whole: 10 classes, 50,000 train and 10,000 test images, of one client, "pooled".

    Read from cifar10/cifar-10-python.tar.gz, or from its unpacked folder cifar10/cifar-10-batches-py.

    Returns:
        `x` [examples, 3, 32, 32] float32 in [0, 1], `y` [examples] int64.

    Raises:
        FileNotFoundError: if the files are not there; the message says what to run.
        ValueError: if a file is damaged, holds anything but arrays, or is not that of the data set.

    Source: Krizhevsky (2009), the archive for Python.
    """
    return _cifar(
        "cifar10", "cifar-10-python.tar.gz", "cifar-10-batches-py", CIFAR10_MD5, "labels", CIFAR10_CLASSES
    )


def load_cifar100() -> FederatedDataset:
    """CIFAR-100, whole: 100 classes, 50,000 train and 10,000 test images, of one client, "pooled".

    `COARSE_OF_FINE` has the superclass of each class.
    Read from cifar100/cifar-100-python.tar.gz, or from its unpacked folder cifar100/cifar-100-python.

    Returns:
        `x` [examples, 3, 32, 32] float32 in [0, 1], `y` [examples] int64, the fine label.

    Raises:
        FileNotFoundError: if the files are not there; the message says what to run.
        ValueError: if a file is damaged, holds anything but arrays, or is not that of the data set.

    Source: Krizhevsky (2009), the archive for Python.
    """
    return _cifar(
        "cifar100",
        "cifar-100-python.tar.gz",
        "cifar-100-python",
        CIFAR100_MD5,
        "fine_labels",
        CIFAR100_CLASSES,
    )


def load_cifar10_subset() -> FederatedDataset:
    """A subset of CIFAR-10: 1,000 train and 200 test images of each class, drawn at random, of one client.

    Returns:
        as `load_cifar10`.

    Raises:
        FileNotFoundError: if cifar10/cifar10_subset.npz is not there.
        ValueError: if the file is damaged or does not hold the whole subset.

    Source: Krizhevsky (2009).
    """
    return _subset("cifar10_subset", CIFAR10_CLASSES)


def load_cifar100_subset() -> FederatedDataset:
    """A subset of CIFAR-100: 100 train and 20 test images of each class, drawn at random, of one client.

    Returns:
        as `load_cifar100`.

    Raises:
        FileNotFoundError: if cifar100/cifar100_subset.npz is not there.
        ValueError: if the file is damaged or does not hold the whole subset.

    Source: Krizhevsky (2009).
    """
    return _subset("cifar100_subset", CIFAR100_CLASSES)


def _cifar(
    name: str, archive: str, folder: str, md5: dict[str, str], key: str, classes: Sequence[str]
) -> FederatedDataset:
    path = any_of(name, archive, f"{folder}/{next(iter(md5))}")
    if path.name == archive:
        paths = [path] * len(md5)
        members = _members(path, [f"{folder}/{file}" for file in md5])
    else:
        paths = [existing(name, f"{folder}/{file}") for file in md5]
        members = [path.read_bytes() for path in paths]
    parts: dict[str, list[Examples]] = {"train": [], "test": []}
    for path, file, data in zip(paths, md5, members, strict=True):
        part = "test" if file.startswith("test") else "train"
        parts[part].append(_batch(path, file, data, key, len(classes)))
    for part, batches in parts.items():
        number = sum(len(labels) for _, labels in batches)
        check_counts(paths[0] if part == "train" else paths[-1], name, **{f"{part}_images": number})
    for path, file, data in zip(paths, md5, members, strict=True):
        seen = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if seen != md5[file]:
            raise ValueError(
                f"{path}: {file} has the md5 {seen}, but that of {name} has {md5[file]}; it is damaged, or "
                "another file: get it anew"
            )
    return pooled_client(name, parts["train"], parts["test"], classes)


def _members(path: Path, names: Sequence[str]) -> list[bytes]:
    """The content of files in an archive; nothing is written to disk."""
    found = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for name in names:
                member = archive.getmember(name)
                file = archive.extractfile(member) if member.isreg() and member.size <= MOST_BYTES else None
                if file is None:
                    raise ValueError(f"{path}: {name} is no file, or has more than {MOST_BYTES:,} bytes")
                found.append(file.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error, KeyError) as error:
        raise ValueError(f"{path}: damaged, or not an archive with {', '.join(names)} ({error})") from error
    return found


def _batch(path: Path, file: str, data: bytes, key: str, num_classes: int) -> Examples:
    """The images [examples, 3, 32, 32] and labels [examples] of one file of an archive."""
    try:
        content = load_plain(data)
        read = {name.decode() if isinstance(name, bytes) else name: value for name, value in content.items()}
        images, labels = read["data"], np.array(read[key])
    except Exception as error:  # damaged bytes can be any object
        raise ValueError(
            f"{path}: {file} is damaged, or has no arrays 'data' and {key!r} ({error})"
        ) from error
    _check(path, images, labels, (3072,), num_classes)
    return images.reshape(-1, 3, 32, 32), labels


def _subset(name: str, classes: Sequence[str]) -> FederatedDataset:
    path = existing(name, f"{name}.npz")
    if len(classes) == len(COARSE_OF_FINE):
        (coarse,) = read_arrays(path, "coarse_of_class")
        if coarse.tolist() != list(COARSE_OF_FINE):
            raise ValueError(f"{path}: coarse_of_class is not the order of CIFAR-100's superclasses")
    parts = list[Examples]()
    for part in ("train", "test"):
        images, labels = read_arrays(path, f"{part}_images", f"{part}_labels")
        _check(path, images, labels, (32, 32, 3), len(classes))
        check_counts(path, name, **{f"{part}_images": len(labels)})
        parts.append((images.transpose(0, 3, 1, 2), labels))
    return pooled_client(name, parts[:1], parts[1:], classes)


def _check(path: Path, images: Any, labels: Array, shape: tuple[int, ...], num_classes: int) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != shape:
        raise ValueError(f"{path}: images are no array of uint8 of shape (…, {', '.join(map(str, shape))})")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: labels have shape {labels.shape} and type {labels.dtype}; expected one whole number "
            f"for each of {len(images)} images"
        )
    check_range(path, "labels", labels, num_classes)
