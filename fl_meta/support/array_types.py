"""Types of arrays in annotations, and arrays of any origin as plain ones that PyTorch computes with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
ByteArray = NDArray[np.uint8]
Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# PyTorch has these types, but can hardly do anything with them.
_WIDER: dict[str, type[np.signedinteger[Any]]] = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}


def refuse_masked(name: str, values: ArrayLike) -> None:
    """Refuse an array of which some values are masked, or a list with such an array in it, however deep.

    Raises:
        ValueError: if some are; NumPy itself would drop the mask and use what is under it.
    """
    if _is_masked(values):
        raise ValueError(
            f"{name} has masked values, which would be used as if they were there; leave them out, or give "
            "them a value with .filled(…)"
        )


def _is_masked(values: object) -> bool:
    if isinstance(values, np.ma.MaskedArray):
        return bool(np.ma.is_masked(values))
    return (
        isinstance(values, Sequence) and not isinstance(values, str | bytes) and any(map(_is_masked, values))
    )


def as_array(name: str, values: ArrayLike) -> Array:
    """Values as an array of whatever type NumPy gives them, with at least one axis.

    Args:
        name: what the error calls them.

    Raises:
        ValueError: if they are not such an array, or some are masked.
    """
    refuse_masked(name, values)
    try:
        array = np.asarray(values)
    except Exception as error:  # tensors, ragged lists and classes of one's own raise nearly anything
        raise ValueError(
            f"{name} of type {type(values).__name__} cannot be read as one array ({error}); give a NumPy "
            "array, for a tensor .detach().cpu().numpy() (for bfloat16 .float() first, if sparse .to_dense())"
        ) from error
    if array.ndim == 0:
        raise ValueError(
            f"{name} is a single {type(values).__name__} without an axis of examples; give an array "
            "[examples, …], for a sparse matrix .toarray()"
        )
    return array


def plain_array(name: str, values: ArrayLike) -> Array:
    """Values as an array of NumPy's own class and this machine's byte order; no copy if they are one already.

    Unsigned numbers of 16 bits or more become signed ones, because PyTorch can hardly compute with them.

    Args:
        name: what the error calls them.
        values: an array, a tensor, a table or nested lists, with at least one axis.

    Raises:
        ValueError: if they are not such an array, some are masked, or their type loses digits in PyTorch.
    """
    array = as_array(name, values)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise ValueError(f"{name} has type {array.dtype}, which PyTorch lacks; use {name}.astype(np.float64)")
    wider = _WIDER.get(array.dtype.newbyteorder("=").name)
    if wider is None:
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if array.size and array.max() > np.iinfo(wider).max:
        raise ValueError(f"{name} has {array.max()}, which PyTorch cannot count to; use smaller numbers")
    return array.astype(wider)
