"""Writes which layers an HR-CAM head leans on to a folder."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hrcam import plots
from hrcam.evaluation import markdown_table
from hrcam.layer_analysis import (
    LayerWeights,
    LogitShares,
    head_weights,
    leave_one_layer_out,
    logit_shares,
)
from hrcam.maps import hr_cam

Rows = list[dict[str, float | str]]


def write_layer_analysis(
    directory: str | Path,
    model: keras.Model,
    vectors: np.ndarray,
    images: np.ndarray,
    masks: np.ndarray,
    class_index: int,
    labels: np.ndarray | None = None,
    *,
    row_titles: Sequence[str] | None = None,
    num_rows: int = 4,
    facts: Mapping[str, Any] | None = None,
    batch_size: int = 32,
) -> str:
    """Writes the weights, the shares and the scores without each layer.

    See `hrcam.layer_analysis` for what they are.

    Args:
        directory: Where to write; made where it does not exist.
        model: A trained model from `build_hrcam_model`.
        vectors: `(m, N)` pooled features, from `pool_features`, of a data set: what
            the weights are scaled by and the shares are of.
        images: `(n, height, width, channels)`, in [0, 1] and as the model takes them,
            that show the class; they need not be among the vectors'.
        masks: `(n, height, width)` bool.
        class_index: The class that is explained.
        labels: `(m,)` classes of the vectors, to score the classification, too.
        row_titles: A title an image.
        num_rows: How many images, from the first on, the sheet shows.
        facts: What made the numbers, written beside them.
        batch_size: Images at a time.

    Returns:
        The tables in Markdown, as in `layers.md`. Beside it: `layers.csv`, a row a
        layer, and one of all layers, with the columns of both tables; `layers.json`;
        `layer_weights.png`, `layer_shares.png` and `layer_maps.png`.

    Raises:
        ValueError: If model, class, vectors, images, masks or labels do not fit.
    """
    weights = head_weights(model, class_index, vectors)
    shares = logit_shares(model, vectors, class_index)
    rows = _layer_rows(weights, shares)
    scored = None if labels is None else vectors
    without = leave_one_layer_out(
        model,
        images,
        masks,
        class_index,
        vectors=scored,
        labels=labels,
        batch_size=batch_size,
    )
    first = slice(0, num_rows)
    maps = hr_cam(model, images[first], class_index, per_layer=True)
    titles = None if row_titles is None else list(row_titles)[first]
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "layer_weights": plots.layer_weight_plots(weights),
        "layer_shares": plots.layer_share_bars(shares),
        "layer_maps": plots.layer_sheet(
            images[first], maps, shares.layers, masks[first], titles=titles
        ),
    }.items():
        figure.savefig(directory / f"{name}.png", dpi=150)
    facts = {"class": int(class_index), "vectors": len(vectors), **(facts or {})}
    return _write_tables(directory, rows, without, facts)


def _layer_rows(weights: Mapping[str, LayerWeights], shares: LogitShares) -> Rows:
    rows = []
    for number, (name, layer) in enumerate(weights.items()):
        row: dict[str, float | str] = {"layer": name, "channels": len(layer.w)}
        for what, values in (("w", layer.w), ("w*std", layer.scaled)):
            quartiles = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
            for title, value in zip(("q1", "median", "q3"), quartiles, strict=True):
                row[f"{what} {title}"] = value
        row["mean contribution"] = float(shares.mean[number])
        row["share of the logit"] = float(shares.absolute_share[number])
        row["share of its variance"] = float(shares.covariance_share[number])
        rows.append(row)
    return rows


def _write_tables(
    directory: Path, rows: Rows, without: Rows, facts: dict[str, Any]
) -> str:
    shown = [  # weights need not have three decimals before the first digit
        {k: f"{v:.3g}" if k.startswith("w") else v for k, v in row.items()}
        for row in rows
    ]
    text = "\n\n".join(
        [
            "Weights by layer (quartiles; compare w*std, the weight times its "
            "feature's standard deviation, not w), and shares of the logit "
            "(absolute contributions) and of its variance over the images:",
            markdown_table(shown),
            "Without a layer's part of the map and of the logits; the head is not "
            "retrained:",
            markdown_table(without),
        ]
    )
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    Path(directory, "layers.md").write_text("\n".join([text, "", *lines, ""]))
    record = {"facts": facts, "layers": rows, "without": without}
    Path(directory, "layers.json").write_text(json.dumps(record, indent=2) + "\n")
    by_layer = {row["layer"]: row for row in rows}
    with Path(directory, "layers.csv").open("w", newline="") as file:
        scores = [f"without: {name}" for name in without[0] if name != "without"]
        writer = csv.DictWriter(file, [*rows[0], *scores], restval="")
        writer.writeheader()
        for row in without:
            name = row["without"]
            cells = {f"without: {k}": v for k, v in row.items() if k != "without"}
            writer.writerow({"layer": name, **by_layer.get(name, {}), **cells})
    return text
