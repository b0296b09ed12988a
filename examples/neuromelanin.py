"""Parkinson's disease: do the two substantiae nigrae come out as two places?

Run: python examples/neuromelanin.py --simulate --base small
 or: python examples/neuromelanin.py --data-dir slices --table slices.csv
     --box 0.3 0.25 0.7 0.65 --weights imagenet

The slices are PNG, JPEG or TIFF files, or the scanner's: DICOM, and NIfTI volumes of
which the CSV's column `slice` names some or, empty, all (see the loader).

Trains a base model and the HR-CAM head on slices that are cut to the brain-stem and
augmented ten-fold, and tests on other subjects (25 of 80, as in the paper). With
`--simulate` (see `hrcam.datasets.phantom`) the structures are known: maps are scored
against them, and the question of the paper's figure 5, apart in HR-CAM and merged in
CAM, is measured (see `hrcam.separation`). Real slices come without masks: then there
are sheets and scores of the classes only.

Two maps are reported. The class "control" has evidence that is there, the bright
structures. That of "patient" is an absence; what a map of it should mark is not as
plain. A run that was stopped goes on where it was with the same --out.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622, figure 5.
"""

import argparse
import datetime
import json
from pathlib import Path

import keras
import numpy as np

import hrcam
from hrcam.datasets import Augmentation, ImageTable, augment_batch
from hrcam.evaluation import markdown_table
from hrcam.maps.controls import centre_prior, image_darkness
from hrcam.report import claim_directory, write_comparison
from hrcam.separation import VERDICTS, separation_score, structures_found

BUILDERS = {
    "resnet50": hrcam.build_resnet50,
    "vgg19": hrcam.build_vgg19,
    "small": hrcam.build_small_net,
}
HEADS = {"HR-CAM": False, "HR-CAM standardized": True}  # name: standardize
CLASS_NAMES = ("control", "patient")
COPIES = 10  # of each slice to train on, as in the paper; how they change is ours
AUGMENT = Augmentation(shift=0.05, rotate=10, crop=0.1, shear=5, stretch=0.1)
NUM_ROWS = 6


def main() -> None:
    """Runs the study and writes everything to one folder."""
    args = parse_arguments()
    keras.utils.set_random_seed(args.seed)

    # 1. Data, split by subject: 45 train, 10 choose the best epoch, 25 are the test.
    images, labels, groups, structures = load(args)
    fit, check, test = split(labels, groups, args.seed)
    copies = [augment_batch(images[fit], args.seed, AUGMENT, epoch=i)
              for i in range(COPIES)]  # fmt: skip
    fit_images, fit_labels = np.concatenate(copies), np.tile(labels[fit], COPIES)

    # 2. Base model.
    base_model = train_base(
        args, fit_images, fit_labels, (images[check], labels[check])
    )
    scores = {"base model": test_scores(base_model, images, labels, groups, test)}
    print("Base model on the test slices:", scores["base model"])

    # 3. The HR-CAM head, once as in the paper and once on standardised features; both
    #    learn from the same pooled vectors.
    heads = {name: hrcam.build_hrcam_model(base_model) for name in HEADS}
    pooled, pooled_check = (
        hrcam.pool_features(heads["HR-CAM"], x, y, base_model=base_model)
        for x, y in ((fit_images, fit_labels), (images[check], labels[check]))
    )
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
        scores[name] = test_scores(heads[name], images, labels, groups, test)
        scores[name]["in training"] = history.report
        print(f"{name} head on the test slices:", scores[name])
    heads["HR-CAM"].save(args.out / "hrcam.keras")

    # 4. For each class its map of its own slices: numbers and pictures.
    facts = vars(args) | {
        "data_dir": args.data_dir and args.data_dir.name,
        "weights": Path(args.weights).name,
        "out": args.out.name,
        "date": datetime.date.today().isoformat(),
        "subjects (fit, check, test)": [
            len(set(groups[p])) for p in (fit, check, test)
        ],
        "slices (fit, check, test)": [len(part) for part in (fit, check, test)],
        "class scores": scores,
    }
    (args.out / "classes.json").write_text(json.dumps(facts, indent=2) + "\n")
    for class_index, class_name in enumerate(CLASS_NAMES):
        rows = test[labels[test] == class_index]
        rows = rows[np.random.default_rng(args.seed).permutation(len(rows))]
        maps = make_maps(base_model, heads, images[rows], class_index)
        directory = args.out / class_name
        shown = titles(base_model, images[rows], class_name)
        if structures is None:
            draw(directory, images[rows], maps, shown)
            continue
        print(f"Map of {class_name} on {len(rows)} slices of this class")
        table = write_comparison(
            directory,
            images[rows],
            maps,
            structures[rows] > 0,
            drawn=list(maps)[:4],
            row_titles=shown,
            num_rows=NUM_ROWS,
            facts=facts,
        )
        print(table, write_separation(directory, maps, structures[rows]), sep="\n\n")
    print(f"Wrote the results to {args.out}")


