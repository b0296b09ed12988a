"""Where on a radiograph may a network look that is not anatomy? A heuristic.

A classifier can learn the hospital from the letters (R, L, a logo) that its machine
burns into each image, or from the shape of the collimated field, instead of the
fracture (Zech et al. 2018). `response_shares` says how much of a heat map lies on
such places; `burnt_in_mask` and `body_mask` find them.

Both masks are guesses by brightness and size. They were tuned by eye on FracAtlas
(hands, legs, hips, shoulders; bright bone on a dark background) and have no ground
truth: draw them over your own images before you believe a number. In particular

- any small saturated thing on something dark is a "letter": also an earring, a ring
  or a button, and metal in thin soft tissue; a faint letter is missed;
- the body includes what is as bright as it and is no straight saturated bar: a cast,
  a blanket, another person's hand, the half-shadow of a collimator;
- a bright background (an inverted radiograph) turns the body round: give
  `1 - image` then.

Lengths are shares of the image's own height and width, so that resizing, also
without keeping the aspect, changes little.

Reference:
    Zack et al. (1977), doi:10.1177/25.7.70454: the triangle threshold.
    Li & Tam (1998), doi:10.1016/S0167-8655(98)00057-9: minimum cross entropy.
    Soille (2003), Morphological Image Analysis, doi:10.1007/978-3-662-05088-0:
        opening and top-hat.
    Zech et al. (2018), doi:10.1371/journal.pmed.1002683: confounding tokens.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_li, threshold_triangle

EIGHT = np.ones((3, 3), bool)  # strokes that touch by a corner are one letter
SMALLEST_SIDE = 32  # pixels; below it the lengths here round to nothing
LOWEST_CONTRAST = 0.05  # 1st to 99th percentile; flatter images show no body

# Letters. FracAtlas' logo is 0.07 of a side, its R and L 0.02 to 0.03.
LETTER_SIDE = 0.12  # at most: tells a letter from a plate, a nail, a long bone
LETTER_AREA = 0.0003  # at least, 5 of 128 x 128 pixels: tells it from noise
LETTER_BRIGHTNESS = 0.65  # 90th percentile; a 4-pixel letter at 128 is blurred to .68
LETTER_CONTRAST = 0.5  # to its surroundings; bone and fingers reach 0.4, letters .5-.9
LETTER_SEED = 0.25  # top-hat of a pixel that may belong to a letter
TEXT_SEED, TEXT_CONTRAST = 0.15, 0.2  # instead, for fainter text: it counts
TEXT_DISTANCE = 0.08  # where it lies this near to a letter that was found
LETTER_MARGIN = 0.04  # added width; a response on a letter is blurred around it

# Body.
BODY_SMOOTHING = 0.008  # Gaussian sigma; the noise goes, fingers stay
BODY_FLOOR = 0.06  # of the contrast; under it is scattered light beside a hip
THIN_WIDTH = 0.25  # fingers and toes are narrower and may be darker than the gate:
THIN_CONTRAST = 0.08  # they are found by their top-hat, in parts of the contrast
BODY_PART = 0.1  # of the largest component; smaller ones are no second limb
BODY_AREA = 0.01  # of the image
BAR_LENGTH = 0.4  # a divider or an edge of the plate: straight, this long,
BAR_WIDTH = 0.12  # not wider, unless along the border: limbs are,
BAR_BRIGHTNESS = 0.75  # this bright (of the 99.8th percentile), and beside the dark
STRIP_DEPTH = 0.1  # a bright strip along the border that does not reach deeper
STRIP_LENGTH = 0.6  # of the border; a thigh beside the border is shorter or deeper


def body_mask(image: np.ndarray) -> np.ndarray:
    """Finds the body part: the large bright components. A heuristic.

    Letters are painted over, the image smoothed, and pixels kept above the lower of
    the triangle and the minimum cross entropy threshold (Otsu's loses soft tissue
    here), or above their surroundings (fingers). Saturated straight bars and strips
    along the border are taken off; small components go and holes are filled.

    Args:
        image: `(height, width)` or `(height, width, 1)`, or a batch
            `(images, height, width)` or `(images, height, width, 1)`; in [0, 1],
            bright bone on a dark background.

    Returns:
        bool `(height, width)` or `(images, height, width)`, true on the body. All
        false for an image without contrast; a body that fills the image loses its
        darkest part.

    Raises:
        ValueError: If the shape is another, or a value is not finite or not in
            [0, 1].

    Reference:
        Zack et al. (1977), doi:10.1177/25.7.70454.
        Li & Tam (1998), doi:10.1016/S0167-8655(98)00057-9.
    """
    return _each(_body, image)


def burnt_in_mask(image: np.ndarray) -> np.ndarray:
    """Finds burnt-in letters, text and logos. A heuristic.

    Small components of the white top-hat, near saturation, much brighter than what
    surrounds them closely, and of small size still when cut at half their height (a
    toe in front of a bright foot then joins the foot). The place does not matter: a
    logo on a dark thigh counts, an implant in bone has too little contrast or is
    too long. Fainter text counts beside a letter. Dilated by `LETTER_MARGIN`.

    Args:
        image: As for `body_mask`.

    Returns:
        bool `(height, width)` or `(images, height, width)`; all false where no
        letter is found.

    Raises:
        ValueError: If the shape is another, or a value is not finite or not in
            [0, 1].

    Reference:
        Soille (2003), doi:10.1007/978-3-662-05088-0, the top-hat.
    """
    return _each(_letters, image)


def response_shares(
    response: np.ndarray, image: np.ndarray
) -> dict[str, float | np.ndarray]:
    """Says where the positive part of a heat map lies: letters, outside, inside.

    The three regions do not overlap and make up the image: a pixel of
    `burnt_in_mask` is "letters" wherever it is, the rest of `body_mask` is "inside",
    and all else "outside" (so letters are not in "outside"). A share means something
    beside its area: 10 % of the response on 10 % of the pixels is no news.

    Args:
        response: Raw map, `(height, width)` or `(images, height, width)`, of the
            image's size. Negative values are left out; a normalised map has none,
            and other shares.
        image: The image or batch, as for `body_mask`.

    Returns:
        `letters`, `outside`, `inside`: shares of the response that sum to 1, NaN for
        a map without a positive pixel. `letters_area`, `outside_area`,
        `inside_area`: the regions' shares of the pixels. Each a float, or float64
        `(images,)` for a batch; average with `np.nanmean`.

    Raises:
        ValueError: If the image is not as for `body_mask`, or the map not finite,
            not of real numbers or not of the image's height and width.

    Example:
        >>> image = np.zeros((64, 64)); image[16:, 16:48] = 0.5  # no letter
        >>> response_shares(np.ones((64, 64)), image)["letters"]
        0.0
    """
    images, single = _checked(image)
    responses = _checked_response(response, images, single)
    letters = np.array([_letters(one) for one in images], bool).reshape(images.shape)
    body = np.array([_body(one) for one in images], bool).reshape(images.shape)
    shares = {}
    positive = np.maximum(responses, 0)
    highest = positive.max(axis=(1, 2), keepdims=True)
    with np.errstate(invalid="ignore"):  # 0/0 of a map without a positive pixel: NaN
        positive = positive / highest  # before the sum, which could overflow
    for name, region in {
        "letters": letters,
        "outside": ~body & ~letters,
        "inside": body & ~letters,
    }.items():
        # Not `positive[region]`: NaN must come through where the region is empty.
        share = (positive * region).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
        area = region.mean(axis=(1, 2))
        shares[name] = float(share[0]) if single else share
        shares[f"{name}_area"] = float(area[0]) if single else area
    return shares


def _each(find, image):
    images, single = _checked(image)
    masks = np.array([find(one) for one in images], bool).reshape(images.shape)
    return masks[0] if single else masks


def _letters(image: np.ndarray) -> np.ndarray:
    opened = ndimage.grey_opening(image, size=_box(LETTER_SIDE * 0.8, image.shape))
    found = np.zeros(image.shape, bool)
    for part in _small_parts(image - opened > LETTER_SEED):
        if _stands_out(image, part, LETTER_BRIGHTNESS, LETTER_CONTRAST):
            found |= part
    if not found.any():
        return found
    near = _dilated(found, 2 * TEXT_DISTANCE)
    for part in _small_parts(image - opened > TEXT_SEED):
        if near[part].all() and _stands_out(image, part, 0, TEXT_CONTRAST):
            found |= part
    return ndimage.binary_fill_holes(_dilated(found, LETTER_MARGIN))


def _small_parts(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the components no larger than a letter and off the image's border."""
    parts, _ = ndimage.label(mask, EIGHT)
    for label, place in enumerate(ndimage.find_objects(parts), 1):
        sides = zip(place, mask.shape, strict=True)
        inner = all(part.start > 0 and part.stop < n for part, n in sides)
        if inner and _is_small(place, mask.shape):
            yield parts == label


