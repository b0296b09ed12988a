"""Do maps show what the network learned, and does the network need what they show?

Run: python examples/sanity.py --simulate --out runs/sanity
 or: python examples/sanity.py --model base.keras --hrcam hrcam.keras \
         --data-dir images --out runs/sanity

For every method: cascading randomisation of the network's layers, beside an edge
detector; random labels, beside a second training on the true ones (--simulate, which
trains a small network for it); insertion and deletion, average drop and gain. A folder
of images has one sub-folder a class, in the order of the network's classes. A run that
was stopped goes on where it was when it is started again with the same --out.

Reference:
    Adebayo et al. (2018), https://arxiv.org/abs/1810.03292; Petsiuk et al. (2018),
    https://arxiv.org/abs/1806.07421
"""

import argparse
import csv
import datetime
import json
import warnings
from pathlib import Path

import keras
import numpy as np

import hrcam
from hrcam import faithfulness, plots, sanity
from hrcam.evaluation import markdown_table
from hrcam.faithfulness import Curves, DropGain
from hrcam.maps.controls import edge_magnitude
from hrcam.methods import METHODS
from hrcam.report import claim_directory
from hrcam.sanity import map_similarity

CONTROLS = ("edge_magnitude", "random_smooth", "centre_prior")
VARIANTS = ("hr_cam_contrast", "grad_cam_before_last")  # not in the default
DEFAULT = [n for n, m in METHODS.items() if m.explains != "image" and n not in VARIANTS]
PER_FIGURE = 6  # methods


def main() -> None:
    """Runs all checks and writes everything to one folder."""
    args = parse_arguments()
    # Random networks often have nothing to say: blank maps are counted instead.
    warnings.filterwarnings("ignore", ".*no positive value", UserWarning)
    study = simulated_study(args) if args.simulate else saved_study(args)
    found = {}
    for name in [*args.methods, *CONTROLS]:
        file = args.out / "work" / f"{name}.npz"
        found[METHODS[name].title] = kept(file, lambda n=name: check(args, study, n))
        print("done:", METHODS[name].title, flush=True)
    curves = {title: part(arrays, Curves) for title, arrays in found.items()}
    shown = [title for title in curves if title != METHODS["random_smooth"].title][:12]
    figure = plots.insertion_deletion_curves({title: curves[title] for title in shown})
    figure.savefig(args.out / "faithfulness.png", dpi=150)
    cascades = {
        t: arrays["cascade"] for t, arrays in found.items() if "cascade" in arrays
    }
    similarity = {t: map_similarity(maps, maps[0]) for t, maps in cascades.items()}
    edges = edge_magnitude(None, study["images"])
    to_edges = {t: map_similarity(maps, edges) for t, maps in cascades.items()}
    draw_cascades(args.out, found, similarity, to_edges)
    tables = {
        "cascade": [
            cascade_row(t, cascades[t], similarity[t], to_edges[t]) for t in cascades
        ],
        "labels": [label_row(t, a) for t, a in found.items() if "permuted" in a],
        "faithfulness": [
            faithfulness_row(t, curves[t], part(a, DropGain)) for t, a in found.items()
        ],
    }
    write_tables(args, {k: rows for k, rows in tables.items() if rows}, study["facts"])


def simulated_study(args) -> dict:
    """Trains the small network: on true labels from two starts, on permuted labels."""
    size = args.num_images, args.image_size, args.seed
    images, _, labels = hrcam.datasets.simulated(*size)
    cut = args.num_images * 3 // 4
    true, facts = labels[:cut], {}
    permuted = np.random.default_rng(args.seed).permutation(true)
    first = train(args, "true labels", images[:cut], true, args.seed, facts)
    # Both from another start, so that they differ from each other in the labels alone.
    other = train(args, "other start", images[:cut], true, args.seed + 1, facts)
    wrong = train(args, "permuted labels", images[:cut], permuted, args.seed + 1, facts)
    learned = [(true, first), (permuted, wrong)]
    held_out = images[cut:], labels[cut:]
    scores = hrcam.evaluate_classifier(first["classifier"], *held_out)
    facts["accuracy on held-out images"] = scores["accuracy"]
    sick = held_out[0][held_out[1] == 1][: args.num_maps]
    facts["images explained"] = len(sick)
    classes = np.ones(len(sick), int)
    study = {"models": first, "images": sick, "classes": classes, "facts": facts}
    return study | {"learned": learned, "other start": other}


def train(args, name, images, labels, seed, facts) -> dict:
    """Both networks, as an earlier run left them, or trained now."""
    folder = args.out / "work" / name
    if not (folder / "hrcam.keras").exists():
        keras.utils.set_random_seed(seed)
        base = hrcam.build_small_net(images.shape[1:], 2)
        rate = {"epochs": args.epochs, "learning_rate": 1e-3, "verbose": 0}
        hrcam.fit_base_model(base, images, labels, **rate)
        folder.mkdir(parents=True, exist_ok=True)
        base.save(folder / "classifier.keras")  # before its layers are frozen
        head = hrcam.build_hrcam_model(base)
        hrcam.fit_hrcam_head(head, images, labels, epochs=50, verbose=False)
        head.save(folder / "hrcam.keras")
    kinds = "classifier", "hrcam"
    models = {kind: hrcam.load_model(folder / f"{kind}.keras") for kind in kinds}
    scores = hrcam.evaluate_classifier(models["classifier"], images, labels)
    facts[f"training accuracy, {name}"] = scores["accuracy"]
    return models


