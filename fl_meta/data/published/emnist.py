"""EMNIST without writers, from its IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from fl_meta.data.catalogue import check_counts
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.published.assembly import Array, Examples, any_of, check_range, pooled_client
from fl_meta.data.synthetic.strokes import CHARACTERS


def load_emnist() -> FederatedDataset:
    """EMNIST by class: 62 classes (0-9, A-Z, a-z), 697,932 train and 116,323 test images, without writers.

    They all belong to one client, "pooled". Read from emnist/emnist-byclass-{train,test}-images-idx3-ubyte
    and …-labels-idx1-ubyte, as they are or with .gz. As floats they take 2.6 GB of memory.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), upright: in the files the images are
        transposed. `y` [examples] int64.

    Raises:
        FileNotFoundError: if a file is not there; the message says what to run.
        ValueError: if a file is damaged or does not hold the whole data set.

    Source: Cohen et al. (2017).
    """
    parts = list[Examples]()
    for part in ("train", "test"):
        paths = [
            any_of("emnist", f"emnist-byclass-{part}-{kind}-ubyte.gz", f"emnist-byclass-{part}-{kind}-ubyte")
            for kind in ("images-idx3", "labels-idx1")
        ]
        images, labels = read_idx(paths[0], (28, 28)), read_idx(paths[1], ())
        for path, values in zip(paths, (images, labels), strict=True):
            check_counts(path, "emnist", **{f"{part}_images": len(values)})
        check_range(paths[1], "labels", labels, len(CHARACTERS))
        parts.append((images.transpose(0, 2, 1), labels))
    return pooled_client("emnist", parts[:1], parts[1:], CHARACTERS)


def read_idx(path: Path, shape: tuple[int, ...]) -> Array:
    """The bytes of an IDX file [examples, *shape], uint8; the file may be packed with gzip.

    Raises:
        ValueError: if the file is damaged, or holds anything but bytes of that shape.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged, or not a gzip file ({error})") from error
    axes = 1 + len(shape)
    magic, head = data[:4], data[4 : 4 + 4 * axes]
    sizes = tuple(np.frombuffer(head[: len(head) // 4 * 4], ">u4").tolist())
    # Two zeros, 8 for bytes, the number of axes.
    if magic != bytes([0, 0, 8, axes]) or sizes[1:] != shape:
        raise ValueError(
            f"{path}: begins with {magic.hex()} and the sizes {sizes}; an IDX file of bytes of shape (…, "
            f"{', '.join(map(str, shape))}) begins with 000008{axes:02x}"
        )
    there, wanted = len(data) - 4 - 4 * axes, math.prod(sizes)
    if there != wanted:
        raise ValueError(
            f"{path}: has {there:,} bytes of values, but its head says {wanted:,}; it is damaged"
        )
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(sizes)
