"""Requests that TF Serving runs once when it loads a model, before any user's.

The file is a TFRecord of `PredictionLog` messages (tensorflow_serving/apis). Only four
fields are needed, so they are put down in protobuf's wire format here, instead of
depending on the server's stubs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from hrcam.serving._signatures import Exported

FILE_NAME = "tf_serving_warmup_requests"
# Numbers of the fields in tensorflow_serving/apis/*.proto.
_LOG_PREDICT, _PREDICT_REQUEST = 6, 1
_REQUEST_SPEC, _REQUEST_INPUTS = 1, 2
_SPEC_NAME, _SPEC_SIGNATURE = 1, 3
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def write_warmup(folder: Path, name: str, exported: Exported) -> None:
    """Writes one request of one image for each signature.

    Args:
        folder: `assets.extra` of the version.
        name: The model's name at the server.
        exported: The signatures.
    """
    with tf.io.TFRecordWriter(str(folder / FILE_NAME)) as writer:
        for signature, function in exported.signatures.items():
            specs = function.inputs[: len(function.structured_input_signature[0])]
            inputs = {spec.name.split(":")[0]: _of_one(spec) for spec in specs}
            writer.write(prediction_log(name, signature, inputs))


def prediction_log(name: str, signature: str, inputs: dict[str, Any]) -> bytes:
    """A serialized `PredictionLog` of a predict request with some `TensorProto`s."""
    spec = _field(_SPEC_NAME, name.encode()) + _field(
        _SPEC_SIGNATURE, signature.encode()
    )
    request = _field(_REQUEST_SPEC, spec)
    for key, tensor in inputs.items():
        entry = _field(_ENTRY_KEY, key.encode())
        entry += _field(_ENTRY_VALUE, tensor.SerializeToString())
        request += _field(_REQUEST_INPUTS, entry)
    return _field(_LOG_PREDICT, _field(_PREDICT_REQUEST, request))


def _of_one(spec: tf.TensorSpec) -> Any:
    """An input of batch size one: a black image, class 0, or a small PNG."""
    if spec.dtype == tf.string:
        png = tf.io.encode_png(np.full((8, 8, 1), 128, "uint8"))
        return tf.make_tensor_proto([png.numpy()])
    # One value for all pixels: the whole tensor would be most of the file.
    return tf.make_tensor_proto(0, spec.dtype, (1, *spec.shape[1:]))


def _field(number: int, payload: bytes) -> bytes:
    """A field of protobuf's wire type 2: its number, the length, the bytes."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
