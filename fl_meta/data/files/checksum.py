"""Whether a file is the one that was published, by its size and checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def verify(path: Path, size: int | None, checksum: str | None) -> None:
    """Compare a file with a known size, and with a checksum such as "sha256:…"; None is not compared."""
    actual = path.stat().st_size
    algorithm, _, expected = (checksum or "").partition(":")
    if size is not None and actual != size:
        problem = f"has {actual:,} bytes, but must have {size:,}"
    elif checksum and digest(path, algorithm) != expected:
        problem = f"does not match the checksum {checksum}"
    else:
        return
    raise ValueError(f"{path}: {problem}; it is damaged, or another file: delete it and fetch it again")
