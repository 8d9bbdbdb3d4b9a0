"""The histology phantom: its columns, its tissue in numbers, and the files it is exported to."""

import csv
import pickle
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medlat.core.errors import UserError
from medlat.core.stains import stains
from medlat.data.modality import HISTOLOGY
from medlat.data.source import Chunk, Slice
from medlat.phantoms.histology.export import write_slide, write_tiles
from medlat.phantoms.histology.paint import smooth_noise
from medlat.phantoms.histology.source import BY_CLASS, FACTORS, NAMES, HistologyPhantom, render

AREA = 0.128**2  # mm² of a tile of 128 µm


def in_process(function, items, description):
    return map(function, items)


def chunks(source: HistologyPhantom) -> list[Chunk]:
    return source.scan(in_process).chunks


def tiles(source: HistologyPhantom, chunk: Chunk) -> list[np.ndarray]:
    return [one.pixels for one in source.read(pickle.loads(pickle.dumps(chunk))) if isinstance(one, Slice)]


def test_scan_has_a_chunk_per_patient_with_all_columns():
    source = HistologyPhantom(5, 8, 32, seed=1)
    scan = source.scan(in_process)
    assert source.expected() == sum(len(chunk.items) for chunk in scan.chunks) == 40
    assert len({chunk.patient for chunk in scan.chunks}) == 5
    assert scan.classes == {"tumour": ("normal", "tumour")}
    assert scan.units["nuclear_density"] == "1/mm²"
    names = {"position_mm", "label.tumour"} | {f"factor.{name}" for name in NAMES}
    for chunk in scan.chunks:
        assert set(chunk.columns) == names
        assert all(column.shape == (8,) and column.dtype == np.float64 for column in chunk.columns.values())
        assert not chunk.columns["position_mm"].any()
        assert chunk.columns["label.tumour"].sum() == 4


def test_single_tiles_and_odd_numbers_of_them_are_half_tumour():
    for each in (1, 3):
        labels = np.concatenate([c.columns["label.tumour"] for c in chunks(HistologyPhantom(300, each, 32))])
        assert labels.mean() == pytest.approx(0.5, abs=0.09)


def test_classes_draw_from_overlapping_ranges_and_the_rest_does_not_know_them():
    found = chunks(HistologyPhantom(200, 10, 128))
    table = {name: np.concatenate([chunk.columns[f"factor.{name}"] for chunk in found]) for name in NAMES}
    tumour = np.concatenate([chunk.columns["label.tumour"] for chunk in found]).astype(bool)
    for name, (normal_range, tumour_range) in BY_CLASS.items():
        step = 0.5 / AREA if name == "nuclear_density" else 0.0
        assert normal_range[0] < tumour_range[0] < normal_range[1] < tumour_range[1]
        for where, (low, high) in ((~tumour, normal_range), (tumour, tumour_range)):
            values = table[name][where]
            assert values.min() >= low - step
            assert values.max() <= high + step
            assert values.mean() == pytest.approx((low + high) / 2, rel=0.03)
    for name in ("haematoxylin", "eosin", "stroma"):
        assert abs(np.corrcoef(table[name], tumour)[0, 1]) < 0.07
    for name in ("haematoxylin", "eosin"):  # a patient's
        of_patients = table[name].reshape(200, 10)
        assert of_patients.std(1).mean() < 0.25 * of_patients.mean(1).std()


def test_tiles_depend_on_seed_patient_and_number_alone():
    first, again, other = (HistologyPhantom(2, 2, 48, seed=seed) for seed in (3, 3, 4))
    a = [tile for chunk in chunks(first) for tile in tiles(first, chunk)]
    b = [tile for chunk in reversed(chunks(again)) for tile in tiles(again, chunk)]
    c = [tile for chunk in chunks(other) for tile in tiles(other, chunk)]
    assert [x.tobytes() for x in a] == [x.tobytes() for x in (*b[2:], *b[:2])]
    assert all(x.tobytes() != y.tobytes() for x, y in zip(a, c, strict=True))
    more = HistologyPhantom(7, 2, 48, seed=3)
    assert tiles(more, chunks(more)[1])[0].tobytes() == a[2].tobytes()


def test_tile_is_float32_rgb_with_spacing():
    source = HistologyPhantom(1, 3, 40, mpp=0.5)
    assert source.modality is HISTOLOGY
    for one in source.read(chunks(source)[0]):
        assert isinstance(one, Slice)
        assert one.pixels.dtype == np.float32
        assert one.pixels.shape == (40, 40, 3)
        assert one.spacing_mm == (0.0005, 0.0005)
        assert 0 <= one.pixels.min() < one.pixels.max() <= 255
    assert source.fingerprint() == HistologyPhantom(9, 9, 99, seed=9).fingerprint()


