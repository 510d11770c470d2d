"""LEAF's FEMNIST and Shakespeare, from the JSON files that LEAF's scripts write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fl_meta.data.catalogue import existing, folder, folder_of, located
from fl_meta.data.encoding import CHARACTERS, VOCABULARY, encode
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.data.files.arrays import Columns, client_name, column
from fl_meta.data.files.checksum import check_same_files, verify_known
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.data.published.assembly import Examples, Parse, assembled, handwriting

WINDOW = 80  # characters in each of LEAF's examples


def load_femnist_leaf() -> FederatedDataset:
    """LEAF's FEMNIST: characters by writer, 62 classes, 0-9, A-Z, a-z.

    Read from femnist_leaf/train/*.json and femnist_leaf/test/*.json, the folders data/train and data/test
    that LEAF's preprocess.sh writes, one file at a time. The numbers of writers and images depend on its
    options; they are compared with the files' own num_samples. The other part of a writer who is in only one
    of the folders (LEAF's `-t user`) is empty.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), the reverse of LEAF's files.
        `y` [examples] int64.

    Source: FEMNIST in LEAF (Caldas et al. 2018), from NIST Special Database 19.
    """
    train, test = _read("femnist_leaf", _as_images, _femnist)
    return assembled("femnist_leaf", train, test, class_names=CHARACTERS)


def load_shakespeare_leaf() -> FederatedDataset:
    """LEAF's Shakespeare: speaking roles as clients, every window of 80 characters with the next character.

    Windows overlap: each begins one character later than the last. So only the last position of a window has
    a label, the next character; `y` is `PADDING` at the others. LEAF pads the beginning of a line with
    spaces, not with `BLANK`.

    Read from shakespeare_leaf/train/*.json and shakespeare_leaf/test/*.json, as in `load_femnist_leaf`.

    Returns:
        `x` [examples, positions] uint8 and `y` [examples, positions] int16, positions in `VOCABULARY`.

    Source: Shakespeare in LEAF (Caldas et al. 2018).
    """
    train, test = _read("shakespeare_leaf", _as_codes, _windows)
    return assembled("shakespeare_leaf", train, test, class_names=VOCABULARY)


def _read(
    name: str, convert: Callable[[Any, Any], Columns], parse: Parse[Examples]
) -> tuple[dict[str, Examples], dict[str, Examples]]:
    """What `parse` makes of each user of the files in train/ and in test/."""
    files = located(name)
    parts: dict[str, dict[str, Examples]] = {"train": {}, "test": {}}
    for part, clients in parts.items():
        paths = [path for path in files if path.parent.name == part]
        if not paths and not any(folder_of(name, folder()).glob(f"{part}/*.json")):
            existing(name, f"{part}/*.json")  # raises: no file has that name
        if paths:
            check_same_files(paths)
        for path in paths:
            verify_known(name, path)
            for user, columns in _users(path, convert):
                if user in clients:
                    raise DataFileError(f"{path}: user {user!r} is in another file of {part}/ too")
                clients[user] = parse(path, user, columns)
    if not any(parts.values()):
        raise DataFileError(f"{files[0].parents[1]}: the files in train/ and test/ hold no users")
    return parts["train"], parts["test"]


def _users(path: Path, convert: Callable[[Any, Any], Columns]) -> Iterator[tuple[str, Columns]]:
    """The users of a file, after comparing their numbers of examples with num_samples."""

    def shrink(pairs: list[tuple[str, Any]]) -> Any:
        # Called at the end of each object, so that only one user's lists are in memory at a time.
        read = dict(pairs)
        if len(read) != len(pairs):
            raise ValueError("an object has a name twice")
        return convert(read["x"], read["y"]) if isinstance(read.get("x"), list) and "y" in read else read

    with reading(path, "LEAF's JSON with users, num_samples and user_data"):
        # json finds out itself whether bytes are UTF-8 or UTF-16, and whether they begin with a mark of it.
        content = json.loads(path.read_bytes(), object_pairs_hook=shrink)
        names, numbers, columns = (content[key] for key in ("users", "num_samples", "user_data"))
        # The names of an object are text in JSON; those of a list may be numbers.
        users = [
            client_name(path, json.dumps(user) if type(user) in (int, float) else user) for user in names
        ]
        if lost := [user for user in users if user not in columns]:
            raise DataFileError(f"{path}: user {lost[0]!r} is listed in users, but is not in user_data")
        said = dict(zip(users, numbers, strict=True))
        held = {user: len(columns[user]["y"]) for user in users}
        # LEAF leaves users with a single example in user_data, but without that example.
        held |= {user: len(arrays["y"]) for user, arrays in columns.items() if len(arrays["y"])}
    if len(said) != len(users):
        raise DataFileError(f"{path}: lists a user twice among its {len(users)} users")
    for user in held | said:
        if held.get(user, 0) != said.get(user, 0):
            raise DataFileError(
                f"{path}: user {user!r} has {held.get(user, 0)} examples, but num_samples says "
                f"{said.get(user, 0)}"
            )
    for user in users:
        yield user, columns.pop(user)


def _as_images(x: list[Any], y: list[Any]) -> Columns:
    # NumPy would also take text and truth values for numbers.
    if not set[type]().union(*(map(type, pixels) for pixels in x)) <= {int, float}:
        raise ValueError("a pixel is not a number")
    if bool in map(type, y):
        raise ValueError("a label is true or false")
    return {"x": np.array(x, dtype=np.float32), "y": np.array(y)}


def _femnist(path: Path, user: str, columns: Columns) -> Examples:
    pixels = column(path, user, columns, "x", "f", 28, 28)
    return handwriting(path, user, pixels, column(path, user, columns, "y", "iu"), len(CHARACTERS))


def _as_codes(x: list[str], y: list[str]) -> Columns:
    return {
        "x": np.array([encode(window) for window in x]),
        "y": np.array([encode(character) for character in y]),
    }


def _windows(path: Path, user: str, columns: Columns) -> Examples:
    x = column(path, user, columns, "x", "u", WINDOW)
    following = column(path, user, columns, "y", "u", 1)
    if len(x) != len(following):
        raise DataFileError(
            f"{path}: user {user!r} has {len(x)} windows but {len(following)} labels; they must be equal"
        )
    y = np.full(x.shape, PADDING, dtype=np.int16)
    y[:, -1:] = following
    return x, y
