"""Small files in every format that the readers know.

They are written here byte by byte, after the formats' own documentation, so that nothing of a reader is on
both sides of a test.
"""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np

from fl_meta.data.published.cifar import COARSE_OF_FINE

# What a test changes in the train part before it is written: images and labels, or a role's snippets.
Change = Callable[..., Any]

# The labels of each writer's two parts.
WRITERS = {"f0000_14": ([3, 61, 10], [36]), "f4099_10": ([0], [9, 35])}
WRITER_COUNTS = {"writers": 2, "train_images": 4, "test_images": 3}
# Each role's train snippets and test snippets, in an order that is not alphabetical.
PUCK, ADAM = "THE_TRAGEDY_OF_KING_LEAR_PUCK", "ALL_S_WELL_THAT_ENDS_WELL_ADAM"
ROLES = {
    PUCK: (["How now,\nspirit!", "", "I go, I go"], ["Lord,"]),
    ADAM: (["Yonder comes"], ["", "my master."]),
}
ROLE_COUNTS = {"roles": 2, "train_snippets": 4, "test_snippets": 3}
# FedJAX puts one before each client id.
HASHES = ("00c0ffee00c0ffee", "ffffffffffffffff")
LINE = "Now is the winter of our discontent\n"


def unchanged(*values: Any) -> Any:
    return values if len(values) > 1 else values[0]


def writer_parts(change: Change) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Images and labels of each writer in each split; those of the train part are changed."""
    whole = [
        {writer: (papers(parts[part]), np.array(parts[part], np.int32)) for writer, parts in WRITERS.items()}
        for part in (0, 1)
    ]
    return {"train": {writer: change(*arrays) for writer, arrays in whole[0].items()}, "test": whole[1]}


def role_parts(change: Change) -> dict[str, dict[str, list[Any]]]:
    """Snippets of each role in each split; those of the train part are changed."""
    said = [
        {role: [text.encode() for text in parts[part]] for role, parts in ROLES.items()} for part in (0, 1)
    ]
    return {"train": {role: change(texts) for role, texts in said[0].items()}, "test": said[1]}


# Images ---------------------------------------------------------------------------------------------------


def papers(labels: Sequence[int]) -> np.ndarray:
    """TFF's images [examples, 28, 28]: paper is 1, and there is ink at the place of the label."""
    images = np.ones((len(labels), 28, 28), np.float32)
    for image, label in zip(images, labels, strict=True):
        image[label // 28, label % 28] = 0.25
    return images


def numbered(count: int) -> np.ndarray:
    """Images of bytes [count, 28, 28] that can be told apart: black, and the image's number, on nothing."""
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 1, 2] = 255, range(count)
    return images


def letters(labels: Sequence[int]) -> np.ndarray:
    """Upright images of bytes: a bar across the top, and the label at the left of the third row."""
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 0, :] = 255
    images[:, 2, 0] = labels
    return images


def photos(labels: Sequence[int]) -> np.ndarray:
    """Images [examples, 3, 32, 32] whose planes are 255, 10 and the label; the end of the first row is 0."""
    images = np.zeros((len(labels), 3, 32, 32), np.uint8)
    images[:, 0], images[:, 1] = 255, 10
    images[:, 2] = np.array(labels, np.uint8).reshape(-1, 1, 1)
    images[:, :, 0, 31] = 0
    return images


# NumPy ----------------------------------------------------------------------------------------------------


def npz_arrays(name: str) -> dict[str, np.ndarray]:
    """Twelve images of three writers, who have 5, 6 and 1, in the layout of the real file."""
    arrays = {
        "images": numbered(12),
        "labels": np.array([7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9], dtype=np.uint8),
        "writers": np.array([2, 0, 0, 1, 2, 2, 0, 2, 0, 2, 0, 2], dtype=np.int16),
    }
    if name == "mnist_by_writer":
        return arrays | {"source_index": np.arange(12, dtype=np.int32)}
    return arrays | {
        "writer_codes": np.array(["abc00", "abc01", "xyz00"]),
        "classes": np.array([*"0123456789"]),
    }


