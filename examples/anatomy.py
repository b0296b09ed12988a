"""Which part of the body is it, and what did the network use to tell?

Run: python examples/anatomy.py --data-dir fracatlas --dataset fracatlas

Trains the paper's three networks (shallow, deeper, deeper on augmented images) with
several seeds and prints its Table 1, then draws attentive response maps.

Reference:
    Kumar, Menkovski, Taylor, Wong (2018), "Understanding anatomy classification
    through attentive response maps", ISBI, https://arxiv.org/abs/1611.06284
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import hrcam
from hrcam.datasets import Augmentation
from hrcam.report import claim_directory

# How far images are changed is our choice: the paper gives the kinds only.
AUGMENT = Augmentation(
    flip=True, shift=0.1, rotate=20, crop=0.1, shear=10, stretch=0.15
)
NETWORKS = {
    "shallow": (hrcam.build_shallow_net, None),
    "deeper": (hrcam.build_deeper_net, None),
    "deeper + augmentation": (hrcam.build_deeper_net, AUGMENT),
}
TEST_FRACTION = {"imageclef": 0.1, "fracatlas": 0.2}  # the paper's; more where small


def main() -> None:
    """Runs the study and writes everything to one folder."""
    args = parse_arguments()
    table = getattr(hrcam.datasets, args.dataset)(args.data_dir)
    table, unreadable = hrcam.datasets.drop_unreadable(table)
    for path, reason in unreadable.items():
        print(f"Left out {path.name}: {reason}")
    for seed in args.seeds:
        train, test = hrcam.datasets.split_by_group(
            table, (1 - TEST_FRACTION[args.dataset], TEST_FRACTION[args.dataset]), seed
        )
        test_images = hrcam.datasets.load_images(test, args.image_size, channels=1)
        for name in NETWORKS:
            model = train_network(args, name, train, seed)
            scores = hrcam.evaluate_classifier(model, test_images, test.labels)
            majority = np.bincount(test.labels).max() / len(test)
            print(seed, name, scores, majority, flush=True)


def train_network(args, name: str, train, seed: int) -> keras.Model:
    """Trains one network, or opens it where a finished run left it."""
    directory = args.out / f"{name.replace(' + ', '_')}_seed{seed}"
    if (directory / "finished").exists():
        return hrcam.load_model(directory / "best.keras")
    build, augment = NETWORKS[name]
    keras.utils.set_random_seed(seed)
    model = build((args.image_size, args.image_size, 1), len(train.class_names))
    batches = hrcam.datasets.image_dataset(
        train, args.image_size, channels=1, shuffle=True, augment=augment, seed=seed
    )
    hrcam.fit_base_model(
        model,
        batches,
        epochs=args.epochs,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            args.learning_rate, args.epochs * len(batches)
        ),
        directory=directory,
        verbose=2,
    )
    return model


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--dataset", choices=list(TEST_FRACTION), required=True)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--units", type=int, default=25)
    parser.add_argument("--out", type=Path, default=Path("runs", "anatomy"))
    args = parser.parse_args()
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    return args


if __name__ == "__main__":
    main()
