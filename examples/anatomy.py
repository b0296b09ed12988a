"""Which part of the body is it, and what did the network use to tell?

Run: python examples/anatomy.py --data-dir fracatlas --dataset fracatlas

Trains the paper's three networks (shallow, deeper, deeper on augmented images) with
several seeds and prints its Table 1. For the first seed it then draws attentive
response maps of hands and of misclassified images, measures which share of the
response lies on burnt-in letters and outside the body, and tests the letters
themselves: does the class change when they are covered? A run that was stopped goes on
where it was with the same --out.

Reference:
    Kumar, Menkovski, Taylor, Wong (2018), "Understanding anatomy classification
    through attentive response maps", ISBI, https://arxiv.org/abs/1611.06284
"""

import argparse
import datetime
import json
from pathlib import Path

import keras
import numpy as np
from scipy import ndimage

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
NUM_DRAWN = 4
REGIONS = ("letters", "outside", "inside")


def main() -> None:
    """Runs the study and writes everything to one folder."""
    args = parse_arguments()
    table = getattr(hrcam.datasets, args.dataset)(args.data_dir)
    table, unreadable = hrcam.datasets.drop_unreadable(table)
    for path, reason in unreadable.items():
        print(f"Left out {path.name}: {reason}")

    # 1. Train each network with each seed, which also decides the split.
    scores = {name: [] for name in NETWORKS}
    for seed in args.seeds:
        train, test = split(table, args, seed)
        images = hrcam.datasets.load_images(test, args.image_size, channels=1)
        for name in NETWORKS:
            model = train_network(args, name, train, seed)
            found = hrcam.evaluate_classifier(model, images, test.labels)
            found |= {
                "seed": seed,
                "test images": len(test),
                "classes": len(test.class_names),
                "majority": float(np.bincount(test.labels).max() / len(test)),
            }
            scores[name].append(found)
            print(f"seed {seed}, {name}: accuracy {found['accuracy']:.3f}", flush=True)
    lines = table_1(scores)
    write(args, "table1", lines, scores)

    # 2. Maps of the first seed's networks: hands, and the worst mistakes.
    train, test = split(table, args, args.seeds[0])
    images = hrcam.datasets.load_images(test, args.image_size, channels=1)
    hand = next(n for n, name in enumerate(table.class_names) if "hand" in name)
    hands = np.flatnonzero(test.labels == hand)[:NUM_DRAWN]
    letters = hrcam.regions.burnt_in_mask(images)
    shares, covered = {}, {}
    for name in NETWORKS:
        model = train_network(args, name, train, args.seeds[0])
        probabilities = model.predict(images, verbose=0)
        draw(args, name, "hands", model, images, test, probabilities, hands)
        wrong = mistakes(probabilities, test.labels)
        if len(wrong):
            worst = wrong[:NUM_DRAWN]
            draw(args, name, "mistakes", model, images, test, probabilities, worst)
        list_mistakes(args, name, test, probabilities, wrong)

        # 3. What the response lies on, over all test images.
        print(f"Attentive response maps of {len(images)} images, {name}", flush=True)
        response = hrcam.attentive_response_maps(
            model, images, top_n=args.units, unit_maps=False
        )["response"]
        on = hrcam.regions.response_shares(response, images)
        shares[name] = share_rows(on, test, probabilities.argmax(axis=1))
        most = np.argsort(-np.nan_to_num(on["letters"]), kind="stable")[:NUM_DRAWN]
        if letters[most[0]].any():
            draw(args, name, "letters", model, images, test, probabilities, most)

        # 4. Cover the letters, and for control what lies opposite.
        covered[name] = cover_letters(model, images, letters, probabilities)
    write(args, "shares", share_table(shares), shares)
    write(args, "covered", cover_table(covered), covered)
    print(f"Wrote tables and figures to {args.out}")


def split(table, args, seed: int):
    """Splits off the test images; neighbours stay together."""
    fraction = TEST_FRACTION[args.dataset]
    return hrcam.datasets.split_by_group(table, (1 - fraction, fraction), seed)


def train_network(args, name: str, train, seed: int) -> keras.Model:
    """Trains one network, or opens it where a finished run left it."""
    directory = args.out / f"{file_name(name)}_seed{seed}"
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


def draw(args, name, what, model, images, test, probabilities, rows) -> None:
    """Draws responses and single units of some images."""
    result = hrcam.attentive_response_maps(model, images[rows], top_n=args.units)
    names = test.class_names
    titles = [
        f"{names[test.labels[row]]}, predicted "
        f"{names[probabilities[row].argmax()]} ({probabilities[row].max():.2f})"
        for row in rows
    ]
    stem = f"{what}_{file_name(name)}"
    sheet = hrcam.plots.response_sheet(images[rows], result, titles=titles)
    sheet.savefig(args.out / f"{stem}.png", dpi=150)
    units = min(5, args.units)
    sheet = hrcam.plots.unit_sheet(images[rows], result, units=units, titles=titles)
    sheet.savefig(args.out / f"{stem}_units.png", dpi=150)


def mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows of the misclassified images, the surest mistake first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[order]


