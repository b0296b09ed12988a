"""Do attentive response maps show the network, or the edges of the radiograph?

Run: python examples/anatomy_sanity.py --model runs/anatomy/deeper_seed0/best.keras \
         --data-dir fracatlas --out runs/sanity

Randomises a trained anatomy network layer after layer, from the last to the first, and
makes the maps of test images anew after each step, once for each way to treat a
rectifier. The units are chosen anew by the network as it then is. A map that explains
what was learned loses its likeness to that of the trained network; one that keeps it
shows the image. Use the seed that the network was trained with: the test images are
those that `examples/anatomy.py` left out with it.

Reference:
    Adebayo et al. (2018), "Sanity checks for saliency maps", NeurIPS,
    https://arxiv.org/abs/1810.03292
"""

import argparse
import json
from pathlib import Path

import numpy as np

import hrcam
from hrcam import plots
from hrcam.deconvnet.gating import GATINGS
from hrcam.evaluation import markdown_table
from hrcam.maps.controls import edge_magnitude
from hrcam.report import claim_directory
from hrcam.sanity import cascading_randomization, map_similarity

UNITS = 25  # of the last convolution, as in the paper
TEST_FRACTION = 0.2  # as examples/anatomy.py leaves out
SHEET_STEPS = 7  # pictures along the cascade, the trained network's included


def main() -> None:
    """Runs the check and writes everything to one folder."""
    args = parse_arguments()
    model = hrcam.load_model(args.model)
    table, images = test_images(args, model.inputs[0].shape[1:])
    edges = edge_magnitude(model, images)
    results, to_edges = {}, {}
    for gating in GATINGS:
        results[gating] = cascading_randomization(
            model, explainer(gating), images, seed=args.seed
        )
        to_edges[gating] = map_similarity(results[gating].maps, edges)
        print("done:", gating, flush=True)
    curves = plots.sanity_curves(results, to_edges)
    curves.savefig(args.out / "curves.png", dpi=150)
    sheet(images[:1], results).savefig(args.out / "sheet.png", dpi=150)
    rows = [row(gating, results[gating], to_edges[gating]) for gating in GATINGS]
    facts = {
        "model": "/".join(args.model.parts[-2:]),
        "seed": args.seed,
        "images": [path.name for path in table.paths],
        "units": UNITS,
        "layers, in the order of randomisation": results[GATINGS[0]].layers,
    }
    write_results(args.out, facts, rows, results, to_edges)
    print(markdown_table(rows))


def test_images(args, shape):
    """Draws images that the network was not trained on, from the study's split."""
    table, _ = hrcam.datasets.drop_unreadable(hrcam.datasets.fracatlas(args.data_dir))
    fractions = (1 - TEST_FRACTION, TEST_FRACTION)
    _, test = hrcam.datasets.split_by_group(table, fractions, args.seed)
    count = min(args.num_images, len(test))
    drawn = np.random.default_rng(args.seed).choice(len(test), count, replace=False)
    table = test.select(drawn)
    *size, channels = shape
    return table, hrcam.datasets.load_images(table, tuple(size), channels)


def explainer(gating: str):
    """The maps of one gating, as a function of a model and images."""

    def explain(model, images):
        return hrcam.attentive_response_maps(
            model, images, top_n=UNITS, gating=gating, unit_maps=False
        )["response"]

    return explain


def row(gating: str, result, to_edges) -> dict:
    """Median rank correlations of one gating: a row of the table."""
    last = len(result.layers)
    median = np.nanmedian(result.similarity.spearman, axis=1)
    edges = np.nanmedian(to_edges.spearman, axis=1)
    neighbours = np.roll(result.maps[0], 1, axis=0)
    other = map_similarity(result.maps[0], neighbours).spearman
    changed = (result.maps != result.maps[0]).any(axis=(1, 2, 3))
    return {
        "gating": gating,
        "last layer random": float(median[1]),
        f"{last // 2} of {last} random": float(median[last // 2]),
        "all random": float(median[last]),
        "another image's map": float(np.nanmedian(other)),
        "edges, trained": float(edges[0]),
        "edges, all random": float(edges[last]),
        "first layer that counts": result.layers[np.argmax(changed) - 1],
        "blank maps": int(np.isnan(result.similarity.spearman).sum()),
    }


def sheet(image, results):
    """Draws one image's maps along the cascade, a row a gating."""
    layers = next(iter(results.values())).layers
    steps = np.unique(np.linspace(0, len(layers), SHEET_STEPS).round().astype(int))
    titles = {k: f"{k} random, to {layers[k - 1]}" if k else "trained" for k in steps}
    columns = {
        titles[k]: np.stack([result.maps[k, 0] for result in results.values()])
        for k in steps
    }
    edges = np.repeat(edge_magnitude(None, image), len(results), axis=0)
    return plots.comparison_sheet(
        np.repeat(image, len(results), axis=0),
        columns | {"edge magnitude": edges},
        row_titles=list(results),
        alpha=1,
    )


def write_results(directory: Path, facts, rows, results, to_edges) -> None:
    """Writes the table, and all medians and quartiles along the cascade."""
    note = (
        "Median Spearman correlation with the map of the trained network; of that map "
        "with the map of another of the images; and with the edge magnitude of the "
        "image. One draw of random weights."
    )
    lines = [f"- {name}: {value}" for name, value in facts.items() if name != "images"]
    text = [note, "", markdown_table(rows), "", *lines]
    text.append(f"- images: {len(facts['images'])}")
    Path(directory, "sanity.md").write_text("\n".join([*text, ""]))
    cascade = {
        gating: {
            "similarity to the trained network's maps": result.similarity.summary(),
            "similarity to the edge magnitude": to_edges[gating].summary(),
        }
        for gating, result in results.items()
    }
    record = json.dumps({"facts": facts, "table": rows, "cascade": cascade}, indent=1)
    Path(directory, "sanity.json").write_text(record + "\n")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--num-images", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    claim_directory(args.out, {k: v for k, v in vars(args).items() if k != "out"})
    return args


if __name__ == "__main__":
    main()
