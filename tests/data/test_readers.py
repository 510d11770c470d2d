"""What every reader owes its user: the whole data set, or one error that names the file and the problem."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_files import FORMATS, name_of

from fl_meta.data import PADDING, load_dataset
from fl_meta.data.catalogue import CATALOGUE
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.tf_example import _example_class

EACH_FILE = [(key, file) for key, chosen in FORMATS.items() for file in chosen.files]


def load(key: str) -> FederatedDataset:
    return load_dataset(name_of(key))


def test_every_data_set_that_has_files_is_tested_here() -> None:
    assert set(map(name_of, FORMATS)) == {name for name, entry in CATALOGUE.items() if entry.forms}


@pytest.mark.parametrize("key", FORMATS)
def test_small_files_are_read_alike_in_every_call(small: Callable[..., Any], key: str) -> None:
    small(key)
    data = load(key)
    assert data.name == name_of(key) and data.source == CATALOGUE[data.name].credit
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
    path = small(key) / file
    path.unlink()
    assert_missing(key, path.parent)


@pytest.mark.parametrize("key", FORMATS)
def test_a_missing_folder_is_the_same_error(place: Any, key: str) -> None:
    folder = place / (CATALOGUE[name_of(key)].folder or name_of(key))
    assert_missing(key, (folder / FORMATS[key].files[0]).parent)
    assert not place.exists()


def assert_missing(key: str, folder: Any) -> None:
    name = name_of(key)
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
    folder, name = small(key), name_of(key)
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


# What is wrong; what the formats hold that can be so wrong; the change of images and labels, or of snippets,
# with the number of classes; and a pattern of what the error says.
WRONG: dict[str, tuple[str, Callable[..., Any], str]] = {
    "a label beyond the classes": (
        "bytes numbers",
        lambda x, y, n: (x, y * 0 + n),
        r"\[0\] is \d+, out of range",
    ),
    "a negative label": ("numbers", lambda x, y, n: (x, y.astype(int) * 0 - 1), r"\[0\] is -1, out of range"),
    "labels that are not whole": ("numbers", lambda x, y, n: (x, y + 0.5), "and type float"),
    "a label too few": (
        "bytes numbers",
        lambda x, y, n: (x, y[: max(1, len(y) - 1)]),
        ": .* (has|have|holds) .*[0-9]",
    ),
    "images of another size": ("numbers", lambda x, y, n: (flat(x), y), "shape"),
    "bytes of another size": ("bytes", lambda x, y, n: (x[..., 1:], y), "begins with|not a multiple of"),
    "pixels beyond the range": ("numbers", lambda x, y, n: (x * 1.5, y), r"not all in \[0, 1\]|type float"),
    "pixels below the range": ("numbers", lambda x, y, n: (x - 0.5, y), r"not all in \[0, 1\]|type float"),
    "pixels that are NaN": ("numbers", lambda x, y, n: (x * np.nan, y), r"not all in \[0, 1\]|type float"),
    "numbers in place of text": ("text", lambda said, n: [5] * len(said), "snippets of client .* type int64"),
    "bytes that are not UTF-8": ("text", lambda said, n: [b"\xff\xfe"] * len(said), "is not UTF-8 text"),
    "a snippet too many": ("text", lambda said, n: [*said, b"So"], "holds|has .* examples"),
}
CLASSES = {"mnist_by_writer": 10, "unipen62": 10, "cifar10": 10, "cifar10_subset": 10}
CLASSES |= {"cifar100": 100, "cifar100_subset": 100, "cifar100_tff": 100}


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (key, what)
        for what, (holds, *_) in WRONG.items()
        for key in FORMATS
        if FORMATS[key].holds in holds.split()
    ],
)
def test_wrong_values_are_an_error_that_names_the_file(
    small: Callable[..., Any], key: str, what: str
) -> None:
    _, change, problem = WRONG[what]
    folder = small(key, lambda *values: change(*values, CLASSES.get(key, 62)))
    with pytest.raises(ValueError, match=problem) as caught:
        load(key)
    assert any(str(caught.value).startswith(f"{folder / file}: ") for file in FORMATS[key].files)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists the open files there")
@pytest.mark.parametrize("what", ["wrong values", "half a file"])
@pytest.mark.parametrize("key", FORMATS)
def test_an_error_that_is_kept_keeps_no_file_open(small: Callable[..., Any], key: str, what: str) -> None:
    """A traceback keeps every reader that was interrupted; in a notebook the last one is kept for long."""
    values = FORMATS[key].holds
    change = (lambda said: [*said, b"\xff"]) if values == "text" else (lambda x, y: (x, y * 0 + 200))
    folder = small(key, change)
    if what == "half a file" or values in ("windows", "strokes"):
        path = folder / FORMATS[key].files[-1]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError) as kept:
        load(key)
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not any(path.is_relative_to(folder) for path in opened), kept


@pytest.mark.parametrize(
    ("key", "module", "package"),
    [
        ("shakespeare_tff in HDF5", "h5py", "h5py"),
        ("emnist_tff in SQLite", "google.protobuf", "protobuf"),
        ("emnist_fedjax", "msgpack", "msgpack"),
    ],
)
def test_without_a_package_that_a_format_needs_an_error_gives_the_command(
    small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, key: str, module: str, package: str
) -> None:
    small(key)
    _example_class.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)  # what importing it then finds
    with pytest.raises(
        ModuleNotFoundError, match=rf"{package}', which is not installed; run: pip install 'fl_meta\[data\]'"
    ):
        load(key)


@pytest.mark.parametrize("positions", [0, -80])
@pytest.mark.parametrize("name", ["shakespeare", "shakespeare_tff", "shakespeare_fedjax"])
def test_an_example_of_text_has_at_least_one_character(name: str, positions: int) -> None:
    with pytest.raises(ValueError, match=f"positions={positions} must be a whole number of 1 or more"):
        load_dataset(name, positions=positions)
