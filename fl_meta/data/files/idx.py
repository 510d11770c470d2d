"""The IDX format, in which MNIST and its relatives are published."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fl_meta.data.files.archives import decompressed
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.support.array_types import Array


def read_idx(path: Path, shape: tuple[int, ...]) -> Array:
    """The bytes of an IDX file [examples, *shape], uint8; the file may be compressed with gzip."""
    with reading(path, "an IDX file"):
        data = b"".join(decompressed(path)) if path.suffix == ".gz" else path.read_bytes()
    axes = 1 + len(shape)
    magic, header = data[:4], data[4 : 4 + 4 * axes]
    sizes = tuple(np.frombuffer(header[: len(header) // 4 * 4], ">u4").tolist())
    # Two zeros, 8 for bytes, the number of axes.
    if magic != bytes([0, 0, 8, axes]) or sizes[1:] != shape:
        raise DataFileError(
            f"{path}: begins with {magic.hex()} and the sizes {sizes}; an IDX file of bytes of shape (…, "
            f"{', '.join(map(str, shape))}) begins with 000008{axes:02x}"
        )
    actual, expected = len(data) - 4 - 4 * axes, math.prod(sizes)
    if actual != expected:
        raise DataFileError(
            f"{path}: has {actual:,} bytes of values, but its header says {expected:,}; it is damaged"
        )
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(sizes)
