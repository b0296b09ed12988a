"""Writes the network, an image and hrcam's maps of its units, for the peers."""

import argparse
from pathlib import Path

import exchange
import numpy as np
import setting
from paired import report, versions

from hrcam import attentive_response_maps, feature_layers
from hrcam.graph import layer_outputs


def main() -> None:
    """Writes the files that `exchange` describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--units", type=int, default=25)
    args = parser.parse_args()
    classifier = setting.build("deeper_net", args.size)
    x = setting.images(1, args.size, 1)
    layer = feature_layers(classifier)[-1]
    results = {
        seed: attentive_response_maps(classifier, x, layer, args.units, seed=seed)
        for seed in exchange.SEEDS
    }
    trunk = setting.keras.Model(
        classifier.inputs[0], layer_outputs(classifier, [layer])[0]
    )
    maps = {seed: made["unit_maps"][0, ..., 0] for seed, made in results.items()}
    arrays = {
        "image": x,
        "layer": np.array(layer),
        "features": setting.compiled_forward(trunk, 1)(x),
        "units": results["map"]["units"][0],
    }
    exchange.save(args.folder, classifier, arrays | maps)
    report(
        {
            "size": args.size,
            "units": args.units,
            "layer": layer,
            "versions": versions("tensorflow", "keras", "numpy"),
        }
    )


if __name__ == "__main__":
    main()
