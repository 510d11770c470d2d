"""The table of data sets, and where their files are looked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fl_meta.command_line.main import main
from fl_meta.data import LOADERS
from fl_meta.data.catalogue import CATALOGUE, check_counts, existing, folder, located


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder that the variable names, and the cache folder."""
    monkeypatch.setenv("FL_META_DATA", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "named", tmp_path / "cache" / "fl_meta" / "data"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("name", sorted(LOADERS.keys() | CATALOGUE.keys()))
def test_an_entry_is_complete(name: str) -> None:
    entry = CATALOGUE[name]
    assert name in LOADERS and entry.source and entry.licence
    for form in entry.forms:
        for download in form.downloads:
            assert download.url.startswith("https://")
            # An archive gives the files of its form; any other file is one of them.
            assert set(download.unpacks_to or [download.file]) <= set(form.files)
            assert bool(download.unpacks_to) == bool(download.unpacked_bytes)
            if download.checksum:
                assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", download.checksum)


def test_the_variable_names_the_folder_and_else_it_is_in_the_cache(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, cache = places
    assert folder() == named
    monkeypatch.setenv("FL_META_DATA", "")
    assert folder() == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / ".cache" / "fl_meta" / "data"


def test_the_named_folder_comes_before_the_cache(places: tuple[Path, Path]) -> None:
    named, cache = (place / "unipen62" / "unipen62.npz" for place in places)
    put(cache)
    assert existing("unipen62", "unipen62.npz") == cache and located("unipen62") == [cache]
    put(named)
    assert existing("unipen62", "unipen62.npz") == named and located("unipen62") == [named]


def test_a_data_set_is_located_only_where_all_files_of_a_form_are(places: tuple[Path, Path]) -> None:
    named, _ = places
    train = put(named / "emnist_tff" / "fed_emnist_train.h5")
    assert located("emnist_tff") == []
    sqlite = put(named / "emnist_tff" / "emnist_all.sqlite")
    assert located("emnist_tff") == [sqlite]
    test = put(named / "emnist_tff" / "fed_emnist_test.h5")
    assert located("emnist_tff") == [train, test]


def test_files_of_any_name_are_located(places: tuple[Path, Path]) -> None:
    folder = places[0] / "femnist_leaf"
    paths = [put(folder / file) for file in ("train/b.json", "train/a.json")]
    assert located("femnist_leaf") == []
    last = put(folder / "test/c.json")
    assert located("femnist_leaf") == [*sorted(paths), last]


def test_a_subset_lies_in_the_folder_of_the_whole(places: tuple[Path, Path]) -> None:
    path = put(places[0] / "cifar10" / "cifar10_subset.npz")
    assert existing("cifar10_subset", "cifar10_subset.npz") == path


def test_what_is_missing_says_what_to_run_or_to_put_where(places: tuple[Path, Path]) -> None:
    named, cache = places
    with pytest.raises(FileNotFoundError) as caught:
        existing("cifar100", "cifar-100-binary.tar.gz")
    message = str(caught.value)
    path = named / "cifar100" / "cifar-100-binary.tar.gz"
    assert f"no file {path} or {cache}" in message and "Run `fl-meta data fetch cifar100`" in message
    assert f"put cifar-100-binary.tar.gz there, as {path}" in message
    assert "(https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz)" in message
    with pytest.raises(FileNotFoundError) as caught:
        existing("cifar10_subset", "cifar10_subset.npz")
    assert "fetch" not in str(caught.value) and "Put cifar10_subset.npz there" in str(caught.value)


def test_other_counts_than_published_are_an_error_that_names_the_file() -> None:
    path = Path("somewhere/emnist_all.sqlite")
    check_counts(path, "emnist_tff", writers=3_400, train_images=671_585)
    problem = "somewhere/emnist_all.sqlite: holds 3,399 writers, 7 test images; the whole data set has 3,400 "
    with pytest.raises(ValueError, match=problem + "writers, 77,483 test images"):
        check_counts(path, "emnist_tff", writers=3_399, test_images=7)


def test_the_counts_of_one_data_set_agree_in_all_its_forms() -> None:
    for name in ("emnist", "shakespeare"):
        assert CATALOGUE[f"{name}_fedjax"].counts.items() <= CATALOGUE[f"{name}_tff"].counts.items()


@pytest.mark.parametrize("trouble", ["link", "name", "home"])
def test_the_list_goes_on_after_a_folder_that_cannot_be_looked_at(
    places: tuple[Path, Path],
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if trouble == "link":
        put(places[0] / "femnist_leaf/test/a.json")
        (places[0] / "femnist_leaf/train").mkdir()
        (places[0] / "femnist_leaf/train/a.json").symlink_to("nothing")
    elif trouble == "name":
        monkeypatch.setenv("FL_META_DATA", "/" + "long" * 1_000)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "not/absolute")
        monkeypatch.delenv("FL_META_DATA")
    try:
        status = main(["data", "list"])
    except SystemExit as error:
        status = error.code
    said = capsys.readouterr().out
    assert status == 1 and all(f"\n{name} " in said for name in CATALOGUE)
    assert {"link": "train/a.json: No such file", "name": "too long", "home": "no home"}[trouble] in said
