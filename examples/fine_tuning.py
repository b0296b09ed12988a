"""What the studies of real images share: a fine-tuned network, its heads, its reports.

Not a script: isic.py, fracatlas.py and mura.py import it.
"""

import argparse
import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
    "vgg19": hrcam.build_vgg19,
    "small": hrcam.build_small_net,
}
HEADS = {"HR-CAM": False, "HR-CAM standardized": True}  # name: standardize
LIMITS = {METHODS[name].title: 96 for name in COSTLY}  # images


class Tuned(NamedTuple):
    """Trained networks and what they are tested on.

    Attributes:
        base_model: The fine-tuned classifier.
        heads: Name -> HR-CAM model.
        test: The held-out images, as a table.
        images: And as an array.
        pooled: Pooled features of the images that chose the epochs.
        facts: What made the numbers.
    """

    base_model: keras.Model
    heads: dict[str, keras.Model]
    test: hrcam.datasets.ImageTable
    images: np.ndarray
    pooled: hrcam.PooledFeatures
    facts: dict

    def methods(self) -> dict:
        """Every method of `hrcam methods`, and the standardised head."""
        standardized = partial(hrcam.hr_cam, self.heads["HR-CAM standardized"])
        bound = explainers(METHODS, self.base_model, self.heads["HR-CAM"])
        return bound | {"HR-CAM standardized": standardized}


def parse_arguments(
    parser: argparse.ArgumentParser, image_size: int, epochs: int, learning_rate: float
) -> argparse.Namespace:
    """Adds what all studies ask for, reads the command line and claims the folder."""
    parser.add_argument("--base", choices=list(BUILDERS), default="resnet50")
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloaded by Keras), none, or a file; none for small",
    )
    parser.add_argument("--image-size", type=int, default=image_size)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--head-epochs", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    name = Path(parser.prog).stem
    parser.add_argument("--out", type=Path, default=Path("runs", name))
    args = parser.parse_args()
    if args.base == "small" and args.weights != "none":
        parser.error("--base small has no weights to start from: --weights none")
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    keras.utils.set_random_seed(args.seed)
    return args


def readable(args, table: hrcam.datasets.ImageTable) -> hrcam.datasets.ImageTable:
    """The table without files that cannot be read, which are named."""
    table, unreadable = hrcam.datasets.drop_unreadable(table)
    for path, reason in unreadable.items():
        print(f"Left out {path.relative_to(args.data_dir)}: {reason}")
    return table


def fine_tune(args, table, augment: hrcam.datasets.Augmentation) -> Tuned:
    """Holds out a fifth of the images, trains the base model and both heads."""
    train, check, test = hrcam.datasets.split_by_group(
        readable(args, table), (0.7, 0.1, 0.2), seed=args.seed
    )
    print(f"{len(train)} images to train, {len(check)} to choose, {len(test)} held out")
    train_batches = hrcam.datasets.image_dataset(
        train, args.image_size, shuffle=True, augment=augment, seed=args.seed
    )
    check_batches = hrcam.datasets.image_dataset(check, args.image_size)
    images = hrcam.datasets.load_images(test, args.image_size)
    base_model = train_base(args, train, train_batches, check_batches)
    base_scores = hrcam.evaluate_classifier(base_model, images, test.labels)
    print("Base model on the held-out images:", base_scores)
    # The head sees two augmented copies of each training image.
    heads, reports, pooled = train_heads(
        args, base_model, train_batches, check_batches, copies=2
    )
    head_scores = {}
    for name, head in heads.items():
        scores = hrcam.evaluate_classifier(head, images, test.labels)
        head_scores[name] = {"held out": scores, "in training": reports[name]}
        print(f"{name} head on the held-out images:", scores)
    facts = shown_arguments(args) | {
        "base scores": base_scores,
        "head scores": head_scores,
    }
    return Tuned(base_model, heads, test, images, pooled, facts)


def train_base(args, train, train_batches, check_batches) -> keras.Model:
    """Fine-tunes the network, classes weighed evenly, or opens a finished run's."""
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


def train_heads(args, base_model, train_batches, check_batches, copies: int):
    """Trains the paper's head, and one on standardised features.

    Both learn from the same pooled vectors. Returns the heads, what was measured in
    training, and the pooled features of the images that chose the epoch.
    """
    heads = {name: hrcam.build_hrcam_model(base_model) for name in HEADS}
    pooled, pooled_check = (
        hrcam.pool_features(
            heads["HR-CAM"], batches, copies=times, base_model=base_model
        )
        for batches, times in ((train_batches, copies), (check_batches, 1))
    )
    reports = {}
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
        reports[name] = history.report
    heads["HR-CAM"].save(args.out / "hrcam.keras")
    return heads, reports, pooled_check


def shown_arguments(args) -> dict:
    """The arguments without folders, and the date."""
    return vars(args) | {
        "data_dir": args.data_dir.name,
        "weights": Path(args.weights).name,
        "out": args.out.name,
        "date": datetime.date.today().isoformat(),
    }


def score_maps_of(directory: Path, tuned: Tuned, images, masks, classes, groups):
    """Scores every method's maps and writes the study."""
    study = hrcam.study.Study(
        tuned.methods(),
        lambda rows: (images[rows], masks[rows]),
        classes,
        groups,
        LIMITS,
    )
    results = hrcam.study.score_study(study, directory, progress=True)
    facts = tuned.facts | {"mask share": round(float(masks.mean()), 4)}
    shown = write_study(directory, study, results, "HR-CAM", facts=facts, progress=True)
    print(shown)


def explain_layers(directory: Path, tuned: Tuned, images, masks) -> None:
    """Writes which layers each head leans on for class 1."""
    for name, head in tuned.heads.items():
        table = write_layer_analysis(
            directory / f"layers {name}",
            head,
            tuned.pooled.vectors,
            images,
            masks,
            1,
            tuned.pooled.labels,
            facts=tuned.facts,
        )
        print(f"Layers of {name}:\n{table}")


def list_shortcuts(
    directory: Path, tuned: Tuned, images, labels, classes, regions, expected
) -> None:
    """Lists the images whose maps lie where they should not, worst first."""
    methods = tuned.methods()
    for title in ("CAM", "HR-CAM"):
        table = write_shortcuts(
            directory / f"shortcuts {title}",
            images,
            methods[title](images, classes),
            labels,
            regions,
            method=title,
            expected=expected,
            class_names=tuned.test.class_names,
            facts=tuned.facts,
        )
        print(table)
