"""TensorFlow's message tf.train.Example, read with the protobuf package instead of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fl_meta.data.files.arrays import Columns, optional
from fl_meta.support.array_types import Array


def features(path: Path, client_id: str, blobs: Sequence[bytes]) -> Columns:
    """The features [examples, values] of a client's serialized examples, by name."""
    parse = _example_class().FromString
    try:
        examples = [
            {key: _values(value) for key, value in parse(blob).features.feature.items()} for blob in blobs
        ]
        return {key: np.stack([example[key] for example in examples]) for key in examples[0]}
    except Exception as error:  # protobuf's own error among them
        raise ValueError(
            f"{path}: an example of client {client_id!r} is damaged, or unlike the others ({error})"
        ) from error


def _values(feature: Any) -> Array:
    if feature.bytes_list.value:
        return np.array(feature.bytes_list.value, dtype=object)
    if feature.float_list.value:
        return np.array(feature.float_list.value, dtype=np.float32)
    return np.array(feature.int64_list.value, dtype=np.int64)


@cache
def _example_class() -> Any:
    """The message class tf.train.Example, with as much of TensorFlow's declaration as is needed here."""
    with optional("protobuf"):
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    kinds = descriptor_pb2.FieldDescriptorProto
    single, repeated = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
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

    declare(file.message_type, "BytesList", ("value", kinds.TYPE_BYTES, repeated))
    declare(file.message_type, "FloatList", ("value", kinds.TYPE_FLOAT, repeated))
    declare(file.message_type, "Int64List", ("value", kinds.TYPE_INT64, repeated))
    lists = (
        ("bytes_list", "BytesList", single),
        ("float_list", "FloatList", single),
        ("int64_list", "Int64List", single),
    )
    declare(file.message_type, "Feature", *lists)
    features = declare(file.message_type, "Features", ("feature", "Features.FeatureEntry", repeated))
    entry = declare(
        features.nested_type, "FeatureEntry", ("key", kinds.TYPE_STRING, single), ("value", "Feature", single)
    )
    entry.options.map_entry = True
    declare(file.message_type, "Example", ("features", "Features", single))
    # A pool of its own, because TensorFlow, if it is imported too, declares the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
