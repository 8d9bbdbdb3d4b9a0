"""Synthetic images as DICOM: pixels come back in their unit, every frame says what it is, and no byte says of whom."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from exporting.opened import SPEC, opened
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)

from medlat.core.errors import UserError
from medlat.core.spaces import Directions
from medlat.core.tables import write_table
from medlat.data.modality import CT, HISTOLOGY, RADIOGRAPH
from medlat.exporting.dicom import NARROWEST, write_dicom
from medlat.generators.vae.networks import VAE
from medlat.report.rendering import Look
from medlat.study.run_directions import Methods

KINDS = {
    "ct": (CT, (-1000.0, 500.0), 1, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
    "radiograph": (RADIOGRAPH, (0.0, 255.0), 1, MultiFrameGrayscaleByteSecondaryCaptureImageStorage),
    "tile": (HISTOLOGY, (0.0, 255.0), 3, MultiFrameTrueColorSecondaryCaptureImageStorage),
}
STEPS = [-2.0, -1.5, 0.0, 2.0]
SECRET = "Zq7XkPlanted"
KNOWN = ("0x0008,0x001c", "(0008,001c)")  # Synthetic Data, which is younger than the validator's dictionary


@pytest.fixture(params=KINDS)
def explained(request, tmp_path, rng):
    """A run of two images, of which the first reaches its counterfactual; and what series.npz holds."""
    modality, window, channels, _ = KINDS[request.param]
    low, high = modality.intensity_range
    spec = replace(SPEC, channels=channels, low=low, high=high, unit=modality.unit, spacing_mm=0.7)
    run = opened(VAE(spec, 6, 8), classifier=lambda images: images)
    sides = (32, 32, 3) if channels == 3 else (32, 32)
    series = {
        "images": rng.uniform(low, high, (2, len(STEPS), *sides)).astype(np.float32),
        "steps": np.array(STEPS),
        "predictions": np.array([[0.1, 0.2, 0.3, 0.9], [0.1, 0.1, 0.1, 0.2]], np.float32),
        "counterfactual": rng.uniform(low, high, (2, *sides)).astype(np.float32),
        "counterfactual_step": np.array([1.25, 2.0]),
        "counterfactual_prediction": np.array([0.5, 0.2], np.float32),
        "reached": np.array([True, False]),
    }
    return at(run, tmp_path / SECRET, Look(modality, window), series), series, request.param


def at(run, folder, look, series=None):
    """The run with directions, and what its explanation and semantics left in a folder."""
    folder.mkdir()
    vectors = run.generator.sample(2)
    found = Directions.ranked(vectors, vectors[:, 0], "linear", run.space)
    run.folder, run.look, run.directions = folder, look, Methods({"linear": found}, {"linear": "main"})
    run.context = type("Context", (), {"folder": staticmethod(lambda step: folder)})
    (folder / "question.json").write_text(json.dumps({"target": "tumour\\grade"}))
    write_table(folder / "followed.csv", [{"direction": "linear 00", "range": 2.0}])
    if series is not None:
        np.savez(folder / "series.npz", **series)
    return run


def test_pixels_come_back_in_their_unit(explained, tmp_path):
    run, series, kind = explained
    write_dicom(run, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.dcm")) == ["01.dcm", "02.dcm"]
    wanted = [np.concatenate([series["images"][0], series["counterfactual"][:1]]), series["images"][1]]
    for path, images in zip(sorted(tmp_path.glob("*.dcm")), wanted, strict=True):
        file = pydicom.dcmread(path)
        assert file.SOPClassUID == KINDS[kind][3]
        pixels = file.pixel_array[:, :64:2, ::2].astype(np.float64)
        if kind == "ct":
            pixels = pixels * float(file.RescaleSlope) + float(file.RescaleIntercept)
        assert np.abs(pixels - images).max() <= (0.024 if kind == "ct" else 0.5), "half a stored value"
        assert (file.pixel_array[:, 1:64:2, 1::2] == file.pixel_array[:, :64:2, ::2]).all(), "enlarged twice"
        assert list(map(float, file.PixelSpacing)) == [0.35, 0.35]
    first, second = (pydicom.dcmread(path) for path in sorted(tmp_path.glob("*.dcm")))
    assert list(first.FrameLabelVector) == ["-2 SD", "-1.5 SD", "0 SD", "+2 SD", "CF +1.25 SD"]
    assert list(second.FrameLabelVector) == ["-2 SD", "-1.5 SD", "0 SD", "+2 SD"]
    assert first.DerivationDescription.endswith("Predictions of tumour\\grade: 0.1, 0.2, 0.3, 0.9, 0.5.")
    assert "did not change as asked: there is no counterfactual." in second.DerivationDescription
    assert first.SeriesDescription == "Counterfactual of tumour/grade"


def test_every_frame_says_that_it_is_synthetic(explained, tmp_path):
    run, _, kind = explained
    write_dicom(run, tmp_path)
    file = pydicom.dcmread(tmp_path / "01.dcm")
    strips = file.pixel_array[:, NARROWEST:]
    assert strips.shape[1] >= 10
    assert (strips == strips[:1]).all()
    black, white = strips.min(), strips.max()
    assert set(np.unique(strips)) == {black, white}
    assert 0.05 < (strips == white).mean() < 0.4, "letters"
    if kind == "ct":
        shown = [value * float(file.RescaleSlope) + float(file.RescaleIntercept) for value in (black, white)]
        assert shown == pytest.approx([-1000.0, 500.0], abs=0.03), "black and white in the window that is shown"
    assert (file.PatientName, file.BurnedInAnnotation, file.SyntheticData) == ("SYNTHETIC", "YES", "YES")
    assert list(file.ImageType) == ["DERIVED", "SECONDARY"]
    assert file.ConversionType == "SYN"
    assert file.DerivationDescription.startswith("SYNTHETIC: drawn by a generator (VAE, run made, medlat ")
    assert "Phantom data: " in file.DerivationDescription


def test_identities_are_new_each_time(explained, tmp_path):
    run, _, _ = explained
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_dicom(run, tmp_path / name)
    files = [pydicom.dcmread(path) for path in sorted(tmp_path.glob("o*/*.dcm"))]
    for keyword, count in {"SOPInstanceUID": 4, "SeriesInstanceUID": 4, "StudyInstanceUID": 2, "PatientID": 2}.items():
        assert len({file[keyword].value for file in files}) == count
        assert keyword == "PatientID" or all(file[keyword].value.startswith("2.25.") for file in files)
    for path in tmp_path.glob("o*/*.dcm"):
        assert SECRET.encode() not in path.read_bytes()


def test_named_directions_of_a_run_without_classifier(tmp_path, rng):
    run = at(opened(VAE(SPEC, 6, 8)), tmp_path / "run", Look(CT, (-1000.0, 500.0)))
    images = rng.uniform(-1000.0, 2000.0, (2, 3, 32, 32)).astype(np.float32)
    np.savez(run.folder / "traversal.npz", images=images, steps=[-1.0, 0.0, 1.0])
    rows = [{"method": "linear", "direction": "linear 00", "name": "unnamed"}]
    run.table = lambda name: rows
    with pytest.raises(UserError, match="no direction of linear has a name: there is nothing to export"):
        write_dicom(run, tmp_path)
    rows += [
        {"method": "linear", "direction": "linear 01", "name": "body width"},
        {"method": "random", "direction": "random 00", "name": "body width"},
    ]
    write_dicom(run, tmp_path)
    (path,) = tmp_path.glob("*.dcm")
    file = pydicom.dcmread(path)
    values = file.pixel_array[:, :64:2, ::2] * float(file.RescaleSlope) + float(file.RescaleIntercept)
    assert np.abs(values - images[1]).max() < 0.024
    assert file.SeriesDescription == "body width"
    assert list(file.FrameLabelVector) == ["-1 SD", "0 SD", "+1 SD"]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_an_independent_validator_finds_no_error(explained, tmp_path):
    write_dicom(explained[0], tmp_path)
    for path in tmp_path.glob("*.dcm"):
        told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        lines = (told.stdout + told.stderr).splitlines()
        assert any("SCImage" in line for line in lines), "it has recognised what it is"
        assert [line for line in lines if line.startswith("Error") and not any(tag in line for tag in KNOWN)] == []
