"""FedJAX's copies of TensorFlow Federated's EMNIST and Shakespeare, from its SQLite files."""

from __future__ import annotations

import re
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from fl_meta.data.encoding import CHARACTERS
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.archives import most_content
from fl_meta.data.files.arrays import Columns, client_name, optional
from fl_meta.data.files.checksum import verified_file
from fl_meta.data.files.errors import DataFileError
from fl_meta.data.files.sqlite import selecting
from fl_meta.data.published.assembly import Parse, Part, assembled, check_writers, roles
from fl_meta.data.published.tensorflow_federated import snippets, writer
from fl_meta.support.array_types import Array
from fl_meta.support.validation import whole_number

# FedJAX's codes for types that msgpack itself does not have: arrays of numbers, and arrays of bytes.
_NUMBERS, _BYTES = 1, 4
# FedJAX puts a hash before TFF's client id, so that sorted ids are in random order.
_HASH = re.compile("[0-9a-f]{16}:")


def load_emnist_fedjax() -> FederatedDataset:
    """EMNIST by writer as FedJAX has it: the writers, images and labels of `load_emnist_tff`, with its ids.

    Read from emnist_fedjax/federated_emnist_train.sqlite and federated_emnist_test.sqlite.

    Source: LEAF's FEMNIST (Caldas et al. 2018) by way of TensorFlow Federated, in FedJAX's files.
    """
    name = "emnist_fedjax"
    paths = [verified_file(name, f"federated_emnist_{part}.sqlite") for part in ("train", "test")]
    parse = partial(writer, num_classes=len(CHARACTERS))
    train, test = (read_clients(path, parse) for path in paths)
    check_writers(paths, name, train, test)
    return assembled(name, train, test, class_names=CHARACTERS)


def load_shakespeare_fedjax(*, positions: int = 80) -> FederatedDataset:
    """Shakespeare by speaking role as FedJAX has it: roles and text of `load_shakespeare_tff`.

    The text is cut into examples as in `load_shakespeare_tff`, in our vocabulary, not in FedJAX's.
    Read from shakespeare_fedjax/shakespeare_train.sqlite and shakespeare_test.sqlite.

    Args:
        positions: characters per example, at least 1.

    Source: LEAF's Shakespeare (Caldas et al. 2018) by way of TensorFlow Federated, in FedJAX's files.
    """
    positions = whole_number("positions", positions)
    name = "shakespeare_fedjax"
    paths = [verified_file(name, f"shakespeare_{part}.sqlite") for part in ("train", "test")]
    train, test = (read_clients(path, snippets) for path in paths)
    return roles(paths, name, train, test, positions)


def read_clients(path: Path, parse: Parse[Part]) -> dict[str, Part]:
    """What `parse` makes of each client in a FedJAX SQLite file, by id, without FedJAX's hash."""
    clients = dict[str, Part]()
    with selecting(path) as select:
        rows = select("SELECT client_id, data, num_examples FROM federated_data ORDER BY rowid")
        for key, blob, number in rows:
            client_id = _client_id(path, key)
            if client_id in clients:
                raise DataFileError(f"{path}: holds client {client_id!r} twice")
            columns = _columns(path, client_id, blob)
            for name, values in columns.items():
                if len(values) != number:
                    raise DataFileError(
                        f"{path}: {name} of client {client_id!r} has {len(values)} examples, but the column "
                        f"num_examples says {number}"
                    )
            clients[client_id] = parse(path, client_id, columns)
    return clients


def _client_id(path: Path, key: object) -> str:
    text = client_name(path, key)
    return _HASH.sub("", text, count=1) if _HASH.match(text) else text


def _columns(path: Path, client_id: str, blob: bytes) -> Columns:
    """The arrays [examples, ...] of a client, by name; only numbers and bytes can come out."""
    with optional("msgpack"):
        import msgpack
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(blob, most_content(len(blob)))
        if not stream.eof:
            raise ValueError("it is cut off, or larger than it can be")
        columns = msgpack.unpackb(content, ext_hook=_array, raw=False)
        if all(isinstance(values, np.ndarray) and values.ndim for values in columns.values()):
            return dict(columns)
        problem = "it is not a dictionary of arrays"
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        problem = str(error)
    raise DataFileError(f"{path}: the data of client {client_id!r} is damaged ({problem})")


def _array(code: int, data: bytes) -> Array:
    import msgpack

    if code == _NUMBERS:
        shape, kind, buffer = msgpack.unpackb(data, raw=True)
        return np.frombuffer(buffer, np.dtype(kind.decode("ascii"))).reshape(shape)
    if code == _BYTES:
        shape, items = msgpack.unpackb(data, raw=True)
        return np.array(items, dtype=object).reshape(shape)
    raise ValueError(f"an object of type {code}, which is not an array")
