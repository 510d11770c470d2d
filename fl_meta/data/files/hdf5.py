"""Reading HDF5 files that others have written, one group of arrays after another."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Generator
from pathlib import Path

from fl_meta.data.files.archives import most_content
from fl_meta.data.files.arrays import Columns, client_name, optional
from fl_meta.data.files.errors import DataFileError, reading

# What each heap of values of variable length begins with: a signature, a version and three zeros.
_HEAP = b"GCOL\1\0\0\0"


def groups(path: Path, within: str) -> Generator[tuple[str, Columns], None, None]:
    """The name of each group in the group `within`, and all arrays in it, by name.

    The file is open until the generator is closed.
    """
    with optional("h5py"):
        import h5py
    most = most_content(path.stat().st_size)
    heaps_are_checked = False
    with (
        reading(path, f"an HDF5 file with arrays in {within}/<client>/<key>"),
        h5py.File(path, "r") as file,
    ):
        for name, group in file[within].items():
            for key, values in group.items():
                # A damaged shape would make h5py fill the whole memory with what the file does not hold.
                if values.nbytes > most:
                    raise DataFileError(
                        f"{path}: damaged, {key} of {name!r} is larger than the file can hold"
                    )
                if values.dtype.kind == "O" and not heaps_are_checked:
                    _check_heaps(path)
                    heaps_are_checked = True
            yield client_name(path, name), {key: values[()] for key, values in group.items()}


def _check_heaps(path: Path) -> None:
    """Refuse a damaged heap of values of variable length, over which HDF5 might loop forever.

    Source: HDF5 File Format Specification, "Global Heap".
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_HEAP)
        while start >= 0:
            (size,) = struct.unpack_from("<Q", content, start + len(_HEAP))
            place, end, index = start + 16, start + size, 1
            while end <= len(content) and place + 16 <= end and index:
                index, length = struct.unpack_from("<H6xQ", content, place)
                # Number 0 is the free space at the end, with this header; others are filled up to 8 bytes.
                place += length if index == 0 else 16 + -(-length // 8) * 8
            # Less than a header may be left over.
            if not place <= end < place + (16 if index else 1):
                raise DataFileError(f"{path}: damaged, the heap at byte {start} does not end where it should")
            start = content.find(_HEAP, start + 1)
