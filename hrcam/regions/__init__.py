"""Where on an image may a network look that is not the finding? Heuristics.

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

import numpy as np

from hrcam.regions._body import find_body
from hrcam.regions._frame import frame_mask
from hrcam.regions._letters import find_letters

__all__ = ["body_mask", "burnt_in_mask", "frame_mask", "response_shares"]

SMALLEST_SIDE = 32  # pixels; below it the lengths here round to nothing


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
    return _each(find_body, image)


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
    return _each(find_letters, image)


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
    letters = np.array([find_letters(one) for one in images], bool).reshape(
        images.shape
    )
    body = np.array([find_body(one) for one in images], bool).reshape(images.shape)
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
