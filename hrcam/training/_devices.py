"""Several devices: which of them a training takes, and what each gets of a batch.

Keras itself shares batches out: on TensorFlow among the replicas of the
`tf.distribute` scope that the model was made in, on JAX among the devices of
`keras.distribution.set_distribution`. Each replica of TensorFlow averages over its
own images, and the averages count the same: only shares of one size give the loss of
one device. JAX computes the loss of the whole batch, but has no uneven shares.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

_LOG = logging.getLogger("hrcam")


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager:
    """The `tf.distribute` scope that a model was made in; else nothing to enter.

    An optimizer for the model must be made in it, too.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


@contextlib.contextmanager
def one_device() -> Iterator[None]:
    """Without the distribution that was set for Keras on JAX, if one was."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def check_shares(model: keras.Model, x: Any, held_out: Any, batch_size: int) -> None:
    """Checks that the devices get as many images each, of every batch.

    TensorFlow takes a last batch where they do not, and validates on it as on one
    device, but trains otherwise: that is logged. JAX takes none: it is logged that the
    last batch of a data set may be of another size.

    Args:
        model: The model to be trained.
        x: Images, or a data set of batches.
        held_out: (images, labels) or a data set to validate on, or None.
        batch_size: Images at a time, for arrays.

    Raises:
        ValueError: Where a batch is known to end the training.
    """
    devices = _devices(model)
    if devices == 1:
        return
    on_jax = keras.backend.backend() == "jax"
    is_pair = isinstance(held_out, tuple)
    parts = {"x": x, "validation_data": held_out[0] if is_pair else held_out}
    for name, part in parts.items():
        sizes = [] if part is None else _batch_sizes(part, batch_size)
        message = (
            f"Each batch of `{name}` must have a multiple of {devices} images, as many "
            f"for each device. Received: batches of {sizes}. Choose such a "
            "`batch_size`, and leave out the rest that makes no whole batch: "
            "`x[: len(x) // batch_size * batch_size]`, or "
            "`dataset.take(number_of_images // batch_size)`."
        )
        uneven = [size != "unknown" and size % devices > 0 for size in sizes]
        if any(uneven if on_jax else uneven[:1]):
            raise ValueError(message)
        if (name == "x" and any(uneven)) or (on_jax and "unknown" in sizes):
            _LOG.warning("%s See docs/several_devices.md.", message)


def _devices(model: keras.Model) -> int:
    """How many devices of this process share a training batch of the model."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh.backend_mesh.local_mesh
    return mesh.shape[distribution.batch_dim_name]


def _batch_sizes(x: Any, batch_size: int) -> list[int | str]:
    """The sizes that occur, the first batch's first; `"unknown"` of a data set."""
    if isinstance(x, np.ndarray):
        whole, rest = divmod(len(x), batch_size)
        return [batch_size] * (whole > 0) + [rest] * (rest > 0)
    spec = keras.tree.flatten(getattr(x, "element_spec", ()))
    return [spec[0].shape[0] or "unknown"] if spec else ["unknown"]
