"""Which images' maps lie where they should not? Shares of a map on regions.

A classifier can tell classes by what is not the finding: letters, a ruler, the dark
corners of a dermatoscope. Its maps then lie there. For a map A and a region R of the
same pixels, with A+ the positive part,

    share = sum of A+ over R / sum of A+,   area = pixels of R / pixels,
    enrichment = share / area.

A share means something beside its area only: 10 % of a map on 10 % of the pixels is
what a map that knows nothing of the region has (enrichment 1). `shortcut_table` sorts
images by a share, the worst first, so that a reader looks at those.

Choices left open and what is done here: raw maps are scored, their negative values
left out, as in `metrics.energy_inside`; regions may overlap, so shares need not sum
to 1; ranking is by the share and not by the enrichment, which is large for any tiny
region. So an image whose expected region is small ranks high: read the area. Where the
region that decides is empty or the whole image (no letters; no mask drawn), a share
is 0 or 1 whatever the map: such images come after the others and are counted.

A share is no proof. A map may lie on letters that the class does not hang on (cover
them and look again), and a map of few pixels, drawn large, spills over any outline.

Reference:
    Wang et al. (2020), Score-CAM, arXiv:1910.01279, section 4.3: the share.
    Zech et al. (2018), doi:10.1371/journal.pmed.1002683: confounding tokens.
    Winkler et al. (2019), doi:10.1001/jamadermatol.2019.1735: surgical markings.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hrcam import metrics

CELLS = ("share", "area", "enrichment")
QUARTILES = ("quartile 1", "median", "quartile 3")


class Share(NamedTuple):
    """What of each map lies on a region.

    Attributes:
        share: `(images,)` float64 in [0, 1], of the map's positive part; NaN for a
            map without a positive pixel.
        area: `(images,)` float64 in [0, 1], the region's share of the pixels.
    """

    share: np.ndarray
    area: np.ndarray

    @property
    def enrichment(self) -> np.ndarray:
        """`share / area`, `(images,)`; NaN where either is undefined or no area."""
        empty = np.full(self.area.shape, np.nan)
        return np.divide(self.share, self.area, out=empty, where=self.area > 0)


class ShortcutTable(NamedTuple):
    """The images, the worst first.

    Attributes:
        rows: A dict an image: `image` (its id), `class`, and for each region
            `<region> share`, `<region> area` and `<region> enrichment`, the region
            that decides first.
        classes: A dict a class, the worst median first: `class`, `images`,
            `undefined` (how many maps have no positive pixel), `no region` (of how
            many others the deciding region is empty or the whole image), and over
            the rest `quartile 1`, `median`, `quartile 3` of the deciding share, and
            `median area` and `median enrichment` of that region.
        order: `(images,)` int, the place of each row's image in what was given.
        rank_by: The region that decides.
    """

    rows: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    order: np.ndarray
    rank_by: str


def region_shares(
    maps: np.ndarray, regions: Mapping[str, np.ndarray]
) -> dict[str, Share]:
    """Says which share of each map's positive part lies on each region.

    Args:
        maps: Raw maps `(images, height, width)`, real and finite. Negative values
            are left out; a normalised map has none, and other shares.
        regions: Name -> bool `(images, height, width)`. They may overlap; each is
            taken by itself. A region may be empty: share 0, enrichment NaN.

    Returns:
        Name -> `Share`, in the order given.

    Raises:
        TypeError: If `regions` is not a dict.
        ValueError: If there is no region or no map, if a region is not bool or not of
            the maps' shape, or a map not finite or not of real numbers.

    Example:
        >>> region_shares(maps, {"letters": hrcam.regions.burnt_in_mask(images)})

    Reference:
        Wang et al. (2020), arXiv:1910.01279, section 4.3.
    """
    regions = _checked_regions(np.asarray(maps).shape, regions)
    return {
        name: Share(metrics.energy_inside(maps, region), region.mean(axis=(1, 2)))
        for name, region in regions.items()
    }


def shortcut_table(
    maps: np.ndarray,
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    regions: Mapping[str, np.ndarray],
    *,
    expected: str | None = "mask",
    rank_by: str | None = None,
    ids: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> ShortcutTable:
    """Sorts images by how much of their map lies where it should not.

    The worst image has the largest share outside the expected region, or on the
    region `rank_by`. Equal shares keep the order given. Last come images that cannot
    be ranked: first those whose deciding region is empty or the whole image, then maps
    without a positive pixel. Classes are sorted by their median, NaN last.

    Args:
        maps: Raw maps `(images, height, width)`.
        labels: A class an image: the true one or the predicted one, as you wish to
            group them.
        regions: Name -> bool `(images, height, width)`; may overlap.
        expected: The region where the map should lie, such as a lesion's mask or the
            body. `"outside <expected>"` is added before the regions. `None` if there
            is none: `rank_by` is needed then.
        rank_by: The region that should not be looked at and decides the order.
            `None`: outside the expected one.
        ids: What to call the images. They stand in every table, so do not give names
            of patients. `None`: row numbers from 0.
        class_names: Names by integer label. `None`: the labels themselves.

    Returns:
        Rows, classes and order, see `ShortcutTable`. Quartiles are interpolated
        linearly, as by `np.quantile`.

    Raises:
        TypeError: As for `region_shares`.
        ValueError: As for `region_shares`; if `expected` or `rank_by` is no region, or
            labels, ids or class names do not fit.
    """
    regions = _checked_regions(np.asarray(maps).shape, regions)
    regions, rank_by = _ranked_first(regions, expected, rank_by)
    shares = region_shares(maps, regions)
    count = len(shares[rank_by].share)
    classes = _checked_classes(labels, class_names, count)
    ids = list(range(count)) if ids is None else list(ids)
    if len(ids) != count:
        raise ValueError(
            f"`ids` must have one entry for each of the {count} maps. "
            f"Received: {len(ids)}"
        )
    ranked = _ranked(shares[rank_by])
    order = np.lexsort([np.isnan(shares[rank_by].share), -ranked])  # stable, NaN last
    rows = [
        {"image": ids[place], "class": classes[place]} | _cells(shares, place)
        for place in order
    ]
    return ShortcutTable(rows, _class_rows(classes, shares[rank_by]), order, rank_by)


def _ranked(share: Share) -> np.ndarray:
    """The shares that decide; NaN where they say nothing."""
    return np.where((share.area > 0) & (share.area < 1), share.share, np.nan)


def _cells(shares: Mapping[str, Share], place: int) -> dict[str, float]:
    """One image's numbers."""
    return {
        f"{name} {cell}": float(getattr(share, cell)[place])
        for name, share in shares.items()
        for cell in CELLS
    }


