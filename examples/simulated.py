"""The study on simulated pathology: base model, HR-CAM head, maps, scores, pictures.

Run: python examples/simulated.py --base small --num-images 1000 --image-size 64

Three quarters of the images train (a tenth of them choose the best epoch), the rest
are the test set, as in the paper (6,000 and 2,000 of 8,000 images). A run that was
stopped goes on where it was when it is started again with the same --out.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622, section "Simulated
    data" and figure 3.
"""

import argparse
import datetime
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import hrcam
from hrcam.methods import COSTLY, METHODS, explainers
from hrcam.report import claim_directory, write_layer_analysis, write_study

BUILDERS = {
    "resnet50": hrcam.build_resnet50,
    "vgg19": hrcam.build_vgg19,
    "small": hrcam.build_small_net,
}
LIMITS = {METHODS[name].title: 96 for name in COSTLY}  # images
HEADS = {"HR-CAM": False, "HR-CAM standardized": True}  # name: standardize


def main() -> None:
    """Runs the study and writes everything to one folder."""
    args = parse_arguments()
    keras.utils.set_random_seed(args.seed)

    # 1. Data. A class-1 image is followed by one of class 0, so slices are balanced.
    images, masks, labels = hrcam.datasets.simulated(
        args.num_images, args.image_size, args.seed, progress=True
    )
    num_train = args.num_images * 3 // 4
    num_fit = num_train * 9 // 10
    fit, check = slice(0, num_fit), slice(num_fit, num_train)
    test = slice(num_train, None)

    # 2. Base model, from random weights.
    base_model = train_base(args, images, labels, fit, check)
    base_scores = hrcam.evaluate_classifier(base_model, images[test], labels[test])
    print("Base model on the test images:", base_scores)

    # 3. The HR-CAM head, once as in the paper and once on standardised features; both
    #    learn from the same pooled vectors.
    heads = {name: hrcam.build_hrcam_model(base_model) for name in HEADS}
    pooled, pooled_check = (
        hrcam.pool_features(
            heads["HR-CAM"], images[part], labels[part], base_model=base_model
        )
        for part in (fit, check)
    )
    head_scores = {}
    for name, standardize in HEADS.items():
        history = hrcam.fit_hrcam_head(
            heads[name],
            pooled,
            validation_data=pooled_check,
            epochs=args.head_epochs,
            early_stopping=10,
            standardize=standardize,
        )
        scores = hrcam.evaluate_classifier(heads[name], images[test], labels[test])
        head_scores[name] = {"held out": scores, "in training": history.report}
        print(f"{name} head on the test images:", scores)
    heads["HR-CAM"].save(args.out / "hrcam.keras")

    # 4. Scores of every method's map of the pathology class, on the test images that
    #    show it, and tests against HR-CAM.
    sick = labels[test] == 1
    sick_images, sick_masks = images[test][sick], masks[test][sick]
    facts = vars(args) | {
        "out": args.out.name,
        "date": datetime.date.today().isoformat(),
        "mask share of the images": round(float(sick_masks.mean()), 4),
        "base scores": base_scores,
        "head scores": head_scores,
    }
    standardized = partial(hrcam.hr_cam, heads["HR-CAM standardized"])
    study = hrcam.study.Study(
        explainers(METHODS, base_model, heads["HR-CAM"])
        | {"HR-CAM standardized": standardized},
        lambda rows: (sick_images[rows], sick_masks[rows]),
        np.ones(len(sick_images), int),
        limits=LIMITS,
    )
    results = hrcam.study.score_study(study, args.out, progress=True)
    print(write_study(args.out, study, results, "HR-CAM", facts=facts, progress=True))

    # 5. Which layers each head leans on, by the features of the images that chose it.
    for name, head in heads.items():
        print(f"Layers of {name}:")
        print(
            write_layer_analysis(
                args.out / f"layers {name}",
                head,
                pooled_check.vectors,
                sick_images,
                sick_masks,
                1,
                pooled_check.labels,
                facts=facts,
            )
        )
    print(f"Wrote tables and pictures to {args.out}")


def train_base(args, images, labels, fit, check) -> keras.Model:
    """Trains the base model, or opens it where a finished run left it."""
    directory = args.out / "base"
    if (directory / "finished").exists():
        return hrcam.load_model(directory / "best.keras")
    train = flipped_batches(images[fit], labels[fit], args.seed)
    model = BUILDERS[args.base]((args.image_size, args.image_size, 1), 2)
    hrcam.fit_base_model(
        model,
        train,
        validation_data=(images[check], labels[check]),
        epochs=args.epochs,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            args.learning_rate, args.epochs * len(train)
        ),
        directory=directory,
        verbose=2,
    )
    return model


def flipped_batches(images, labels, seed) -> tf.data.Dataset:
    """Shuffled batches of 32, each image mirrored or not in both directions."""
    flip = keras.layers.RandomFlip(seed=seed)
    return (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .shuffle(len(images), seed=seed)
        .batch(32)
        .map(lambda image, label: (flip(image, training=True), label))
        .prefetch(2)
    )


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-images", type=int, default=8000)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--base", choices=list(BUILDERS), default="resnet50")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--head-epochs", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs", "simulated"))
    args = parser.parse_args()
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    return args


if __name__ == "__main__":
    main()
