"""CT measurements against closed forms, against the phantom's truth, and on images that have nothing to measure."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy import ndimage, stats

from medlat.core.errors import UserError
from medlat.measure.ct import MEASUREMENTS, NAMES, measure
from medlat.phantoms.ct.canvas import Tissue
from medlat.phantoms.ct.person import Person
from medlat.phantoms.ct.source import FACTORS, render

SPACING = 6.25
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "ct_lung_dx" / "A0002"


def column(table: np.ndarray, name: str) -> np.ndarray:
    return table[:, NAMES.index(name)]


def ellipse(
    radii: tuple[float, float],
    centre: tuple[float, float] = (0.0, 0.0),
    angle_deg: float = 0.0,
    size: int = 64,
    hu: float = 0.0,
) -> np.ndarray:
    """A filled ellipse in air, [size, size]: radii and centre in mm of a 400 mm image, drawn 8 x finer, averaged."""
    fine = (np.arange(size * 8) + 0.5) * 400 / (size * 8) - 200
    x, y = np.meshgrid(fine - centre[0], fine - centre[1])
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    inside = ((cos * x + sin * y) / radii[0]) ** 2 + ((cos * y - sin * x) / radii[1]) ** 2 < 1
    return np.where(inside, hu, -1000.0).reshape(size, 8, size, 8).mean((1, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [64, 128, 256, 100])
def test_disc_of_water(size: int):
    result = measure(ellipse((90.0, 90.0), (14.0, -23.0), size=size)[None], 400 / size)
    assert column(result, "x_position")[0] == pytest.approx(14.0, abs=0.4)
    assert column(result, "y_position")[0] == pytest.approx(-23.0, abs=0.4)
    assert column(result, "body_area")[0] == pytest.approx(np.pi * 81, rel=0.03)  # edge of water, calibrated on fat
    assert column(result, "body_hu")[0] == pytest.approx(0.0, abs=1.0)
    assert column(result, "lung_fraction")[0] == 0.0
    for name in ("rotation", "table_height", "lung_hu", "mediastinum_width"):
        assert np.isnan(column(result, name)[0]), name


def test_area_of_fat_is_exact():
    result = measure(ellipse((150.0, 100.0), (3.0, 2.0), hu=-100.0)[None], SPACING)
    assert column(result, "body_area")[0] == pytest.approx(np.pi * 150, rel=0.003)


@pytest.mark.parametrize("angle", [-40.0, -12.3, 0.0, 5.0, 31.0])
def test_rotation_of_an_ellipse(angle: float):
    result = measure(ellipse((150.0, 100.0), (5.0, 5.0), angle)[None], SPACING)
    assert column(result, "rotation")[0] == pytest.approx(angle, abs=0.2)


@pytest.mark.parametrize("thickness", [6.0, 12.0, 20.0])
def test_ring_of_fat_around_muscle(thickness: float):
    muscle = (ellipse((160.0 - thickness, 120.0 - thickness)) + 1000) / 1000
    image = ellipse((160.0, 120.0), hu=-100.0) + 150 * muscle
    result = measure(image[None], SPACING)
    assert column(result, "fat_thickness")[0] == pytest.approx(thickness, abs=3.0)


def test_two_lungs_and_what_lies_between():
    lungs = sum((ellipse((45.0, 70.0), (side * 80.0, 0.0), hu=0.0) + 1000) / 1000 for side in (-1, 1))
    image = ellipse((160.0, 110.0), hu=40.0) - 890 * lungs
    result = measure(image[None], SPACING)
    assert column(result, "lung_fraction")[0] == pytest.approx(2 * 45 * 70 / (160 * 110), rel=0.03)
    assert column(result, "lung_hu")[0] == pytest.approx(-850, abs=2)
    rows = np.linspace(-70, 70, 2001)
    truth = np.median(160 - 2 * 45 * np.sqrt(1 - (rows / 70) ** 2))
    assert column(result, "mediastinum_width")[0] == pytest.approx(truth, abs=4.0)


@pytest.mark.parametrize("gap", [6.0, 14.0, 30.0])
def test_flat_table_under_an_ellipse(gap: float):
    image = ellipse((150.0, 100.0), (0.0, -20.0), hu=-100.0)
    fine = np.full((512, 512), -1000.0)
    top = round((200 + 80 + gap) / 400 * 512)
    fine[top : top + 5] = 100.0
    image = np.maximum(image, fine.reshape(64, 8, 64, 8).mean((1, 3)))
    surface = top * 400 / 512 - 200
    result = measure(image[None], SPACING)
    assert column(result, "table_height")[0] == pytest.approx(surface - 80, abs=3.5)


NOTHING = {
    "air": np.full((64, 64), -1000.0),
    "water": np.zeros((64, 64)),
    "bone": np.full((64, 64), 2000.0),
    "below air": np.full((64, 64), -3024.0),
    "not finite": np.full((64, 64), np.nan),
    "infinite": np.full((64, 64), np.inf),
    "white noise": np.random.default_rng(0).uniform(-1000, 2000, (64, 64)),
    "noise in air": np.random.default_rng(1).normal(-1000, 60, (64, 64)),
    "a coin": ellipse((20.0, 20.0)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_images_without_a_body_are_nan_without_warning(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = measure(NOTHING[name][None], SPACING)
    assert result.shape == (1, len(MEASUREMENTS))
    assert np.isnan(result).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 64), (33, 20)])
def test_any_size_of_image_is_answered(height: int, width: int):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noise = np.random.default_rng(0).uniform(-1000, 500, (3, height, width))
        assert measure(noise, SPACING).shape == (3, len(MEASUREMENTS))
        assert measure(noise[:0], SPACING).shape == (0, len(MEASUREMENTS))


def test_an_image_is_measured_alike_in_any_company():
    stack = np.stack([ellipse((150.0, 100.0), (x, 0.0), x) for x in range(-20, 21)] + list(NOTHING.values()))
    alone = np.concatenate([measure(image[None], SPACING) for image in stack])
    np.testing.assert_allclose(measure(stack, SPACING), alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "spacing", "message"),
    [(np.zeros((64, 64)), 6.25, r"\[64, 64\], expected \[N, H, W\]"), (np.zeros((1, 8, 8)), 0.0, "spacing_mm: 0.0")],
)
def test_bad_arguments(images: np.ndarray, spacing: float, message: str):
    with pytest.raises(UserError, match=message):
        measure(images, spacing)


class Truth(NamedTuple):
    images: np.ndarray  # [N, 64, 64]
    factors: dict[str, np.ndarray]
    tissue: dict[str, np.ndarray]  # counted on the map of tissues at 3.1 mm


@pytest.fixture(scope="module")
def phantom() -> Truth:
    """Slices of many phantom patients drawn at 128², averaged to 64², clipped to the intensity range."""
    rng = np.random.default_rng(11)
    low, high = (np.array([getattr(factor, side) for factor in FACTORS]) for side in ("low", "high"))
    names = [factor.name for factor in FACTORS]
    images, rows, truths = [], rng.uniform(low, high, (260, len(FACTORS))), []
    for number, row in enumerate(rows):
        factors = dict(zip(names, row.tolist(), strict=True))
        hu, tissue = render(factors, 128, person=Person.draw(rng), noise_seed=number)
        images.append(hu.reshape(64, 2, 64, 2).mean((1, 3)))
        truths.append(true_numbers(hu, tissue, factors))
    tissue = {name: np.array([truth[name] for truth in truths]) for name in truths[0]}
    factors = {name: rows[:, i] for i, name in enumerate(names)}
    return Truth(np.clip(np.stack(images), -1000, 2000), factors, tissue)


def true_numbers(hu: np.ndarray, tissue: np.ndarray, factors: dict[str, float]) -> dict[str, float]:
    pixel = 400 / 128
    body = tissue >= Tissue.SKIN
    lung = np.isin(tissue, [Tissue.LUNG, Tissue.LUNG_VESSEL])
    inner = ndimage.binary_erosion(lung, iterations=2) & (tissue == Tissue.LUNG)
    rows, columns = np.nonzero(body)
    straight = render(factors | {"rotation": 0.0, "x": 0.0, "y": 0.0}, 128, noise_hu=0.0).tissue
    return {
        "x": (columns.mean() - 63.5) * pixel,
        "y": (rows.mean() - 63.5) * pixel,
        "area": body.sum() * pixel**2 / 100,
        "lung_fraction": lung.sum() / body.sum(),
        "body_hu": float(hu[body].mean()),
        "lung_hu": float(hu[inner].mean()) if inner.sum() > 100 else np.nan,
        "mediastinum": true_mediastinum(np.isin(straight, [Tissue.LUNG, Tissue.LUNG_VESSEL])) * pixel,
    }


def true_mediastinum(lung: np.ndarray) -> float:
    """Pixels from the midline to the first lung on either side, median over rows of a body that lies straight."""
    left, right = lung[:, 64:], lung[:, 63::-1]
    both = left.any(1) & right.any(1)
    widths = left[both].argmax(1) + right[both].argmax(1)
    return float(np.median(widths)) if both.sum() >= 6 else np.nan


def r_squared(measured: np.ndarray, truth: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """Squared correlation where both are known, and the share of images in which the measurement is."""
    known = where & np.isfinite(truth)
    both = known & np.isfinite(measured)
    return float(np.corrcoef(measured[both], truth[both])[0, 1] ** 2), float(both.sum() / known.sum())


def test_measurements_read_the_phantom(phantom: Truth, capsys: pytest.CaptureFixture):
    result = measure(phantom.images, SPACING)
    f, t, z = phantom.factors, phantom.tissue, phantom.factors["z"]
    always, breasts, heart = z >= 0, (z > 0.42) & (z < 0.64), (z > 0.5) & (z < 0.66)
    lungs = t["lung_fraction"] > 0.03
    rows = [  # measurement, against, truth, where, least R², least share answered
        ("rotation", "factor", f["rotation"], always, 0.99, 1.0),
        ("x_position", "factor", f["x"], always, 0.98, 1.0),
        ("y_position", "factor", f["y"], always, 0.85, 1.0),
        ("y_position", "tissue map", t["y"], always, 0.98, 1.0),
        ("body_area", "factor²", f["body_size"] ** 2, always, 0.85, 1.0),
        ("body_area", "tissue map", t["area"], always, 0.98, 1.0),
        ("fat_thickness", "factor", f["fat_thickness"], always, 0.93, 1.0),
        ("lung_fraction", "tissue map", t["lung_fraction"], always, 0.97, 1.0),
        ("lung_fraction", "factor, mid chest", f["lung_size"], (z > 0.25) & (z < 0.5), 0.7, 1.0),
        ("table_height", "factor", f["table_height"], always, 0.96, 0.98),
        ("body_hu", "tissue map", t["body_hu"], always, 0.99, 1.0),
        ("lung_hu", "tissue map", t["lung_hu"], lungs, 0.65, 0.98),
        ("mediastinum_width", "tissue map", t["mediastinum"], lungs & (z < 0.62), 0.82, 0.95),
        ("mediastinum_width", "factor, at heart", f["heart_size"], heart, 0.4, 0.9),
        ("breast", "factor, at breasts", f["breast_size"], breasts, 0.9, 1.0),
        ("slice_level", "factor", z, always, 0.95, 1.0),
    ]
    table = [(n, a, *r_squared(column(result, n), truth, w), low, share) for n, a, truth, w, low, share in rows]
    with capsys.disabled():
        print("\n" + "\n".join(f"  {n:18s} {a:20s} R² {r:.3f}  answered {s:.2f}" for n, a, r, s, _, _ in table))
    for name, against, r2, share, least, least_share in table:
        assert r2 >= least, (name, against)
        assert share >= least_share, (name, against)


def test_blur_changes_little(phantom: Truth):
    """Samples of an autoencoder are blurred: a Gaussian of one pixel."""
    images = phantom.images[:120]
    sharp = measure(images, SPACING)
    soft = measure(ndimage.gaussian_filter(images, (0, 1, 1)), SPACING)
    for name, least in (("rotation", 0.99), ("body_area", 0.98), ("lung_fraction", 0.97), ("fat_thickness", 0.75)):
        both = np.isfinite(column(sharp, name)) & np.isfinite(column(soft, name))
        assert both.mean() > 0.95, name
        assert np.corrcoef(column(sharp, name)[both], column(soft, name)[both])[0, 1] ** 2 > least, name


def test_finer_pixels_give_the_same_numbers():
    factors = {"z": 0.4, "rotation": 6.0, "x": 9.0, "fat_thickness": 14.0}
    coarse, fine = (measure(render(factors, size, noise_hu=5.0).hu[None], 400 / size)[0] for size in (64, 256))
    allowed = {"rotation": 0.3, "x_position": 0.5, "y_position": 0.5, "body_area": 6, "fat_thickness": 1.5}
    allowed |= {"lung_fraction": 0.015, "table_height": 2.0, "mediastinum_width": 6.0, "breast": 2.0}
    for name, tolerance in allowed.items():
        index = NAMES.index(name)
        assert coarse[index] == pytest.approx(fine[index], abs=tolerance), name


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/ct_lung_dx: real CT is not at hand")
def test_levels_of_a_real_chest_come_in_order():
    from medlat.data.ct.dicom import CTDicom
    from medlat.data.resample import ToGrid
    from medlat.data.source import Slice

    source, grid = CTDicom(str(REAL)), ToGrid(64, 400.0)
    chunks = source.scan(lambda function, items, _: map(function, items)).chunks
    position = np.concatenate([chunk.columns["position_mm"] for chunk in chunks])
    slices = [one for chunk in chunks for one in source.read(chunk) if isinstance(one, Slice)]
    result = measure(np.stack([grid(one)[0] for one in slices]), SPACING)
    order = stats.spearmanr(column(result, "slice_level"), -position).statistic
    print(f"\n  A0002: Spearman of slice_level and position {order:.3f}")
    assert order > 0.9
    assert np.nanmin(column(result, "table_height")) > -SPACING
    assert 0.2 < np.nanmax(column(result, "lung_fraction")) < 0.4
    assert np.isfinite(column(result, "rotation")).all()
