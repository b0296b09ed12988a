"""Fractures: is a bone broken, and does the network look at the break?

Run: python examples/fracatlas.py --data-dir fracatlas --weights imagenet

Fine-tunes ResNet-50 on fractured against not fractured (see `hrcam.datasets.fracatlas`
for the folders and where they come from), trains the HR-CAM head, and scores every
method's map of the class "fractured" on the held-out fractures against their outlines,
beside controls that know nothing of the network. Then says which layers the head
leans on, and whose maps lie outside the body or on letters. A run that was stopped goes
on where it was with the same --out.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622, figures 3 and 6, whose
    radiographs (MURA) have no outlines to score against: these scores are ours.
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


def main() -> None:
    """Runs the study and writes everything to one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    args = parse_arguments(parser, image_size=128, epochs=6, learning_rate=3e-4)

    # 1. Networks. Groups are blocks of file numbers: no patient is named.
    table = hrcam.datasets.fracatlas(
        args.data_dir, "fracture", mask_dir=args.out / "masks"
    )
    augment = hrcam.datasets.Augmentation(flip=True, shift=0.1, rotate=20)
    tuned = fine_tune(args, table, augment)

    # 2. Maps of "fractured" against the outlines of the held-out fractures.
    outlined = [mask is not None for mask in tuned.test.mask_paths]
    rows = np.flatnonzero(outlined & (tuned.test.labels == 1))
    fractures, images = tuned.test.select(rows), tuned.images[rows]
    masks = hrcam.datasets.load_masks(fractures, args.image_size)
    ones = np.ones(len(rows), int)
    score_maps_of(args.out / "fractures", tuned, images, masks, ones, fractures.groups)

    # 3. Which layers, and whose maps lie outside the body or on letters.
    explain_layers(args.out, tuned, images, masks)
    grey = images.mean(axis=-1)
    regions = {"fracture": masks, "body": hrcam.regions.body_mask(grey)}
    regions["letters"] = hrcam.regions.burnt_in_mask(grey)
    list_shortcuts(
        args.out, tuned, images, fractures.labels, ones, regions, expected="body"
    )
    print(f"Wrote tables and pictures to {args.out}")


if __name__ == "__main__":
    main()
