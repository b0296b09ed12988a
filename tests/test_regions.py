import numpy as np
import pytest
from scipy import ndimage

from hrcam.regions import body_mask, burnt_in_mask, response_shares

BACKGROUND, TISSUE, BONE = 0.1, 0.45, 0.7


def ellipse(shape=(128, 128), center=(0.5, 0.5), radii=(0.35, 0.2)):
    y, x = np.indices(shape)
    y, x = (y + 0.5) / shape[0] - center[0], (x + 0.5) / shape[1] - center[1]
    return (y / radii[0]) ** 2 + (x / radii[1]) ** 2 <= 1


def radiograph(body, seed=0):
    """A limb with a bone in it, a little blurred, a little noisy."""
    image = np.where(body, TISSUE, BACKGROUND)
    bone = ndimage.binary_erosion(body, iterations=len(body) // 10, border_value=1)
    image = ndimage.gaussian_filter(np.where(bone, BONE, image), 1)
    noise = np.random.default_rng(seed).normal(0, 0.01, image.shape)
    return np.clip(image + noise, 0, 1)


def fits(mask, truth):
    """Equal, but for a seam 0.03 wide on either side of the (blurred) edge."""
    wide = [2 * round(0.03 * n) + 1 for n in mask.shape]
    inner = ndimage.minimum_filter(truth, wide)  # the border mirrored, not eroded
    outer = ndimage.maximum_filter(truth, wide)
    return mask[inner].all() and not mask[~outer].any()


def with_square(image, top, left, side, value=0.95):
    image = image.copy()
    image[top : top + side, left : left + side] = value
    return image


# -------------------------------------------------------------------------- body_mask


@pytest.mark.parametrize("shape", [(96, 96), (128, 128), (320, 260), (200, 400)])
def test_body_is_the_ellipse_at_any_size(shape):
    body = ellipse(shape)

    mask = body_mask(radiograph(body))

    assert mask.shape == shape
    assert mask.dtype == bool
    assert fits(mask, body)


@pytest.mark.parametrize(
    "options",
    [
        {"center": (0, 0.5), "radii": (0.8, 0.15)},  # a leg in through the top
        {"center": (0.5, 1), "radii": (0.15, 0.7)},  # an arm in through the right
        {"center": (0.5, 0.5), "radii": (0.9, 0.45)},  # a hip, across the image
    ],
)
def test_body_that_touches_the_border(options):
    body = ellipse(**options)

    mask = body_mask(radiograph(body))

    assert fits(mask, body)


def test_two_limbs_are_kept_and_specks_are_not():
    left = ellipse(center=(0.5, 0.25), radii=(0.4, 0.12))
    right = ellipse(center=(0.5, 0.75), radii=(0.4, 0.12))
    speck = ellipse(center=(0.1, 0.5), radii=(0.04, 0.04))
    image = radiograph(left | right)
    image[speck] = TISSUE

    mask = body_mask(image)

    assert fits(mask, left | right)
    assert not mask[speck].any()


def test_faint_finger_on_an_uneven_background():
    """No one threshold parts them: the finger is darker than the far background."""
    forearm = ellipse(center=(0, 0.5), radii=(0.5, 0.15))
    image = np.where(forearm, 0.9, np.linspace(0.1, 0.3, 128))
    finger = np.zeros_like(forearm)
    finger[60:100, 61:67] = True
    image[finger & ~forearm] = 0.29

    mask = body_mask(image)

    assert mask[60:98, 62:66].all()
    assert not mask[70:, 72:100].any()


def test_holes_are_body():
    image = radiograph(ellipse())
    dark = ellipse(radii=(0.1, 0.08))  # air in the bowel
    image[dark] = BACKGROUND

    assert body_mask(image)[dark].all()


def test_edge_of_the_plate_is_not_body():
    body = ellipse(radii=(0.3, 0.2))
    image = radiograph(body)
    image[-8:] = 1.0
    divider = image.copy()
    divider[:, 8:14] = 1.0
    wide = image.copy()
    wide[:20] = 1.0

    for one in (image, divider, wide):
        assert fits(body_mask(one), body)
    # A leg that crosses the strip stays, the strip beside it goes.
    leg = ellipse(center=(1, 0.5), radii=(0.7, 0.15))
    crossed = radiograph(leg)
    crossed[-8:] = np.maximum(crossed[-8:], 0.4)
    assert fits(body_mask(crossed), leg)


def test_letter_is_not_body():
    body = ellipse()

    assert fits(body_mask(with_square(radiograph(body), 60, 86, 12)), body)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("contrast", [0, -0.04])
def test_blank_image_shows_nothing(value, contrast):
    image = np.where(ellipse((64, 64)), value, abs(value + contrast))

    assert not body_mask(image).any()
    assert not burnt_in_mask(image).any()


# ---------------------------------------------------------------------- burnt_in_mask


@pytest.mark.parametrize("side", [4, 8, 12])
@pytest.mark.parametrize("place", [(10, 10), (60, 100)])  # in a corner, by the body
def test_letter_is_found_with_a_margin(side, place):
    image = with_square(radiograph(ellipse()), *place, side)
    letter = with_square(np.zeros((128, 128)), *place, side, 1) == 1

    mask = burnt_in_mask(image)

    # 0.04 of 128 is 5 pixels in all, 2 on each side; the noise may add one more.
    assert mask[ndimage.binary_dilation(letter, np.ones((5, 5)))].all()
    assert not mask[~ndimage.binary_dilation(letter, np.ones((9, 9)))].any()


def test_letter_on_dark_tissue_and_logo_with_a_dark_inside():
    image = np.where(ellipse(), 0.3, 0.1)  # a thigh under low dose
    image = with_square(image, 60, 60, 14)
    image = with_square(image, 62, 62, 10, 0.1)  # a margin of 2 leaves 6 to be filled

    assert burnt_in_mask(image)[58:76, 58:76].all()


def test_faint_text_counts_only_beside_a_letter():
    image = radiograph(ellipse())
    image[25:28, 10:18] = 0.45
    assert not burnt_in_mask(image).any()

    assert burnt_in_mask(with_square(image, 12, 10, 8))[25:28, 10:18].all()
    assert not burnt_in_mask(with_square(image, 100, 10, 8))[:90].any()


@pytest.mark.parametrize("seed", range(3))
def test_no_letter_no_mask(seed):
    assert not burnt_in_mask(radiograph(ellipse(), seed)).any()


def test_metal_in_bone_is_no_letter():
    screw = with_square(radiograph(ellipse()), 60, 60, 6, 1.0)
    nail = radiograph(ellipse())
    nail[40:90, 62:66] = 1.0  # too long, however dark around
    plate = np.where(ellipse(), 0.3, 0.1)
    plate[40:90, 62:66] = 1.0
    # .95 - .48 is too little contrast to the tissue, .95 - .05 were enough
    bead = with_square(np.where(ellipse(), 0.48, 0.05), 60, 60, 6)

    for image in (screw, nail, plate, bead):
        assert not burnt_in_mask(image).any()


def test_dim_thing_long_thing_and_speck_are_no_letters():
    dim = with_square(radiograph(ellipse()), 10, 10, 8, 0.55)  # contrast .45
    dark = with_square(np.where(ellipse(), 0.5, 0), 10, 10, 8, 0.6)  # contrast .6
    long_bar = radiograph(ellipse())
    long_bar[10:14, 10:50] = 1.0
    speck = with_square(radiograph(ellipse()), 10, 10, 2, 1.0)  # 4 pixels of 5
    at_border = with_square(radiograph(ellipse()), 0, 10, 8, 1.0)

    for image in (dim, dark, long_bar, speck, at_border):
        assert not burnt_in_mask(image).any()


def test_bright_toe_joins_the_foot():
    """Small above its neighbourhood, but not small when cut at half its height."""
    image = np.where(ellipse(center=(0.3, 0.5)), 0.8, 0.05)
    image[80:92, 60:68] = 0.8  # juts out of the ellipse, which ends at row 83

    assert not burnt_in_mask(image).any()


# -------------------------------------------------------------------- response_shares


@pytest.fixture
def image():
    return with_square(radiograph(ellipse()), 10, 10, 8)


def test_shares_by_hand(image):
    letters, body = burnt_in_mask(image), body_mask(image)
    response = np.full((128, 128), -7.0)  # left out, however much
    response[12, 12] = 2  # on the letter
    response[120, 120] = 1  # outside
    response[64, 64], response[70, 64] = 4, 1  # inside

    shares = response_shares(response, image)

    # 2 + 1 + 5 = 8.
    assert shares == {
        "letters": 2 / 8,
        "letters_area": letters.mean(),
        "outside": 1 / 8,
        "outside_area": 1 - letters.mean() - body.mean(),
        "inside": 5 / 8,
        "inside_area": body.mean(),
    }
    assert all(type(value) is float for value in shares.values())


def test_letter_on_the_body_is_a_letter():
    image = with_square(np.where(ellipse(), 0.3, 0.1), 60, 60, 8)
    assert body_mask(image)[64, 64]
    response = np.zeros((128, 128))
    response[64, 64] = 1

    shares = response_shares(response, image)

    assert (shares["letters"], shares["inside"], shares["outside"]) == (1, 0, 0)
    assert shares["inside_area"] == pytest.approx(
        body_mask(image).mean() - shares["letters_area"]
    )


def test_constant_response_has_the_shares_of_the_areas(image):
    shares = response_shares(np.full((128, 128), 1e308), image)  # the sum is infinite

    for name in ("letters", "outside", "inside"):
        assert shares[name] == pytest.approx(shares[f"{name}_area"])


def test_nan_without_a_positive_pixel(image):
    shares = response_shares(np.zeros((128, 128)), image)

    assert all(np.isnan(shares[name]) for name in ("letters", "outside", "inside"))
    assert shares["inside_area"] > 0


def test_without_a_letter_the_share_is_0_and_the_nan_stays():
    image = radiograph(ellipse())

    assert response_shares(np.ones((128, 128)), image)["letters"] == 0
    assert np.isnan(response_shares(-np.ones((128, 128)), image)["letters"])


def test_blank_image_is_all_outside():
    shares = response_shares(np.ones((64, 64), int), np.zeros((64, 64)))

    assert shares["outside"] == shares["outside_area"] == 1


def test_batch_is_each_by_itself(image):
    images = np.stack([image, radiograph(ellipse(), seed=1), np.zeros((128, 128))])
    responses = np.random.default_rng(0).normal(size=images.shape)
    responses[2] = -1
    given = images.copy(), responses.copy()

    shares = response_shares(responses, images[..., None])

    for index in range(3):
        one = response_shares(responses[index], images[index][..., None])
        for name, value in one.items():
            np.testing.assert_array_equal(shares[name][index], value)
    for find in (body_mask, burnt_in_mask):
        each = [find(one) for one in images]
        np.testing.assert_array_equal(find(images), each)
        np.testing.assert_array_equal(find(images[..., None]), each)
        np.testing.assert_array_equal(find(images.astype(np.float32)), each)
    assert [value.shape for value in shares.values()] == [(3,)] * 6
    np.testing.assert_array_equal(images, given[0])
    np.testing.assert_array_equal(responses, given[1])


def test_no_images():
    assert body_mask(np.zeros((0, 64, 64))).shape == (0, 64, 64)
    shares = response_shares(np.zeros((0, 64, 64)), np.zeros((0, 64, 64)))
    assert shares["letters"].shape == shares["letters_area"].shape == (0,)


# ----------------------------------------------------------------------------- errors


@pytest.mark.parametrize("find", [body_mask, burnt_in_mask])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(64), r"at least 32 pixels. Received: \(64,\)"),
        (np.zeros((64, 31)), r"Received: \(64, 31\)"),
        (np.zeros((64, 64, 3)), r"Received: \(64, 64, 3\).*colour"),
        (np.zeros((2, 64, 64, 3)), r"Received: \(2, 64, 64, 3\)"),
        (np.zeros((64, 64), complex), "real numbers. Received: complex128"),
        (np.full((64, 64), 255), r"in \[0, 1\]. Received: .* to 255. Divide"),
        (np.full((64, 64), -0.1), r"in \[0, 1\]. Received: values from -0.1"),
        (np.full((64, 64), np.nan), r"in \[0, 1\]. Received: values from nan"),
    ],
)
def test_rejects_what_is_no_image(find, image, message):
    with pytest.raises(ValueError, match=message):
        find(image)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (np.zeros((8, 8)), r"shape of `image`, \(64, 64\). Received: \(8, 8\). Resize"),
        (np.zeros((1, 64, 64)), r"Received: \(1, 64, 64\)"),
        (np.zeros((64, 64), complex), "real numbers. Received: complex128"),
        (np.full((64, 64), np.nan), "infinity in 4096 pixels"),
        (np.full((64, 64), np.inf), "infinity in 4096 pixels"),
    ],
)
def test_rejects_what_is_no_response(response, message):
    with pytest.raises(ValueError, match=message):
        response_shares(response, np.zeros((64, 64)))


def test_one_response_for_a_batch_is_rejected():
    with pytest.raises(ValueError, match=r"`image`, \(2, 64, 64\). Received: \(64, "):
        response_shares(np.zeros((64, 64)), np.zeros((2, 64, 64)))
