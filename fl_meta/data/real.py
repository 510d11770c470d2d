"""Real data sets, read from files in the folder that the environment variable FL_META_DATA names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_meta.data.federated import FederatedDataset
from fl_meta.data.handwriting import as_floats
from fl_meta.data.shakespeare import VOCABULARY, encode, examples_of

Array = NDArray[Any]

VARIABLE = "FL_META_DATA"
SOURCES = {
    "mnist_by_writer": (
        "MNIST's training digits by writer, with the writers of QMNIST's label tables "
        "(https://github.com/facebookresearch/qmnist)"
    ),
    "unipen62": "UNIPEN train_r01_v07 (Guyon et al. 1994; on Zenodo), pen strokes drawn as 28×28 images",
    "shakespeare_tff": (
        "TensorFlow Federated's Shakespeare "
        "(https://storage.googleapis.com/tff-datasets-public/shakespeare.tar.bz2)"
    ),
}
# What the whole data sets have.
COUNTS = {
    "mnist_by_writer": {"classes": 10, "writers": 539, "images": 60_000},
    "unipen62": {"classes": 62, "writers": 252, "images": 84_625},
    "shakespeare_tff": {"roles": 715, "train_snippets": 16_068, "test_snippets": 2_356},
}
# Every id of a TFF role begins with one of these; none of them begins with another.
TITLES = (
    "ALL_S_WELL_THAT_ENDS_WELL",
    "MUCH_ADO_ABOUT_NOTHING",
    "PERICLES__PRINCE_OF_TYRE",
    "THE_FIRST_PART_OF_KING_HENRY_THE_FOURTH",
    "THE_TAMING_OF_THE_SHREW",
    "THE_TRAGEDY_OF_KING_LEAR",
)


def load_mnist_by_writer() -> FederatedDataset:
    """MNIST's 60,000 training digits, with one client per person who wrote them, named by NIST's number.

    A random fifth of each writer's digits is the test part. A writer of a single digit would be left out.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.

    Raises:
        FileNotFoundError: if FL_META_DATA is not set, or its mnist_by_writer/mnist_by_writer.npz is missing.
        ValueError: if the file is damaged or does not hold the whole data set.

    Source: MNIST (LeCun, Cortes and Burges 1998); writers from QMNIST's tables (Yadav and Bottou 2019).
    """
    path = _existing("mnist_by_writer", "mnist_by_writer.npz")
    images, labels, writers = _read_arrays(path, "images", "labels", "writers")
    _check_handwriting(path, images, labels, writers, classes=10)
    return _by_writer(
        path,
        images,
        labels,
        owners=np.array([f"writer_{number:04d}" for number in writers], dtype=np.str_),
        class_names="0123456789",
        source=f"{SOURCES['mnist_by_writer']}; asks for citation, the tables are under a BSD licence",
    )


def load_unipen62() -> FederatedDataset:
    """Characters that 252 people wrote with a pen on a tablet, 62 classes (0-9, A-Z, a-z), drawn as images.

    A random fifth of each writer's characters is the test part. A writer of a single one would be left out.
    The two writers val00 and val01 have 8,877 characters; `limited` caps how many of a writer are used.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.

    Raises:
        FileNotFoundError: if FL_META_DATA is not set, or its unipen62/unipen62.npz is missing.
        ValueError: if the file is damaged or does not hold the whole data set.

    Source: UNIPEN train_r01_v07 (Guyon et al. 1994). The paper's EMNIST is scanned paper, not pen strokes.
    """
    path = _existing("unipen62", "unipen62.npz")
    keys = ("images", "labels", "writers", "writer_codes", "classes")
    images, labels, writers, codes, classes = _read_arrays(path, *keys)
    for key, names in (("writer_codes", codes), ("classes", classes)):
        if names.ndim != 1 or names.dtype.kind != "U" or len(np.unique(names)) != len(names):
            raise ValueError(
                f"{path}: {key} must be distinct strings in one row; it has shape {names.shape} and type "
                f"{names.dtype}"
            )
    _check_handwriting(path, images, labels, writers, classes=len(classes))
    _check_range(path, "writers", writers, len(codes))
    return _by_writer(
        path,
        images,
        labels,
        owners=codes[writers],
        class_names=classes.tolist(),
        source=f"{SOURCES['unipen62']}; CC BY 4.0, its notice of 1999 asks for research use and citation",
    )


def load_shakespeare_tff(*, positions: int = 80) -> FederatedDataset:
    """TensorFlow Federated's speaking roles as clients, the paper's second data set: the next character.

    The snippets (speeches) of a role's train part, with an end of line after each, are one text, and those of
    its test part another; they become examples as in `load_shakespeare`. Snippets are in the order of the
    files, which is not that of the play. Some have no character and stay as empty lines: the test part of
    26 roles is nothing else.

    Args:
        positions: characters per example, at least 1.

    Raises:
        ModuleNotFoundError: if h5py is not installed.
        FileNotFoundError: if FL_META_DATA is not set, or shakespeare_tff/shakespeare_train.h5 or
            shakespeare_tff/shakespeare_test.h5 in it is missing.
        ValueError: if `positions` is below 1, or a file is damaged or does not hold the whole data set.

    Source: LEAF's Shakespeare (Caldas et al. 2018) in TensorFlow Federated's files. A client may be roles of
    one name in several plays: see `play_of`.
    """
    if positions < 1:
        raise ValueError(f"positions={positions} must be 1 or more")
    paths = [_existing("shakespeare_tff", f"shakespeare_{part}.h5") for part in ("train", "test")]
    train, test = (_read_snippets(path) for path in paths)
    if train.keys() != test.keys():
        lone = min(train.keys() ^ test.keys())
        raise ValueError(
            f"{paths[1]}: the roles are not those of {paths[0].name}; {lone!r} is in one of them"
        )
    _check_counts(paths[0], roles=len(train), train_snippets=sum(map(len, train.values())))
    _check_counts(paths[1], test_snippets=sum(map(len, test.values())))
    roles = sorted(train)
    parts = [
        examples_of(encode("\n".join(snippets[role]) + "\n"), positions)
        for role in roles
        for snippets in (train, test)
    ]
    counts = np.array([len(x) for x, _ in parts], dtype=np.int64)
    return FederatedDataset(
        name="shakespeare_tff",
        x=np.concatenate([x for x, _ in parts]),
        y=np.concatenate([y for _, y in parts]),
        client_ids=tuple(roles),
        starts=(np.cumsum(counts) - counts)[::2],
        train_counts=counts[::2],
        test_counts=counts[1::2],
        num_classes=len(VOCABULARY),
        class_names=tuple(VOCABULARY),
        source=f"{SOURCES['shakespeare_tff']}; the text is in the public domain",
    )


def play_of(role: str) -> str:
    """The title that begins the id of a role of `load_shakespeare_tff`; splits by it keep every play whole.

    The title is not the play. There are six, and each stands for one to seven other plays: Macbeth, Shylock
    and Puck are under THE_TRAGEDY_OF_KING_LEAR, and Lear is nowhere. All roles of a play are under one title,
    so where whole titles are held out, no play is on both sides. Real plays cannot be told apart by the ids:
    a name that occurs in several plays under one title (MESSENGER, KING_RICHARD) is one client.

    Raises:
        ValueError: if the id begins with none of the titles.
    """
    for title in TITLES:
        if role.startswith(f"{title}_"):
            return title
    raise ValueError(
        f"role {role!r} begins with none of the titles of TFF's Shakespeare: {', '.join(TITLES)}"
    )


def _existing(name: str, file: str) -> Path:
    """The path of a data set's file in the user's folder."""
    folder = os.environ.get(VARIABLE)
    path = Path(folder or f"${VARIABLE}", name, file)
    if not folder:
        problem = f"the environment variable {VARIABLE} is not set; it names the folder of the data sets"
    elif not path.is_file():
        problem = f"no file {path}, in the folder that the environment variable {VARIABLE} names"
    else:
        return path
    raise FileNotFoundError(f"{name}: {problem}. Put {file} there, as {path}. It is from: {SOURCES[name]}")


def _read_arrays(path: Path, *keys: str) -> list[Array]:
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            missing = [key for key in keys if key not in arrays]
            read = [] if missing else [arrays[key] for key in keys]
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        raise ValueError(f"{path}: damaged, or not an .npz file without pickled objects ({error})") from error
    if missing:
        raise ValueError(f"{path}: has no array {missing[0]!r}; it must have {', '.join(keys)}")
    return read


def _check_range(path: Path, key: str, values: Array, end: int) -> None:
    wrong = np.flatnonzero((values < 0) | (values >= end))
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(f"{path}: {key}[{first}] is {values[first]}, out of range [0, {end})")


def _check_handwriting(path: Path, images: Array, labels: Array, writers: Array, *, classes: int) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"{path}: images have shape {images.shape} and type {images.dtype}; expected (…, 28, 28) of uint8"
        )
    for key, values in (("labels", labels), ("writers", writers)):
        if values.shape != (len(images),) or values.dtype.kind not in "iu":
            raise ValueError(
                f"{path}: {key} have shape {values.shape} and type {values.dtype}; expected one whole number "
                f"for each of {len(images)} images"
            )
    _check_range(path, "labels", labels, classes)
    _check_counts(path, classes=classes, writers=len(np.unique(writers)), images=len(images))


def _check_counts(path: Path, **found: int) -> None:
    expected = {what: COUNTS[path.parent.name][what] for what in found}
    if found != expected:
        there, wanted = (
            ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in counts.items())
            for counts in (found, expected)
        )
        raise ValueError(f"{path}: holds {there}; the whole data set has {wanted}")


def _by_writer(
    path: Path, images: Array, labels: Array, *, owners: Array, class_names: Sequence[str], source: str
) -> FederatedDataset:
    _, index, counts = np.unique(owners, return_inverse=True, return_counts=True)
    enough = counts[index] >= 2  # a single example cannot be both trained and tested on
    data = FederatedDataset.from_arrays(
        images[enough],
        labels[enough].astype(np.int64),
        owners[enough],
        test_fraction=0.2,
        num_classes=len(class_names),
        class_names=class_names,
        name=path.parent.name,
        source=source,
    )
    # Bytes are grouped before they become four times as large.
    return replace(data, x=as_floats(np.asarray(data.x)))


def _read_snippets(path: Path) -> dict[str, list[str]]:
    """The snippets of each role, in the order of the file."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path.parent.name} is read with the package 'h5py', which is not installed: "
            "run `pip install h5py`"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            return {
                role: [snippet.decode("utf-8") for snippet in group["snippets"][:]]
                for role, group in file["examples"].items()
            }
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        raise ValueError(
            f"{path}: damaged, or not an HDF5 file with strings in examples/<role>/snippets ({error})"
        ) from error
