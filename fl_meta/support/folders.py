"""Where files outside the project lie: folders named by environment variables, or the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder for this package: `$XDG_CACHE_HOME/fl_meta`, else `~/.cache/fl_meta`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fl_meta"


def named_folder(variable: str) -> Path | None:
    """The folder that an environment variable names; None if it is unset or empty."""
    named = os.environ.get(variable)
    return Path(named).expanduser() if named else None
