"""Characters as class labels and text as character codes."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl_meta.data.federated import PADDING

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
# 100 characters, as in the Shakespeare benchmarks; the last, a form feed, stands for "nothing yet".
VOCABULARY = string.printable
BLANK = len(VOCABULARY) - 1
_CODE = np.full(128, BLANK, dtype=np.uint8)
_CODE[[ord(character) for character in VOCABULARY]] = np.arange(len(VOCABULARY))


def encode(text: str) -> NDArray[np.uint8]:
    """Characters as their places in `VOCABULARY` [characters]; unknown ones become `BLANK`."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    # The last of the 128 is the delete character: unknown, as all beyond it are.
    codes: NDArray[np.uint8] = _CODE[np.minimum(points, len(_CODE) - 1)]
    return codes


def decode(codes: ArrayLike) -> str:
    """The text of whole numbers [characters]; `BLANK` and `PADDING` become nothing."""
    return "".join(VOCABULARY[int(code)] for code in np.ravel(codes) if 0 <= code < BLANK)


def examples_of(codes: NDArray[np.uint8], positions: int) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """A text's codes as inputs and labels [examples, positions]: what comes before each character, and it."""
    rows = -(-len(codes) // positions)
    x = np.full(rows * positions, BLANK, dtype=np.uint8)
    y = np.full(rows * positions, PADDING, dtype=np.int16)
    x[1 : len(codes)] = codes[:-1]
    y[: len(codes)] = codes
    return x.reshape(rows, positions), y.reshape(rows, positions)


def as_floats(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Ink of 0 to 255 as float32 from 0 to 1."""
    return (images / np.float32(255)).astype(np.float32, copy=False)
