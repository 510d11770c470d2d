"""Arrays read from files, and checks of their types, shapes and ranges."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fl_meta.data.files.archives import most_content
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.support.array_types import Array

# What a file holds of one client: an array [examples, ...] for each name.
Columns = Mapping[str, Array]
# The type, for each kind, of an array without examples.
_TYPES = {"f": np.float32, "i": np.int64, "u": np.uint8, "O": np.object_}


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
    """The arrays of an .npz file with these names; anything pickled is refused, not read."""
    with reading(path, "an .npz file without pickled objects"), zipfile.ZipFile(path) as archive:
        held = [info.filename for info in archive.infolist()]
        if len(set(held)) < len(held):
            raise DataFileError(f"{path}: holds {max(held, key=held.count)} twice; delete it")
        size, limit = sum(info.file_size for info in archive.infolist()), most_content(path.stat().st_size)
        if size > limit:
            raise DataFileError(f"{path}: holds {size:,} bytes, and may hold {limit:,}; delete it")
        missing = [key for key in keys if f"{key}.npy" not in held]
        if missing:
            raise DataFileError(f"{path}: has no array {missing[0]!r}; it must have {', '.join(keys)}")
        return [_read_array(archive, f"{key}.npy") for key in keys]


def _read_array(archive: zipfile.ZipFile, member: str) -> Array:
    with archive.open(member) as file:
        values: Array = np.lib.format.read_array(file, allow_pickle=False)
        # The checksum is compared at the end, which NumPy does not reach if a damaged header says less.
        if file.read(1):
            raise ValueError(f"{member} goes on after its {values.shape} values")
    return values


def client_name(path: Path, value: object) -> str:
    """A client's id, which must be text or the bytes of one in UTF-8."""
    try:
        if isinstance(value, str):
            value.encode()  # a damaged name may contain halves of characters
            return value
        if isinstance(value, bytes):
            return value.decode()
    except UnicodeError:
        pass
    raise DataFileError(f"{path}: the client id {value!r} is not UTF-8 text")


def check_images(path: Path, images: Array, shape: tuple[int, ...]) -> None:
    """Refuse anything but bytes [images, *shape]."""
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise DataFileError(
            f"{path}: images have shape {images.shape} and type {images.dtype}; expected (…, "
            f"{', '.join(map(str, shape))}) of uint8"
        )


def check_whole_numbers(path: Path, key: str, values: Array, length: int) -> None:
    """Refuse anything but one whole number for each of `length` images."""
    if values.shape != (length,) or values.dtype.kind not in "iu":
        raise DataFileError(
            f"{path}: {key} have shape {values.shape} and type {values.dtype}; expected one whole number for "
            f"each of {length} images"
        )


def check_range(path: Path, key: str, values: Array, end: int) -> None:
    """Refuse whole numbers outside [0, end), such as labels."""
    wrong = np.flatnonzero((values < 0) | (values >= end))
    if len(wrong):
        first = int(wrong[0])
        raise DataFileError(f"{path}: {key}[{first}] is {values[first]}, out of range [0, {end})")


def column(path: Path, client_id: str, columns: Columns, key: str, kinds: str, *shape: int) -> Array:
    """One array of a client [examples, *shape], with its type and size checked.

    An array without examples has whatever type a library gives an empty list; it gets the first kind's here.
    """
    values = columns.get(key)
    size = int(np.prod(shape))
    if not isinstance(values, np.ndarray) or values.ndim == 0:
        raise DataFileError(
            f"{path}: client {client_id!r} has no array {key!r}; it has {', '.join(map(str, columns))}"
        )
    if len(values) == 0:
        return np.empty((0, *shape), _TYPES[kinds[0]])
    if values.dtype.kind not in kinds or values.size != len(values) * size:
        raise DataFileError(
            f"{path}: {key} of client {client_id!r} has shape {values.shape} and type {values.dtype}; "
            f"expected {size} per example, of one of the kinds {', '.join(kinds)}"
        )
    return values.reshape(len(values), *shape)
