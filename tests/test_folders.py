"""Folders outside the project: named by absolute paths, and never made in the working folder by chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_meta.command_line import main as cli
from fl_meta.data.synthetic.writers import load_writers
from fl_meta.support.folders import FOLDERS, cache_folder, named_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and an empty working folder beside it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("XDG_CACHE_HOME", *FOLDERS):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize("relative", ["", "cache", "./cache", "..", ".", "~nobody-of-this-name/cache"])
def test_a_relative_cache_folder_is_ignored(
    home: Path, monkeypatch: pytest.MonkeyPatch, relative: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    assert cache_folder() == home / ".cache" / "fl_meta"
    load_writers(2, mean_examples=10)
    assert list(Path().iterdir()) == [] and len(list((home / ".cache" / "fl_meta").iterdir())) == 1


def test_an_absolute_cache_folder_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for named, folder in (("/elsewhere", Path("/elsewhere")), ("~/elsewhere", home / "elsewhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert cache_folder() == folder / "fl_meta"


@pytest.mark.parametrize("named", ["somewhere", "./somewhere", "~nobody-of-this-name"])
def test_without_a_home_the_variable_to_set_is_named(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("HOME", named)
    with pytest.raises(FileNotFoundError, match="set the environment variable XDG_CACHE_HOME or HOME to"):
        cache_folder()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("variable", FOLDERS)
def test_a_relative_folder_is_fixed_for_whatever_the_program_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "../data")
    expected = Path.cwd() / "../data"
    assert named_folder(variable) == expected
    assert cli.main(["data", "list"]) == 0
    home.mkdir()
    monkeypatch.chdir(home)  # as a notebook, which runs elsewhere
    assert named_folder(variable) == expected
    for absolute, folder in (("/data", Path("/data")), ("~/data", home / "data")):
        monkeypatch.setenv(variable, absolute)
        assert named_folder(variable) == folder
    monkeypatch.setenv(variable, "")
    assert named_folder(variable) is None