def _stands_out(
    image: np.ndarray, part: np.ndarray, brightness: float, contrast: float
) -> bool:
    """Is the part that bright, beside the dark, and small at half its height too?"""
    if part.mean() < LETTER_AREA:
        return False
    around = _dilated(part, 0.06) & ~_dilated(part, 0.03)  # past the blurred edge
    bright, dark = np.percentile(image[part], 90), np.median(image[around])
    if bright < brightness or bright - dark < contrast:
        return False
    halves, _ = ndimage.label(image >= (bright + dark) / 2, EIGHT)
    half = halves == halves.flat[np.where(part, image, -1).argmax()]
    return _is_small(ndimage.find_objects(half.astype(np.uint8))[0], image.shape)


def _body(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, [1, 99])
    if high - low < LOWEST_CONTRAST:
        return np.zeros(image.shape, bool)
    opened = ndimage.grey_opening(image, size=_box(LETTER_SIDE, image.shape))
    image = np.where(_letters(image), opened, image)
    smooth = ndimage.gaussian_filter(image, [BODY_SMOOTHING * n for n in image.shape])
    bars = _bars(smooth, _gate(smooth))
    gate = _gate(smooth[~bars]) if bars.mean() < 0.7 else _gate(smooth)
    wide = ndimage.grey_opening(smooth, size=_box(THIN_WIDTH, image.shape))
    thin = smooth - wide > THIN_CONTRAST * (high - low)
    body = _without_strips(((smooth > gate) | thin) & ~bars)
    body = ndimage.binary_opening(body, np.ones(_box(0.02, image.shape)))
    return ndimage.binary_fill_holes(_large_parts(body))


