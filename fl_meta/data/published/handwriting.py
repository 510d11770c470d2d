"""Handwriting by real writers: MNIST's digits with QMNIST's writers, and UNIPEN's characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fl_meta.data.catalogue import CATALOGUE, check_counts
from fl_meta.data.encoding import as_floats
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.arrays import check_images, check_range, check_whole_numbers, read_arrays
from fl_meta.data.files.checksum import verified_file
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.data.files.idx import read_idx
from fl_meta.data.published.unipen import ARCHIVE, read_unipen
from fl_meta.support.array_types import Array

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
# For each of MNIST's training digits: class, NIST's series, writer, number among the writer's digits, NIST's
# code of the class, number among all of NIST's digits, and two that are not used.
TABLE = "qmnist-train-labels-idx2-int.gz"


def load_mnist_by_writer() -> FederatedDataset:
    """MNIST's 60,000 training digits, with one client per writer, named by NIST's number.

    Read from mnist_by_writer.npz or, if that is not there, from MNIST's IDX files and QMNIST's table. A
    random fifth of each writer's digits is the test part. A writer with a single digit is left out.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.

    Source: MNIST (LeCun, Cortes and Burges 1998); writers from QMNIST's tables (Yadav and Bottou 2019).
    """
    name = "mnist_by_writer"
    path = verified_file(name, f"{name}.npz", IMAGES)
    if path.suffix == ".npz":
        images, labels, writers = read_arrays(path, "images", "labels", "writers")
    else:
        images, labels, writers = _mnist(path, *(verified_file(name, file) for file in (LABELS, TABLE)))
    _check_handwriting(path, images, labels, writers, classes=10)
    return _by_writer(
        path,
        images,
        labels,
        owners=np.array([f"writer_{number:04d}" for number in writers], dtype=np.str_),
        class_names="0123456789",
    )


def load_unipen62() -> FederatedDataset:
    """Characters written by 252 people with a pen on a tablet, drawn as images: 62 classes (0-9, A-Z, a-z).

    Read from unipen62.npz, which `fl-meta data fetch unipen62` makes; if only UNIPEN's archive is there, from
    that, which takes a minute or two in each call. A random fifth of each writer's characters is the test
    part. A writer with a single one is left out. The two writers val00 and val01 have 8,877 characters;
    `limited` caps how many of each writer are used.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.

    Source: UNIPEN train_r01_v07 (Guyon et al. 1994). The paper's EMNIST is scanned paper, not pen strokes.
    """
    path = verified_file("unipen62", "unipen62.npz", ARCHIVE)
    keys = ("images", "labels", "writers", "writer_codes", "classes")
    if path.suffix == ".npz":
        images, labels, writers, codes, classes = read_arrays(path, *keys)
    else:
        arrays = read_unipen(path, lambda *_: None)
        images, labels, writers, codes, classes = (arrays[key] for key in keys)
    for key, names in (("writer_codes", codes), ("classes", classes)):
        if names.ndim != 1 or names.dtype.kind != "U" or len(np.unique(names)) != len(names):
            raise DataFileError(
                f"{path}: {key} must be a row of distinct strings; it has shape {names.shape} and type "
                f"{names.dtype}"
            )
        with reading(path, f"an .npz file whose {key} are text"):
            "".join(names.tolist()).encode()
    _check_handwriting(path, images, labels, writers, classes=len(classes))
    check_range(path, "writers", writers, len(codes))
    return _by_writer(path, images, labels, owners=codes[writers], class_names=classes.tolist())


def _mnist(images: Path, labels: Path, table: Path) -> tuple[Array, Array, Array]:
    """Images, labels and NIST's number of the writer of each of MNIST's training digits."""
    digits, classes, rows = read_idx(images, (28, 28)), read_idx(labels, ()), read_idx(table, (8,), "i4")
    for path, values in ((labels, classes), (table, rows)):
        if len(values) != len(digits):
            raise DataFileError(
                f"{path}: has {len(values):,} rows, but {images.name} has {len(digits):,} images"
            )
    if len(wrong := np.flatnonzero(rows[:, 0] != classes)):
        first = int(wrong[0])
        raise DataFileError(
            f"{table}: its digit {first} is a {rows[first, 0]}, but {labels.name} says {classes[first]}; the "
            "two are not of the same images"
        )
    return digits, classes, rows[:, 2]


def _check_handwriting(path: Path, images: Array, labels: Array, writers: Array, *, classes: int) -> None:
    check_images(path, images, (28, 28))
    for key, values in (("labels", labels), ("writers", writers)):
        check_whole_numbers(path, key, values, len(images))
    check_range(path, "labels", labels, classes)
    check_counts(path, path.parent.name, classes=classes, writers=len(np.unique(writers)), images=len(images))


def _by_writer(
    path: Path, images: Array, labels: Array, *, owners: Array, class_names: Sequence[str]
) -> FederatedDataset:
    _, index, counts = np.unique(owners, return_inverse=True, return_counts=True)
    enough = counts[index] >= 2  # a single example cannot be both trained and tested on
    data = FederatedDataset.from_arrays(
        images[enough],
        labels[enough].astype(np.int64),
        owners[enough],
        test_fraction=0.2,
        num_classes=len(class_names),
        class_names=class_names,
        name=path.parent.name,
        source=CATALOGUE[path.parent.name].credit,
    )
    # Bytes are grouped before they become four times as large.
    return replace(data, x=as_floats(np.asarray(data.x)))
