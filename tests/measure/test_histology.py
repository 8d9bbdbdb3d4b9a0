"""Histology measurements against closed forms, the phantom's truth, real tiles, and images with nothing to measure."""

import csv
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from medlat.core.errors import UserError
from medlat.core.stains import stained
from medlat.data.source import Slice
from medlat.measure.histology import MEASUREMENTS, NAMES, levels, measure
from medlat.phantoms.histology.source import HistologyPhantom, render


def column(table: np.ndarray, name: str) -> np.ndarray:
    return table[:, NAMES.index(name)]


def discs(diameter_um: float, apart_um: float, size: int = 64, mpp: float = 2.0, glass: float = 0.0) -> np.ndarray:
    """Discs of haematoxylin 0.8 on eosin 0.25 on a square lattice, drawn 8 x finer; the left share is glass."""
    fine = (np.arange(size * 8) + 0.5) * mpp / 8
    offset = (fine % apart_um) - apart_um / 2
    inside = offset[:, None] ** 2 + offset**2 < (diameter_um / 2) ** 2
    inside = inside.reshape(size, 8, size, 8).mean((1, 3))
    concentrations = np.stack([0.1 + 0.7 * inside, 0.25 * (1 - inside), 0 * inside], axis=-1)
    concentrations[:, : round(glass * size)] = 0.0
    return stained(concentrations)


@pytest.mark.parametrize(("size", "mpp"), [(64, 2.0), (128, 1.0), (256, 0.5)])
@pytest.mark.parametrize(("diameter", "apart"), [(8.0, 16.0), (10.0, 16.0), (8.0, 12.8)])
def test_discs_on_a_lattice(size: int, mpp: float, diameter: float, apart: float):
    result = measure(discs(diameter, apart, size, mpp)[None], mpp / 1000)
    assert column(result, "nuclear_density")[0] == pytest.approx(1e6 / apart**2, rel=0.06)
    assert column(result, "nuclear_size")[0] == pytest.approx(diameter, rel=0.08)
    assert column(result, "nuclear_fraction")[0] == pytest.approx(np.pi * diameter**2 / 4 / apart**2, rel=0.16)
    assert column(result, "haematoxylin")[0] == pytest.approx(0.8, abs=0.08)
    assert column(result, "eosin")[0] == pytest.approx(0.25, abs=0.02)
    assert column(result, "tissue")[0] == 1.0


def test_glass_is_no_tissue_and_does_not_dilute():
    whole, half = (measure(discs(8.0, 16.0, glass=share)[None], 0.002) for share in (0.0, 0.5))
    assert column(half, "tissue")[0] == pytest.approx(0.5, abs=0.03)
    for name in ("nuclear_density", "nuclear_size", "nuclear_fraction", "haematoxylin", "eosin"):
        assert column(half, name)[0] == pytest.approx(column(whole, name)[0], rel=0.1), name


def test_plain_eosin_has_no_nuclei():
    tile = stained(np.broadcast_to([0.05, 0.3, 0.0], (1, 64, 64, 3)))
    tile = tile + np.random.default_rng(0).normal(0, 2.0, tile.shape)
    result = dict(zip(NAMES, measure(tile, 0.002)[0], strict=True))
    assert (result["nuclear_density"], result["nuclear_fraction"]) == (0.0, 0.0)
    assert np.isnan([result[name] for name in ("nuclear_size", "haematoxylin", "stroma")]).all()
    assert result["eosin"] == pytest.approx(0.3, abs=0.01)
    assert result["tissue"] == 1.0


