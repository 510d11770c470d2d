"""Checks of what readers take from files, and assembly of the clients' parts into a federated data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from fl_meta.data.catalogue import CATALOGUE, check_counts
from fl_meta.data.encoding import VOCABULARY, as_floats, encode, examples_of
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.arrays import Columns, check_range
from fl_meta.data.files.errors import DataFileError
from fl_meta.support.array_types import Array

# Inputs and labels of one client's part [examples, ...].
Examples = tuple[Array, Array]
Part = TypeVar("Part")
# Makes a client's part from (file, client id, the arrays that the file holds of the client).
Parse = Callable[[Path, str, Columns], Part]


def handwriting(path: Path, client_id: str, pixels: Array, labels: Array, num_classes: int) -> Examples:
    """A writer's images [examples, 28, 28] from 0 (paper) to 1 (ink), float32, and labels [examples], int64.

    In `pixels` 1 is paper, as in LEAF's, TFF's and FedJAX's files.
    """
    if len(pixels) != len(labels):
        raise DataFileError(
            f"{path}: client {client_id!r} has {len(pixels)} images but {len(labels)} labels; they must be "
            "equal"
        )
    # Written so that NaN is refused too.
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DataFileError(f"{path}: pixels of client {client_id!r} are not all in [0, 1]")
    check_range(path, f"label of client {client_id!r}", labels, num_classes)
    return np.float32(1) - pixels.astype(np.float32, copy=False), labels.astype(np.int64, copy=False)


def speech(path: Path, client_id: str, snippets: Sequence[bytes], positions: int) -> Examples:
    """A role's snippets as one text, each ending in a new line, cut into examples by `examples_of`."""
    try:
        text = "".join(f"{snippet.decode('utf-8')}\n" for snippet in snippets)
    except UnicodeDecodeError as error:
        raise DataFileError(
            f"{path}: a snippet of client {client_id!r} is not UTF-8 text ({error})"
        ) from error
    return examples_of(encode(text), positions)


def check_same_clients(path: Path, train: Mapping[str, object], test: Mapping[str, object]) -> None:
    """Refuse clients with only one of the two parts."""
    if train.keys() != test.keys():
        lone = min(train.keys() ^ test.keys())
        raise DataFileError(
            f"{path}: client {lone!r} is only in one of the train part and the test part; it must be in both"
        )


def check_writers(
    paths: Sequence[Path],
    name: str,
    train: Mapping[str, Examples],
    test: Mapping[str, Examples],
    prefix: str = "",
) -> None:
    """Compare the numbers of writers and images in the train and the test file with the published ones."""
    check_same_clients(paths[1], train, test)
    images = [sum(len(y) for _, y in part.values()) for part in (train, test)]
    check_counts(paths[0], name, **{f"{prefix}writers": len(train), f"{prefix}train_images": images[0]})
    check_counts(paths[1], name, **{f"{prefix}test_images": images[1]})


def roles(
    paths: Sequence[Path],
    name: str,
    train: Mapping[str, Sequence[bytes]],
    test: Mapping[str, Sequence[bytes]],
    positions: int,
) -> FederatedDataset:
    """The data set of the speaking roles in TFF's or FedJAX's train and test file, from their snippets."""
    check_same_clients(paths[1], train, test)
    check_counts(paths[0], name, roles=len(train), train_snippets=sum(map(len, train.values())))
    check_counts(paths[1], name, test_snippets=sum(map(len, test.values())))
    parts = [
        {role: speech(path, role, snippets, positions) for role, snippets in part.items()}
        for path, part in zip(paths, (train, test), strict=True)
    ]
    return assembled(name, *parts, class_names=VOCABULARY)


def assembled(
    name: str, train: dict[str, Examples], test: dict[str, Examples], *, class_names: Sequence[str]
) -> FederatedDataset:
    """One data set of all clients, sorted by id; a client missing in `train` or `test` has that part empty.

    Both dictionaries are emptied on the way, so that memory holds the examples about once, not twice.
    """
    ids = sorted(train.keys() | test.keys())
    counts = np.array(
        [[len(part[i][1]) if i in part else 0 for part in (train, test)] for i in ids], dtype=np.int64
    )
    ends = np.cumsum(counts).reshape(-1, 2)
    first_x, first_y = next(iter((train or test).values()))
    x = np.empty((ends[-1, -1], *first_x.shape[1:]), first_x.dtype)
    y = np.empty((ends[-1, -1], *first_y.shape[1:]), first_y.dtype)
    for client_id, number, end in zip(ids, counts, ends, strict=True):
        for part, start, stop in zip((train, test), end - number, end, strict=True):
            if client_id in part:
                x[start:stop], y[start:stop] = part.pop(client_id)
    return FederatedDataset(
        name=name,
        x=x,
        y=y,
        client_ids=tuple(ids),
        starts=ends[:, 0] - counts[:, 0],
        train_counts=counts[:, 0],
        test_counts=counts[:, 1],
        num_classes=len(class_names),
        class_names=tuple(class_names),
        source=CATALOGUE[name].credit,
    )


def pooled_client(
    name: str, train: Sequence[Examples], test: Sequence[Examples], class_names: Sequence[str]
) -> FederatedDataset:
    """The data set of images without users, given in batches: the one client "pooled" has all of them.

    Images of bytes [examples, ...] become `x` from 0 to 1, float32; labels [examples] become `y`, int64.
    """
    batches = [*train, *test]
    counts = [np.array([sum(len(y) for _, y in split)], dtype=np.int64) for split in (train, test)]
    return FederatedDataset(
        name=name,
        x=as_floats(np.concatenate([x for x, _ in batches])),
        y=np.concatenate([y for _, y in batches]).astype(np.int64),
        client_ids=("pooled",),
        starts=np.zeros(1, dtype=np.int64),
        train_counts=counts[0],
        test_counts=counts[1],
        num_classes=len(class_names),
        class_names=tuple(class_names),
        source=CATALOGUE[name].credit,
    )
