"""TensorFlow Federated's EMNIST, Shakespeare and CIFAR-100, from its SQLite or its older HDF5 files.

If there is only the compressed form of a SQLite file, `.sqlite.lzma`, it is unpacked first.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from fl_meta.data.catalogue import CATALOGUE, check_counts
from fl_meta.data.encoding import CHARACTERS, as_floats
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.archives import unpack
from fl_meta.data.files.arrays import Columns, check_range, client_name, column
from fl_meta.data.files.checksum import remember, verified_file
from fl_meta.data.files.errors import DataFileError
from fl_meta.data.files.hdf5 import groups
from fl_meta.data.files.sqlite import selecting
from fl_meta.data.files.tf_example import features
from fl_meta.data.published.assembly import (
    Examples,
    Parse,
    Part,
    assembled,
    check_writers,
    handwriting,
    roles,
)
from fl_meta.data.published.cifar import CIFAR100_CLASSES, check_coarse_labels
from fl_meta.support.array_types import Array
from fl_meta.support.validation import whole_number

# Each client's id with its features; a generator, which holds its file open until it is closed.
Clients = Generator[tuple[str, Columns], None, None]

# Every id of a TFF role begins with one of these; none of them begins with another.
TITLES = (
    "ALL_S_WELL_THAT_ENDS_WELL",
    "MUCH_ADO_ABOUT_NOTHING",
    "PERICLES__PRINCE_OF_TYRE",
    "THE_FIRST_PART_OF_KING_HENRY_THE_FOURTH",
    "THE_TAMING_OF_THE_SHREW",
    "THE_TRAGEDY_OF_KING_LEAR",
)


def load_emnist_tff(*, only_digits: bool = False) -> FederatedDataset:
    """TensorFlow Federated's EMNIST by writer, the paper's first data set: 62 classes, 0-9, A-Z, a-z.

    Read from emnist_tff/fed_emnist_train.h5 and fed_emnist_test.h5 (digits: fed_emnist_digitsonly_…), or from
    emnist_tff/emnist_all.sqlite.

    Args:
        only_digits: read TFF's split of the digits alone instead: 10 classes, 3,383 writers.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), the reverse of TFF's files; `y` [examples]
        int64.

    Source: LEAF's FEMNIST (Caldas et al. 2018) in TensorFlow Federated's files.
    """
    classes = CHARACTERS[:10] if only_digits else CHARACTERS
    paths, train, test = _read(
        "emnist_tff",
        hdf5="fed_emnist_digitsonly" if only_digits else "fed_emnist",
        sqlite="emnist_all.sqlite",
        splits=("digits_only_train", "digits_only_test") if only_digits else ("all_train", "all_test"),
        parse=partial(writer, num_classes=len(classes)),
    )
    check_writers(paths, "emnist_tff", train, test, prefix="digits_" if only_digits else "")
    return assembled("emnist_tff", train, test, class_names=classes)


def load_shakespeare_tff(*, positions: int = 80) -> FederatedDataset:
    """TensorFlow Federated's speaking roles as clients, the paper's second data set: the next character.

    The snippets (speeches) of a role's train part, each ending in a new line, form one text, and those of its
    test part another; both become examples as in `load_shakespeare`. Snippets are in the order of the files,
    which is not that of the play. Some are empty and become empty lines: the test part of 26 roles has no
    others.

    Read from shakespeare_tff/shakespeare_train.h5 and shakespeare_test.h5, or from shakespeare.sqlite there.

    Args:
        positions: characters per example, at least 1.

    Source: LEAF's Shakespeare (Caldas et al. 2018) in TensorFlow Federated's files. A client may combine
    roles of the same name in several plays: see `play_of`.
    """
    positions = whole_number("positions", positions)
    paths, train, test = _read(
        "shakespeare_tff",
        hdf5="shakespeare",
        sqlite="shakespeare.sqlite",
        splits=("train", "test"),
        parse=snippets,
    )
    return roles(paths, "shakespeare_tff", train, test, positions)


def play_of(role: str) -> str:
    """The title in the id of a role of `load_shakespeare_tff`; splits by title keep every play whole.

    The title is not the play. There are six, and each covers one to seven other plays: Macbeth, Shylock and
    Puck are under THE_TRAGEDY_OF_KING_LEAR, and Lear does not occur. All roles of a play are under the same
    title, so if whole titles are held out, no play is on both sides. The ids do not tell the plays apart: a
    name that occurs in several plays under one title (MESSENGER, KING_RICHARD) is one client.
    """
    for title in TITLES:
        if role.startswith(f"{title}_"):
            return title
    raise ValueError(
        f"role {role!r} begins with none of the titles of TFF's Shakespeare: {', '.join(TITLES)}"
    )


def load_cifar100_tff() -> FederatedDataset:
    """TensorFlow Federated's CIFAR-100, divided by Pachinko allocation: 600 clients of 100 images.

    TFF's 500 training clients and 100 test clients are different clients, though their ids overlap. Here they
    are called train_0 … train_499 (images of CIFAR-100's training set) and test_0 … test_99 (of its test
    set), and a random fifth of each client's images is its test part, so that each can be personalized and
    scored. The test_ clients are meant to be held out. To score a global model as TFF does, use both of their
    parts: all 10,000 images of CIFAR-100's test set.

    Read from cifar100_tff/fed_cifar100_train.h5 and fed_cifar100_test.h5, or from cifar100.sqlite there.

    Returns:
        `x` [examples, 3, 32, 32] float32 in [0, 1], `y` [examples] int64, the fine label.

    Source: CIFAR-100 (Krizhevsky 2009), allocated by TensorFlow Federated (Reddi et al. 2021).
    """
    name = "cifar100_tff"
    paths, *splits = _read(
        name, hdf5="fed_cifar100", sqlite="cifar100.sqlite", splits=("train", "test"), parse=cifar
    )
    images, labels, owners = list[Array](), list[Array](), list[str]()
    for path, split, clients in zip(paths, ("train", "test"), splits, strict=True):
        number = sum(len(y) for _, y in clients.values())
        check_counts(path, name, **{f"{split}_clients": len(clients), f"{split}_images": number})
        for client_id, (x, y) in clients.items():
            images.append(x)
            labels.append(y)
            owners += [f"{split}_{client_id}"] * len(y)
    data = FederatedDataset.from_arrays(
        np.concatenate(images),
        np.concatenate(labels),
        owners,
        num_classes=len(CIFAR100_CLASSES),
        class_names=CIFAR100_CLASSES,
        name=name,
        source=CATALOGUE[name].credit,
    )
    # Bytes are grouped before they become four times as large.
    return replace(data, x=as_floats(np.asarray(data.x)))


def writer(path: Path, client_id: str, columns: Columns, *, num_classes: int) -> Examples:
    """A writer's part of TFF's or FedJAX's EMNIST, as `handwriting` returns it."""
    pixels = column(path, client_id, columns, "pixels", "f", 28, 28)
    labels = column(path, client_id, columns, "label", "iu")
    return handwriting(path, client_id, pixels, labels, num_classes)


