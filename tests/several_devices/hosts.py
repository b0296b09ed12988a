"""The same training on two hosts with JAX, which are two processes here.

Run as `python hosts.py FILE PROCESS PORT` for each, 0 and 1, or with the process -1 for
one process alone. Each host reads its own half of every batch.
"""

import os
import sys

import keras
import numpy as np
import train

import hrcam

os.environ["XLA_FLAGS"] = ""  # train.py asked for two devices in each process
file, process, port = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if process >= 0:
    keras.distribution.initialize(f"localhost:{port}", 2, process)
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
images, labels = train.data(16)
mine = slice(max(process, 0), None, 1 if process < 0 else 2)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        part = slice(8 * number, 8 * number + 8)
        return images[part][mine], labels[part][mine]


base = train.network()
history = hrcam.fit_base_model(base, Batches(), epochs=3, **train.TRAINING)
model = hrcam.build_hrcam_model(base)
head = hrcam.fit_hrcam_head(model, images, labels, epochs=3, **train.TRAINING)
np.savez(
    file,
    loss=history.history["loss"],
    weights=train.flat(base.get_weights()),
    head_loss=head.history["loss"],
    hr_cam=hrcam.hr_cam(model, images[:3], 1),
    devices=len(base.weights[0].value.sharding.device_set),
)
