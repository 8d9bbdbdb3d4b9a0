"""Knee measurements on drawn knees of known widths and angles, on real knees, and on images that show no joint."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.stats import spearmanr

from medlat.core.errors import UserError
from medlat.measure.knee import MEASUREMENTS, NAMES, best_path, knee, line, measure, sub_pixel

FINE = 4  # drawn that much finer, then averaged
ENDS = (12.0, 116.0)  # of the drawn tibia, in pixels of 128


def drawn(
    left: float = 6.0,
    right: float = 6.0,
    tilt: float = 0.0,
    size: int = 128,
    blur: float = 1.0,
    noise: float = 0.03,
    seed: int = 0,
) -> np.ndarray:
    """A left knee, [size, size], fibula at the right: its lengths in pixels of 128, whatever its size.

    left, right: width of the joint space in either compartment. tilt: of the whole joint, in degrees, clockwise.
    blur: sigma of the image's Gaussian.
    """
    rows, columns = np.meshgrid(*[(np.arange(128 * FINE) + 0.5) / FINE] * 2, indexing="ij")
    slope = np.tan(np.radians(tilt))
    plateau = 76 + slope * (columns - 64) - 8 * np.exp(-(((columns - 64) / 7) ** 2))  # with its spines
    share = np.clip((columns - 46) / 36, 0, 1)
    gap = left + (right - left) * share + 14 * np.exp(-(((columns - 64) / 9) ** 2))  # wide in the notch
    gap = gap + 0.05 * np.maximum(np.abs(columns - 64) - 40, 0) ** 2  # round condyles
    below, above = rows - plateau, plateau - gap - rows  # how deep in the tibia, in the femur
    flare = 0.25 * np.maximum(below - 12, 0)
    tibia = (below > 0) & (columns > ENDS[0] + flare) & (columns < ENDS[1] - flare)
    femur = (above > 0) & (columns > 14) & (columns < 114)
    picture = np.where(np.abs(columns - 64) < 60, 0.45, 0.15)
    picture = np.where((rows > 104) & (columns > 106), 0.85, picture)
    picture = np.where(tibia, np.where(below < 3, 1.2, 0.9), picture)
    picture = np.where(femur, np.where(above < 1.5, 1.0, 0.9), picture)
    space = (below <= 0) & (above <= 0) & (np.abs(columns - 64) < 52)
    picture = ndimage.gaussian_filter(np.where(space, 0.4, picture), blur * FINE)
    block = 128 * FINE // size
    picture = picture.reshape(size, block, size, block).mean((1, 3))
    return 200 * (picture + np.random.default_rng(seed).normal(0, noise, picture.shape))


def of(images: np.ndarray, name: str, **options: str) -> np.ndarray:
    return measure(images, 0.15, **options)[:, NAMES.index(name)]


@pytest.mark.parametrize("size", [128, 64])
@pytest.mark.parametrize("blur", [0.5, 1.0])
def test_widths_of_drawn_knees_are_within_half_a_pixel(size: int, blur: float):
    widths = np.arange(2, 13)
    images = np.stack([drawn(w, 14 - w, size=size, blur=blur, seed=w) for w in widths])
    table = measure(images)
    tibia = table[:, NAMES.index("tibia_width")] / 100 * size
    np.testing.assert_allclose(tibia * 128 / size, ENDS[1] - ENDS[0], atol=3)
    narrowest = np.minimum(widths, 14 - widths)
    for name, truth in (("medial_width", widths), ("lateral_width", 14 - widths), ("minimum_width", narrowest)):
        error = table[:, NAMES.index(name)] / 100 * tibia - truth * size / 128
        assert np.abs(error).max() <= 0.5, (name, error)
        assert abs(error.mean()) <= 0.3, name


def test_bone_on_bone_has_no_width_and_a_wider_space_a_larger_one():
    widths = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    for size in (128, 64):
        found = of(np.stack([drawn(w, 7.0, size=size) for w in widths]), "minimum_width")
        assert found[0] < 0.5, (size, found)
        assert (np.diff(found) > -0.1).all(), (size, found)
        assert found[-1] > found[2] + 1.0, (size, found)


@pytest.mark.parametrize(("size", "within"), [(128, 0.6), (64, 1.0)])
def test_angles_of_drawn_knees_are_within_a_degree(size: int, within: float):
    tilts = np.array([-8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0])
    images = np.stack([drawn(6, 6, tilt=t, size=size, seed=i) for i, t in enumerate(tilts)])
    np.testing.assert_allclose(of(images, "tibial_angle"), tilts, atol=within)
    np.testing.assert_allclose(of(images, "joint_angle"), 0, atol=within)
    opening = np.stack([drawn(4, w, size=size) for w in (4, 7, 10)])
    expected = np.degrees(np.arctan([0, 3 / 59, 6 / 59]))  # the compartments' middles are 59 pixels apart
    np.testing.assert_allclose(of(opening, "joint_angle"), expected, atol=within)


def test_a_mirrored_knee_has_the_same_numbers_but_for_the_side_of_the_fibula():
    image = drawn(4, 7, tilt=2)[None]
    found, mirrored = (dict(zip(NAMES, measure(x)[0], strict=True)) for x in (image, image[:, :, ::-1]))
    assert found["fibula"] > 0.5
    assert mirrored.pop("fibula") == pytest.approx(-found.pop("fibula"), rel=1e-3)
    assert mirrored == pytest.approx(found, rel=0.02, abs=0.05)
    assert found["medial_width"] < found["lateral_width"]


def test_brightness_contrast_and_a_negative_change_nothing():
    image = drawn(4, 7)[None]
    found = measure(image)
    np.testing.assert_allclose(measure(3 * image - 1000), found, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(measure(255 - image), found, rtol=2e-3, atol=2e-3)


def test_side_is_told_or_given_and_else_not_known():
    image = drawn(4, 7)[None]
    hidden = image.copy()
    hidden[:, 100:, 100:] = hidden[:, 100:, :28][:, :, ::-1]  # no fibula
    sided = ["medial_width", "lateral_width", "tibial_angle", "joint_angle"]
    unknown = np.isnan(measure(hidden)[0])
    assert [name for name, missing in zip(NAMES, unknown, strict=True) if missing] == sided
    right, left = (knee(lateral=side).measure(hidden, 0.15)[0] for side in ("right", "left"))
    medial, lateral = NAMES.index("medial_width"), NAMES.index("lateral_width")
    np.testing.assert_allclose(right[[medial, lateral]], left[[lateral, medial]])
    np.testing.assert_allclose(right[medial], measure(image)[0, medial], atol=0.2)
    np.testing.assert_allclose(right[NAMES.index("joint_angle")], -left[NAMES.index("joint_angle")])


def test_bone_and_edges():
    image = drawn(6, 6, noise=0.0)[None]
    dull, grainy, blurred = drawn(6, 6, noise=0.02)[None], drawn(6, 6, noise=0.08)[None], drawn(6, 6, blur=2.0)[None]
    assert of(grainy, "texture")[0] > 2.5 * of(dull, "texture")[0] > 5 * of(image, "texture")[0]
    assert of(blurred, "edge_sharpness")[0] < 0.8 * of(image, "edge_sharpness")[0]
    dense = image.copy()
    dense[:, 76:80, 20:108] += 40.0
    assert of(dense, "subchondral")[0] > of(image, "subchondral")[0] + 0.4


def no_joint(name: str, size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "black": np.zeros((2, size, size)),
        "bright": np.full((2, size, size), 255.0),
        "missing": np.full((2, size, size), np.nan),
        "ramp": np.tile(np.arange(float(size)), (2, size, 1)),
        "ramp down": np.tile(np.arange(float(size))[:, None], (2, 1, size)),
        "noise": rng.normal(0, 1, (8, size, size)),
        "upside down": drawn(6, 6, size=size)[None, ::-1],
        "on its side": drawn(6, 6, size=size).T[None],
        "one pixel": np.pad(np.ones((2, 1, 1)), ((0, 0), (size // 2, size - size // 2 - 1), (5, size - 6))),
    }[name]


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize(
    "name", ["black", "bright", "missing", "ramp", "ramp down", "noise", "upside down", "on its side", "one pixel"]
)
def test_an_image_without_a_joint_has_no_numbers(name: str, size: int):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(measure(no_joint(name, size))).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 64), (96, 128), (64, 33)])
def test_any_size_of_image_is_answered(height: int, width: int):
    noise = np.random.default_rng(0).uniform(0, 255, (3, height, width))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure(noise).shape == (3, len(MEASUREMENTS))
        assert measure(noise[:0]).shape == (0, len(MEASUREMENTS))


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_a_drawn_knee_has_every_number_at_any_size(size: int):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = np.stack([drawn(w, 8, tilt=w - 4, size=size, blur=b) for w in (1, 4, 8) for b in (0.5, 3.0)])
        table = measure(images)
    assert np.isfinite(table).all()
    np.testing.assert_allclose(table[:, NAMES.index("tibia_width")], 100 * (ENDS[1] - ENDS[0]) / 128, atol=6)


def test_an_image_is_measured_alike_alone_and_among_others():
    images = np.stack([drawn(3, 8), np.zeros((128, 128)), drawn(8, 3, tilt=4), drawn(255, 255)])
    alone = np.concatenate([measure(image[None]) for image in images])
    np.testing.assert_allclose(measure(images), alone, rtol=1e-5, atol=1e-5)


def test_best_path_follows_the_ridge_within_its_reach_and_pays_for_steps():
    score = np.zeros((1, 5, 6), np.float32)
    score[0, [0, 1, 2, 3, 4, 4], range(6)] = 1.0
    assert best_path(score, 1, 0.1)[0].tolist() == [0, 1, 2, 3, 4, 4]
    assert len(set(best_path(score, 1, 5.0)[0].tolist())) == 1  # dearer than what there is to win
    far = np.zeros((1, 5, 2), np.float32)
    far[0, 0, 0], far[0, 4, 1] = 1.0, 3.0
    assert best_path(far, 4, 0.0)[0].tolist() == [0, 4]
    assert best_path(far, 2, 0.0)[0].tolist()[1] == 4  # the better end, from within reach


def test_sub_pixel_finds_a_parabola_s_top_and_line_does_not_mind_an_outlier():
    rows = np.arange(7.0)
    parabola = -((rows - 3.3) ** 2)[None, :, None]
    assert sub_pixel(parabola, np.array([[3]]))[0, 0] == pytest.approx(3.3)
    assert sub_pixel(parabola, np.array([[0]]))[0, 0] == 0.0  # at the border there is none
    x = np.arange(20.0) - 9.5
    y = 40 + 0.2 * x
    y[3] += 30
    height, slope = line(x, y[None], np.ones(20, bool))
    assert (height[0], slope[0]) == (pytest.approx(40, abs=0.5), pytest.approx(0.2, abs=0.05))


def test_bad_arguments():
    with pytest.raises(UserError, match=r"\[64, 64\], expected \[N, H, W\]"):
        measure(np.zeros((64, 64)))
    with pytest.raises(UserError, match=r"lateral: rihgt, expected image, left, right; did you mean 'right'\?"):
        knee(lateral="rihgt")
    assert knee(only=["minimum_width"]).names == ["minimum_width"]


@pytest.mark.parametrize(("size", "least"), [(128, 0.35), (64, 0.33)])
def test_real_knees_narrow_with_their_grade(real_data: Path, size: int, least: float):
    root = real_data / "knee_oa"
    rows = list(csv.DictReader((root / "labels.csv").open()))
    people = sorted({row["group"] for row in rows})
    chosen = set(np.random.default_rng(1).permutation(people)[:400])
    rows = [row for row in rows if row["group"] in chosen]
    images = np.stack([np.asarray(Image.open(root / row["path"]).convert("L")) for row in rows]).astype(np.float32)
    block = 128 // size
    table = knee().measure(images.reshape(-1, size, block, size, block).mean((2, 4)), 0.15)
    grade, width = np.array([int(row["label"]) for row in rows]), table[:, 0]
    found = np.isfinite(width)
    assert found.mean() > 0.97
    assert spearmanr(width[found], grade[found]).statistic <= -least
    assert width[found & (grade >= 3)].mean() < 0.7 * width[found & (grade == 0)].mean()
    fibula, left = table[:, NAMES.index("fibula")], np.array([row["side"] == "L" for row in rows])
    assert ((fibula > 0) == left)[np.isfinite(fibula)].mean() > 0.98
