"""`medlat explain`: a finished run, asked of images that it has not seen."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread
from runs import finish, once, start
from test_explanation_run import CHEAP, HISTOLOGY, TWO

import medlat
from medlat.explain_images import main
from medlat.export import main as export
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom
from medlat.phantoms.histology.export import write_tiles
from medlat.phantoms.histology.source import HistologyPhantom
from medlat.steps.inversion import load_codes

SECRET = "Zq7XkPlanted"
PHANTOM = HistologyPhantom(24, 4, 64)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """A folder of pictures of a phantom's tiles, with a CSV."""
    folder = tmp_path_factory.mktemp("tiles") / SECRET
    write_tiles(folder, PHANTOM)
    return folder


@pytest.fixture(scope="module")
def explaining(tmp_path_factory) -> Path:
    """A run on a folder of pictures that is gone, with a second classifier."""

    def make(folder: Path) -> None:
        write_tiles(folder / "data", PHANTOM)
        finish(start(folder, *HISTOLOGY, *CHEAP, *TWO, "data=image_folder", f"data.root={folder / 'data'}"))
        (folder / "data").rename(folder / "moved")

    return once("explaining", make, tmp_path_factory)


def facts(out: Path) -> dict:
    return json.loads((out / "explanation.json").read_text())


def explained_rows(run: medlat.study.finished.Run) -> np.ndarray:
    return load_codes(run.artifacts["inversion"])[1]["explained_rows"]


def test_held_out_images_are_explained_as_by_the_run_itself(explaining, tmp_path, capsys):
    run, out = medlat.load(explaining / "run"), tmp_path / "out"
    store = run.context.images
    files = sorted((explaining / "moved").rglob("*.png"))
    of_pixels = {run.read(str(path)).images[0].tobytes(): path for path in files}
    assert len(of_pixels) == len(files) == len(store)
    rows = explained_rows(run)
    named = [str(of_pixels[store.images[np.array([row])][0].tobytes()]) for row in rows]
    assert main([str(explaining / "run"), *named, "--out", str(out)]) == 0
    left = explaining / "store" / "explanation_by" / run.artifacts["explanation/linear"].key
    found, moved = facts(out), np.load(left / "counterfactuals.npz")
    inverted, predictions = np.load(left / "inversion.npz"), np.load(left / "predictions.npy")
    images = found["images"]
    assert [one["image"] for one in images] == [f"{i + 1:02d}" for i in range(len(rows))]
    assert [one["prediction"] for one in images] == pytest.approx(inverted["prediction_real"].tolist(), abs=1e-6)
    assert [one["inverted"] for one in images] == pytest.approx(inverted["prediction_decoded"].tolist(), abs=1e-6)
    assert [one["psnr"] for one in images] == pytest.approx(inverted["psnr"].tolist(), abs=1e-4)
    assert [one["counterfactual"]["step"] for one in images] == pytest.approx(moved["step"].tolist())
    assert [one["counterfactual"]["reached"] for one in images] == moved["reached"].tolist()
    ends = run.explain(store.fetch(rows, run.data.spec)).series["predictions"]
    assert np.abs(ends - predictions).max() < 1e-6
    assert all(len(both) == 2 for one in images for both in one["counterfactual"]["others"].values())
    assert all(one["counterfactual"]["others"] for one in images), "there is another classifier"
    assert found["question"]["target"] == "tumour"
    said = capsys.readouterr().out
    assert said.count("The classifier gives tumour a probability of") == len(rows)
    assert said.count("it is one of the run's own held-out images.") == len(rows)
    assert said.index(Path(named[0]).name) < said.index(Path(named[1]).name), "which is which, on a terminal alone"


