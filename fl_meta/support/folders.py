"""Where files outside the project lie: folders named by environment variables, or the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS = ("FL_META_DATA", "FL_META_CACHE", "FL_META_EXPERIMENTS", "FL_META_RECORDED")
"""Environment variables that name a folder: of data sets, generated writers, own and recorded results."""


def cache_folder() -> Path:
    """The user's cache folder for this package: `$XDG_CACHE_HOME/fl_meta`, else `~/.cache/fl_meta`.

    A relative path in that variable is ignored, as the XDG Base Directory Specification asks.

    Raises:
        FileNotFoundError: if neither the variable nor the home folder is an absolute path.
    """
    for text in (os.environ.get("XDG_CACHE_HOME") or "", "~/.cache"):
        folder = _expanded(text)
        if folder.is_absolute():
            return folder / "fl_meta"
    raise FileNotFoundError(
        "there is no cache folder, because this user has no home folder; set the environment variable "
        "XDG_CACHE_HOME or HOME to an absolute path"
    )


def named_folder(variable: str) -> Path | None:
    """The folder that an environment variable names, as an absolute path; None if it is unset or empty."""
    named = os.environ.get(variable)
    return _expanded(named).absolute() if named else None


def fix_named_folders() -> None:
    """Make relative paths in these variables absolute for this process and those that it starts.

    Notebooks run in another folder than the program that starts them, and would look elsewhere.
    """
    for variable in FOLDERS:
        if folder := named_folder(variable):
            os.environ[variable] = str(folder)


def _expanded(text: str) -> Path:
    """The path with `~` replaced by the home folder, if there is one."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
