"""CIFAR-10 and CIFAR-100: images without users, all of one client "pooled", which partitioners divide."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from fl_meta.data.catalogue import CATALOGUE, check_counts
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.archives import members
from fl_meta.data.files.arrays import check_images, check_range, check_whole_numbers, read_arrays
from fl_meta.data.files.checksum import verified_file
from fl_meta.data.files.errors import DataFileError
from fl_meta.data.published.assembly import Examples, pooled_client
from fl_meta.support.array_types import Array

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# CIFAR-100's superclasses in the order of their numbers, with the classes of each.
_SUPERCLASSES = """
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
_MEMBERS = [line.partition(":")[2].split() for line in _SUPERCLASSES.strip().splitlines()]
# The classes are numbered in alphabetical order.
CIFAR100_CLASSES = tuple(sorted(name for members in _MEMBERS for name in members))
# The superclass, 0 to 19, of each of the 100 classes.
COARSE_OF_FINE: tuple[int, ...] = tuple(
    next(coarse for coarse, members in enumerate(_MEMBERS) if name in members) for name in CIFAR100_CLASSES
)
_MOST_BYTES = 10**9  # in an archive; there are 0.2 × 10⁹
_PIXELS = 3072  # of an image: its red, green and blue planes


def load_cifar10() -> FederatedDataset:
    """CIFAR-10: 10 classes, 50,000 train and 10,000 test images, all of one client, "pooled".

    Read from cifar10/cifar-10-binary.tar.gz, as it was downloaded.

    Returns:
        `x` [examples, 3, 32, 32] float32 in [0, 1], `y` [examples] int64.

    Source: Krizhevsky (2009), the binary version.
    """
    files = [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)]
    test_file = "cifar-10-batches-bin/test_batch.bin"
    return _from_archive("cifar10", files, test_file, label_bytes=1, classes=CIFAR10_CLASSES)


def load_cifar100() -> FederatedDataset:
    """CIFAR-100: 100 classes, 50,000 train and 10,000 test images, as in `load_cifar10`.

    `y` is the fine label; `COARSE_OF_FINE` gives the superclass of each class.
    Read from cifar100/cifar-100-binary.tar.gz, as it was downloaded.

    Source: Krizhevsky (2009), the binary version.
    """
    files, test_file = ["cifar-100-binary/train.bin"], "cifar-100-binary/test.bin"
    return _from_archive("cifar100", files, test_file, label_bytes=2, classes=CIFAR100_CLASSES)


def load_cifar10_subset() -> FederatedDataset:
    """A random subset of `load_cifar10`'s images: 1,000 train and 200 test images of each class."""
    return _subset("cifar10_subset", CIFAR10_CLASSES)


def load_cifar100_subset() -> FederatedDataset:
    """A random subset of `load_cifar100`'s images: 100 train and 20 test images of each class."""
    return _subset("cifar100_subset", CIFAR100_CLASSES)


def _from_archive(
    name: str, train_files: Sequence[str], test_file: str, *, label_bytes: int, classes: Sequence[str]
) -> FederatedDataset:
    (download,) = CATALOGUE[name].forms[0].downloads
    path = verified_file(name, download.file)
    content = _read_files(path, [*train_files, test_file])
    batches = [
        _records(path, file, data, label_bytes, len(classes))
        for file, data in zip([*train_files, test_file], content, strict=True)
    ]
    train, test = batches[:-1], batches[-1:]
    for split, examples in (("train", train), ("test", test)):
        check_counts(path, name, **{f"{split}_images": sum(len(labels) for _, labels in examples)})
    return pooled_client(name, train, test, classes)


def _read_files(path: Path, names: Sequence[str]) -> list[bytes]:
    """The content of files in an archive; nothing is written to disk."""
    content = dict[str, bytes]()
    with closing(members(path, path.name, _MOST_BYTES)) as opened:
        for name, pieces in opened:
            data = b"".join(pieces)
            if name in names:
                content[name] = data
    missing = [name for name in names if name not in content]
    if missing:
        raise DataFileError(f"{path}: does not hold the file {missing[0]}")
    return [content[name] for name in names]


def _records(path: Path, file: str, data: bytes, label_bytes: int, num_classes: int) -> Examples:
    """Images [examples, 3, 32, 32] and labels [examples] of one binary file.

    A record is the label (CIFAR-100: the coarse label, then the fine one) and the pixels, a byte each.
    """
    if len(data) % (label_bytes + _PIXELS):
        raise DataFileError(
            f"{path}: {file} has {len(data):,} bytes, not a multiple of the {label_bytes + _PIXELS:,} "
            "bytes of a record"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, label_bytes + _PIXELS)
    labels = records[:, label_bytes - 1]
    check_range(path, f"label in {file}", labels, num_classes)
    if label_bytes == 2:
        check_coarse_labels(path, ("image", f"in {file}"), labels, records[:, 0])
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def check_coarse_labels(path: Path, words: tuple[str, str], fine: Array, coarse: Array) -> None:
    """Refuse a coarse label other than CIFAR-100's; the words go around an example's number."""
    wrong = np.flatnonzero(np.array(COARSE_OF_FINE)[fine] != coarse)
    if len(wrong):
        first = wrong[0]
        raise DataFileError(
            f"{path}: {words[0]} {first} {words[1]} has label {fine[first]} with coarse label "
            f"{coarse[first]}; CIFAR-100 has {COARSE_OF_FINE[fine[first]]}"
        )


def _subset(name: str, classes: Sequence[str]) -> FederatedDataset:
    path = verified_file(name, f"{name}.npz")
    if len(classes) == len(COARSE_OF_FINE):
        (coarse,) = read_arrays(path, "coarse_of_class")
        if coarse.tolist() != list(COARSE_OF_FINE):
            raise DataFileError(f"{path}: coarse_of_class is not the order of CIFAR-100's superclasses")
    splits = list[Examples]()
    for split in ("train", "test"):
        images, labels = read_arrays(path, f"{split}_images", f"{split}_labels")
        check_images(path, images, (32, 32, 3))
        check_whole_numbers(path, "labels", labels, len(images))
        check_range(path, "labels", labels, len(classes))
        check_counts(path, name, **{f"{split}_images": len(labels)})
        splits.append((images.transpose(0, 3, 1, 2), labels))
    return pooled_client(name, splits[:1], splits[1:], classes)