def write_npz(name: str, folder: Path, change: Change = unchanged) -> None:
    arrays = npz_arrays(name)
    arrays["images"], arrays["labels"] = change(arrays["images"], arrays["labels"])
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def write_subset(name: str, folder: Path, change: Change = unchanged, **changed: Any) -> None:
    arrays: dict[str, Any] = {"coarse_of_class": COARSE_OF_FINE} if name == "cifar100" else {}
    for part, labels in (("train", [3, 9, 1]), ("test", [8])):
        images, shown = photos(labels).transpose(0, 2, 3, 1), np.array(labels, np.uint8)
        if part == "train":
            images, shown = change(images, shown)
        arrays |= {f"{part}_images": images, f"{part}_labels": shown}
    np.savez_compressed(folder / f"{name}_subset.npz", **arrays | changed)


# IDX ------------------------------------------------------------------------------------------------------


def idx(values: np.ndarray, magic: int = 8) -> bytes:
    head = struct.pack(f">4B{values.ndim}I", 0, 0, magic, values.ndim, *values.shape)
    return head + values.astype(np.uint8 if magic == 8 else ">i4").tobytes()


MNIST = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "qmnist-train-labels-idx2-int.gz")


def mnist_table(labels: np.ndarray, writers: np.ndarray) -> np.ndarray:
    """QMNIST's table: class, series, writer, and numbers that are not used here."""
    table = np.full((len(labels), 8), 77, dtype=np.int32)
    table[:, 0], table[:, 2] = labels, writers
    return table


def write_mnist(folder: Path, change: Change = unchanged) -> None:
    """The digits of `npz_arrays`, in MNIST's files and QMNIST's."""
    arrays = npz_arrays("mnist_by_writer")
    images, labels = change(arrays["images"], arrays["labels"])
    # A label too few in one of the files does not change the other.
    classes = np.resize(labels, len(arrays["labels"]))
    table = mnist_table(classes, arrays["writers"])
    for file, data in zip(MNIST, (idx(images), idx(labels), idx(table, 12)), strict=True):
        (folder / file).write_bytes(gzip.compress(data))


def write_idx(suffix: str, folder: Path, change: Change = unchanged) -> None:
    for part, labels in (("train", [0, 61, 35]), ("test", [10])):
        images, shown = letters(labels), np.array(labels)
        if part == "train":
            images, shown = change(images, shown)
        for kind, data in (("images-idx3", idx(images.transpose(0, 2, 1))), ("labels-idx1", idx(shown))):
            path = folder / f"emnist-byclass-{part}-{kind}-ubyte{suffix}"
            path.write_bytes(gzip.compress(data) if suffix else data)


# CIFAR's binary archives ----------------------------------------------------------------------------------

CIFAR_LABELS = {
    "cifar10": {f"cifar-10-batches-bin/data_batch_{i}.bin": [i, 9 - i] for i in range(1, 6)}
    | {"cifar-10-batches-bin/test_batch.bin": [0, 9]},
    "cifar100": {"cifar-100-binary/train.bin": [99, 0, 7], "cifar-100-binary/test.bin": [4, 50]},
}
CIFAR_ARCHIVES = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}


def cifar_records(name: str, images: np.ndarray, labels: Sequence[int], coarse: int | None = None) -> bytes:
    records = []
    for image, label in zip(images, labels, strict=False):
        superclass = COARSE_OF_FINE[label % 100] if coarse is None else coarse
        records.append(bytes([superclass, label] if name == "cifar100" else [label]) + image.tobytes())
    return b"".join(records)


def cifar_files(name: str, change: Change = unchanged) -> dict[str, bytes]:
    files = {}
    for file, labels in CIFAR_LABELS[name].items():
        images, shown = photos(labels), np.array(labels)
        files[file] = cifar_records(name, *((images, shown) if "test" in file else change(images, shown)))
    return files