@pytest.mark.parametrize("density", [1500.0, 3300.0, 5500.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_density_is_counted_on_the_map_of_nuclei(density: float, seed: int):
    nuclei = render({"nuclear_density": density, "nuclear_size": 8.0}, 256, 0.5, seed).nuclei
    count = len(np.unique(nuclei[nuclei > 0]))
    assert count / AREA == pytest.approx(density, abs=0.5 / AREA)
    assert nuclei.max() == count
    outside = len(np.unique(nuclei[nuclei < 0]))
    assert 0 < outside < 0.8 * count


@pytest.mark.parametrize("size", [6.0, 8.0, 11.0])
def test_size_is_measured_on_the_map_of_nuclei(size: float):
    nuclei = render({"nuclear_density": 2500.0, "nuclear_size": size}, 512, 0.5, seed=2).nuclei
    inner = set(np.unique(nuclei[5:-5, 5:-5]))
    border = set(np.unique(nuclei)) - (
        inner - set(np.unique(np.concatenate([nuclei[0], nuclei[-1], *nuclei.T[[0, -1]]])))
    )
    whole = [label for label in inner - border if label > 0]
    areas = np.array([(nuclei == label).sum() for label in whole]) * 0.5**2
    assert len(whole) > 100
    assert (2 * np.sqrt(areas / np.pi)).mean() == pytest.approx(size, rel=0.04)


def test_stains_are_those_asked_for():
    for factors in ({"haematoxylin": 0.55, "eosin": 0.3}, {"haematoxylin": 0.9, "eosin": 0.15}):
        tile = render(factors | {"nuclear_size": 9.0}, 256, 0.5, seed=1)
        found, nuclei = stains(tile.rgb), tile.nuclei != 0
        assert found[..., 0][nuclei].mean() == pytest.approx(factors["haematoxylin"], rel=0.06)
        assert found[..., 1][~nuclei].mean() == pytest.approx(factors["eosin"], rel=0.06)
        assert found[..., 0][~nuclei].mean() < 0.35 * factors["haematoxylin"]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_stroma_covers_its_share_and_takes_more_eosin(share: float):
    tile = render({"stroma": share}, 128)
    assert tile.stroma.mean() == pytest.approx(share, abs=1e-3)
    if share > 0:
        found, between = stains(tile.rgb), tile.nuclei == 0
        within, without = between & tile.stroma, between & ~tile.stroma
        assert found[..., 1][within].mean() > 1.1 * found[..., 1][without].mean()
        assert found[..., 0][within].mean() < 0.7 * found[..., 0][without].mean()


def test_one_seed_is_one_tissue_at_any_pixel():
    fine, coarse = render({}, 256, 0.5, seed=5), render({}, 128, 1.0, seed=5)
    averaged = fine.rgb.reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.corrcoef(averaged.ravel(), coarse.rgb.ravel())[0, 1] > 0.95
    assert fine.nuclei.max() == coarse.nuclei.max()


def test_no_nuclei_and_crowded_nuclei_are_painted():
    empty = render({"nuclear_density": 0.0}, 64)
    assert not empty.nuclei.any()
    crowded = render({"nuclear_density": 6000.0, "nuclear_size": 13.0}, 128)
    assert np.isfinite(crowded.rgb).all()
    assert 0.6 < (crowded.nuclei != 0).mean() < 1.0


def test_smooth_noise_has_unit_deviation_and_no_fine_structure():
    noise = np.stack([smooth_noise(np.random.default_rng(seed), 64, 1.0, 8.0) for seed in range(200)])
    assert noise.std() == pytest.approx(1.0, rel=0.05)
    np.testing.assert_allclose(noise.std(0), 1.0, atol=0.25)
    assert np.abs(np.diff(noise, axis=2)).mean() < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 64), "patients: 0, expected at least 1"),
        ((1, 0, 64), "slices_per_patient: 0"),
        ((1, 1, 8), "size: 8, expected at least 16"),
        ((1, 1, 64, 0.0), "mpp: 0.0, expected µm"),
        ((1, 1, 64, 20.0), "mpp: 20.0"),
    ],
)
def test_bad_arguments(arguments: tuple, message: str):
    with pytest.raises(UserError, match=message):
        HistologyPhantom(*arguments)


def test_unknown_factor_names_the_nearest():
    with pytest.raises(UserError, match="no factor 'nuclear_sise'; did you mean 'nuclear_size'"):
        render({"nuclear_sise": 1.0}, 64)


def test_factors_have_bounds_that_hold_the_classes():
    for factor in FACTORS:
        assert factor.low < factor.high
        if factor.name in BY_CLASS:
            assert (factor.low, factor.high) == (BY_CLASS[factor.name][0][0], BY_CLASS[factor.name][1][1])


