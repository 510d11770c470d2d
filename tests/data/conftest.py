import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fl_meta.data.catalogue import CATALOGUE, folder_of

# The tests of this folder share the module small_files.
sys.path.insert(0, str(Path(__file__).parent))


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


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """`publish(name, path)`: the file at this path is the one that the catalogue's address gives."""

    def publish(name: str, path: Path) -> None:
        content = path.read_bytes()
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        forms = tuple(
            replace(
                form,
                downloads=tuple(
                    replace(each, bytes=len(content), checksum=checksum) if each.file == path.name else each
                    for each in form.downloads
                ),
            )
            for form in CATALOGUE[name].forms
        )
        monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], forms=forms))

    return publish


@pytest.fixture
def small(
    place: Path, expect: Callable[..., None], publish: Callable[[str, Path], None]
) -> Callable[..., Path]:
    """`small(key, change)` writes a format of `small_files.FORMATS` and returns the data set's folder."""
    from small_files import CIFAR_ARCHIVES, FORMATS, MNIST, name_of, unchanged

    def write(key: str, change: Callable[..., object] = unchanged) -> Path:
        chosen, name = FORMATS[key], name_of(key)
        folder = folder_of(name, place)
        folder.mkdir(parents=True, exist_ok=True)
        chosen.write(folder, change)
        expect(name, **chosen.counts)
        for file in chosen.files:
            if file in MNIST or name in CIFAR_ARCHIVES:
                publish(name, folder / file)
        return folder

    return write
