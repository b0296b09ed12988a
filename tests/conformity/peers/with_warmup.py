"""Reads a warm-up file with TF Serving's own messages and runs it; needs no hrcam.

Run: python with_warmup.py VERSION_FOLDER; prints what was found as JSON.
"""

import json
import sys
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

folder = Path(sys.argv[1])
signatures = tf.saved_model.load(str(folder)).signatures
file = folder / "assets.extra" / "tf_serving_warmup_requests"


def described(tensors):
    return {
        key: [value.dtype.name, list(value.shape)] for key, value in tensors.items()
    }


found = []
for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
    log = PredictionLog.FromString(record)
    request = log.predict_log.request
    inputs = {
        key: tf.constant(tf.make_ndarray(value))
        for key, value in request.inputs.items()
    }
    outputs = signatures[request.model_spec.signature_name](**inputs)
    # What the messages do not know is dropped here, so that the bytes would differ.
    log.DiscardUnknownFields()
    found.append(
        {
            "kind": log.WhichOneof("log_type"),
            "name": request.model_spec.name,
            "signature": request.model_spec.signature_name,
            "inputs": described(inputs),
            "outputs": described(outputs),
            "known": log.ByteSize() == len(record),
        }
    )
print(json.dumps(found))
