"""Skin lesions: is it melanoma, and does the network look at the lesion?

Run: python examples/isic.py --data-dir isic2017 --weights imagenet

Fine-tunes VGG-16 on melanoma against the rest (ISIC 2017 or 2019, see
`hrcam.datasets.isic` for the folders and where they come from), trains the HR-CAM
head, and scores the maps of a held-out fifth against the lesion masks, beside two
controls that know nothing of the network: a bump in the image's centre and the
image's darkness. A run that was stopped goes on where it was with the same --out.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622; the scores against
    lesion masks are ours, the paper shows ISIC maps without them.
"""

import argparse
import datetime
from pathlib import Path

import keras
import numpy as np

import hrcam
from hrcam.maps.controls import centre_prior, image_darkness
from hrcam.report import claim_directory, write_comparison

CLASSES = {2017: "melanoma", 2019: "MEL"}
HEADS = {"HR-CAM": False, "HR-CAM standardized": True}  # name: standardize


def main() -> None:
    """Runs the study and writes everything to one folder."""
    args = parse_arguments()
    keras.utils.set_random_seed(args.seed)

    # 1. Data: a fifth is held out, a tenth chooses the best epoch; lesions stay whole.
    table = hrcam.datasets.isic(args.data_dir, args.year, CLASSES[args.year])
    table, unreadable = hrcam.datasets.drop_unreadable(table)
    for path, reason in unreadable.items():
        print(f"Left out {path.name}: {reason}")
    train, check, test = hrcam.datasets.split_by_group(
        table, (0.7, 0.1, 0.2), seed=args.seed
    )
    print(f"{len(train)} images to train, {len(check)} to choose, {len(test)} held out")
    augment = hrcam.datasets.Augmentation(flip=True, shift=0.1, rotate=45)
    train_batches = hrcam.datasets.image_dataset(
        train, args.image_size, shuffle=True, augment=augment, seed=args.seed
    )
    check_batches = hrcam.datasets.image_dataset(check, args.image_size)
    test_images = hrcam.datasets.load_images(test, args.image_size)

    # 2. Base model, melanoma weighed up to the number of the others.
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

    # 4. Scores: the melanoma map of melanomas, and each image's predicted class.
    masks = hrcam.datasets.load_masks(test, args.image_size)
    facts = vars(args) | {
        "data_dir": args.data_dir.name,
        "weights": Path(args.weights).name,
        "out": args.out.name,
        "date": datetime.date.today().isoformat(),
        "base scores": base_scores,
        "head scores": head_scores,
    }
    melanoma = test.labels == 1
    predicted = base_model.predict(test_images, verbose=0).argmax(axis=1)
    for name, rows, class_index in (
        ("melanoma", melanoma, 1),
        ("all", np.ones(len(test), bool), predicted),
    ):
        images = test_images[rows]
        print(f"Maps of {len(images)} images ({name})")
        scores = write_comparison(
            args.out / name,
            images,
            make_maps(base_model, heads, images, class_index),
            masks[rows],
            drawn=["CAM", "Grad-CAM", "HR-CAM"],
            row_titles=titles(base_model, images, test.labels[rows]),
            facts=facts | {"mask share": round(float(masks[rows].mean()), 4)},
        )
        print(scores)
    print(f"Wrote sheets, box plots and scores to {args.out}")


def make_maps(base_model, heads, images, class_index) -> dict[str, np.ndarray]:
    """Maps of every method and control, by name."""
    return {
        "CAM": hrcam.cam(base_model, images, class_index),
        "Grad-CAM": hrcam.grad_cam(base_model, images, class_index),
        "HR-CAM": hrcam.hr_cam(heads["HR-CAM"], images, class_index),
        "HR-CAM contrast": hrcam.hr_cam(
            heads["HR-CAM"], images, class_index, contrast=True
        ),
        "HR-CAM standardized": hrcam.hr_cam(
            heads["HR-CAM standardized"], images, class_index
        ),
        "centre prior": centre_prior(None, images),
        "image darkness": image_darkness(None, images),
    }


def titles(base_model, images, labels) -> list[str]:
    """The true class and the predicted probability, a row of the sheet each."""
    probabilities = base_model.predict(images, verbose=0)[:, 1]
    return [
        f"{'melanoma' if label else 'rest'}, predicted {probability:.2f} melanoma"
        for label, probability in zip(labels, probabilities, strict=True)
    ]


def train_base(args, train, train_batches, check_batches) -> keras.Model:
    """Fine-tunes VGG-16, or opens it where a finished run left it."""
    directory = args.out / "base"
    if (directory / "finished").exists():
        return hrcam.load_model(directory / "best.keras")
    model = hrcam.build_vgg16(
        (args.image_size, args.image_size, 3),
        num_classes=2,
        weights=None if args.weights == "none" else args.weights,
        preprocessing="caffe",
    )
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
    parser.add_argument("--year", type=int, choices=list(CLASSES), default=2017)
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloaded by Keras), none, or a file of VGG-16 weights",
    )
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--head-epochs", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs", "isic"))
    args = parser.parse_args()
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    return args


if __name__ == "__main__":
    main()
