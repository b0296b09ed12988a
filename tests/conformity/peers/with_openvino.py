"""The map signature in OpenVINO, on the CPU; needs no hrcam and no TensorFlow.

Run: python with_openvino.py VERSION_FOLDER IMAGES.npy ANSWER.npz

Once in float32, and once in the precision that OpenVINO takes for this CPU by itself.
The last image is asked for once more alone: the batch is free.
"""

import sys

import numpy as np
import openvino

folder, images, answer = sys.argv[1:]
images = np.load(images)
model = openvino.convert_model(folder)
found = {}
for precision, config in (
    ("float32", {"INFERENCE_PRECISION_HINT": "f32"}),
    ("as it comes", {}),
):
    compiled = openvino.compile_model(model, "CPU", config)
    for batch, given in (("all", images), ("last", images[-1:])):
        for output, value in compiled({"image": given}).items():
            found[f"{precision}/{batch}/{output.get_any_name()}"] = value
np.savez(answer, **found)
print(openvino.__version__, compiled.get_property("INFERENCE_PRECISION_HINT"))
