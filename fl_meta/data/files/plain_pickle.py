"""Pickles of plain values and NumPy arrays, read without running anything else that they name."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

_EMPTY = np.empty(0, np.uint8)
_MULTIARRAY = {"numpy.core.multiarray", "numpy._core.multiarray"}
_NUMERIC = {"numpy.core.numeric", "numpy._core.numeric"}


class _PlainUnpickler(pickle.Unpickler):
    """Knows the names that a NumPy array of numbers is pickled with, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        """What is meant by a name in the pickle.

        Raises:
            UnpicklingError: for a name that no array of numbers needs.
        """
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        # The private functions of NumPy that these names stand for, found by asking NumPy for them.
        if module in _MULTIARRAY and name == "_reconstruct":
            return _EMPTY.__reduce_ex__(2)[0]
        if module in _NUMERIC and name == "_frombuffer":
            return _EMPTY.__reduce_ex__(5)[0]
        # Bytes in a pickle that Python 3 wrote for Python 2.
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _: text.encode("latin-1")
        if (module, name) == ("__builtin__", "bytes"):
            return lambda: b""
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no array of numbers needs")


def load_plain(data: bytes) -> Any:
    """What was pickled: numbers, strings, lists, dictionaries, NumPy arrays. Texts of Python 2 become bytes.

    Raises:
        ValueError: if the data is damaged, or names anything that an array of numbers does not need: such a
            pickle could run any code, and is not read further.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise ValueError(f"no pickle of plain values and arrays ({error})") from error
