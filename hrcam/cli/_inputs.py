"""What commands are given: models and their records, tables of images, classes."""

import json
from pathlib import Path

from rich.markup import escape

from hrcam.cli._app import console

LAYOUTS = ("csv", "isic", "fracatlas", "folder")
MOST_LISTED = 10


def open_table(data, layout, positive, masks=None, out=None):
    """The table of a CSV or of a data set's folder; masks are drawn in `out`."""
    from hrcam import datasets

    if layout is None:
        layout = _found_layout(data)
    if layout == "csv":
        return datasets.csv_table(data)
    if layout == "isic":
        return datasets.isic(data, positive=positive, mask_root=masks)
    if layout == "fracatlas":
        mask_dir = None if out is None else out / "masks"
        return datasets.fracatlas(data, "fracture", mask_dir=mask_dir)
    if layout == "folder":
        return datasets.folder(data, mask_root=masks)
    raise ValueError(f"--layout must be one of {LAYOUTS}. Received: {layout!r}")


def _found_layout(data: Path) -> str:
    if data.is_file():
        return "csv"
    if any(data.glob("ISIC*_GroundTruth.csv")):
        return "isic"
    return "fracatlas" if (data / "dataset.csv").is_file() else "folder"


def in_class_order(table, class_names: str | None):
    """The table with its classes in the order of names with commas between."""
    import numpy as np

    from hrcam.datasets import ImageTable

    if class_names is None:
        return table
    names = split_names(class_names)
    if sorted(names) != sorted(table.class_names):
        raise ValueError(
            f"--class-names must be those of the data, {table.class_names}, in the "
            f"order of the model's outputs. Received: {class_names!r}"
        )
    label_of = np.array([names.index(name) for name in table.class_names], np.int64)
    columns = (table.groups, tuple(names), table.mask_paths)
    return ImageTable(table.paths, label_of[table.labels], *columns)


def check_classes(table, model) -> None:
    """Raises a ValueError unless the table has the classes of the model."""
    from hrcam.training._shared import is_multi_label

    if is_multi_label(model):
        raise ValueError(
            "The classifier must have exclusive classes, as each image has one label. "
            f"Received: {model.output_shape[-1]} sigmoid units. With labels for each "
            "of them, use `hrcam.fit_hrcam_head` in Python."
        )
    classes = max(2, model.output_shape[-1])
    if len(table.class_names) != classes:
        raise ValueError(
            f"The data must have the classifier's {classes} classes. Received: "
            f"{len(table.class_names)}, {table.class_names}"
        )


def readable(table):
    """The images that can be read, and why others cannot."""
    from hrcam.datasets import drop_unreadable

    with console.status(f"Reading {len(table)} files"):
        table, aside = drop_unreadable(table)
    if aside:
        console.print(f"Set aside {len(aside)} files that cannot be read:")
    for path, reason in [*aside.items()][:MOST_LISTED]:
        console.print(f"  {escape(f'{path}: {reason}')}", soft_wrap=True)
    if len(aside) > MOST_LISTED:
        console.print(f"  and {len(aside) - MOST_LISTED} more")
    return table, aside


def split_names(names: str) -> list[str]:
    """Names that were given with commas between."""
    return [name.strip() for name in names.split(",")]


def chosen(table, num_images: int | None, seed: int):
    """The images with masks, or a sample of them; and what was left out."""
    import numpy as np

    rows = np.flatnonzero([mask is not None for mask in table.mask_paths])
    if not len(rows):
        raise ValueError(
            "At least one image must have a mask, or there is nothing to score "
            f"against. Received: {len(table)} images without one. Name the masks in "
            "the CSV, or give their folder with --masks."
        )
    facts = {"images": len(table), "left out, no mask": len(table) - len(rows)}
    if num_images is not None and num_images < len(rows):
        rng = np.random.default_rng(seed)
        facts["left out, not in the sample"] = len(rows) - num_images
        rows = np.sort(rng.choice(rows, num_images, replace=False))
    return table.select(rows), facts


def loader(table, classifier, size: int | None):
    """Row numbers -> images in [0, 1] and masks, of the classifier's size."""
    from hrcam import datasets

    side, channels = image_shape(classifier, size)

    def load(rows):
        part = table.select(rows)
        images = datasets.load_images(part, side, channels)
        return images, datasets.load_masks(part, side)

    return load


def image_shape(network, size: int | None) -> tuple[tuple[int, int], int]:
    """(height, width) and channels of the images that a model of one input takes."""
    shape = network.inputs[0].shape[1:]
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise ValueError(
            "The model must take images of 1 or 3 channels. "
            f"Received: the input {shape}."
        )
    if None in shape and size is None:
        raise ValueError("The model takes any size: choose one with --size.")
    side = (size, size) if None in shape else tuple(shape[:2])
    return side, shape[-1]


def explained_classes(classifier, table, load, explain: str, white: float):
    """The class to explain in each image."""
    import numpy as np

    count = max(2, classifier.outputs[0].shape[-1])
    if explain == "label":
        if table.labels.max() >= count:
            raise ValueError(
                f"The labels must be classes of the model, below {count}. Received: "
                f"{table.class_names}. Choose --class predicted, or a number."
            )
        return table.labels
    if explain == "predicted":
        from hrcam.graph import final_activation
        from hrcam.training.pooling import predicted_classes

        parts = np.array_split(np.arange(len(table)), -(-len(table) // 32))
        outputs = [classifier.predict(load(p)[0] * white, verbose=0) for p in parts]
        is_logit = final_activation(classifier) == "linear"
        threshold = 0.0 if is_logit else 0.5
        return predicted_classes(np.concatenate(outputs), threshold=threshold)
    if not explain.isdecimal() or int(explain) >= count:
        raise ValueError(
            f"--class must be label, predicted or a class below {count}. "
            f"Received: {explain!r}"
        )
    return np.full(len(table), int(explain))


def read_record(model: Path) -> dict:
    """What `hrcam fit` noted beside a model; nothing, if the file is not of this one.

    Class names of another model would be wrong without anybody's notice.
    """
    try:
        record = json.loads(record_path(model).read_text())
    except (OSError, ValueError):  # none, or a file of another kind
        return {}
    from hrcam.saving import sha256

    known = isinstance(record, dict) and record.get("model sha256") == sha256(model)
    return record if known else {}


def record_path(model: Path) -> Path:
    """Where the record of a model is: beside it."""
    return model.with_suffix(".json")
