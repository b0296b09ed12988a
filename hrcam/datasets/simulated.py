"""Simulated images with and without pathology, and where it is.

Shinde et al. (2021), section "Simulated data", train on 8,000 images of two
classes, noise and noise with localized or diffuse pathology, and score each map
against the known mask. The paper describes them in words only; what is drawn
here is ours, and made so that brightness and contrast do not find the pathology:

1. *Structure*: overlapping leaves with smooth outlines cover the image, each
   brighter or darker at random (the dead-leaves model), and are filled with
   bright or dark dots: noise of one wavelength, cut to its peaks.
2. *Pathology*: the leaves on top (one for a localized, several for a diffuse
   one) get a spiculated outline of the same area, and streaks in place of dots:
   waves of the same wavelength, share of peaks and variance, but all in one
   direction, nearly that of the rows. Number, area, place and brightness of the
   leaves follow one law in both classes; in class 0 those on top stay normal.
3. *Noise*, then ranks: pixel values are replaced by fixed quantiles in rank
   order, so that all images of one size have exactly the same histogram.

What is left, so that a network can learn it, is texture and shape: a power
spectrum tells the classes apart, brightness and contrast do not. Turning images
by 90 degrees changes what class 1 means; flipping does not.
Lengths are fractions of the image side: every size shows the same kind of
picture. Streaks are 7 % apart (4.5 pixels at 64, 16 at 224).

Reference:
    Shinde et al. (2021), PeerJ Computer Science 7:e622,
    https://doi.org/10.7717/peerj-cs.622
"""

import functools

import cv2
import numpy as np
from rich.progress import track
from scipy import fft, stats

KINDS = ("none", "localized", "none", "diffuse")  # of images 0, 1, 2, 3, 4 = 0, ...
MIN_SIZE = 32  # streaks are 2.2 pixels apart there

WAVELENGTH = 0.07  # of dots and streaks
RING = 0.2  # standard deviation of the dots' frequency, relative
SLOPE = 0.4  # at most, of the streaks against the rows, in radians
BEND = 0.6  # standard deviation of the streaks' phase, in radians
PEAKS, SHARPNESS = 0.2, 2.0  # share of the area of dots and of streaks; contour
EDGE = 0.006  # standard deviation of the blur of all outlines
NUM_LEAVES = 50  # normal ones, below the leaves that may turn into pathology
LEAF_RADII = (0.06, 0.16)
PATCH_RADII = (0.07, 0.11)
LESION_AREA = (0.03, 0.055)
TEXTURE, NOISE = 1.2, 0.2  # standard deviations; the leaves' own is 1
ANGLES = np.linspace(0, 2 * np.pi, 64, endpoint=False)


