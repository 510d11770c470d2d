"""Optional dependencies: name the extra that brings what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def explain_missing(extra: str, load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A package's lazy `__getattr__` whose error names the extra that brings a missing module.

    Args:
        extra: of pyproject.toml, for example "notebooks".
        load: the `__getattr__` that imports what is asked for.
    """

    def load_or_explain(name: str) -> Any:
        try:
            return load(name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in ("", "fl_meta"):
                raise
            message = f"{missing} is not installed; run: pip install 'fl_meta[{extra}]'"
            raise ModuleNotFoundError(message, name=error.name) from error

    return load_or_explain