def saved_study(args) -> dict:
    """Opens both networks, and draws images of a folder to explain their class."""
    models = {"classifier": hrcam.load_model(args.model)}
    models["hrcam"] = hrcam.load_model(args.hrcam)
    table = hrcam.datasets.folder(args.data_dir)
    count = min(args.num_maps, len(table))
    drawn = np.random.default_rng(args.seed).choice(len(table), count, replace=False)
    table = table.select(drawn)
    *size, channels = models["classifier"].inputs[0].shape[1:]
    images = hrcam.datasets.load_images(table, tuple(size), channels) * args.white
    facts = {"images explained": len(images)}
    classes = table.labels
    return {"models": models, "images": images, "classes": classes, "facts": facts}


def check(args, study, name) -> dict[str, np.ndarray]:
    """All that is computed of one method, as arrays."""
    images, classes, models = (study[k] for k in ("images", "classes", "models"))
    _, kind, method = METHODS[name]

    def explain(model, images):
        return method(model, images, classes)

    maps = explain(models.get(kind), images)
    given = models["classifier"], images, maps, classes
    curves = faithfulness.insertion_deletion(*given, steps=args.steps)
    arrays = curves._asdict() | faithfulness.average_drop_gain(*given)._asdict()
    if kind == "image":
        return arrays
    cascade = sanity.cascading_randomization(
        models[kind], explain, images, seed=args.seed
    )
    arrays |= {"cascade": cascade.maps, "layers": np.array(cascade.layers)}
    if "learned" in study:

        def fit(labels):  # both were trained before, once for all methods
            pairs = study["learned"]
            return next(m[kind] for given, m in pairs if np.array_equal(given, labels))

        true = study["learned"][0][0]
        result = sanity.label_randomization(fit, true, explain, images, seed=args.seed)
        other = explain(study["other start"][kind], images)
        arrays |= {"true": result.maps[0], "permuted": result.maps[1], "other": other}
    return arrays


def kept(file: Path, make) -> dict[str, np.ndarray]:
    """Arrays that an earlier run left in a file, or that are made and left now."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part.npz")
        np.savez_compressed(unfinished, **make())
        unfinished.replace(file)
    with np.load(file) as found:
        return dict(found)


def part(arrays, kind):
    """The named tuple that was kept as arrays."""
    return kind(*(arrays[field] for field in kind._fields))


def draw_cascades(directory: Path, found, similarity, to_edges) -> None:
    """Draws `sanity_curves.png`, and more where there are too many methods for one."""
    titles = list(similarity)
    for number, start in enumerate(range(0, len(titles), PER_FIGURE), start=1):
        names = titles[start : start + PER_FIGURE]
        results = {
            t: sanity.Randomization(
                tuple(found[t]["layers"]), found[t]["cascade"], similarity[t]
            )
            for t in names
        }
        figure = plots.sanity_curves(results, {t: to_edges[t] for t in names})
        suffix = "" if number == 1 else f"_{number}"
        figure.savefig(directory / f"sanity_curves{suffix}.png", dpi=150)


def cascade_row(title, maps, similarity, to_edges) -> dict:
    """Median rank correlations along the cascade."""
    other = map_similarity(maps[0], np.roll(maps[0], 1, axis=0))
    half = len(maps) // 2
    return {
        "method": title,
        "last layer random": middle(similarity.spearman[1]),
        f"{half} of {len(maps) - 1} random": middle(similarity.spearman[half]),
        "all random": middle(similarity.spearman[-1]),
        "another image's map": middle(other.spearman),
        "edges, trained": middle(to_edges.spearman[0]),
        "edges, all random": middle(to_edges.spearman[-1]),
        "blank": int(np.isnan(similarity.spearman).sum()),
    }


def label_row(title, arrays) -> dict:
    """Median similarity to the map after training on the true labels."""
    row = {"method": title}
    for key, name in (("permuted", "permuted labels"), ("other", "true, other start")):
        similarity = map_similarity(arrays[key], arrays["true"])
        row[f"rank correlation, {name}"] = middle(similarity.spearman)
        row[f"SSIM, {name}"] = middle(similarity.ssim)
    return row


def faithfulness_row(title, curves, scores) -> dict:
    """Means over images."""
    areas = curves.insertion_auc.mean(), curves.deletion_auc.mean()
    named = {"insertion": float(areas[0]), "deletion": float(areas[1])}
    return {"method": title} | named | scores.summary()


def middle(scores) -> float:
    """The median of what is defined."""
    defined = scores[~np.isnan(scores)]
    return float(np.median(defined)) if len(defined) else float("nan")


def write_tables(args, tables, facts) -> None:
    """Writes the tables with what made them, and prints them."""
    given = {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items()}
    facts = {"date": datetime.date.today().isoformat(), **given, **facts}
    text = [f"## {name}\n\n{markdown_table(rows)}\n" for name, rows in tables.items()]
    print("\n".join(text))
    text += [f"- {name}: {value}" for name, value in facts.items()]
    (args.out / "sanity.md").write_text("\n".join([*text, ""]))
    record = json.dumps({"facts": facts} | tables, indent=1)
    (args.out / "sanity.json").write_text(record + "\n")
    for name, rows in tables.items():
        with (args.out / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--num-images", type=int, default=400)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--model", type=Path, help="the classifier")
    parser.add_argument("--hrcam", type=Path, help="its HR-CAM model")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--white", type=float, default=1, help="white in training")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=DEFAULT)
    parser.add_argument("--num-maps", type=int, default=16, help="images explained")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs", "sanity"))
    args = parser.parse_args()
    if not args.simulate and None in (args.model, args.hrcam, args.data_dir):
        parser.error("give --simulate, or --model, --hrcam and --data-dir")
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    return args


if __name__ == "__main__":
    main()
