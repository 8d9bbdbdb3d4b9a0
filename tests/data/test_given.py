"""Images that are named one by one come out as they stand in the run's store, whatever the run's source."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import nibabel
import numpy as np
import pytest
from data.test_slides import picture, write
from omegaconf import OmegaConf
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.given import MOST, Given, Prepared, prepare_given
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom
from medlat.phantoms.histology.export import write_tiles
from medlat.phantoms.histology.source import HistologyPhantom
from medlat.steps import builders

KINDS = {
    "dicom": "medlat.data.ct.dicom.CTDicom",
    "lidc": "medlat.data.ct.lidc.LIDC",
    "volumes": "medlat.data.ct.volumes.CTVolumes",
    "pictures": "medlat.data.pictures.image_folder.ImageFolder",
    "slides": "medlat.data.histology.slides.Slides",
    "medmnist": "medlat.data.pictures.medmnist.MedMNIST",
    "ct_phantom": "medlat.phantoms.ct.source.CTPhantom",
    "tiles_phantom": "medlat.phantoms.histology.source.HistologyPhantom",
}
SIZE = 16


class Made:
    """A store as a run leaves it, and what reads the same images one by one when the run's own files are gone."""

    def __init__(self, folder: Path, kind: str, field: float | None = None, **settings):
        section = {"_target_": KINDS[kind], **settings}
        self.config, self.field = OmegaConf.create({"data": {"source": section, "group": None}}), field
        folder.mkdir()
        prepare(builders.source(self.config), Preparation(SIZE, field, 0.5, "salt", 1), folder)
        self.store = ImageStore.open(folder)

    def read(self, *names: Path | str) -> Prepared:
        source_of = partial(builders.source_of, self.config, modality=self.store.modality)
        return prepare_given([Given.of(str(name)) for name in names], source_of, self.store, self.field)

    def refuses(self, *names: Path | str) -> str:
        with pytest.raises(UserError) as error:
            self.read(*names)
        return str(error.value)

    def all_are_read(self, found: Prepared) -> None:
        """All images of the store are among those found, bit for bit."""
        stored = self.store.images[np.arange(len(self.store))]
        assert found.images.dtype == stored.dtype
        assert sorted(image.tobytes() for image in found.images) == sorted(image.tobytes() for image in stored)


def tiles(folder: Path, count: int = 4) -> list[Path]:
    """Coloured pictures of any size with a CSV of labels."""
    rng = np.random.default_rng(0)
    paths = [
        folder / f"{name}.{suffix}" for name, suffix in zip("abcdefghijkl", ["png", "tif", "bmp"] * 4, strict=True)
    ]
    folder.mkdir(parents=True)
    for path in paths[:count]:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    rows = [f"{path.name},{i % 2},p{i}" for i, path in enumerate(paths[:count])]
    (folder / "labels.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")
    return paths[:count]


@pytest.mark.parametrize("kind", ["dicom", "lidc"])
def test_slices_in_dicom(tmp_path, kind):
    files = write_dicom_series(tmp_path / "data", CTPhantom(2, 3, 32))
    made = Made(tmp_path / "store", kind, 400.0, root=str(tmp_path / "data"), exclude="*0003*")
    made.all_are_read(made.read(*[path for path in files if path.name != "0003.dcm"]))
    assert len(made.read(*files).images) == 6, "a pattern chose among the run's files, and not among these"
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    found = made.read(tmp_path / "elsewhere")
    assert len(found.images) == 6, "a folder, and the run's own is gone"
    assert all(name.startswith(str(tmp_path / "elsewhere")) for name in found.names)


def test_a_phantom_reads_what_it_is_exported_to(tmp_path):
    source = CTPhantom(2, 3, 32)
    made = Made(tmp_path / "store", "ct_phantom", 400.0, patients=2, slices_per_patient=3, size=32)
    found = made.read(*write_dicom_series(tmp_path / "data", source))
    stored = made.store.images[np.arange(6)].astype(np.float32)
    order = made.store.columns["position_mm"].argsort()
    assert len(found.images) == len(order)
    same = [min(np.abs(image.astype(np.float32) - one).max() for one in stored) for image in found.images]
    assert max(same) <= 1.0, "HU, which DICOM rounds to whole ones"
    write_tiles(tmp_path / "tiles", HistologyPhantom(2, 2, 32))
    made = Made(tmp_path / "store2", "tiles_phantom", patients=2, slices_per_patient=2, size=32)
    found = made.read(*sorted((tmp_path / "tiles").rglob("*.png")))
    stored = made.store.images[np.arange(4)].astype(int)
    same = [min(np.abs(image.astype(int) - one).max() for one in stored) for image in found.images]
    assert max(same) <= 1, "levels, which pictures round to whole ones"


