"""A Keras network as PyTorch's libraries want it: channels first, hooks on modules.

They hook the output of a `torch.nn.Module` and take its axis 1 for the channels, while
Keras has them last. So the network is cut at the layer, its maps go through an identity
module with the channels first, and back; the last dense layer, without its softmax,
is a `torch.nn.Linear` of the same numbers, in which torch-cam finds CAM's weights.
"""

import keras
import numpy as np
import torch


class TorchNetwork(torch.nn.Module):
    """Images `(n, channels, height, width)` -> scores `(n, classes)`, no softmax.

    Attributes:
        features: Its output is the layer's, `(n, channels_l, height_l, width_l)`.
        fc: The last dense layer.
    """

    def __init__(self, model: keras.Model, layer: str):
        super().__init__()
        maps, dense = model.get_layer(layer).output, model.layers[-1]
        self.front = keras.Model(model.inputs[0], maps)
        self.features = torch.nn.Identity()
        self.back = keras.Model(maps, dense.input)
        self.fc = torch.nn.Linear(*dense.kernel.shape)
        kernel, bias = (torch.as_tensor(w) for w in dense.get_weights())
        self.fc.load_state_dict({"weight": kernel.T, "bias": bias})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.front(images.permute(0, 2, 3, 1), training=False)
        maps = self.features(maps.permute(0, 3, 1, 2))
        return self.fc(self.back(maps.permute(0, 2, 3, 1), training=False))


def channels_first(images: np.ndarray) -> torch.Tensor:
    """`(n, height, width, channels)` -> `(n, channels, height, width)`."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).contiguous()
