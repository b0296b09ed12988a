"""Skin lesions: is it melanoma, and does the network look at the lesion?

Run: python examples/isic.py --data-dir isic2017 --weights imagenet

Fine-tunes ResNet-50 (or another) on melanoma against the rest (ISIC 2017 or 2019, see
`hrcam.datasets.isic` for the folders and where they come from), trains the HR-CAM
head, and scores every method's maps of a held-out fifth against the lesion masks,
beside controls that know nothing of the network. Then says which layers the head leans
on, and whose maps lie outside the lesion. A run that was stopped goes on where it was
with the same --out.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622; the scores against
    lesion masks are ours, the paper shows ISIC maps without them.
"""

import argparse
from pathlib import Path

import numpy as np
from fine_tuning import (
    explain_layers,
    fine_tune,
    list_shortcuts,
    parse_arguments,
    score_maps_of,
)

import hrcam

CLASSES = {2017: "melanoma", 2019: "MEL"}


def main() -> None:
    """Runs the study and writes everything to one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--year", type=int, choices=list(CLASSES), default=2017)
    args = parse_arguments(parser, image_size=128, epochs=8, learning_rate=3e-4)

    # 1. Networks: melanoma against the rest; lesions stay whole.
    table = hrcam.datasets.isic(args.data_dir, args.year, CLASSES[args.year])
    augment = hrcam.datasets.Augmentation(flip=True, shift=0.1, rotate=45)
    tuned = fine_tune(args, table, augment)

    # 2. Maps against the lesion: the melanoma map of melanomas, and the map of each
    #    image's predicted class.
    test, images = tuned.test, tuned.images
    masks = hrcam.datasets.load_masks(test, args.image_size)
    sick = test.labels == 1
    predicted = tuned.base_model.predict(images, verbose=0).argmax(axis=1)
    ones = np.ones(sick.sum(), int)
    score_maps_of(
        args.out / "melanoma", tuned, images[sick], masks[sick], ones, test.groups[sick]
    )
    score_maps_of(args.out / "all", tuned, images, masks, predicted, test.groups)

    # 3. Which layers, and whose maps lie outside the lesion or on the frame.
    explain_layers(args.out, tuned, images[sick], masks[sick])
    regions = {"lesion": masks, "frame": hrcam.regions.frame_mask(images)}
    list_shortcuts(args.out, tuned, images, test.labels, predicted, regions, "lesion")
    print(f"Wrote tables and pictures to {args.out}")


if __name__ == "__main__":
    main()