def test_a_slice_of_a_volume(tmp_path):
    values = (np.random.default_rng(0).integers(-1000, 1000, (20, 18, 5))).astype(np.int16)
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "p@1.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0])), file)
    made = Made(tmp_path / "store", "volumes", 36.0, root=str(tmp_path / "data"), intercept=-10.0)
    made.all_are_read(made.read(*(f"{file}@{k}" for k in range(5))))
    assert np.array_equal(made.read(f"{file}@3").images[0], made.store.images[np.array([3])][0])
    made.all_are_read(made.read(tmp_path / "data"))
    assert made.refuses(file) == f"{file}: it holds 5 slices; expected one of them, {file}@0 (at the feet) to {file}@4"
    assert made.refuses(f"{file}@5") == f"{file}@5: it holds 5 slices; expected @0 to @4"
    assert "expected @0 to @4" in made.refuses(f"{file}@1,2")
    labels = tmp_path / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image((values > 0).astype(np.int16), np.eye(4)), labels)
    assert made.refuses(f"{labels}@0").endswith("a label map, not an image")


def test_pictures_whatever_the_table_says(tmp_path):
    paths = tiles(tmp_path / "data", 6)
    made = Made(tmp_path / "store", "pictures", root=str(tmp_path / "data"))
    made.all_are_read(made.read(*paths))
    found = made.read(paths[2], paths[0])
    assert [Path(name) for name in found.names] == [paths[2], paths[0]], "in the order given"
    assert made.refuses(f"{paths[0]}@0,1") == f"{paths[0]}@0,1: it holds 1 slice; expected the file alone, without @"


def test_radiographs_are_turned_as_the_others_were(tmp_path):
    (tmp_path / "data").mkdir()
    rng, files = np.random.default_rng(0), []
    across = np.linspace(0, 4 * np.pi, 32)
    bones = 128 + 90 * np.outer(np.sin(across), np.cos(across))
    for i in range(30):
        shown = np.clip(bones + rng.normal(0, 8, bones.shape), 1, 254).astype(np.uint8)
        files.append(tmp_path / "data" / f"{i:02d}.png")
        Image.fromarray(255 - shown if i % 10 == 3 else shown).save(files[-1])
    settings = {"root": str(tmp_path / "data"), "labels": None, "colour": False, "group_column": None}
    mended = Made(tmp_path / "mended", "pictures", polarity="mended", **settings)
    mended.all_are_read(mended.read(*files))
    assert mended.read(files[3], files[4]).notes == [("negative, turned about",), ()]
    checked = Made(tmp_path / "checked", "pictures", polarity="checked", **settings)
    checked.all_are_read(checked.read(*files))
    assert checked.read(files[3], files[4]).notes == [("negative",), ()]


