"""A phantom of neuromelanin-sensitive MRI: two bright structures that fade in class 1.

Figure 5 of Shinde et al. (2021) shows axial slices through the midbrain: HR-CAM marks
the left and the right substantia nigra as two places, CAM as one. Those images are not
public. This phantom asks the same question where the answer is known: geometry,
contrasts and noise are ours and not fitted to any scanner.

1. *Anatomy*, soft-edged ellipses, anterior up: the brain, a dark cistern in it, the
   brain-stem (two peduncles and the tegmentum) and its dark aqueduct. Each subject has
   a place, size, turn and levels of its own; its slices change them a little.
2. *Structures*: a slender bright ellipse on each side of the midline, together about
   2 % of the image, a quarter of its side apart. In class 0 they stand out by CONTRAST,
   in class 1 by that times one minus the FADE of that side, drawn for each subject.
3. *Image*: a smooth bias field multiplies, complex noise is added, and the magnitude
   is taken.

Nothing but step 2's fade knows the class: with one seed an image and the same image of
the other class differ inside the structures only. Values are not scaled image by image,
which would carry the fade to every pixel. Lengths are fractions of half the image side:
every size shows the same kind of picture.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622, figure 5.
"""

from typing import NamedTuple

import numpy as np

CONTRAST = 0.24  # of the structures against the brain-stem, whose level is 0.5
CONTRAST_SPREAD = 0.15  # relative, even
FADE = (0.5, 1.0)
NOISE = 0.04
BIAS = 0.08  # standard deviation of each of the field's five terms
EDGE = 0.06  # partial volume: the width of an edge
MIN_SIZE = 32
# Centre x, y; half axes; turn in radians; level. Later ones cover earlier ones.
ANATOMY = (
    (0.0, 0.0, 0.90, 0.98, 0.0, 0.40),  # brain
    (0.0, 0.05, 0.66, 0.62, 0.0, 0.15),  # cistern
    (-0.25, -0.17, 0.21, 0.34, -0.5, 0.50),  # peduncles
    (0.25, -0.17, 0.21, 0.34, 0.5, 0.50),
    (0.0, 0.13, 0.45, 0.33, 0.0, 0.50),  # tegmentum
    (0.0, 0.31, 0.05, 0.06, 0.0, 0.15),  # aqueduct
)
STRUCTURE = (0.27, -0.01, 0.17, 0.08, 0.6)  # the one on the right of the image


