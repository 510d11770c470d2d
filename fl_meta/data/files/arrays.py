"""Arrays read from files, and checks of their types, shapes and ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fl_meta.data.catalogue import existing
from fl_meta.support.array_types import Array

# What a file holds of one client: an array [examples, ...] for each name.
Columns = Mapping[str, Array]


def any_of(name: str, *files: str) -> Path:
    """The first of a data set's files that exists."""
    errors = []
    for file in files:
        try:
            return existing(name, file)
        except FileNotFoundError as error:
            errors.append(error)
    raise errors[0]


@contextmanager
def optional(package: str) -> Iterator[None]:
    """Import a package that only some files need inside this `with` block."""
    try:
        yield
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"the file is read with the package {package!r}, which is not installed; "
            "run: pip install 'fl_meta[data]'"
        ) from None


def read_arrays(path: Path, *keys: str) -> list[Array]:
    """The arrays of an .npz file with these names."""
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            missing = [key for key in keys if key not in arrays]
            values = [] if missing else [arrays[key] for key in keys]
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        raise ValueError(f"{path}: damaged, or not an .npz file without pickled objects ({error})") from error
    if missing:
        raise ValueError(f"{path}: has no array {missing[0]!r}; it must have {', '.join(keys)}")
    return values


def check_images(path: Path, images: Array, shape: tuple[int, ...]) -> None:
    """Refuse anything but bytes [images, *shape]."""
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise ValueError(
            f"{path}: images have shape {images.shape} and type {images.dtype}; expected (…, "
            f"{', '.join(map(str, shape))}) of uint8"
        )


def check_whole_numbers(path: Path, key: str, values: Array, length: int) -> None:
    """Refuse anything but one whole number for each of `length` images."""
    if values.shape != (length,) or values.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: {key} have shape {values.shape} and type {values.dtype}; expected one whole number for "
            f"each of {length} images"
        )


def check_range(path: Path, key: str, values: Array, end: int) -> None:
    """Refuse whole numbers outside [0, end), such as labels."""
    wrong = np.flatnonzero((values < 0) | (values >= end))
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(f"{path}: {key}[{first}] is {values[first]}, out of range [0, {end})")


def column(path: Path, client_id: str, columns: Columns, key: str, kinds: str, *shape: int) -> Array:
    """One array of a client [examples, *shape], with its type and size checked."""
    values = columns.get(key)
    size = int(np.prod(shape))
    if values is None or values.ndim == 0:
        raise ValueError(f"{path}: client {client_id!r} has no array {key!r}; it has {', '.join(columns)}")
    if values.dtype.kind not in kinds or values.size != len(values) * size:
        raise ValueError(
            f"{path}: {key} of client {client_id!r} has shape {values.shape} and type {values.dtype}; "
            f"expected {size} per example, of one of the kinds {', '.join(kinds)}"
        )
    return values.reshape(len(values), *shape)
