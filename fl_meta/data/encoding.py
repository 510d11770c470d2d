"""Characters as class labels and text as character codes."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl_meta.data.federated import PADDING
from fl_meta.support.array_types import ByteArray, Float32Array

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
# 100 characters, as in the Shakespeare benchmarks; the last, a form feed, means "nothing yet".
VOCABULARY = string.printable
BLANK = len(VOCABULARY) - 1
_CODE = np.full(128, BLANK, dtype=np.uint8)
_CODE[[ord(character) for character in VOCABULARY]] = np.arange(len(VOCABULARY))


def encode(text: str) -> ByteArray:
    """A text as the positions of its characters in `VOCABULARY` [characters]; unknown ones become `BLANK`.

    Example:
        >>> encode("07a").tolist()
        [0, 7, 10]
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    # The last of the 128 codes is the delete character: unknown, like everything beyond it.
    codes: ByteArray = _CODE[np.minimum(points, len(_CODE) - 1)]
    return codes


def decode(codes: ArrayLike) -> str:
    """The text of character codes, of any shape; `BLANK` and `PADDING` are left out.

    Example:
        >>> decode([0, 7, 10, PADDING])
        '07a'
    """
    return "".join(VOCABULARY[int(code)] for code in np.ravel(codes) if 0 <= code < BLANK)


def examples_of(codes: ByteArray, positions: int) -> tuple[ByteArray, NDArray[np.int16]]:
    """A text's codes cut into labels [examples, positions], and as inputs the character before each label."""
    rows = -(-len(codes) // positions)
    x = np.full(rows * positions, BLANK, dtype=np.uint8)
    y = np.full(rows * positions, PADDING, dtype=np.int16)
    x[1 : len(codes)] = codes[:-1]
    y[: len(codes)] = codes
    return x.reshape(rows, positions), y.reshape(rows, positions)


def as_floats(images: ByteArray) -> Float32Array:
    """Bytes from 0 to 255 as float32 from 0 to 1."""
    return (images / np.float32(255)).astype(np.float32, copy=False)
