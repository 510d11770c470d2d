"""Examples that are made when they are read: a data set of more of them than memory holds."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np

from fl_meta.support.array_types import Array, IntArray

MOST_BYTES = 2 * 2**30  # to make at once; whoever asks for more asks by mistake for nearly everything


@dataclass(frozen=True, eq=False, repr=False)
class OnDemand:
    """Stands for an array [examples, ...] that is not there: examples are made, whole clients, when read.

    Along its first axis it reads like an array: `len(x)`, `x[3]`, `x[5:9]`, `x[index]`, `np.asarray(x)`.
    Each read makes new arrays of its own. It can be read from several threads at once if `make` can.

    Attributes:
        make: gives all examples of client i [counts[i], ...], the same ones whenever it is called.
        counts: number of examples of each client [clients], in the order in which they stand.
        example_shape: shape of one example.
        dtype: type of what `make` gives.
        recipe: what the examples are a function of: two with the same recipe have the same examples.
    """

    make: Callable[[int], Array]
    counts: IntArray
    example_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    recipe: str

    @cached_property
    def _ends(self) -> IntArray:
        return np.cumsum(self.counts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that this stands for: examples, then the shape of one."""
        return (int(self._ends[-1]), *self.example_shape)

    @property
    def ndim(self) -> int:
        """Number of axes of the array that this stands for."""
        return 1 + len(self.example_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: SupportsIndex | slice | IntArray) -> Array:
        """The examples at one place, of a slice without gaps, or at the places of an index array.

        Raises:
            IndexError: for a place beyond the ends, or a slice with another step than 1.
            ValueError: if they would take more than `MOST_BYTES`.
        """
        if isinstance(places, slice):
            return self._slice(*places.indices(len(self)))
        if isinstance(places, np.ndarray):
            self.check_room(len(places))
            return np.stack([self[place] for place in places])
        place = range(len(self))[operator.index(places)]  # counts from the end, or raises, as an array does
        example: Array = self._slice(place, place + 1, 1)[0]
        return example

    def _slice(self, start: int, stop: int, step: int) -> Array:
        if step != 1:
            raise IndexError(f"a slice of examples made on demand has step {step}; take one with step 1")
        self.check_room(stop - start)
        if stop <= start:
            return np.empty((0, *self.example_shape), self.dtype)
        first, last = (int(i) for i in np.searchsorted(self._ends, [start, stop - 1], side="right"))
        made = [self.make(client) for client in range(first, last + 1)]
        before = int(self._ends[first] - self.counts[first])
        return (made[0] if first == last else np.concatenate(made))[start - before : stop - before]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        # Without this, numpy would read the examples one by one.
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def max(self) -> Any:
        """The largest number in any example; every client is made, one after another."""
        return max(self.make(client).max() for client in range(len(self.counts)) if self.counts[client])

    def check_room(self, examples: int) -> None:
        """Refuse a number of examples that would fill the memory.

        Raises:
            ValueError: if they take more than `MOST_BYTES`.
        """
        size = examples * int(np.prod(self.example_shape)) * self.dtype.itemsize
        if size > MOST_BYTES:
            raise ValueError(
                f"{examples:,} examples made on demand would take {size / 2**30:.1f} GiB at once; at most "
                f"{MOST_BYTES / 2**30:g} GiB are made. Read client by client, `data[client_id]`; choose "
                "fewer clients with `data.subset(client_ids)`; or load the data set without on_demand"
            )

    def __repr__(self) -> str:
        shape = "×".join(str(length) for length in self.example_shape)
        return f"{len(self):,} examples of shape {shape} ({self.dtype}), made on demand"
