"""The anatomy networks: layers by name, sizes, errors."""

import keras
import numpy as np
import pytest

import hrcam

SHALLOW = ["block1_relu1", "block2_relu1", "block3_relu1"]
DEEPER = [f"block{n}_relu2" for n in range(1, 6)]


@pytest.mark.parametrize(
    ("build", "names", "last"),
    [
        (hrcam.build_shallow_net, SHALLOW, (None, 56, 56, 64)),
        (hrcam.build_deeper_net, DEEPER, (None, 14, 14, 256)),
    ],
)
def test_the_defaults_are_those_of_the_paper(build, names, last):
    model = build()

    assert model.input_shape == (None, 224, 224, 1)
    assert model.output_shape == (None, 24)
    assert model.layers[-1].name == "predictions"
    assert model.layers[-1].activation is keras.activations.softmax
    assert hrcam.feature_layers(model) == names
    assert model.get_layer(names[-1]).output.shape == last


def test_weights_are_counted_by_hand():
    """3x3 kernels without bias, 4 batch-norm values a filter, one dense layer."""
    shallow = [(1, 16), (16, 32), (32, 64)]
    deeper = [(1, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    deeper += [(64, 128), (128, 128), (128, 256), (256, 256)]
    for build, kernels, classes in (
        (hrcam.build_shallow_net, shallow, 24),
        (hrcam.build_deeper_net, deeper, 5),
    ):
        count = sum(9 * a * b + 4 * b for a, b in kernels)
        count += (kernels[-1][1] + 1) * classes
        assert build(num_classes=classes).count_params() == count
    assert 1e6 < hrcam.build_deeper_net().count_params() < 5e6


@pytest.mark.parametrize("build", [hrcam.build_shallow_net, hrcam.build_deeper_net])
def test_any_size_channels_and_classes(build):
    model = build((37, 50, 3), num_classes=1)

    output = model.predict(np.zeros((2, 37, 50, 3)), verbose=0)

    assert output.shape == (2, 1)
    assert model.layers[-1].activation is keras.activations.sigmoid
    assert build((None, None, 1), 2).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("build", "side"), [(hrcam.build_shallow_net, 4), (hrcam.build_deeper_net, 16)]
)
def test_an_image_that_the_pools_would_empty_is_refused(build, side):
    build((side, side, 1), 2)

    with pytest.raises(ValueError, match=rf"at least \({side}, {side}, .*Received"):
        build((side - 1, side, 1), 2)
    with pytest.raises(ValueError, match="num_classes"):
        build((side, side, 1), 0)
