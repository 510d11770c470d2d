"""TensorFlow's message tf.train.Example, read with the protobuf package, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fl_meta.data.files.arrays import Columns, optional
from fl_meta.support.array_types import Array


def features(path: Path, client_id: str, blobs: Sequence[bytes]) -> Columns:
    """The features [examples, values] of a client's serialized examples, by name.

    Raises:
        ModuleNotFoundError: if protobuf is not installed.
        ValueError: if an example is damaged, or they have not all the same features of the same length; the
            message names file and client.
    """
    parse = _example_class().FromString
    try:
        found = [{key: _values(one) for key, one in parse(blob).features.feature.items()} for blob in blobs]
        return {key: np.stack([features[key] for features in found]) for key in found[0]}
    except Exception as error:  # protobuf's own error among them
        raise ValueError(
            f"{path}: an example of client {client_id!r} is damaged, or not like the others ({error})"
        ) from error


def _values(feature: Any) -> Array:
    if feature.bytes_list.value:
        return np.array(feature.bytes_list.value, dtype=object)
    if feature.float_list.value:
        return np.array(feature.float_list.value, dtype=np.float32)
    return np.array(feature.int64_list.value, dtype=np.int64)


@cache
def _example_class() -> Any:
    """The class of the message tf.train.Example: what TensorFlow declares, as far as it is needed here."""
    with optional("protobuf"):
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def declare(into: Any, name: str, *fields: tuple[str, Any, Any]) -> Any:
        message = into.add(name=name)
        for number, (key, kind, label) in enumerate(fields, start=1):
            named = isinstance(kind, str)
            message.field.add(
                name=key,
                number=number,
                label=label,
                type=kinds.TYPE_MESSAGE if named else kind,
                type_name=f".tensorflow.{kind}" if named else None,
            )
        return message

    declare(file.message_type, "BytesList", ("value", kinds.TYPE_BYTES, many))
    declare(file.message_type, "FloatList", ("value", kinds.TYPE_FLOAT, many))
    declare(file.message_type, "Int64List", ("value", kinds.TYPE_INT64, many))
    lists = (
        ("bytes_list", "BytesList", one),
        ("float_list", "FloatList", one),
        ("int64_list", "Int64List", one),
    )
    declare(file.message_type, "Feature", *lists)
    features = declare(file.message_type, "Features", ("feature", "Features.FeatureEntry", many))
    entry = declare(
        features.nested_type, "FeatureEntry", ("key", kinds.TYPE_STRING, one), ("value", "Feature", one)
    )
    entry.options.map_entry = True
    declare(file.message_type, "Example", ("features", "Features", one))
    # A pool of its own: TensorFlow, where it is imported too, declares the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
