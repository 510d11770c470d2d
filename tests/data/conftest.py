from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fl_meta.data.catalogue import CATALOGUE


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the data sets, empty; nothing else of this machine is seen."""
    monkeypatch.setenv("FL_META_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


@pytest.fixture
def expect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`expect(name, writers=2)`: small files are the whole data set."""

    def expect(name: str, **counts: int) -> None:
        monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], counts=counts))

    return expect