def test_measurements_are_those_of_the_images(explaining):
    run = medlat.load(explaining / "run")
    rows = explained_rows(run)[:3]
    answer = run.explain(run.context.images.fetch(rows, run.data.spec))
    with np.load(run.artifacts["measurements"].path / "measurements.npz") as file:
        stored = file["test"][[list(run.data.split.test).index(row) for row in rows]]
    names = [row["measurement"] for row in run.table("semantics") if row["direction"] == "linear 00"]
    for image, values in zip(answer.moved, stored, strict=True):
        by_name = {row["measurement"]: row for row in image}
        known = dict(zip(names, values.tolist(), strict=False))
        assert {name: by_name[name]["image"] for name in by_name} == pytest.approx(known, rel=1e-4, nan_ok=True)
        changes = [abs(row["change_in_sd"]) for row in image if np.isfinite(row["change_in_sd"])]
        assert changes == sorted(changes, reverse=True)


def test_nothing_of_the_files_names_is_left(explaining, tiles, tmp_path):
    out = tmp_path / "out"
    assert main([str(explaining / "run"), str(tiles / "phantom-00000"), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *("01.png", "02.png", "03.png", "04.png"), "explanation.json", "index.html"
    ]  # fmt: skip
    for path in [*out.iterdir(), *(path for path in (explaining / "store" / "known").rglob("*") if path.is_file())]:
        assert SECRET.encode() not in path.read_bytes(), path
        assert b"phantom-0000" not in path.read_bytes(), path


def test_what_is_exported_as_dicom_is_what_the_page_shows_and_names_no_source(explaining, tmp_path):
    run = medlat.load(explaining / "run")
    assert export([str(explaining / "run"), str(tmp_path / "out"), "--dicom", "--despite-copies"]) == 0
    files = sorted((tmp_path / "out").iterdir())
    series = np.load(run.context.folder("explanation/linear") / "series.npz")
    assert len(files) == len(series["images"]) > 0
    store = run.context.images
    named = {path.name for path in (explaining / "moved").rglob("*")} | set(map(str, store.info["patients"]))
    for path, images in zip(files, series["images"], strict=True):
        content = path.read_bytes()
        assert not [name for name in named if len(name) > 3 and name.encode() in content]
        pixels = dcmread(path).pixel_array[: len(images), :64:2, ::2]
        assert np.abs(pixels - images).max() <= 0.5


def test_something_else_is_said_first(explaining, tiles, tmp_path, capsys):
    run = explaining / "run"
    tile = np.asarray(Image.open(sorted(tiles.rglob("*.png"))[0]))
    noise = np.random.default_rng(0).integers(0, 256, tile.shape, dtype=np.uint8)
    for name, pixels in {"negative": 255 - tile, "noise": noise, "black": np.zeros_like(tile)}.items():
        file = tmp_path / f"{name}.png"
        Image.fromarray(pixels).save(file)
        assert main([str(run), str(file), "--out", str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        assert re.match(rf"01 \S+{name}\.png: (Unlike anything this run has seen|Farther from)", said), said
        (one,) = facts(tmp_path / name)["images"]
        assert one["likeness"]["nearer"] == one["likeness"]["held_out"]
        assert one["unlike"] == (one["likeness"]["p"] <= 0.05)
        assert "the image is none that the run knows" in one["sentence"]
        page = (tmp_path / name / "index.html").read_text()
        assert re.search(r'<p class="verdict">(Unlike anything|Farther from)', page)


def test_a_run_without_a_classifier_shows_its_directions(finished, tmp_path):
    files = write_dicom_series(tmp_path / "data", CTPhantom(2, 2, 64, seed=7))
    out = tmp_path / "out"
    assert main([str(finished / "run"), *map(str, files), f"--out={out}"]) == 0
    found = facts(out)
    assert found["question"] is None
    assert all("prediction" not in one for one in found["images"])
    assert all({"image", "inverted", "measurement", "unit"} == set(row) for row in found["images"][0]["measured"])
    run = medlat.load(finished / "run")
    images = run.image.to_network(torch.from_numpy(run.read(*map(str, files)).images))
    again = run.decode(run.encode(images))
    psnr = 10.0 * torch.log10(4.0 / (again - images).square().mean(dim=(1, 2, 3)))
    assert [one["psnr"] for one in found["images"]] == pytest.approx(psnr.tolist(), abs=1e-3)
    answer = run.explain(images)
    assert len(answer.walks) == 3
    direction, _, steps, shown = answer.walks[0]
    walked = run.traverse(run.encode(images), direction, steps)
    assert np.abs(run.image.to_physical(walked)[:, :, 0].numpy() - shown).max() < 0.1, "HU, as `traverse` gives them"
    first, second = ({place["direction"]: place for place in one["positions"]} for one in found["images"][:2])
    assert list(first) == list(second)
    assert set(first) == set(run.directions["main"].names)
    codes = run.encode(images)
    for name, place in first.items():
        way = run.way(name)
        apart = float(((codes[0] - codes[1]) * way.vectors[0]).sum() / way.scores[0])
        assert place["position"] - second[name]["position"] == pytest.approx(apart, abs=1e-3)
        assert 0 <= place["lower"] <= place["held_out"] == second[name]["held_out"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN"], "found 1 of RUN and IMAGE"),
        (["nowhere", "a.dcm"], "nowhere: no run"),
        (["RUN", "missing.dcm"], "missing.dcm: there is no such file"),
        (["RUN", "PNG"], "no axial CT slice (DICOM), which the run reads"),
        (["RUN", "PNG", "--ot", "x"], "--ot: no such option; did you mean '--out'?"),
        (["RUN", "PNG", "--out"], "--out: without a value"),
        (["RUN", "PNG", "--device", "nine"], "--device=nine: not there"),
        (["RUN", "FOLDER", "--out", "FOLDER/x"], "it lies among the images"),
        (["RUN", "PNG", "--out", "FOLDER"], "other files lie there"),
        (["RUN", "PNG", "--store", "nowhere"], "store=nowhere: holds no"),
    ],
)
def test_wrong_input_is_answered_in_one_message(finished, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "FOLDER" / "a.png")
    places = {"RUN": str(finished / "run"), "PNG": "FOLDER/a.png"}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("medlat: ")
    assert err.count("\n") == 1
    assert words in err
    assert out == ""
    assert not (tmp_path / "explain").exists()


def test_names_are_not_said_in_a_log(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("medlat.core.machine._is_file", lambda stream: True)
    assert main([str(finished / "run"), str(tmp_path / SECRET), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert SECRET not in said
    assert said == "medlat: UserError in image 1 of 1: there is no such file\n"
    files = write_dicom_series(tmp_path / SECRET, CTPhantom(1, 1, 64))
    assert main([str(finished / "run"), *map(str, files), "--out", str(tmp_path / "out")]) == 0
    assert f"/{SECRET}" not in capsys.readouterr().out


def test_it_is_called_from_the_command_line(capsys):
    from medlat.__main__ import USAGE, command

    assert "medlat explain RUN IMAGE" in USAGE
    assert command(["explain", "--help"]) == 0
    assert "FILE@K" in capsys.readouterr().out
    assert command(["explain"]) == 2


def test_a_run_that_did_not_end_is_not_asked(finished, tmp_path, capsys):
    run = shutil.copytree(finished / "run", tmp_path / "run")
    (run / "failure.json").write_text('{"where": "in explanation", "reason": "no space left", "error": "OSError"}')
    for ask in (lambda: main([str(run), str(tmp_path)]), lambda: export([str(run), str(tmp_path / "decoder.onnx")])):
        assert ask() == 2
        assert "expected a finished run; it failed in explanation: no space left" in capsys.readouterr().err
    (run / "failure.json").unlink()
    (run / "metrics.json").unlink()
    assert main([str(run), str(tmp_path)]) == 2
    assert "expected a finished run; it did not end" in capsys.readouterr().err