class Pipe(io.BytesIO):
    """Where nobody can go back to write a checksum before the file that it is of: it comes after it."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("not seekable")


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_cifar(name: str, folder: Path, change: Change = unchanged) -> None:
    write_archive(folder / CIFAR_ARCHIVES[name], cifar_files(name, change))


# UNIPEN's archive -----------------------------------------------------------------------------------------

UNIPEN = "unipen-CDROM-train_r01_v07.tgz"


def pen(*points: tuple[int, ...], down: bool = True) -> str:
    """One component, with a point on each line."""
    lines = "\n".join("\t" + " ".join(map(str, point)) for point in points)
    return f".PEN_{'DOWN' if down else 'UP'}\n{lines}\n"


UP = ".PEN_UP\n\n"  # says only that a component has ended
LINE_DOWN, LINE_RIGHT = ((5, 9), (5, 3), (5, 1)), ((5, 1), (7, 1), (9, 1))
REMOVED = pen((0, 0))
HEAD = ".VERSION 1.0\n.COMMENT ### .WRITER_ID nobody ###\n"
DOC = ".COORD X Y\n.HIERARCHY CHARACTER\n.X_POINTS_PER_INCH 80\n.Y_POINTS_PER_INCH 80\n"
# The three writers of pri are named 0, 15 and 9; the last is not in the data set. What the pen does above the
# paper is a component too, if it has points.
UNIPEN_FILES = {
    "include/lou/lou.doc": f".INCLUDE lou/lou.lex\n{DOC}",
    "include/lou/lou.lex": '.LEXICON\n "A" "." "\\""\n',
    "include/lou/data/jl.dat": f".WRITER_ID      jl_vo\n{pen(*LINE_DOWN)}{UP}{pen(*LINE_RIGHT)}{UP}{REMOVED}",
    "data/1a/lou/lou0/jl.dat": f"{HEAD}.INCLUDE lou/lou.doc\n.INCLUDE lou/data/jl.dat\n"
    '.SEGMENT CHARACTER 0 OK "1"\n',
    "data/1b/lou/lou0/jl.dat": f"{HEAD}.INCLUDE lou/lou.doc\n.INCLUDE lou/data/jl.dat\n"
    '.SEGMENT CHARACTER 0-1 ? "L"\n.SEGMENT TEXT 0-2 ? "L."\n',
    "data/1d/lou/lou0/jl.dat": f'{HEAD}.INCLUDE lou/data/jl.dat\n.SEGMENT CHARACTER 0 OK "|"\n',
    "include/pri/pri.doc": ".COORD T X Y\n.X_POINTS_PER_MM 40\n.Y_POINTS_PER_MM 20\n",
    **{
        f"include/pri/data/{file}.dat": f".INCLUDE pri/pri.doc\n.WRITER_ID {writer}\n.DATE 9 30 94\n"
        + REMOVED.replace("0 0", "0 0 0")
        + pen((0, 10, 50), (1, 10, 40), (2, 10, 10))
        + pen((3, 0, 99), (4, 99, 0), down=False)
        + pen((5, 10, 10), (6, 90, 10))
        for file, writer in (("b", 15), ("a", 0), ("c", 9))
    },
    **{
        f"data/{kind}/pri/{file}.dat": f"{HEAD}.INCLUDE pri/data/{file}.dat\n{segments}"
        for file in "abc"
        for kind, segments in (
            ("1a", '.SEGMENT CHARACTER 1 ? "1"\n.SEGMENT CHARACTER 1,3 ? "7"\n'),
            ("1c", '.SEGMENT CHARACTER 1-3 ? "l"\n.SEGMENT CHARACTER 3 ? "_"\n'),
        )
    },
    "data/1a/zzz/else.dat": "of a contributor who is not in the data set",
}


def write_unipen(folder: Path, _change: Change = unchanged, files: dict[str, str] = UNIPEN_FILES) -> None:
    texts = {f"unipen/CDROM/train_r01_v07/{path}": text.encode() for path, text in files.items()}
    write_archive(folder / UNIPEN, texts | {"unipen/README": b"\xe9"})


# TensorFlow Federated: tf.train.Example in SQLite ---------------------------------------------------------

Split = dict[str, list[bytes]]  # the examples of each client


def varint(number: int) -> bytes:
    number %= 2**64
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def message_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values: Any) -> bytes:
    """A Feature: text, floats or whole numbers."""
    if isinstance(values, bytes):
        return message_field(1, message_field(1, values))
    values = np.atleast_1d(values).ravel()
    if values.dtype.kind == "f":
        return message_field(2, message_field(1, struct.pack(f"<{len(values)}f", *values)))
    return message_field(3, message_field(1, b"".join(varint(int(value)) for value in values)))


def example(**values: Any) -> bytes:
    entries = (
        message_field(1, message_field(1, key.encode()) + message_field(2, feature(value)))
        for key, value in values.items()
    )
    return message_field(1, b"".join(entries))


def tff_sqlite(path: Path, splits: dict[str, Split], numbers: Iterable[tuple[str, str, int]] = ()) -> None:
    """A database like TFF's, the clients' examples interleaved; `numbers` adds rows of metadata."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")  # faster
    connection.execute(
        "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
        "serialized_example_proto BLOB NOT NULL)"
    )
    connection.execute("CREATE INDEX idx_examples_client_id_split ON examples (split_name, client_id)")
    connection.execute(
        "CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL, "
        "num_examples INTEGER NOT NULL)"
    )
    rows = [
        (position, split, client, blob)
        for split, clients in splits.items()
        for client, blobs in clients.items()
        for position, blob in enumerate(blobs)
    ]
    connection.executemany("INSERT INTO examples VALUES (?, ?, ?)", [row[1:] for row in sorted(rows)])
    known = [(c, s, len(blobs)) for s, clients in splits.items() for c, blobs in clients.items()]
    connection.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", [*known, *numbers])
    connection.commit()
    connection.close()


