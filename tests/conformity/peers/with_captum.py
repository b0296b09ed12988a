"""Maps of captum: signed, at the layer's own size, as it returns them."""

import exchange
import torch
from captum.attr import LayerAttribution, LayerGradCam, LayerGradientXActivation
from torch_network import TorchNetwork, channels_first


def maps(model, layer, images, class_index):
    network, x = TorchNetwork(model, layer), channels_first(images)
    target = torch.as_tensor(class_index)
    grad_cam = LayerGradCam(network, network.features)
    signed = grad_cam.attribute(x, target)
    rectified = grad_cam.attribute(x, target, relu_attributions=True)
    size = images.shape[1:3]
    products = LayerGradientXActivation(network, network.features).attribute(x, target)
    found = {
        "grad_cam": signed,
        "resized nearest": LayerAttribution.interpolate(rectified, size),
        "resized": LayerAttribution.interpolate(rectified, size, "bilinear"),
        "hires_cam": products.sum(1, keepdim=True),
    }
    return {name: made.detach().numpy()[:, 0] for name, made in found.items()}


exchange.answer("captum", maps, ("captum", "torch"))
