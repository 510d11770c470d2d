"""Examples that are made when they are read, for data sets that are larger than memory."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np

from fl_meta.support.array_types import Array, IntArray, plain_array
from fl_meta.support.validation import whole_number

MOST_BYTES = 2 * 2**30  # that are made at once; to ask for more is nearly always a mistake


@dataclass(frozen=True, eq=False, repr=False)
class OnDemand:
    """Takes the place of an array [examples, ...]: the examples of a client are made when they are read.

    Along its first axis it reads like an array: `len(x)`, `x[3]`, `x[5:9]`, `x[index]`, `np.asarray(x)`.
    Each read makes new arrays. Several threads can read it at once if they can call `make` at once.

    Attributes:
        make: returns all examples of client i [counts[i], ...], the same ones in every call.
        counts: number of examples of each client [clients], in the order of the clients.
        example_shape: shape of one example.
        dtype: type of the arrays that `make` returns: floats, whole numbers or booleans that PyTorch has.
        recipe: identifies the examples: two objects with the same recipe make the same ones.

    Raises:
        ValueError: for a type that PyTorch does not have, or counts or lengths that are none; in a read, if
            `make` returns anything else than was announced.
    """

    make: Callable[[int], Array]
    counts: IntArray
    example_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    recipe: str

    def __post_init__(self) -> None:
        counts = plain_array("counts", self.counts)
        if counts.ndim != 1 or not counts.size or counts.dtype.kind not in "iu" or counts.min() < 0:
            raise ValueError(
                f"counts has shape {counts.shape} and type {counts.dtype}; give a whole number of 0 or more "
                "for each client"
            )
        object.__setattr__(self, "counts", counts.astype(np.int64, copy=False))
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if not isinstance(self.example_shape, tuple | list):
            raise ValueError(f"example_shape={self.example_shape!r}; give a tuple, such as (28, 28)")
        shape = tuple(whole_number("a length in example_shape", length, 0) for length in self.example_shape)
        object.__setattr__(self, "example_shape", shape)
        known = plain_array("x", np.empty(1, self.dtype)).dtype
        if self.dtype.kind not in "fiub" or known != self.dtype:
            raise ValueError(
                f"examples of type {self.dtype} cannot be made on demand; convert them in `make`"
            )

    @cached_property
    def _ends(self) -> IntArray:
        return np.cumsum(self.counts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array: the number of examples, then the shape of one."""
        return (int(self._ends[-1]), *self.example_shape)

    @property
    def ndim(self) -> int:
        """Number of axes of the whole array."""
        return 1 + len(self.example_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: SupportsIndex | slice | IntArray) -> Array:
        """One example, those of a slice without gaps, or those at the positions in an index array."""
        if isinstance(index, slice):
            return self._slice(*index.indices(len(self)))
        if isinstance(index, np.ndarray):
            self.check_room(len(index))
            return np.stack([self[position] for position in index])
        position = range(len(self))[operator.index(index)]  # negative and too large ones as in an array
        example: Array = self._slice(position, position + 1, 1)[0]
        return example

    def _slice(self, start: int, stop: int, step: int) -> Array:
        if step != 1:
            raise IndexError(f"examples made on demand are read with step 1, not {step}")
        self.check_room(stop - start)
        if stop <= start:
            return np.empty((0, *self.example_shape), self.dtype)
        first, last = (int(i) for i in np.searchsorted(self._ends, [start, stop - 1], side="right"))
        made = [self._made(client) for client in range(first, last + 1)]
        before = int(self._ends[first] - self.counts[first])
        return (made[0] if first == last else np.concatenate(made))[start - before : stop - before]

    def _made(self, client: int) -> Array:
        """The examples of a client, if they are what was announced."""
        made = plain_array(f"x of client {client}", self.make(client))
        expected = (int(self.counts[client]), *self.example_shape)
        if made.shape != expected or made.dtype != self.dtype:
            raise ValueError(
                f"`make({client})` returned examples of shape {made.shape} ({made.dtype}); expected "
                f"{expected} ({self.dtype})"
            )
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        # Without this, numpy would read the examples one by one.
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def max(self) -> Any:
        """The largest value in any example; makes every client, one after another."""
        return max(self._made(client).max() for client in range(len(self.counts)) if self.counts[client])

    def check_room(self, examples: int) -> None:
        """Refuse a number of examples that would fill up the memory."""
        size = examples * int(np.prod(self.example_shape)) * self.dtype.itemsize
        if size > MOST_BYTES:
            raise ValueError(
                f"{examples:,} examples made on demand would take {size / 2**30:.1f} GiB at once; the limit "
                f"is {MOST_BYTES / 2**30:g} GiB. Read one client at a time with `data[client_id]`, choose "
                "fewer with `data.subset(client_ids)`, or load the data set without on_demand"
            )

    def __repr__(self) -> str:
        shape = "×".join(str(length) for length in self.example_shape)
        return f"{len(self):,} examples of shape {shape} ({self.dtype}), made on demand"