class Phantom(NamedTuple):
    """Simulated slices; row i of each array is slice i.

    Attributes:
        images: `(n, s, s, 1)` float32 in [0, 1].
        masks: `(n, s, s)` bool, true where either structure lies, faded or not.
        structures: `(n, s, s)` uint8: 1 on the structure left in the image, 2 on the
            right one, 0 elsewhere.
        labels: `(n,)` int64: 0 control, 1 patient (faded).
        groups: `(n,)` str: the subject.
    """

    images: np.ndarray
    masks: np.ndarray
    structures: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def neuromelanin_phantom(
    num_subjects: int = 80,
    slices_per_subject: int = 7,
    image_size: int = 96,
    seed: int = 0,
) -> Phantom:
    """Draws slices through a simulated midbrain.

    Subject `i` depends on `seed` and `i` only: a smaller set is the beginning of a
    larger one. Subjects are controls and patients by turns, beginning with a control.

    Args:
        num_subjects: 2 or more. The paper has 80.
        slices_per_subject: 1 or more. The paper has 548 slices in all, 6.85 a subject.
        image_size: Height and width in pixels, 32 or more.
        seed: Non-negative seed of the random generator.

    Returns:
        The slices, their masks, labels and subjects; slices of a subject follow one
        another.

    Raises:
        ValueError: If an argument is too small.

    Example:
        >>> phantom = neuromelanin_phantom(num_subjects=4, slices_per_subject=2)
        >>> phantom.labels.tolist()
        [0, 0, 1, 1, 0, 0, 1, 1]
    """
    for name, value, least in (
        ("num_subjects", num_subjects, 2),
        ("slices_per_subject", slices_per_subject, 1),
        ("image_size", image_size, MIN_SIZE),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be {least} or more. Received: {value}")
    subjects = np.repeat(np.arange(num_subjects), slices_per_subject)
    images = np.empty((len(subjects), image_size, image_size, 1), np.float32)
    structures = np.empty(images.shape[:3], np.uint8)
    for subject in range(num_subjects):
        rows = subjects == subject
        images[rows, ..., 0], structures[rows] = draw_subject(
            np.random.default_rng([seed, subject]),
            slices_per_subject,
            image_size,
            label=subject % 2,
        )
    groups = np.array([f"subject{subject:03}" for subject in subjects])
    return Phantom(images, structures > 0, structures, subjects % 2, groups)


def draw_subject(
    rng: np.random.Generator, num_slices: int, size: int, label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the slices of one subject (n, size, size) and their structures.

    The random numbers drawn are the same for both labels.
    """
    contrast = CONTRAST * (1 + CONTRAST_SPREAD * rng.uniform(-1, 1))
    contrasts = contrast * (1 - label * rng.uniform(*FADE, 2))
    pose = np.array([*rng.normal(0, 0.04, 2), *rng.normal(0, 0.07, 3)])
    shape = rng.normal(0, 0.06, 5)  # of the structures
    levels = rng.normal(0, 0.03, len(ANATOMY))
    levels[2:5] = levels[2]  # one tissue
    bias = rng.normal(0, BIAS, 5)
    images = np.empty((num_slices, size, size), np.float32)
    structures = np.empty((num_slices, size, size), np.uint8)
    for number in range(num_slices):
        x, y = _coordinates(pose + rng.normal(0, 0.015, 5), size)
        image = _anatomy(x, y, levels + rng.normal(0, 0.01))
        covers = _structures(x, y, shape + rng.normal(0, 0.03, 5))
        image += np.tensordot(contrasts, covers, 1)
        image *= _bias(bias + rng.normal(0, BIAS / 4, 5), size)
        noise = rng.normal(0, NOISE, (2, size, size))
        images[number] = np.clip(np.hypot(image + noise[0], noise[1]), 0, 1)
        structures[number] = np.where(covers.max(0) < 0.5, 0, covers.argmax(0) + 1)
    return images, structures


def _coordinates(pose: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the subject's own x and y of each pixel, (size, size) each."""
    shift_x, shift_y, turn, log_width, log_height = pose
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = steps - shift_x, steps[:, None] - shift_y
    cos, sin = np.cos(turn), np.sin(turn)
    across, along = cos * x + sin * y, cos * y - sin * x
    return across * np.exp(log_width), along * np.exp(log_height)


def _anatomy(x: np.ndarray, y: np.ndarray, levels: np.ndarray) -> np.ndarray:
    image = np.full(x.shape, 0.02)
    for (*ellipse, level), change in zip(ANATOMY, levels, strict=True):
        image += _cover(x, y, *ellipse) * (level + change - image)
    return image


def _structures(x: np.ndarray, y: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Returns how much of each pixel is structure, (2, size, size): left, right."""
    centre_x, centre_y, length, width, turn = STRUCTURE
    ellipse = (
        centre_x + change[0] / 4,
        centre_y + change[1] / 4,
        length * np.exp(change[2]),
        width * np.exp(change[3]),
        turn + change[4],
    )
    return np.stack([_cover(-x, y, *ellipse), _cover(x, y, *ellipse)])


def _cover(x, y, centre_x, centre_y, half_x, half_y, turn) -> np.ndarray:
    """Returns how much of each pixel an ellipse covers, in [0, 1], with soft edges."""
    cos, sin = np.cos(turn), np.sin(turn)
    u, v = x - centre_x, y - centre_y
    radius = np.hypot((cos * u + sin * v) / half_x, (cos * v - sin * u) / half_y)
    return np.clip(0.5 + (1 - radius) * min(half_x, half_y) / EDGE, 0, 1)


def _bias(terms: np.ndarray, size: int) -> np.ndarray:
    """Returns a smooth positive field: the exponential of a quadratic."""
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(steps, steps)
    return np.exp(np.tensordot(terms, np.stack([x, y, x * y, x**2, y**2]), 1))
