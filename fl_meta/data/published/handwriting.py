"""Handwriting by real writers, from .npz files."""

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
from fl_meta.data.files.errors import DataFileError
from fl_meta.support.array_types import Array


def load_mnist_by_writer() -> FederatedDataset:
    """MNIST's 60,000 training digits, with one client per writer, named by NIST's number.

    A random fifth of each writer's digits is the test part. A writer with a single digit is left out.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.

    Source: MNIST (LeCun, Cortes and Burges 1998); writers from QMNIST's tables (Yadav and Bottou 2019).
    """
    path = verified_file("mnist_by_writer", "mnist_by_writer.npz")
    images, labels, writers = read_arrays(path, "images", "labels", "writers")
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

    A random fifth of each writer's characters is the test part. A writer with a single one is left out.
    The two writers val00 and val01 have 8,877 characters; `limited` caps how many of each writer are used.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.

    Source: UNIPEN train_r01_v07 (Guyon et al. 1994). The paper's EMNIST is scanned paper, not pen strokes.
    """
    path = verified_file("unipen62", "unipen62.npz")
    keys = ("images", "labels", "writers", "writer_codes", "classes")
    images, labels, writers, codes, classes = read_arrays(path, *keys)
    for key, names in (("writer_codes", codes), ("classes", classes)):
        if names.ndim != 1 or names.dtype.kind != "U" or len(np.unique(names)) != len(names):
            raise DataFileError(
                f"{path}: {key} must be a row of distinct strings; it has shape {names.shape} and type "
                f"{names.dtype}"
            )
    _check_handwriting(path, images, labels, writers, classes=len(classes))
    check_range(path, "writers", writers, len(codes))
    return _by_writer(path, images, labels, owners=codes[writers], class_names=classes.tolist())


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
