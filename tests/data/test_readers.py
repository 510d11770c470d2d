"""What every reader owes its user: the whole data set, or one error that names the file and the problem."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_files import FORMATS

from fl_meta.data import PADDING, load_dataset
from fl_meta.data.catalogue import CATALOGUE
from fl_meta.data.federated import FederatedDataset

EACH_FILE = [(key, file) for key, chosen in FORMATS.items() for file in chosen.files]


def load(key: str) -> FederatedDataset:
    return load_dataset(FORMATS[key].name)


def test_every_data_set_that_has_files_is_tested_here() -> None:
    assert {chosen.name for chosen in FORMATS.values()} == {
        name for name, entry in CATALOGUE.items() if entry.forms
    }


@pytest.mark.parametrize("key", FORMATS)
def test_small_files_are_read_alike_in_every_call(small: Callable[..., Any], key: str) -> None:
    small(key)
    data = load(key)
    assert data.name == FORMATS[key].name and data.source == CATALOGUE[data.name].credit
    assert not data.synthetic and len(data.class_names) == data.num_classes
    assert data.fingerprint == load(key).fingerprint
    x = np.asarray(data.x)
    assert len(x) == len(data.y) == data.counts.sum() > 0
    if x.ndim == 2:
        assert (x.dtype, data.y.dtype) == (np.uint8, np.int16) and data.y.min() >= PADDING
    else:
        assert (x.dtype, data.y.dtype) == (np.float32, np.int64) and data.y.min() >= 0
        assert x.min() == 0 and 0.5 < x.max() <= 1


@pytest.mark.parametrize(("key", "file"), EACH_FILE)
def test_a_missing_file_is_an_error_that_says_where_it_belongs(
    small: Callable[..., Any], key: str, file: str
) -> None:
    folder = small(key)
    (folder / file).unlink()
    assert_missing(key, folder)


@pytest.mark.parametrize("key", FORMATS)
def test_a_missing_folder_is_the_same_error(place: Any, key: str) -> None:
    assert_missing(key, place / (CATALOGUE[FORMATS[key].name].folder or FORMATS[key].name))
    assert not place.exists()


def assert_missing(key: str, folder: Any) -> None:
    name = FORMATS[key].name
    with pytest.raises(FileNotFoundError) as caught:
        load(key)
    message, entry = str(caught.value), CATALOGUE[name]
    fetched = any(form.downloads for form in entry.forms)
    assert message.startswith(f"{name}: no file {folder}/") and entry.source in message
    assert (f"Run `fl-meta data fetch {name}`, or put " if fetched else "Put ") in message


@pytest.mark.parametrize("share", [0, 0.2, 0.6, 0.95, 0.9999])
@pytest.mark.parametrize(("key", "file"), EACH_FILE)
def test_a_file_that_was_cut_off_is_an_error_that_names_it(
    small: Callable[..., Any], key: str, file: str, share: float
) -> None:
    path = small(key) / file
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
        load(key)


@pytest.mark.parametrize(("key", "file"), EACH_FILE)
def test_another_kind_of_file_is_an_error_that_names_it(
    small: Callable[..., Any], key: str, file: str
) -> None:
    path = small(key) / file
    path.write_text("<html>404 Not Found</html>" * 99)
    with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
        load(key)


@pytest.mark.parametrize("key", [key for key, chosen in FORMATS.items() if chosen.counts])
def test_other_counts_than_the_published_are_an_error_that_gives_them(
    small: Callable[..., Any], expect: Callable[..., None], key: str
) -> None:
    folder, name = small(key), FORMATS[key].name
    for what, number in FORMATS[key].counts.items():
        if what.startswith("digits"):
            continue  # another split of the same file
        expect(name, **FORMATS[key].counts | {what: number + 5})
        with pytest.raises(ValueError, match=f"the whole data set has .*{number + 5} ") as caught:
            load(key)
        assert str(caught.value).startswith(f"{folder}/")
        assert f"{number} {what.replace('_', ' ')}" in str(caught.value)


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)[:, :-4]


# What is wrong, the format's values that can be so, the change, and what the error says.
WRONG: dict[str, tuple[str, Callable[..., Any], str]] = {
    "a label beyond the classes": ("bytes numbers", lambda x, y: (x, y + 110), "out of range [0, "),
    "a negative label": ("numbers", lambda x, y: (x, y.astype(int) - 105), "out of range [0, "),
    "labels that are not whole": ("numbers", lambda x, y: (x, y + 0.5), "and type float"),
    "a label too few": ("bytes numbers", lambda x, y: (x, y[:-1]), ": "),
    "images of another size": ("numbers", lambda x, y: (flat(x), y), "shape"),
    "bytes of another size": ("bytes", lambda x, y: (x[..., 1:], y), ": "),
    "pixels beyond the range": ("numbers", lambda x, y: (x * 3000.0, y), ": "),
    "pixels below the range": ("numbers", lambda x, y: (x - 3000.0, y), ": "),
    "pixels that are not numbers": ("numbers", lambda x, y: (x * np.nan, y), ": "),
    "numbers in place of text": ("text", lambda said: [5] * len(said), "snippets of client"),
    "bytes that are not UTF-8": ("text", lambda said: [b"\xff\xfe"] * len(said), "is not UTF-8 text"),
    "a snippet too few": ("text", lambda said: said[:-1], ": "),
}


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (key, what)
        for what in WRONG
        for key, chosen in FORMATS.items()
        if chosen.holds in WRONG[what][0].split()
    ],
)
def test_wrong_values_are_an_error_that_names_the_file(
    small: Callable[..., Any], key: str, what: str
) -> None:
    _, change, problem = WRONG[what]
    folder = small(key, change)
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        load(key)
    assert any(str(caught.value).startswith(f"{folder / file}: ") for file in FORMATS[key].files)