def snippets(path: Path, client_id: str, columns: Columns) -> list[bytes]:
    """A role's speeches in TFF's or FedJAX's Shakespeare."""
    speeches: list[bytes] = column(path, client_id, columns, "snippets", "OS").tolist()
    if not all(isinstance(snippet, bytes) for snippet in speeches):
        raise DataFileError(f"{path}: snippets of client {client_id!r} are not all text")
    return speeches


def cifar(path: Path, client_id: str, columns: Columns) -> Examples:
    """A client's images [examples, 3, 32, 32] uint8, and fine labels [examples] int64."""
    pixels = column(path, client_id, columns, "image", "iu", 32, 32, 3)
    fine = column(path, client_id, columns, "label", "iu")
    coarse = column(path, client_id, columns, "coarse_label", "iu")
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 255):
        raise DataFileError(f"{path}: pixels of client {client_id!r} are not all in 0 to 255")
    check_range(path, f"label of client {client_id!r}", fine, len(CIFAR100_CLASSES))
    check_coarse_labels(path, ("example", f"of client {client_id!r}"), fine, coarse)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).astype(np.uint8)), fine.astype(np.int64)


def _read(
    name: str, *, hdf5: str, sqlite: str, splits: tuple[str, str], parse: Parse[Part]
) -> tuple[list[Path], dict[str, Part], dict[str, Part]]:
    """The files of the train and the test parts, and what `parse` makes of each client's parts."""
    path = verified_file(name, f"{hdf5}_train.h5", sqlite, f"{sqlite}.lzma")
    if path.suffix == ".h5":
        paths = [path, verified_file(name, f"{hdf5}_test.h5")]
        clients = [groups(path, "examples") for path in paths]
    else:
        paths = [_unpacked(name, path)] * 2
        clients = [_sqlite_clients(paths[0], split) for split in splits]
    train, test = (_parsed(path, of, parse) for path, of in zip(paths, clients, strict=True))
    return paths, train, test


def _parsed(path: Path, clients: Clients, parse: Parse[Part]) -> dict[str, Part]:
    # Closed here also if `parse` raises: SQLite lets only the thread that opened a file close it, and the
    # garbage collector may run in another.
    with closing(clients):
        return {client_id: parse(path, client_id, columns) for client_id, columns in clients}


def _sqlite_clients(path: Path, split: str) -> Clients:
    """Every client of one split of a SQLite file, with the features of its examples."""
    with selecting(path) as select:
        metadata = select("SELECT split_name, client_id, num_examples FROM client_metadata")
        expected = {client_id: number for of, client_id, number in metadata if of == split}
        examples = select(
            "SELECT client_id, serialized_example_proto FROM examples WHERE split_name = ? "
            "ORDER BY client_id, rowid",
            split,
        )
        columns: Columns = {}
        for client_id, group in groupby(examples, key=itemgetter(0)):
            blobs = [blob for _, blob in group]
            client_id = client_name(path, client_id)
            _check_number(path, split, client_id, len(blobs), expected.pop(client_id, 0))
            columns = features(path, client_id, blobs)
            yield client_id, columns
        for client_id, number in expected.items():
            _check_number(path, split, client_id, 0, number)
            # As in LEAF's files, a client may have no examples; it has empty arrays of another's names.
            yield client_name(path, client_id), {key: np.empty(0) for key in columns}


def _check_number(path: Path, split: str, client_id: str, number: int, expected: int) -> None:
    if number != expected:
        raise DataFileError(
            f"{path}: client {client_id!r} has {number} examples in split {split!r}, but the table "
            f"client_metadata says {expected}"
        )


def _unpacked(name: str, path: Path) -> Path:
    """The file itself; a compressed one is unpacked beside it first."""
    if path.suffix != ".lzma":
        return path
    downloads = [download for form in CATALOGUE[name].forms for download in form.downloads]
    limit = next(download.unpacked_bytes for download in downloads if download.file == path.name)
    checksums = unpack(path, path.parent, [path.stem], limit)
    remember(name, path.with_suffix(""), checksums=checksums)
    return path.with_suffix("")