def _class_rows(classes: list[Any], share: Share) -> list[dict[str, Any]]:
    """Sums each class up, in the order of its first image, then sorted."""
    rows = []
    for name in dict.fromkeys(classes):
        chosen = np.array([one == name for one in classes])
        undefined = chosen & np.isnan(share.share)
        ranked = chosen & ~np.isnan(_ranked(share))
        quartiles = _quartiles(share.share[ranked])
        rows.append(
            {
                "class": name,
                "images": int(chosen.sum()),
                "undefined": int(undefined.sum()),
                "no region": int((chosen & ~ranked & ~undefined).sum()),
                **dict(zip(QUARTILES, quartiles, strict=True)),
                "median area": _quartiles(share.area[ranked])[1],
                "median enrichment": _quartiles(share.enrichment[ranked])[1],
            }
        )
    order = np.argsort([-row["median"] for row in rows], kind="stable")
    return [rows[place] for place in order]


def _quartiles(values: np.ndarray) -> list[float]:
    if not len(values):
        return [float("nan")] * 3
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def _ranked_first(
    regions: dict[str, np.ndarray], expected: str | None, rank_by: str | None
) -> tuple[dict[str, np.ndarray], str]:
    """Adds what is outside the expected region; the one that decides comes first."""
    if expected is not None:
        if expected not in regions:
            raise ValueError(
                f"`expected` must be one of the regions {list(regions)}, or `None`. "
                f"Received: {expected!r}"
            )
        outside = f"outside {expected}"
        if outside in regions:
            raise ValueError(
                f"`regions` must not have {outside!r}: it is made of {expected!r}. "
                f"Received: {list(regions)}. Rename it."
            )
        regions = {outside: ~regions[expected]} | regions
        rank_by = outside if rank_by is None else rank_by
    if rank_by not in regions:
        raise ValueError(
            f"`rank_by` must be one of the regions {list(regions)}. "
            f"Received: {rank_by!r}"
        )
    return {rank_by: regions[rank_by]} | regions, rank_by


def _checked_regions(
    shape: tuple[int, ...], regions: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    if not isinstance(regions, Mapping):
        raise TypeError(
            "`regions` must be a dict of name to bool arrays. Received: "
            f'{type(regions).__name__}. Name the region: `{{"body": ...}}`.'
        )
    if not regions:
        raise ValueError(
            "`regions` must have at least one region. Received: an empty dict. "
            'Add one: `{"body": hrcam.regions.body_mask(images)}`.'
        )
    if len(shape) != 3 or 0 in shape:
        raise ValueError(
            "`maps` must have the shape (images, height, width), none of them 0. "
            f"Received: {shape}. A single map: `maps[None]`."
        )
    regions = {name: np.asarray(region) for name, region in regions.items()}
    for name, region in regions.items():
        if region.shape != shape or region.dtype != bool:
            raise ValueError(
                f"`regions[{name!r}]` must be bool, of the maps' shape {shape}. "
                f"Received: {region.dtype}, {region.shape}. Use `region > 0`, and "
                "resize to the maps' size first."
            )
    return regions


def _checked_classes(labels, class_names, count: int) -> list[Any]:
    """Returns the class of each image, by its name if there are names."""
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(
            f"`labels` must have one class for each of the {count} maps. "
            f"Received: shape {labels.shape}. One-hot rows: `labels.argmax(axis=1)`."
        )
    if class_names is None:
        return labels.tolist()
    if labels.dtype.kind not in "iu" or not (
        labels.min() >= 0 and labels.max() < len(class_names)
    ):
        raise ValueError(
            f"`labels` must be integers from 0 to {len(class_names) - 1}, the places "
            f"of `class_names`. Received: {np.unique(labels)[:5].tolist()}"
        )
    return [class_names[label] for label in labels]
