"""Arrays as text for a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def packed(array: NDArray[Any]) -> str:
    """The bytes of an array, little-endian, in base64; the page knows its type and shape.

    Example:
        >>> packed(np.array([1, 2], dtype=np.uint8))
        'AQI='
    """
    return b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode()


def ink_strip(images: NDArray[Any]) -> str:
    """Images with values in [0, 1] side by side, as the address of a picture in black ink on nothing.

    A page with a dark background can invert the ink alone.

    Args:
        images: [images, height, width].

    Example:
        >>> ink_strip(np.ones((2, 4, 4))).startswith("data:image/png;base64,")
        True
    """
    ink = np.rint(255 * np.concatenate(list(images), axis=1)).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(np.stack([np.zeros_like(ink), ink], axis=-1), "LA").save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def bits(values: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Truth values as a text of 0 and 1.

    Example:
        >>> bits([True, False])
        '10'
    """
    return "".join("01"[bool(value)] for value in values)
