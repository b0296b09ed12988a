"""What `hrcam evaluate` is given: models, a table of images, the classes to explain."""

from pathlib import Path

LAYOUTS = ("csv", "isic", "fracatlas", "folder")


def open_table(data, layout, positive, masks, out):
    """The table of a CSV or of a data set's folder."""
    from hrcam import datasets

    if layout is None:
        layout = _found_layout(data)
    if layout == "csv":
        return datasets.csv_table(data)
    if layout == "isic":
        return datasets.isic(data, positive=positive, mask_root=masks)
    if layout == "fracatlas":
        return datasets.fracatlas(data, "fracture", mask_dir=out / "masks")
    if layout == "folder":
        return datasets.folder(data, mask_root=masks)
    raise ValueError(f"--layout must be one of {LAYOUTS}. Received: {layout!r}")


def _found_layout(data: Path) -> str:
    if data.is_file():
        return "csv"
    if any(data.glob("ISIC*_GroundTruth.csv")):
        return "isic"
    return "fracatlas" if (data / "dataset.csv").is_file() else "folder"


def open_models(model: Path, hrcam_model: Path | None):
    """The classifier and its HR-CAM model; one file may be both."""
    import hrcam

    classifier = hrcam.load_model(model)
    if hrcam_model is not None:
        network = hrcam.load_model(hrcam_model)
        hrcam.pooled_layers(network)  # says so if it is none
        return classifier, network
    has_head = any(layer.name == "gap_vector" for layer in classifier.layers)
    return classifier, classifier if has_head else None


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

    shape = classifier.inputs[0].shape[1:]
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise ValueError(
            "The model must take images of 1 or 3 channels. "
            f"Received: the input {shape}."
        )
    if None in shape and size is None:
        raise ValueError("The model takes any size: choose one with --size.")
    side = (size, size) if None in shape else tuple(shape[:2])

    def load(rows):
        part = table.select(rows)
        images = datasets.load_images(part, side, shape[-1])
        return images, datasets.load_masks(part, side)

    return load


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
        from hrcam.training.pooling import predicted_classes

        parts = np.array_split(np.arange(len(table)), -(-len(table) // 32))
        outputs = [classifier.predict(load(p)[0] * white, verbose=0) for p in parts]
        return predicted_classes(np.concatenate(outputs))
    if not explain.isdecimal() or int(explain) >= count:
        raise ValueError(
            f"--class must be label, predicted or a class below {count}. "
            f"Received: {explain!r}"
        )
    return np.full(len(table), int(explain))
