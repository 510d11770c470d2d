"""The address of the repository, set in one place: `Repository` in pyproject.toml."""

from __future__ import annotations

from importlib.metadata import metadata


def repository_address() -> str:
    """The address of the repository, without a slash at its end; empty while none is set.

    Example:
        >>> repository_address().endswith("/")
        False
    """
    for line in metadata("fl_meta").get_all("Project-URL", []):
        name, _, address = line.partition(",")
        if name == "Repository":
            return str(address.strip().rstrip("/"))
    return ""