def simulated(
    num_images: int = 8000,
    image_size: int = 224,
    seed: int = 0,
    *,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws images of normal structure, every second one with pathology.

    Image `i` depends on `seed`, `i` and `image_size` only: a smaller set is the
    beginning of a larger one. Labels alternate, beginning with 0, so an odd
    `num_images` has one more image of class 0; shuffle them to train.

    Args:
        num_images: Number of images, 2 or more. The paper has 8,000.
        image_size: Height and width in pixels, 32 or more.
        seed: Non-negative seed of the random generator.
        progress: Whether to show a progress bar (8,000 images take about a minute).

    Returns:
        Images, float32 of shape `(num_images, image_size, image_size, 1)` in
        [0, 1]; masks, bool of shape `(num_images, image_size, image_size)`,
        `True` on pathology and empty in class 0; labels, int64 of shape
        `(num_images,)`, 0 normal and 1 with pathology.

    Raises:
        ValueError: If an argument is too small.

    Example:
        >>> images, masks, labels = simulated(num_images=4, image_size=64)
        >>> labels.tolist()
        [0, 1, 0, 1]

    Reference:
        Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622
    """
    _check_at_least("num_images", num_images, 2)
    _check_at_least("image_size", image_size, MIN_SIZE)
    _check_at_least("seed", seed, 0)
    images = np.empty((num_images, image_size, image_size, 1), np.float32)
    masks = np.empty((num_images, image_size, image_size), bool)
    for i in track(range(num_images), "Simulating", disable=not progress):
        rng = np.random.default_rng([seed, i])
        images[i, ..., 0], masks[i] = _draw(rng, image_size, KINDS[i % 4])
    return images, masks, np.arange(num_images) % 2


def pathology_kinds(num_images: int) -> np.ndarray:
    """Returns what each image of `simulated` shows, whatever its size and seed.

    Args:
        num_images: Number of images, as given to `simulated`.

    Returns:
        Array of str, shape `(num_images,)`: `"none"` in class 0; in class 1
        `"localized"` (one lesion, about 3 to 6 % of the image) and `"diffuse"`
        (patches that cover about 15 to 40 %), by turns.
    """
    return np.resize(KINDS, num_images)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"`{name}` expected to be {least} or more. Received: {value}")


def _draw(rng, size: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns one image (size, size) float32 in [0, 1] and its mask."""
    structure, mask = np.zeros((2, size, size), np.float32)
    _fill(structure, _smooth_outlines(rng, rng.uniform(*LEAF_RADII, NUM_LEAVES)), rng)
    draw_outlines = _smooth_outlines if kind == "none" else _spiculated_outlines
    top = draw_outlines(rng, _top_radii(rng, kind))
    _fill(structure, top, rng)
    if kind != "none":
        _fill(mask, top)
    odd = (np.floor(8 * structure) % 2).astype(np.float32)  # about every second leaf
    texture = _blend(_dots(rng, size), -_dots(rng, size), odd)
    texture = _blend(texture, rng.choice([-1, 1]) * _streaks(rng, size), mask)
    noise = rng.standard_normal((size, size), np.float32)
    image = _blur(structure) + TEXTURE * texture + NOISE * noise
    return _levels(size)[_ranks(image)], mask > 0


def _top_radii(rng, kind: str) -> np.ndarray:
    """Radii of the leaves on top, by the same law whether they are ill or not."""
    if kind == "none":
        kind = rng.choice(["localized", "diffuse"])
    if kind == "localized":
        return np.sqrt(rng.uniform(*LESION_AREA, 1) / np.pi)
    return rng.uniform(*PATCH_RADII, rng.integers(6, 13))


def _smooth_outlines(rng, radii: np.ndarray) -> np.ndarray:
    """Returns ovals (leaves, points, 2) at random places, of area pi radii^2."""
    phase = rng.uniform(0, 2 * np.pi, (len(radii), 1))
    return _place(rng, 1 + 0.25 * np.cos(2 * ANGLES + phase), radii)


def _spiculated_outlines(rng, radii: np.ndarray) -> np.ndarray:
    """Returns stars of 5 to 8 uneven spikes, placed and sized like the ovals."""
    turn = rng.uniform(0, 2 * np.pi, (len(radii), 1))
    half_count = rng.integers(5, 9, (len(radii), 1)) / 2
    height = rng.uniform(0.6, 1.2, (len(radii), len(ANGLES)))
    spikes = np.abs(np.cos(half_count * ANGLES + turn)) ** 3
    return _place(rng, 0.75 + height * spikes, radii)


def _place(rng, outlines: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Turns distances from the center into points, as fractions of the side."""
    scale = radii / np.sqrt(np.mean(outlines**2, axis=1))
    margin = radii[:, None] / 2
    centers = rng.uniform(margin, 1 - margin, (len(radii), 2))
    rays = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    return centers[:, None] + (scale[:, None] * outlines)[..., None] * rays


def _fill(canvas: np.ndarray, outlines: np.ndarray, rng=None) -> None:
    """Fills outlines in place, later over earlier; at random levels or with 1."""
    points = np.rint(outlines * len(canvas) * 16).astype(np.int32)
    levels = np.ones(len(points))
    if rng is not None:
        levels = rng.choice([-1, 1], len(points)) * rng.uniform(0.6, 1.3, len(points))
    for leaf, level in zip(points, levels, strict=True):
        cv2.fillPoly(canvas, [leaf], level, shift=4)


def _blur(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), EDGE * len(image))


def _blend(outside: np.ndarray, inside: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Joins two textures at soft edges without loss of variance there."""
    share = np.clip(_blur(where), 0, 1)
    return np.sqrt(1 - share) * outside + np.sqrt(share) * inside


def _dots(rng, size: int) -> np.ndarray:
    """Returns noise of one wavelength, without direction, cut to its peaks."""
    white = rng.standard_normal((size, size), np.float32)
    return _peaks(fft.irfft2(fft.rfft2(white) * _ring(size), s=white.shape))


def _streaks(rng, size: int) -> np.ndarray:
    """Returns uneven waves of the same wavelength in one direction, cut alike."""
    angle, start = rng.uniform(-SLOPE, SLOPE), rng.uniform(0, 2 * np.pi)
    bends = rng.standard_normal((8, 8), np.float32) * BEND
    bends = cv2.resize(bends, (size, size), interpolation=cv2.INTER_CUBIC)
    steps = np.arange(size, dtype=np.float32) * (2 * np.pi / WAVELENGTH / size)
    rows, columns = np.cos(angle) * steps[:, None], np.sin(angle) * steps
    return _peaks(np.cos(start + rows + columns + bends))


def _peaks(waves: np.ndarray) -> np.ndarray:
    """Cuts waves softly at a quantile; returns zero mean and unit variance."""
    waves = waves / waves.std()
    peaks = np.tanh(SHARPNESS * (waves - np.quantile(waves[::3, ::3], 1 - PEAKS)))
    return (peaks - peaks.mean()) / peaks.std()


@functools.lru_cache(maxsize=4)
def _ring(size: int) -> np.ndarray:
    """Returns the gain of the dots' noise at each frequency of `rfft2`."""
    rows, columns = fft.fftfreq(size, 1 / size)[:, None], fft.rfftfreq(size, 1 / size)
    ring = np.exp(-((np.hypot(rows, columns) * WAVELENGTH - 1) ** 2) / (2 * RING**2))
    return ring.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _levels(size: int) -> np.ndarray:
    """Returns the gray values of every image of this size, in ascending order."""
    share = (np.arange(size**2) + 0.5) / size**2
    return np.clip(stats.norm.ppf(share, 0.5, 0.17), 0, 1).astype(np.float32)


def _ranks(image: np.ndarray) -> np.ndarray:
    ranks = np.empty(image.size, np.int32)
    ranks[np.argsort(image, axis=None)] = np.arange(image.size, dtype=np.int32)
    return ranks.reshape(image.shape)
