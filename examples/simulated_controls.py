"""How far one gets on the simulated images without a network.

Run: python examples/simulated_controls.py --num-images 1000 --image-size 128

A set on which a global statistic tells the classes, or on which plain brightness finds
the pathology, would prove nothing of a map. Printed are the cross-validated AUC of
classifiers on mean, variance and histogram of each image, and how well smoothed
brightness, smoothed absolute contrast and the centre find the masks, beside chance.
"""

import argparse

import cv2
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hrcam import metrics
from hrcam.datasets.simulated import pathology_kinds, simulated
from hrcam.evaluation import markdown_table
from hrcam.maps.controls import centre_prior


def main() -> None:
    """Prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    images, masks, labels = simulated(
        args.num_images, args.image_size, args.seed, progress=True
    )
    print(markdown_table(class_rows(images, labels, args.seed)), end="\n\n")
    print(markdown_table(map_rows(images, masks)))


def class_rows(images, labels, seed) -> list[dict]:
    """AUC, five-fold, of two classifiers on statistics of the whole image."""
    flat = images.reshape(len(images), -1)
    histograms = [np.histogram(image, 32, (0, 1))[0] for image in flat]
    features = np.column_stack([flat.mean(axis=1), flat.var(axis=1), histograms])
    models = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
        "random forest": RandomForestClassifier(random_state=seed),
    }
    return [
        {
            "classifier on mean, variance, histogram": name,
            "AUC": cross_val_score(
                model, features, labels, cv=5, scoring="roc_auc"
            ).mean(),
        }
        for name, model in models.items()
    ]


def map_rows(images, masks) -> list[dict]:
    """Mean pixel average precision and AUC of each control, by kind of pathology."""
    sigma = 0.04 * images.shape[1]
    smooth = np.array([cv2.GaussianBlur(i, (0, 0), sigma) for i in images[..., 0]])
    contrast = np.abs(images[..., 0] - smooth)
    controls = {
        "smoothed brightness": smooth,
        "smoothed darkness": 1 - smooth,
        "smoothed absolute contrast": np.array(
            [cv2.GaussianBlur(c, (0, 0), sigma) for c in contrast]
        ),
        "centre prior": centre_prior(None, images),
    }
    kinds = pathology_kinds(len(images))
    rows = [{"control": "chance"}] + [{"control": name} for name in controls]
    for kind in ("localized", "diffuse"):
        chosen = kinds == kind
        rows[0] |= {f"AP {kind}": float(masks[chosen].mean()), f"AUC {kind}": 0.5}
        for row, maps in zip(rows[1:], controls.values(), strict=True):
            pair = maps[chosen], masks[chosen]
            row[f"AP {kind}"] = float(metrics.pixel_average_precision(*pair).mean())
            row[f"AUC {kind}"] = float(metrics.pixel_auc(*pair).mean())
    return rows


if __name__ == "__main__":
    main()