def of_stains(images: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Each channel's optical density times what is given: [N, H, W, 3] from 0 to 255."""
    return 255.0 * (np.maximum(images, 1.0) / 255.0) ** change


def turned(images: np.ndarray, degrees: float) -> np.ndarray:
    """Another hue, saturation and value as they are."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(np.clip(images, 0, 255) / 255.0)
    hsv[..., 0] = (hsv[..., 0] + degrees / 360.0) % 1.0
    return 255.0 * hsv_to_rgb(hsv)


OF_NUCLEI = ["nuclear_density", "nuclear_size", "nuclear_fraction", "haematoxylin", "stroma"]


@pytest.mark.parametrize(
    "recolour",
    [
        pytest.param(lambda x: turned(x, 120.0), id="green"),
        pytest.param(lambda x: turned(x, 180.0), id="complementary"),
        pytest.param(lambda x: np.repeat(x.mean(3, keepdims=True), 3, axis=3), id="grey"),
        pytest.param(lambda x: of_stains(x, np.array(0.25)), id="pale"),
        pytest.param(lambda x: of_stains(x, np.array([0.2, 1.0, 1.0])), id="no red taken away"),
    ],
)
def test_nuclei_that_cannot_be_told_by_their_colour_are_absent_and_not_none(recolour):
    tiles = np.stack([render({"nuclear_density": 3000.0, "stroma": 0.1}, 128, 1.0, s).rgb for s in range(8)])
    plain, changed = measure(tiles, 0.001), measure(recolour(tiles), 0.001)
    for name in OF_NUCLEI:
        assert np.isfinite(column(plain, name)).all(), name
        assert np.isnan(column(changed, name)).all(), name


@pytest.mark.parametrize("change", [np.array(2.0), np.array([1.0, 1.0, 0.5]), np.array([1.3, 1.0, 0.8])])
def test_a_stronger_or_bluer_stain_shows_the_same_nuclei(change: np.ndarray):
    tiles = np.stack([render({"nuclear_density": 3000.0, "stroma": 0.1}, 128, 1.0, s).rgb for s in range(8)])
    plain, changed = measure(tiles, 0.001), measure(of_stains(tiles, change), 0.001)
    for name, tolerance in {"nuclear_density": 0.05, "nuclear_size": 0.03, "nuclear_fraction": 0.02}.items():
        np.testing.assert_allclose(column(changed, name), column(plain, name), rtol=tolerance)


def test_tissue_without_nuclei_has_none():
    tiles = np.stack([render({"nuclear_density": 0.0, "stroma": 0.2}, 128, 1.0, seed).rgb for seed in range(8)])
    result = measure(tiles, 0.001)
    assert not column(result, "nuclear_density").any()
    assert not column(result, "nuclear_fraction").any()
    assert np.isfinite(column(result, "eosin")).all()


NOTHING = {
    "glass": np.full((64, 64, 3), 245.0),
    "white": np.full((64, 64, 3), 255.0),
    "not finite": np.full((64, 64, 3), np.nan),
    "infinite": np.full((64, 64, 3), np.inf),
}


@pytest.mark.parametrize("name", NOTHING)
def test_images_without_tissue_are_nan_without_warning(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = measure(NOTHING[name][None], 0.002)
    assert np.isnan(result[:, :-1]).all()
    assert column(result, "tissue")[0] == 0.0


@pytest.mark.parametrize("spacing", [0.0001, 0.002, 1.0])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 64), (33, 20)])
def test_any_size_of_image_is_answered(height: int, width: int, spacing: float):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noise = np.random.default_rng(0).uniform(0, 255, (3, height, width, 3))
        assert measure(noise, spacing).shape == (3, len(MEASUREMENTS))
        assert measure(noise[:0], spacing).shape == (0, len(MEASUREMENTS))
        black = measure(np.zeros((1, height, width, 3)), spacing)
        assert np.isnan(black[:, :-1]).all()  # no stain is black


def test_an_image_is_measured_alike_in_any_company():
    stack = np.stack([render({}, 64, 2.0, seed).rgb for seed in range(34)] + list(NOTHING.values()))
    alone = np.concatenate([measure(image[None], 0.002) for image in stack])
    np.testing.assert_allclose(measure(stack, 0.002), alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "spacing", "message"),
    [
        (np.zeros((2, 64, 64)), 0.002, r"\[2, 64, 64\], expected \[N, H, W, 3\]"),
        (np.zeros((1, 3, 8, 8)), 0.002, r"\[1, 3, 8, 8\]"),
        (np.zeros((1, 8, 8, 3)), 0.0, "spacing_mm: 0.0"),
    ],
)
def test_bad_arguments(images: np.ndarray, spacing: float, message: str):
    with pytest.raises(UserError, match=message):
        measure(images, spacing)


def test_levels_of_two_values_are_these_however_few_are_dark():
    values = np.full((2, 10, 100), 0.2, np.float32)
    values[0, 0, :40], values[1, :6] = 0.9, 0.9
    values[:, 9] = 7.0
    mask = np.ones(values.shape, bool)
    mask[:, 9] = False
    between, inside = levels(values, mask)
    np.testing.assert_allclose(between, 0.2, atol=1e-6)
    np.testing.assert_allclose(inside, 0.9, atol=1e-6)
    same = levels(np.full((1, 5, 5), 0.3, np.float32), np.ones((1, 5, 5), bool))
    np.testing.assert_allclose(same, 0.3, atol=1e-6)
    assert levels(values, np.zeros_like(mask))[0].tolist() == [0.0, 0.0]


class Truth(NamedTuple):
    images: np.ndarray  # [N, 128, 128, 3]
    factors: dict[str, np.ndarray]
    tumour: np.ndarray


@pytest.fixture(scope="module")
def phantom() -> Truth:
    source = HistologyPhantom(40, 6, 128, seed=5)
    chunks = source.scan(lambda function, items, _: map(function, items)).chunks
    images = [one.pixels for chunk in chunks for one in source.read(chunk) if isinstance(one, Slice)]
    columns = {name: np.concatenate([chunk.columns[name] for chunk in chunks]) for name in chunks[0].columns}
    factors = {name.removeprefix("factor."): values for name, values in columns.items() if "factor." in name}
    return Truth(np.stack(images), factors, columns["label.tumour"].astype(bool))


def halved(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), 64, 2, 64, 2, 3).mean((2, 4))


def r_squared(a: np.ndarray, b: np.ndarray) -> float:
    assert np.isfinite(a).all()
    return float(np.corrcoef(a, b)[0, 1] ** 2)


LEAST = {"nuclear_density": 0.9, "nuclear_size": 0.92, "haematoxylin": 0.95, "eosin": 0.97, "stroma": 0.92}


def test_measurements_read_the_phantom(phantom: Truth, capsys: pytest.CaptureFixture):
    by_size = {64: measure(halved(phantom.images), 0.002), 128: measure(phantom.images, 0.001)}
    rows = []
    for size, result in by_size.items():
        for measurement in MEASUREMENTS:
            if measurement.factor is not None:
                truth, values = phantom.factors[measurement.factor], column(result, measurement.name)
                bias = float((values - truth).mean() / truth.std())
                rows.append((size, measurement.name, r_squared(values, truth), bias, np.polyfit(truth, values, 1)[0]))
    with capsys.disabled():
        print()
        for size, name, r2, bias, slope in rows:
            print(f"  {size:4d}² {name:16s} R² {r2:.3f}  bias {bias:+.2f} sd  slope {slope:.2f}")
    for size, name, r2, bias, slope in rows:
        assert r2 >= LEAST[name], (size, name)
        assert abs(bias) < 0.3, (size, name)
        assert 0.65 < slope < 1.15, (size, name)


@pytest.mark.parametrize("name", ["nuclear_density", "nuclear_size"])
def test_nuclei_are_read_within_either_class(phantom: Truth, name: str):
    """Density and size go together over the classes: within one it shows whether each is read by itself."""
    result = measure(halved(phantom.images), 0.002)
    for where in (phantom.tumour, ~phantom.tumour):
        assert r_squared(column(result, name)[where], phantom.factors[name][where]) > 0.75


def test_measurements_tell_the_label_of_new_patients(phantom: Truth):
    """A straight line through density and size, fitted on 20 patients, ranks the tiles of 20 others."""
    result = measure(halved(phantom.images), 0.002)
    features = np.stack([column(result, "nuclear_density") / 1e3, column(result, "nuclear_size"), np.ones(240)], axis=1)
    weights = np.linalg.lstsq(features[:120], phantom.tumour[:120].astype(float), rcond=None)[0]
    score, tumour = features[120:] @ weights, phantom.tumour[120:]
    auc = (score[tumour][:, None] > score[~tumour]).mean()
    assert 0.97 < auc < 1.0  # some tiles cannot be told


def test_blur_changes_little(phantom: Truth):
    """Samples of an autoencoder are blurred: a Gaussian of 0.6 of a pixel of 2 µm."""
    result = measure(ndimage.gaussian_filter(halved(phantom.images), (0, 0.6, 0.6, 0)), 0.002)
    least = {"nuclear_density": 0.9, "nuclear_size": 0.88, "haematoxylin": 0.82, "eosin": 0.97, "stroma": 0.88}
    for name, value in least.items():
        assert r_squared(column(result, name), phantom.factors[name]) > value, name


def test_finer_pixels_give_the_same_numbers():
    tiles = {mpp: np.stack([render({}, round(128 / mpp), mpp, s).rgb for s in range(6)]) for mpp in (0.5, 1.0, 2.0)}
    fine, middle, coarse = (measure(images, mpp / 1000).mean(0) for mpp, images in tiles.items())
    allowed = {"nuclear_density": 0.12, "nuclear_size": 0.08, "haematoxylin": 0.06, "eosin": 0.03, "stroma": 0.15}
    for name, tolerance in allowed.items():
        index = NAMES.index(name)
        assert fine[index] == pytest.approx(middle[index], rel=tolerance), name
        assert coarse[index] == pytest.approx(middle[index], rel=tolerance), name


def test_real_tiles_of_tumour_have_more_and_larger_nuclei(real_data: Path):
    folder = real_data / "histology_lc25000"
    with open(folder / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    results = {}
    for label in ("normal", "adenocarcinoma"):
        paths = [row["path"] for row in rows if row["label"] == label][::20]
        images = []
        for path in paths:
            with Image.open(folder / path) as file:
                images.append(np.asarray(file.convert("RGB"), np.float32))
        results[label] = measure(np.stack(images), 0.0005)
        assert np.isfinite(results[label]).mean() > 0.94, "in some the colours do not tell nuclei"
    normal, tumour = (np.nanmedian(result, axis=0) for result in results.values())
    for name, a, b in zip(NAMES, normal, tumour, strict=True):
        print(f"  {name:18s} normal {a:8.3f}  tumour {b:8.3f}")
    for name, ratio in (("nuclear_density", 1.3), ("nuclear_size", 1.2), ("nuclear_fraction", 2.0), ("tissue", 1.1)):
        assert tumour[NAMES.index(name)] > ratio * normal[NAMES.index(name)], name
    assert 1000 < normal[NAMES.index("nuclear_density")] < 6000
    assert 4 < normal[NAMES.index("nuclear_size")] < 9