def writer_examples(part: int, labels: dict[str, tuple[list[int], list[int]]] = WRITERS) -> Split:
    return {
        writer: [example(label=label, pixels=papers([label])) for label in parts[part]]
        for writer, parts in labels.items()
    }


def write_tff_emnist(folder: Path, change: Change = unchanged) -> None:
    digits = {"f0000_14": ([3, 8], [1])}
    train = writer_examples(0)
    images, labels = change(papers(WRITERS["f0000_14"][0]), np.array(WRITERS["f0000_14"][0]))
    train["f0000_14"] = [
        example(label=label, pixels=image) for label, image in zip(labels, images, strict=False)
    ]
    splits = {
        "all_train": train,
        "all_test": writer_examples(1),
        "digits_only_train": writer_examples(0, digits),
        "digits_only_test": writer_examples(1, digits),
    }
    tff_sqlite(folder / "emnist_all.sqlite", splits)


def photo(label: int, /, **changed: Any) -> bytes:
    values = {"image": photos([label])[0].transpose(1, 2, 0).astype(int), "label": label}
    return example(**(values | {"coarse_label": COARSE_OF_FINE[label % 100]} | changed))


def write_tff_cifar(folder: Path, change: Change = unchanged, more: Sequence[bytes] = ()) -> None:
    images, labels = change(photos(range(5)).transpose(0, 2, 3, 1).astype(int), np.arange(5))
    first = [
        photo(0, image=i, label=n, coarse_label=COARSE_OF_FINE[int(n) % 100])
        for i, n in zip(images, labels, strict=False)
    ]
    train = {"0": [*first, *more], "7": [photo(label) for label in (99, 99, 98, 97, 96)]}
    test = {"0": [photo(label) for label in range(50, 60)]}
    tff_sqlite(folder / "cifar100.sqlite", {"train": train, "test": test})


def write_tff_roles(folder: Path, change: Change = unchanged) -> None:
    splits = {
        split: {role: [example(snippets=text) for text in said] for role, said in roles.items()}
        for split, roles in role_parts(change).items()
    }
    tff_sqlite(folder / "shakespeare.sqlite", splits)


# TensorFlow Federated: HDF5 -------------------------------------------------------------------------------


def write_hdf5(path: Path, clients: dict[str, dict[str, np.ndarray]]) -> None:
    with h5py.File(path, "w") as file:
        for client_id, arrays in clients.items():
            for key, values in arrays.items():
                file[f"examples/{client_id}/{key}"] = values


def write_hdf5_emnist(folder: Path, change: Change = unchanged) -> None:
    for split, writers in writer_parts(change).items():
        clients = {writer: {"pixels": x, "label": y} for writer, (x, y) in writers.items()}
        write_hdf5(folder / f"fed_emnist_{split}.h5", clients)