def polygon(xml: Path, group: str) -> np.ndarray:
    found = ElementTree.parse(xml).getroot().findall(f"Annotations/Annotation[@PartOfGroup='{group}']")
    assert [one.get("Type") for one in found] == ["Polygon"]
    points = found[0].findall("Coordinates/Coordinate")
    assert [point.get("Order") for point in points] == [str(i) for i in range(len(points))]
    return np.array([[float(point.get("X")), float(point.get("Y"))] for point in points])


def test_slide_is_opened_by_openslide_with_its_size_and_pixels(tmp_path: Path):
    openslide = pytest.importorskip("openslide")
    pytest.importorskip("tifffile")
    source = HistologyPhantom(2, 6, 128, mpp=0.5, seed=3)
    tif, xml = write_slide(tmp_path / "slides", source, patient=1, grid=6)
    assert (tif.name, xml.name) == ("phantom-00001.tif", "phantom-00001.xml")
    with openslide.OpenSlide(tif) as slide:
        assert slide.level_dimensions == ((768, 768), (384, 384), (192, 192))
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5)
        levels = [
            np.asarray(slide.read_region((0, 0), i, size).convert("RGB"), np.float32)
            for i, size in enumerate(slide.level_dimensions)
        ]
    full = levels[0]
    assert np.abs(full.reshape(384, 2, 384, 2, 3).mean((1, 3)) - levels[1]).max() <= 1.01  # either was rounded
    assert full[:40, :40].mean() == pytest.approx(243.0, abs=0.5)
    chunk = chunks(source)[1]
    normal = tiles(source, chunk)[int(chunk.columns["label.tumour"].argmin())]
    cell = full[0:128, 0:128]  # the first of the mosaic, as far as there is tissue
    tissue = cell.min(2) < 200
    np.testing.assert_allclose(cell[tissue], normal[tissue], atol=0.51)


def test_tumour_is_where_the_outline_says(tmp_path: Path):
    pytest.importorskip("tifffile")
    from PIL import ImageDraw

    tif, xml = write_slide(tmp_path, HistologyPhantom(1, 12, 128, seed=1), grid=6)
    with Image.open(tif) as file:
        image = np.asarray(file.convert("RGB"), np.float32)
    masks = {}
    for group in ("Tumor", "Exclusion"):
        canvas = Image.new("1", image.shape[1::-1])
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in polygon(xml, group).tolist()], fill=1)
        masks[group] = np.asarray(canvas)
    tumour = masks["Tumor"] & ~masks["Exclusion"]
    assert 0.08 < tumour.mean() < 0.18
    assert (masks["Exclusion"] <= masks["Tumor"]).all()
    nuclei = stains(image)[..., 0] > 0.45
    normal = (image.min(2) < 225) & ~masks["Tumor"]
    assert nuclei[tumour].mean() > 1.8 * nuclei[normal].mean()
    assert ElementTree.parse(xml).getroot().tag == "ASAP_Annotations"
    groups = ElementTree.parse(xml).getroot().findall("AnnotationGroups/Group")
    assert [group.get("Name") for group in groups] == ["Tumor", "Exclusion"]


def test_slides_repeat_bit_for_bit(tmp_path: Path):
    pytest.importorskip("tifffile")
    source = HistologyPhantom(1, 4, 64)
    first, second = (write_slide(tmp_path / name, source, grid=4) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_slide_refuses_what_it_cannot_do(tmp_path: Path):
    with pytest.raises(UserError, match="patient: 2, expected 0 to 1"):
        write_slide(tmp_path, HistologyPhantom(2, 4, 32), patient=2)
    with pytest.raises(UserError, match="grid: 1, expected at least 2"):
        write_slide(tmp_path, HistologyPhantom(2, 4, 32), grid=1)
    with pytest.raises(UserError, match=r"slices_per_patient: 1, none of them (normal|tumour)"):
        write_slide(tmp_path, HistologyPhantom(2, 1, 32))
    assert not list(tmp_path.iterdir())


def test_tiles_are_written_with_labels_and_groups(tmp_path: Path):
    source = HistologyPhantom(2, 3, 32, seed=1)
    with open(write_tiles(tmp_path / "tiles", source), newline="") as file:
        rows = list(csv.DictReader(file))
    found = chunks(source)
    assert [row["group"] for row in rows] == ["phantom-00000"] * 3 + ["phantom-00001"] * 3
    labels = np.concatenate([chunk.columns["label.tumour"] for chunk in found])
    assert [row["label"] for row in rows] == ["tumour" if label else "normal" for label in labels]
    originals = [tile for chunk in found for tile in tiles(source, chunk)]
    for row, original in zip(rows, originals, strict=True):
        with Image.open(tmp_path / "tiles" / row["path"]) as file:
            np.testing.assert_allclose(np.asarray(file, np.float32), original, atol=0.51)
