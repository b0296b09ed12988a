"""Times an exported SavedModel against the plain forward pass; see README.md.

The SavedModel is opened by TensorFlow alone and called in this process: what a server
adds (network, JSON, its queue) is not in the times. `predict_bytes` decodes JPEG files
of the model's own size.
"""

import argparse
import tempfile

import cv2
import numpy as np
import setting
import tensorflow as tf
from paired import paired_times, report, versions

import hrcam

METHODS = ("hr_cam", "grad_cam", "attentive_response")


def main() -> None:
    """Times one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ResNet50", choices=setting.BUILDERS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    model = setting.hrcam_of(setting.build(args.model, args.size))
    x = setting.images(args.batch, args.size)
    files = [cv2.imencode(".jpg", (255 * image).astype("uint8"))[1] for image in x]
    files = tf.constant([file.tobytes() for file in files])
    forward = setting.compiled_forward(model, args.batch)
    with tempfile.TemporaryDirectory() as folder:
        path = hrcam.export_saved_model(model, folder, methods=METHODS)
        loaded = tf.saved_model.load(str(path))
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    served, index = loaded.signatures, tf.zeros(args.batch, tf.int32)
    ways = {
        "hrcam.hr_cam": lambda: hrcam.hr_cam(model, x),
        "serving_default": lambda: call(served["serving_default"], image=x),
        "explain": lambda: call(served["explain"], image=x, class_index=index),
        "predict_bytes": lambda: call(served["predict_bytes"], image_bytes=files),
        "grad_cam": lambda: call(served["grad_cam"], image=x, class_index=index),
    }
    times = paired_times(lambda: forward(x), ways, args.rounds)
    heatmap = call(served["serving_default"], image=x)["heatmap"]
    own = hrcam.hr_cam(model, x)
    report(
        {
            "model": args.model,
            "size": args.size,
            "batch": args.batch,
            "megabytes": round(size / 1e6, 1),
            "difference": float(np.abs(heatmap - own).max() / np.ptp(own)),
            "versions": versions("tensorflow", "keras", "numpy"),
            **times,
        }
    )


def call(signature, **inputs):
    """Calls a signature with arrays; returns arrays."""
    made = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in made.items()}


if __name__ == "__main__":
    main()