def test_twelve_bits_alone_are_as_black_as_among_others(tmp_path):
    (tmp_path / "data").mkdir()
    ramp = np.arange(400, dtype=np.uint16).reshape(20, 20)
    for i, top in enumerate((4095, 60000, 65535)):
        Image.fromarray((ramp.astype(np.uint32) * top // 399).astype(np.uint16)).save(tmp_path / "data" / f"{i}.png")
    made = Made(tmp_path / "store", "pictures", root=str(tmp_path / "data"), labels=None, colour=False)
    made.all_are_read(made.read(*sorted((tmp_path / "data").iterdir())))
    assert made.read(tmp_path / "data" / "0.png").images.max() <= 16, "no range of its own"


def test_a_tile_by_its_place_on_the_slide(tmp_path):
    slide = write(tmp_path / "data" / "a.tif", picture(), 0.5)
    made = Made(tmp_path / "store", "slides", root=str(tmp_path / "data"), mpp=1.0, tile_px=64)
    places = [f"{slide}@{x},{y}" for y in range(256, 768, 128) for x in range(256, 768, 128)]
    made.all_are_read(made.read(*places))
    assert f"expected a place on the slide, {slide}@X,Y" in made.refuses(slide)
    beyond = made.refuses(f"{slide}@900,0")
    assert beyond.endswith("a tile of 128 pixels at 900,0 does not lie on the slide; expected up to 896,896")
    assert "no slide that OpenSlide can read" in made.refuses(f"{tiles(tmp_path / 'tiles', 1)[0]}@0,0")


def test_pictures_for_a_file_of_small_images(tmp_path):
    rng = np.random.default_rng(0)
    parts = {"train": 4, "val": 1, "test": 2}
    arrays = {f"{part}_images": rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for part, n in parts.items()}
    arrays |= {f"{part}_labels": np.arange(n)[:, None] % 2 for part, n in parts.items()}
    np.savez(tmp_path / "small.npz", **arrays)
    made = Made(tmp_path / "store", "medmnist", path=str(tmp_path / "small.npz"))
    (tmp_path / "small.npz").unlink()
    files = []
    for part in parts:
        for i, image in enumerate(arrays[f"{part}_images"]):
            files.append(tmp_path / f"{part}{i}.png")
            Image.fromarray(image).save(files[-1])
    made.all_are_read(made.read(*files))


def test_what_cannot_be_read_is_refused_alone_and_counted_in_a_folder(tmp_path):
    paths = tiles(tmp_path / "data", 10)
    made = Made(tmp_path / "store", "pictures", root=str(tmp_path / "data"))
    paths[4].write_bytes(b"\x89PNG no picture")
    found = made.read(tmp_path / "data")
    assert len(found.images) == 9
    assert found.left_out.total() == 2, "it and the CSV"
    assert found.lost == [str(paths[4])]
    assert made.refuses(paths[4]).startswith(f"{paths[4]}: ")
    assert "no such file; did you mean" in made.refuses(tmp_path / "data" / "a.pgn")
    slices = write_dicom_series(tmp_path / "ct", CTPhantom(1, 2, 32))
    assert "no such file" in made.refuses("")
    (tmp_path / "empty").mkdir()
    assert "no picture (PNG, JPEG, TIFF, BMP, DICOM), which the run reads" in made.refuses(tmp_path / "empty")
    dicom = Made(tmp_path / "store2", "dicom", 400.0, root=str(tmp_path / "ct"))
    assert "no axial CT slice (DICOM), which the run reads" in dicom.refuses(paths[0])
    assert len(dicom.read(*slices).images) == 2
    assert f"more than {MOST} images" in made.refuses(*[paths[0]] * (MOST + 1))


class Without:
    """A source that reads no single files."""


def test_a_source_that_reads_no_single_files_is_named(tmp_path):
    paths = tiles(tmp_path / "data")
    made = Made(tmp_path / "store", "pictures", root=str(tmp_path / "data"))
    made.config.data.source._target_ = f"{__name__}.Without"
    assert made.refuses(paths[0]).startswith("data.source: Without has no `of_files`")


def test_threads_that_read_at_once_leave_the_log_as_it_was(tmp_path):
    """The second begins while the first reads, and ends after it."""
    paths = tiles(tmp_path / "tiles", 2)
    made = Made(tmp_path / "store", "pictures", root=str(tmp_path / "tiles"))
    second_reads, first_is_done = Event(), Event()

    def read(number: int) -> int:
        def source_of(named):
            second_reads.set() if number else second_reads.wait(0.3)
            first_is_done.wait(0.3) if number else None
            return builders.source_of(made.config, named, modality=made.store.modality)

        images = prepare_given([Given.of(str(paths[number]))], source_of, made.store, made.field).images
        first_is_done.set()
        return len(images)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(read, range(2))) == [1, 1]
    assert logging.root.manager.disable == logging.NOTSET


def test_real_images_of_every_kind(real_data, tmp_path):
    """Real images, one by one; a real slide by the places of its tiles."""
    knees = tmp_path / "knees"
    knees.mkdir()
    for path in sorted((real_data / "knee_oa" / "images").iterdir())[:20]:
        shutil.copy(path, knees)
    slides = tmp_path / "slides"
    slides.mkdir()
    shutil.copy(real_data / "wsi" / "CMU-1-Small-Region.svs", slides)
    slices = sorted((real_data / "ct_lidc").rglob("*.dcm"))[:10]
    radiographs = {"root": str(knees), "labels": None, "colour": False, "polarity": "checked"}
    made = {
        "dicom": (Made(tmp_path / "a", "dicom", 400.0, root=str(real_data / "ct_lidc")), slices),
        "pictures": (Made(tmp_path / "b", "pictures", **radiographs), sorted(knees.iterdir())),
    }
    tiled = Made(tmp_path / "c", "slides", root=str(slides), tile_px=256)
    source = builders.source(tiled.config)
    chunks = source.scan(lambda function, items, _: map(function, items)).chunks
    made["slides"] = (tiled, [f"{tile.path}@{tile.x},{tile.y}" for chunk in chunks for tile in chunk.items])
    for kind, (own, files) in made.items():
        stored = {image.tobytes() for image in own.store.images[np.arange(len(own.store))]}
        assert len(files) >= 10, kind
        assert all(image.tobytes() in stored for image in own.read(*files).images), kind