def _gate(values: np.ndarray) -> float:
    low, high = np.percentile(values, [1, 99])
    if low == high:
        return np.inf
    gate = min(threshold_triangle(values.ravel()), threshold_li(values.ravel()))
    return max(gate, low + BODY_FLOOR * (high - low))


def _bars(smooth: np.ndarray, gate: float) -> np.ndarray:
    """Straight saturated bars beside the dark: lead dividers, edges of the plate."""
    bright = smooth > max(BAR_BRIGHTNESS * np.percentile(smooth, 99.8), gate)
    bars = np.zeros_like(bright)
    for axis, n in enumerate(smooth.shape):
        line = (1, round(BAR_LENGTH * n)) if axis else (round(BAR_LENGTH * n), 1)
        parts, _ = ndimage.label(_opened(bright, line))
        for label, place in enumerate(ndimage.find_objects(parts), 1):
            across, side = place[1 - axis], smooth.shape[1 - axis]
            at_border = across.start == 0 or across.stop == side
            if not at_border and across.stop - across.start > BAR_WIDTH * side:
                continue  # an overexposed limb
            part = parts == label
            around = _dilated(part, 0.08) & ~_dilated(part, 0.03)
            if around.any() and (smooth[around] <= gate).mean() > 0.5:
                bars |= _dilated(part, 0.04)
    return bars


def _without_strips(body: np.ndarray) -> np.ndarray:
    """Takes off strips along a border, but not the limb that crosses one."""
    body = body.copy()
    for turn in range(4):
        view = np.rot90(body, turn)  # writes through; the border is on top
        depth = round(STRIP_DEPTH * len(view))
        strip = _opened(view[:depth], (1, round(STRIP_LENGTH * view.shape[1])))
        view[:depth] &= ~(strip & ~view[depth])
    return body


def _large_parts(body: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(body)
    areas = np.bincount(parts.ravel(), minlength=2)[1:]
    least = max(BODY_PART * areas.max(), BODY_AREA * body.size)
    return np.isin(parts, np.flatnonzero(areas >= least) + 1)


def _opened(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Binary opening by a box, the border mirrored (not dark beyond it)."""
    return ndimage.grey_opening(mask.astype(np.uint8), size=size) > 0


def _is_small(place: tuple[slice, slice], shape: tuple[int, int]) -> bool:
    sides = zip(place, shape, strict=True)
    return all(part.stop - part.start <= LETTER_SIDE * n for part, n in sides)


def _box(share: float, shape: tuple[int, int]) -> tuple[int, int]:
    """An odd number of pixels, at least 3, along each axis."""
    return tuple(2 * max(1, round(share * n / 2)) + 1 for n in shape)


def _dilated(mask: np.ndarray, share: float) -> np.ndarray:
    return ndimage.maximum_filter(mask, _box(share, mask.shape))


def _checked(image: np.ndarray) -> tuple[np.ndarray, bool]:
    """Returns the batch `(images, height, width)` and whether one image was given."""
    image = np.asarray(image)
    images = image[..., 0] if image.ndim > 2 and image.shape[-1] == 1 else image
    if images.ndim not in (2, 3) or min(images.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(
            "`image` must be (height, width) or (height, width, 1), or a batch of "
            f"them, each side at least {SMALLEST_SIDE} pixels. Received: "
            f"{image.shape}. Of a colour image: `image.mean(axis=-1)`."
        )
    if images.dtype.kind not in "biuf":
        raise ValueError(f"`image` must be real numbers. Received: {image.dtype}")
    low, high = (images.min(), images.max()) if images.size else (0, 0)
    if not (low >= 0 and high <= 1):  # NaN fails as well
        raise ValueError(
            "Every value of `image` must be in [0, 1]. Received: values from "
            f"{low:.3g} to {high:.3g}. Divide 8-bit images by 255; give the image "
            "before any standardisation for the network."
        )
    single = images.ndim == 2
    return (images[None] if single else images).astype(np.float32), single


def _checked_response(response, images, single):
    response = np.asarray(response)
    expected = images.shape[1:] if single else images.shape
    if response.shape != expected:
        raise ValueError(
            f"`response` must have the shape of `image`, {expected}. "
            f"Received: {response.shape}. Resize the map to the image first, such as "
            "with `cv2.resize(response, (width, height))`."
        )
    if response.dtype.kind not in "biuf":
        raise ValueError(f"`response` must be real numbers. Received: {response.dtype}")
    if not np.isfinite(response).all():
        raise ValueError(
            "Every value of `response` must be finite; look for overflow (float16) or "
            "a 0/0 in the model. Received: NaN or infinity in "
            f"{np.count_nonzero(~np.isfinite(response))} pixels"
        )
    return response.astype(np.float64).reshape(images.shape)