def load(args) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns images, labels, subjects and, of the phantom, the structures."""
    if args.simulate:
        phantom = hrcam.datasets.neuromelanin_phantom(
            args.num_subjects, args.slices_per_subject, args.image_size, args.seed
        )
        return phantom.images, phantom.labels, phantom.groups, phantom.structures
    table = hrcam.datasets.neuromelanin(
        args.data_dir, args.table, class_names=CLASS_NAMES
    )
    table, unreadable = hrcam.datasets.drop_unreadable(table)
    for path, reason in unreadable.items():  # of a volume: scan.nii.gz#12
        print(f"Left out {path.name}: {reason}")
    left, top, right, bottom = args.box  # load so large that the box has our size
    size = [round(args.image_size / side) for side in (bottom - top, right - left)]
    images = hrcam.datasets.load_images(table, size, channels=1)
    return hrcam.datasets.crop(images, args.box), table.labels, table.groups, None


def split(labels, groups, seed) -> list[np.ndarray]:
    """Row numbers of three parts of whole subjects."""
    # The slices are in memory: their row numbers stand for the files.
    rows = ImageTable(list(map(str, range(len(labels)))), labels, groups, CLASS_NAMES)
    shares = (45 / 80, 10 / 80, 25 / 80)
    parts = hrcam.datasets.split_by_group(rows, shares, seed)
    return [np.array([int(path.name) for path in part.paths]) for part in parts]


def train_base(args, images, labels, check) -> keras.Model:
    """Trains the base model, or opens it where a finished run left it."""
    directory = args.out / "base"
    if (directory / "finished").exists():
        return hrcam.load_model(directory / "best.keras")
    options = {}
    if args.weights != "none":  # weights ask for a network that they fit
        options = {"weights": args.weights, "preprocessing": "caffe"}
    model = BUILDERS[args.base]((args.image_size, args.image_size, 1), 2, **options)
    hrcam.fit_base_model(
        model,
        images,
        labels,
        validation_data=check,
        epochs=args.epochs,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            args.learning_rate, args.epochs * -(-len(images) // 32)
        ),
        class_weight="balanced",
        directory=directory,
        verbose=2,
    )
    return model


def test_scores(model, images, labels, groups, test) -> dict:
    """Scores by slice and, with the mean probability of its slices, by subject."""
    probabilities = model.predict(images[test], verbose=0)
    _, first, subject = np.unique(groups[test], return_index=True, return_inverse=True)
    means = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(means, subject, probabilities)
    means /= np.bincount(subject)[:, None]
    return {
        "slices": hrcam.classification.classification_scores(
            labels[test], probabilities
        ),
        "subjects": hrcam.classification.classification_scores(
            labels[test][first], means
        ),
    }


def make_maps(base_model, heads, images, class_index) -> dict[str, np.ndarray]:
    """Maps of every method and control, by name."""
    before_last = hrcam.feature_layers(base_model)[-2]
    return {
        "CAM": hrcam.cam(base_model, images, class_index),
        "Grad-CAM": hrcam.grad_cam(base_model, images, class_index),
        f"Grad-CAM {before_last}": hrcam.grad_cam(
            base_model, images, class_index, before_last
        ),
        "HR-CAM": hrcam.hr_cam(heads["HR-CAM"], images, class_index),
        "HR-CAM contrast": hrcam.hr_cam(
            heads["HR-CAM"], images, class_index, contrast=True
        ),
        "HR-CAM standardized": hrcam.hr_cam(
            heads["HR-CAM standardized"], images, class_index
        ),
        "centre prior": centre_prior(None, images),
        "image brightness": 1 - image_darkness(None, images),
    }


def titles(base_model, images, class_name) -> list[str]:
    """The true class and the predicted probability, a row of the sheet each."""
    probabilities = base_model.predict(images, verbose=0)[:, 1]
    return [f"{class_name}, predicted {p:.2f} patient" for p in probabilities]


def draw(directory, images, maps, shown) -> None:
    """Writes the sheet of slices without masks."""
    directory.mkdir(exist_ok=True)
    drawn = {name: maps[name][:NUM_ROWS] for name in list(maps)[:4]}
    hrcam.plots.comparison_sheet(
        images[:NUM_ROWS], drawn, row_titles=shown[:NUM_ROWS]
    ).savefig(directory / "sheet.png", dpi=150)


def write_separation(directory, maps, structures) -> str:
    """Writes the separation of the two structures; returns it as a table."""
    rows = []
    for method, values in maps.items():
        score = separation_score(values, structures)
        verdicts = structures_found(values, structures)
        defined = score[~np.isnan(score)]
        middle = float(np.median(defined)) if len(defined) else float("nan")
        row = {"method": method, "separation": middle}
        row |= {name: float(np.mean(verdicts == name)) for name in VERDICTS}
        rows.append(row | {"undefined": len(score) - len(defined)})
    table = markdown_table(rows)
    (directory / "separation.md").write_text(table + "\n")
    (directory / "separation.json").write_text(json.dumps(rows, indent=2) + "\n")
    return table


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data-dir", type=Path)
    source.add_argument("--simulate", action="store_true")
    parser.add_argument("--table", help="the CSV in --data-dir; default: the only one")
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        default=(0.0, 0.0, 1.0, 1.0),
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="around the brain-stem, fractions of width and height",
    )
    parser.add_argument("--num-subjects", type=int, default=80)
    parser.add_argument("--slices-per-subject", type=int, default=7)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--base", choices=list(BUILDERS), default="resnet50")
    parser.add_argument(
        "--weights",
        default="none",
        help="none, imagenet (downloaded by Keras), or a file; not for small",
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--head-epochs", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs", "neuromelanin"))
    args = parser.parse_args()
    if args.base == "small" and args.weights != "none":
        parser.error("--base small has no weights to start from")
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    return args


if __name__ == "__main__":
    main()
