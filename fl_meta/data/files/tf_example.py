"""TensorFlow's message tf.train.Example, read with the protobuf package instead of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fl_meta.data.files.arrays import Columns, optional
from fl_meta.data.files.errors import DataFileError
from fl_meta.support.array_types import Array

# As much of TensorFlow's example.proto and feature.proto as is needed here.
_DECLARATION = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature"
  field { name: "bytes_list" number: 1 type_name: ".tensorflow.BytesList" }
  field { name: "float_list" number: 2 type_name: ".tensorflow.FloatList" }
  field { name: "int64_list" number: 3 type_name: ".tensorflow.Int64List" }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type_name: ".tensorflow.Features.FeatureEntry" }
  nested_type {
    name: "FeatureEntry"
    options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type_name: ".tensorflow.Feature" }
  }
}
message_type { name: "Example" field { name: "features" number: 1 type_name: ".tensorflow.Features" } }
"""


def features(path: Path, client_id: str, blobs: Sequence[bytes]) -> Columns:
    """The features [examples, values] of a client's serialized examples, by name."""
    parse = _example_class().FromString
    try:
        examples = [
            {key: _values(value) for key, value in parse(blob).features.feature.items()} for blob in blobs
        ]
        return {key: np.stack([example[key] for example in examples]) for key in examples[0]}
    except Exception as error:  # protobuf's own error among them
        raise DataFileError(
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
    """The message class tf.train.Example."""
    with optional("protobuf"):
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    file = text_format.Parse(_DECLARATION, descriptor_pb2.FileDescriptorProto())
    # A pool of its own, because TensorFlow, if it is imported too, declares the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
