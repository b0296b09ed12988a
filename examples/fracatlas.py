"""Fractures: is a bone broken, and does the network look at the break?

Run: python examples/fracatlas.py --data-dir fracatlas --weights imagenet

Fine-tunes ResNet-50 on fractured against not fractured (see `hrcam.datasets.fracatlas`
for the folders and where they come from), trains the HR-CAM head, and scores every
method's map of the class "fractured" on the held-out fractures against their outlines,
beside controls that know nothing of the network. Then says which layers the head
leans on. A run that was stopped goes on where it was with the same --out.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622, figures 3 and 6, whose
    radiographs (MURA) have no outlines to score against: these scores are ours.
"""

import argparse
import datetime
from functools import partial
from pathlib import Path

import keras
import numpy as np

import hrcam
from hrcam.methods import COSTLY, METHODS, explainers
from hrcam.report import (
    claim_directory,
    write_layer_analysis,
    write_shortcuts,
    write_study,
)

BUILDERS = {
    "resnet50": hrcam.build_resnet50,
    "vgg16": hrcam.build_vgg16,
    "small": hrcam.build_small_net,
}
LIMITS = {METHODS[name].title: 96 for name in COSTLY}  # images
HEADS = {"HR-CAM": False, "HR-CAM standardized": True}  # name: standardize


def main() -> None:
    """Runs the study and writes everything to one folder."""
    args = parse_arguments()
    keras.utils.set_random_seed(args.seed)

    # 1. Data: a fifth is held out, a tenth chooses the best epoch.
    table = hrcam.datasets.fracatlas(
        args.data_dir, "fracture", mask_dir=args.out / "masks"
    )
    table, unreadable = hrcam.datasets.drop_unreadable(table)
    for path, reason in unreadable.items():
        print(f"Left out {path.name}: {reason}")
    train, check, test = hrcam.datasets.split_by_group(
        table, (0.7, 0.1, 0.2), seed=args.seed
    )
    print(f"{len(train)} images to train, {len(check)} to choose, {len(test)} held out")
    augment = hrcam.datasets.Augmentation(flip=True, shift=0.1, rotate=20)
    train_batches = hrcam.datasets.image_dataset(
        train, args.image_size, shuffle=True, augment=augment, seed=args.seed
    )
    check_batches = hrcam.datasets.image_dataset(check, args.image_size)
    test_images = hrcam.datasets.load_images(test, args.image_size)

    # 2. Base model, fractures weighed up to the number of the others.
    base_model = train_base(args, train, train_batches, check_batches)
    base_scores = hrcam.evaluate_classifier(base_model, test_images, test.labels)
    print("Base model on the held-out images:", base_scores)

    # 3. The HR-CAM head on two augmented copies of each training image: once as in the
    #    paper, once on standardised features. Both learn from the same pooled vectors.
    heads = {name: hrcam.build_hrcam_model(base_model) for name in HEADS}
    pooled, pooled_check = (
        hrcam.pool_features(
            heads["HR-CAM"], batches, copies=copies, base_model=base_model
        )
        for batches, copies in ((train_batches, 2), (check_batches, 1))
    )
    head_scores = {}
    for name, standardize in HEADS.items():
        history = hrcam.fit_hrcam_head(
            heads[name],
            pooled,
            validation_data=pooled_check,
            epochs=args.head_epochs,
            early_stopping=10,
            class_weight="balanced",
            standardize=standardize,
        )
        scores = hrcam.evaluate_classifier(heads[name], test_images, test.labels)
        head_scores[name] = {"held out": scores, "in training": history.report}
        print(f"{name} head on the held-out images:", scores)
    heads["HR-CAM"].save(args.out / "hrcam.keras")

    # 4. Scores of every method's map of "fractured", on the outlined fractures.
    outlined = np.array([mask is not None for mask in test.mask_paths])
    fractures = test.select(outlined & (test.labels == 1))
    images = hrcam.datasets.load_images(fractures, args.image_size)
    masks = hrcam.datasets.load_masks(fractures, args.image_size)
    facts = vars(args) | {
        "data_dir": args.data_dir.name,
        "weights": Path(args.weights).name,
        "out": args.out.name,
        "date": datetime.date.today().isoformat(),
        "base scores": base_scores,
        "head scores": head_scores,
        "mask share": round(float(masks.mean()), 4),
    }
    standardized = partial(hrcam.hr_cam, heads["HR-CAM standardized"])
    study = hrcam.study.Study(
        explainers(METHODS, base_model, heads["HR-CAM"])
        | {"HR-CAM standardized": standardized},
        lambda rows: (images[rows], masks[rows]),
        np.ones(len(images), int),
        fractures.groups,
        LIMITS,
    )
    results = hrcam.study.score_study(study, args.out / "fractures", progress=True)
    print(
        write_study(
            args.out / "fractures", study, results, "HR-CAM", facts=facts, progress=True
        )
    )

    # 5. Which layers each head leans on, by the features of the images that chose it.
    for name, head in heads.items():
        print(f"Layers of {name}:")
        print(
            write_layer_analysis(
                args.out / f"layers {name}",
                head,
                pooled_check.vectors,
                images,
                masks,
                1,
                pooled_check.labels,
                facts=facts,
            )
        )
    # 6. Which images' maps lie outside the body or on letters, worst first.
    grey = images.mean(axis=-1)
    regions = {"fracture": masks, "body": hrcam.regions.body_mask(grey)}
    regions["letters"] = hrcam.regions.burnt_in_mask(grey)
    for title in ("CAM", "HR-CAM"):
        print(
            write_shortcuts(
                args.out / f"shortcuts {title}",
                images,
                study.methods[title](images, study.class_index),
                fractures.labels,
                regions,
                method=f"{title} of fractured",
                expected="body",
                class_names=fractures.class_names,
                facts=facts,
            )
        )
    print(f"Wrote tables and pictures to {args.out}")


def train_base(args, train, train_batches, check_batches) -> keras.Model:
    """Fine-tunes the network, or opens it where a finished run left it."""
    directory = args.out / "base"
    if (directory / "finished").exists():
        return hrcam.load_model(directory / "best.keras")
    options = {}
    if args.weights != "none":  # weights ask for a network that they fit
        options = {"weights": args.weights, "preprocessing": "caffe"}
    model = BUILDERS[args.base]((args.image_size, args.image_size, 3), 2, **options)
    counts = np.bincount(train.labels)
    hrcam.fit_base_model(
        model,
        train_batches,
        validation_data=check_batches,
        epochs=args.epochs,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            args.learning_rate, args.epochs * len(train_batches)
        ),
        class_weight={c: len(train) / (2 * counts[c]) for c in (0, 1)},
        directory=directory,
        verbose=2,
    )
    return model


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--base", choices=list(BUILDERS), default="resnet50")
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloaded by Keras), none, or a file; none for small",
    )
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--head-epochs", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs", "fracatlas"))
    args = parser.parse_args()
    if args.base == "small" and args.weights != "none":
        parser.error("--base small has no weights to start from: --weights none")
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    return args


if __name__ == "__main__":
    main()
