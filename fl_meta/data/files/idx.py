"""The IDX format, in which MNIST and its relatives are published."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fl_meta.data.files.archives import content
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.support.array_types import Array

# The format's code for each type of values, which are big-endian.
_CODES = {"u1": 8, "i4": 12}


def read_idx(path: Path, shape: tuple[int, ...], kind: str = "u1") -> Array:
    """The values of an IDX file [examples, *shape], uint8, or int32 if `kind` is "i4".

    The file may be compressed with gzip.
    """
    with reading(path, "an IDX file"):
        data = content(path) if path.suffix == ".gz" else path.read_bytes()
    axes, stored = 1 + len(shape), np.dtype(f">{kind}")
    magic, header = data[:4], data[4 : 4 + 4 * axes]
    sizes = tuple(np.frombuffer(header[: len(header) // 4 * 4], ">u4").tolist())
    # Two zeros, the code of the type, the number of axes.
    expected_magic = bytes([0, 0, _CODES[kind], axes])
    if magic != expected_magic or sizes[1:] != shape:
        raise DataFileError(
            f"{path}: begins with {magic.hex()} and the sizes {sizes}; an IDX file of {stored.name} of shape "
            f"(…, {', '.join(map(str, shape))}) begins with {expected_magic.hex()}"
        )
    actual, expected = len(data) - 4 - 4 * axes, math.prod(sizes) * stored.itemsize
    if actual != expected:
        raise DataFileError(
            f"{path}: has {actual:,} bytes of values, but its header says {expected:,}; it is damaged"
        )
    values = np.frombuffer(data, stored, offset=4 + 4 * axes).reshape(sizes)
    return values.astype(stored.newbyteorder("="), copy=False)
