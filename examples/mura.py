"""Radiographs of the arm: is the study abnormal, and where does the network look?

Run: python examples/mura.py --data-dir MURA-v1.1 --part WRIST --weights imagenet

Fine-tunes a base model on MURA's training split (a tenth of the patients chooses the
best epoch), trains the HR-CAM head, and tests on the `valid` split: balanced accuracy,
F1 and AUC by image and, since the label is that of a study, by study, from the mean
probability of its images. MURA has no masks, so the maps are drawn, not scored. A run
that was stopped goes on where it was with the same --out.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622 (ResNet-50: balanced
    accuracy 76.35 %, F1 0.72, AUC 0.83); Rajpurkar et al. (2017),
    https://arxiv.org/abs/1712.06957, for the mean over a study.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from fine_tuning import (
    parse_arguments,
    readable,
    shown_arguments,
    train_base,
    train_heads,
)

import hrcam
from hrcam.datasets.mura import PARTS
from hrcam.evaluation import markdown_table

SHOWN = ("balanced_accuracy", "f1_macro", "auc")
NUM_ROWS = 6


def main() -> None:
    """Runs the study and writes everything to one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--part", choices=PARTS, help="default: the whole arm")
    args = parse_arguments(parser, image_size=224, epochs=6, learning_rate=1e-4)

    # 1. Data: patients stay whole; the published `valid` split is the test.
    train, check = hrcam.datasets.split_by_group(
        load(args, "train"), (0.9, 0.1), seed=args.seed
    )
    test = load(args, "valid")
    print(f"{len(train)} images to train, {len(check)} to choose, {len(test)} to test")
    augment = hrcam.datasets.Augmentation(flip=True, shift=0.1, rotate=20)
    train_batches = hrcam.datasets.image_dataset(
        train, args.image_size, shuffle=True, augment=augment, seed=args.seed
    )
    check_batches, test_batches = (
        hrcam.datasets.image_dataset(part, args.image_size) for part in (check, test)
    )

    # 2. Base model.
    base_model = train_base(args, train, train_batches, check_batches)
    scores = {"base model": test_scores(base_model, test_batches, test)}

    # 3. The HR-CAM head, once as in the paper and once on standardised features.
    heads, _, _ = train_heads(args, base_model, train_batches, check_batches, copies=1)
    for name, head in heads.items():
        scores[name] = test_scores(head, test_batches, test)

    # 4. Numbers, and maps of the class abnormal for the first abnormal studies.
    print(write_scores(args, scores, [len(part) for part in (train, check, test)]))
    draw(args, base_model, heads["HR-CAM"], test)
    print(f"Wrote scores.md, scores.json and sheet.png to {args.out}")


def load(args, split: str) -> hrcam.datasets.ImageTable:
    """The table of one split, without files that cannot be read."""
    parts = None if args.part is None else (args.part,)
    table = hrcam.datasets.mura(args.data_dir, split, parts=parts)
    return readable(args, table)


def test_scores(model, batches, test) -> dict[str, dict]:
    """Scores by image, and by study from the mean probability of its images."""
    probabilities = model.predict(batches, verbose=0)
    studies = [str(path.parent) for path in test.paths]
    _, first, study = np.unique(studies, return_index=True, return_inverse=True)
    means = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(means, study, probabilities)
    means /= np.bincount(study)[:, None]
    score = hrcam.classification.classification_scores
    return {
        "images": score(test.labels, probabilities) | {"number": len(test)},
        "studies": score(test.labels[first], means) | {"number": len(first)},
    }


def write_scores(args, scores, counts) -> str:
    """Writes all scores as JSON, and the paper's as a table, which is returned."""
    rows = [
        {"model": name, "of": level, "number": found["number"]}
        | {column: found[column] for column in SHOWN}
        for name, levels in scores.items()
        for level, found in levels.items()
    ]
    table = markdown_table(rows)
    facts = shown_arguments(args) | {"images (train, check, test)": counts}
    record = json.dumps({"facts": facts, "scores": scores}, indent=2)
    (args.out / "scores.json").write_text(record + "\n")
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    (args.out / "scores.md").write_text("\n".join([table, "", *lines, ""]))
    return table


def draw(args, base_model, head, test) -> None:
    """Draws the first image of the first abnormal studies."""
    studies = [str(path.parent) for path in test.paths]
    first = np.unique(studies, return_index=True)[1]
    rows = [row for row in sorted(first) if test.labels[row] == 1][:NUM_ROWS]
    images = hrcam.datasets.load_images(test.select(rows), args.image_size)
    before_last = hrcam.feature_layers(base_model)[-2]
    maps = {
        "CAM": hrcam.cam(base_model, images, 1),
        "Grad-CAM": hrcam.grad_cam(base_model, images, 1),
        f"Grad-CAM {before_last}": hrcam.grad_cam(base_model, images, 1, before_last),
        "HR-CAM": hrcam.hr_cam(head, images, 1),
    }
    probabilities = base_model.predict(images, verbose=0)[:, 1]
    titles = [f"abnormal, predicted {p:.2f} abnormal" for p in probabilities]
    sheet = hrcam.plots.comparison_sheet(images, maps, row_titles=titles)
    sheet.savefig(args.out / "sheet.png", dpi=150)


if __name__ == "__main__":
    main()