def hdf5_roles(path: Path, part: int, roles: dict[str, tuple[list[str], list[str]]] = ROLES) -> None:
    texts = {role: [text.encode() for text in parts[part]] for role, parts in roles.items()}
    write_hdf5(path, {role: {"snippets": np.array(said, "S40")} for role, said in texts.items()})


def write_hdf5_roles(folder: Path, change: Change = unchanged) -> None:
    for split, said in role_parts(change).items():
        clients = {role: {"snippets": np.array(snippets)} for role, snippets in said.items()}
        write_hdf5(folder / f"shakespeare_{split}.h5", clients)


def write_hdf5_strings(folder: Path, change: Change = unchanged) -> None:
    """As `write_hdf5_roles`, but each snippet has its own length in the file."""
    for split, said in role_parts(change).items():
        with h5py.File(folder / f"shakespeare_{split}.h5", "w") as file:
            for role, snippets in said.items():
                kind = h5py.string_dtype() if isinstance(snippets[0], bytes) else None
                file.create_dataset(f"examples/{role}/snippets", data=snippets, dtype=kind)


# FedJAX ---------------------------------------------------------------------------------------------------


def fedjax_data(**arrays: Any) -> bytes:
    """A client's arrays as FedJAX packs them; a list is one of bytes."""

    def packed(values: Any) -> msgpack.ExtType:
        if isinstance(values, list):
            return msgpack.ExtType(4, msgpack.packb(([len(values)], values)))
        return msgpack.ExtType(1, msgpack.packb((values.shape, values.dtype.name, values.tobytes())))

    return zlib.compress(msgpack.packb({key: packed(values) for key, values in arrays.items()}))


