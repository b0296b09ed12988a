"""Maps of torch-cam: `normalized=False` gives them raw, at the layer's own size.

All but CAM are rectified.
"""

import exchange
from torch_network import TorchNetwork, channels_first
from torchcam.methods import CAM, GradCAM, GradCAMpp, LayerCAM, ScoreCAM

METHODS = {
    "grad_cam": GradCAM,
    "grad_cam_plus_plus": GradCAMpp,
    "layer_cam": LayerCAM,
    "score_cam": ScoreCAM,
}


def maps(model, layer, images, class_index):
    network, x = TorchNetwork(model, layer), channels_first(images)
    classes = class_index.tolist()

    def explain(extractor, normalized=False):
        with extractor:
            scores = network(x)
            return extractor(classes, scores, normalized)[0].detach().numpy()

    found = {
        name: explain(method(network, "features")) for name, method in METHODS.items()
    }
    found["as returned"] = explain(GradCAM(network, "features"), normalized=True)
    if network.fc.in_features == model.get_layer(layer).output.shape[-1]:
        found["cam"] = explain(CAM(network, "features", "fc"))
    return found


exchange.answer("torchcam", maps, ("torchcam", "torch"))