def list_mistakes(args, name, test, probabilities, wrong) -> None:
    """Writes one line a misclassified image."""
    lines = ["file,class,predicted,probability"]
    for row in wrong:
        predicted = probabilities[row].argmax()
        lines.append(
            f"{test.paths[row].name},{test.class_names[test.labels[row]]},"
            f"{test.class_names[predicted]},{probabilities[row, predicted]:.4f}"
        )
    file = args.out / f"mistakes_{file_name(name)}.csv"
    file.write_text("\n".join(lines) + "\n")
    print(f"{name}: {len(wrong)} of {len(test)} misclassified, listed in {file.name}")


def table_1(scores) -> list[str]:
    """The paper's Table 1 with the balanced accuracy and the baseline beside it."""
    lines = [
        "| network | accuracy % | balanced accuracy % | seeds |",
        "|---|---|---|---|",
    ]
    for name, runs in scores.items():
        cells = [spread(runs, key) for key in ("accuracy", "balanced_accuracy")]
        lines.append(f"| {name} | {' | '.join(cells)} | {len(runs)} |")
    runs = next(iter(scores.values()))
    majority, chance = spread(runs, "majority"), 100 / runs[0]["classes"]
    name = "always the largest class"
    return [*lines, f"| {name} | {majority} | {chance:.1f} | {len(runs)} |"]


def spread(runs, key: str) -> str:
    """Mean and standard deviation over seeds, in percent."""
    values = 100 * np.array([run[key] for run in runs])
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def share_rows(on, test, predicted) -> dict[str, dict[str, float]]:
    """Mean share of the response and of the area on each region, by group of images."""
    groups = {
        name: test.labels == number for number, name in enumerate(test.class_names)
    }
    groups["classified right"] = predicted == test.labels
    groups["misclassified"] = predicted != test.labels
    groups["with letters"] = on["letters_area"] > 0
    rows = {}
    for name, chosen in groups.items():
        chosen = chosen & np.isfinite(on["inside"])
        rows[name] = {"images": int(chosen.sum())}
        for region in REGIONS:
            for key in (region, f"{region}_area"):
                mean = on[key][chosen].mean() if chosen.any() else float("nan")
                rows[name][key] = float(mean)
    return rows


def share_table(shares) -> list[str]:
    """Share of the response on a region, and of the area, in percent."""
    lines = [
        "| network | images | n | letters | outside the body | inside |",
        "|---|---|---|---|---|---|",
    ]
    for network, rows in shares.items():
        for group, row in rows.items():
            cells = [
                f"{100 * row[region]:.1f} (area {100 * row[f'{region}_area']:.1f})"
                for region in REGIONS
            ]
            lines.append(
                f"| {network} | {group} | {row['images']} | {' | '.join(cells)} |"
            )
    return lines


def cover_letters(model, images, letters, probabilities) -> dict[str, float]:
    """Counts what changes when letters, or the places opposite, are covered."""
    rows = np.flatnonzero(letters.any(axis=(1, 2)))
    result = {"images": len(rows)}
    if not len(rows):
        return result
    predicted = probabilities[rows].argmax(axis=1)
    before = probabilities[rows, predicted]
    for name, masks in (
        ("letters", letters[rows]),
        ("opposite", letters[rows, :, ::-1]),
    ):
        hidden = np.stack(
            [
                cover(image, mask)
                for image, mask in zip(images[rows], masks, strict=True)
            ]
        )
        after = model.predict(hidden, verbose=0)
        result[f"{name} class changed"] = int((after.argmax(axis=1) != predicted).sum())
        change = before - after[np.arange(len(rows)), predicted]
        result[f"{name} probability lost"] = float(change.mean())
    return result


def cover(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Paints a mask with the median of the pixels around it."""
    around = ndimage.binary_dilation(mask, iterations=4) & ~mask
    return np.where(mask[..., None], np.median(image[around]), image)


def cover_table(covered) -> list[str]:
    """How many classes change, and how much probability the first class loses."""
    lines = [
        "| network | images with letters | class changed, letters covered "
        "| place opposite covered | probability lost, letters | opposite |",
        "|---|---|---|---|---|---|",
    ]
    for network, row in covered.items():
        if row["images"]:
            lines.append(
                f"| {network} | {row['images']} | {row['letters class changed']} "
                f"| {row['opposite class changed']} "
                f"| {row['letters probability lost']:.4f} "
                f"| {row['opposite probability lost']:.4f} |"
            )
    return lines


def write(args, name: str, lines: list[str], record) -> None:
    """Prints a table and writes it with what made it."""
    facts = {k: str(v) for k, v in vars(args).items() if k not in ("data_dir", "out")}
    facts["date"] = datetime.date.today().isoformat()
    text = "\n".join([*lines, "", *(f"- {k}: {v}" for k, v in facts.items()), ""])
    (args.out / f"{name}.md").write_text(text)
    record = json.dumps({"facts": facts, name: record}, indent=1)
    (args.out / f"{name}.json").write_text(record + "\n")
    print("\n".join(lines))


def file_name(name: str) -> str:
    """The name of a network as part of a file's name."""
    return name.replace(" + ", "_")


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