def fedjax_sqlite(path: Path, rows: list[tuple[object, object, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")  # faster
    connection.execute(
        "CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL, "
        "num_examples INTEGER NOT NULL)"
    )
    connection.executemany("INSERT INTO federated_data VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()


def write_fedjax_emnist(folder: Path, change: Change = unchanged) -> None:
    for split, writers in writer_parts(change).items():
        rows: list[tuple[object, object, int]] = [
            (f"{prefix}:{writer}".encode(), fedjax_data(pixels=x, label=y), len(x))
            for prefix, (writer, (x, y)) in zip(HASHES, writers.items(), strict=True)
        ]
        fedjax_sqlite(folder / f"federated_emnist_{split}.sqlite", rows)


def write_fedjax_roles(folder: Path, change: Change = unchanged) -> None:
    for part, (split, roles) in enumerate(role_parts(change).items()):
        rows: list[tuple[object, object, int]] = []
        for role, said in roles.items():
            texts = said if all(isinstance(text, bytes) for text in said) else np.array(said)
            rows.append((role, fedjax_data(snippets=texts), len(ROLES[role][part])))
        fedjax_sqlite(folder / f"shakespeare_{split}.sqlite", rows)


# LEAF -----------------------------------------------------------------------------------------------------

Users = dict[str, dict[str, list[Any]]]


def leaf_content(users: Users, /, **changed: Any) -> dict[str, Any]:
    """What LEAF's scripts write."""
    return {
        "users": list(users),
        "num_samples": [len(examples["y"]) for examples in users.values()],
        "user_data": users,
    } | changed


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def leaf_images(*labels: int) -> dict[str, list[Any]]:
    return {"x": papers(labels).reshape(-1, 784).tolist(), "y": list(labels)}


def leaf_windows(line: str) -> dict[str, list[Any]]:
    """LEAF's windows of a line: the 80 characters before each of its characters, spaces at its beginning."""
    padded = " " * 80 + line
    return {"x": [padded[i : i + 80] for i in range(len(line))], "y": list(line)}


def write_leaf_images(folder: Path, change: Change = unchanged) -> None:
    for split, writers in writer_parts(change).items():
        users = {w: {"x": x.reshape(len(x), -1).tolist(), "y": y.tolist()} for w, (x, y) in writers.items()}
        write_json(folder / split / f"all_data_0_keep_0_{split}_9.json", leaf_content(users))


def write_leaf_windows(folder: Path, _change: Change = unchanged) -> None:
    for split in ("train", "test"):
        users = leaf_content({"RICHARD": leaf_windows(LINE)}, hierarchies=["A_PLAY"])
        write_json(folder / split / f"all_data_{split}_9.json", users)


# All of them ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """One format of a data set.

    Attributes:
        files: in the data set's folder.
        write: writes them into a folder, with a change of the train part.
        counts: the published counts, if the small files are the whole data set.
        holds: what values it can hold: "bytes", "numbers" of any type, "text", "windows" of text, or
            "strokes".
    """

    files: tuple[str, ...]
    write: Callable[..., None]
    counts: dict[str, int]
    holds: str = "numbers"


def both(pattern: str) -> tuple[str, ...]:
    return (pattern.format("train"), pattern.format("test"))


def images(train: int, test: int) -> dict[str, int]:
    return {"train_images": train, "test_images": test}


IDX = tuple(
    f"emnist-byclass-{p}-{k}-ubyte" for p in ("train", "test") for k in ("images-idx3", "labels-idx1")
)
IDX_GZ = tuple(f"{file}.gz" for file in IDX)
UNIPEN_COUNTS = {"classes": 62, "writers": 3, "images": 8}
BY_WRITER = {"classes": 10, "writers": 3, "images": 12}
DIGITS = {"digits_writers": 1, "digits_train_images": 2, "digits_test_images": 1}
CLIENTS = {"train_clients": 2, "test_clients": 1}
LEAF_IMAGES = ("train/all_data_0_keep_0_train_9.json", "test/all_data_0_keep_0_test_9.json")
LEAF_WINDOWS = ("train/all_data_train_9.json", "test/all_data_test_9.json")
EMNIST_HDF5, ROLES_HDF5 = both("fed_emnist_{}.h5"), both("shakespeare_{}.h5")
EMNIST_FEDJAX, ROLES_FEDJAX = both("federated_emnist_{}.sqlite"), both("shakespeare_{}.sqlite")

# The first word of a key is the name of the data set.
FORMATS = {
    name: Format((f"{name}.npz",), partial(write_npz, name), BY_WRITER)
    for name in ("mnist_by_writer", "unipen62")
} | {
    "mnist_by_writer in IDX": Format(MNIST, write_mnist, BY_WRITER, "bytes"),
    "unipen62 archive": Format((UNIPEN,), write_unipen, UNIPEN_COUNTS, "strokes"),
    "emnist_tff in SQLite": Format(("emnist_all.sqlite",), write_tff_emnist, WRITER_COUNTS | DIGITS),
    "emnist_tff in HDF5": Format(EMNIST_HDF5, write_hdf5_emnist, WRITER_COUNTS),
    "shakespeare_tff in SQLite": Format(("shakespeare.sqlite",), write_tff_roles, ROLE_COUNTS, "text"),
    "shakespeare_tff in HDF5": Format(ROLES_HDF5, write_hdf5_roles, ROLE_COUNTS, "text"),
    "shakespeare_tff in HDF5 of variable length": Format(ROLES_HDF5, write_hdf5_strings, ROLE_COUNTS, "text"),
    "cifar100_tff": Format(("cifar100.sqlite",), write_tff_cifar, CLIENTS | images(10, 10)),
    "emnist_fedjax": Format(EMNIST_FEDJAX, write_fedjax_emnist, WRITER_COUNTS),
    "shakespeare_fedjax": Format(ROLES_FEDJAX, write_fedjax_roles, ROLE_COUNTS, "text"),
    "femnist_leaf": Format(LEAF_IMAGES, write_leaf_images, {}),
    "shakespeare_leaf": Format(LEAF_WINDOWS, write_leaf_windows, {}, "windows"),
    "emnist compressed": Format(IDX_GZ, partial(write_idx, ".gz"), images(3, 1), "bytes"),
    "emnist": Format(IDX, partial(write_idx, ""), images(3, 1), "bytes"),
}
for _name, _counts in (("cifar10", images(10, 2)), ("cifar100", images(3, 2))):
    FORMATS[_name] = Format((CIFAR_ARCHIVES[_name],), partial(write_cifar, _name), _counts, "bytes")
    _file = (f"{_name}_subset.npz",)
    FORMATS[f"{_name}_subset"] = Format(_file, partial(write_subset, _name), images(3, 1))


def name_of(key: str) -> str:
    """The name of the data set that a format is of."""
    return key.split()[0]
