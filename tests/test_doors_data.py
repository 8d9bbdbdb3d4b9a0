"""Doors for data: a modality, a source and measurements of the user's own, by configuration alone.

All of it stands in `outside/`, and no file of medlat knows it.
"""

import csv
import json
from pathlib import Path

import pytest
from outside import my_data

from medlat.data.modality import Modality

OUTSIDE = ("--config-dir", str(Path(__file__).parent / "outside" / "conf"))
QUICK = (
    *("scale=tiny", "generator.training.images=640", "evaluation.base_codes=4", "evaluation.samples=32"),
    *("report.gifs=0", "report.directions=1", "evaluation.editing=[-2.0,0.0,2.0]", "scale.codes=60", "name=doors"),
)
OWN = ["brain_area", "ventricle_area"]
GREY = ["brightness", "contrast", "sharpness", "x_position", "y_position", "width", "symmetry"]


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def brains(tmp_path):
    my_data.write(tmp_path / "brains")
    return (*OUTSIDE, *QUICK, "data=brain_mr", f"data.root={tmp_path / 'brains'}")


def measured(run):
    return list(dict.fromkeys(row["measurement"] for row in rows(run / "semantics.csv")))


@pytest.mark.slow
def test_a_modality_a_source_and_measurements_through_the_whole_pipeline(medlat, brains, tmp_path):
    command = (*brains, "measure=[default,brain]", "directions=measured", "report.display_window=dark")
    code, _, err = medlat(*command)
    assert code == 0, err
    run = tmp_path / "run"
    store = json.loads(next(tmp_path.glob("store/images/*/slices.json")).read_text())
    assert Modality.from_dict(store["modality"]) == my_data.MR
    assert measured(run) == [*GREY, *OWN]
    assert {row["unit"] for row in rows(run / "semantics.csv") if row["measurement"] in OWN} == {"cm²"}
    directions = {row["direction"] for row in rows(run / "names.csv") if row["method"] == "measured"}
    assert {"measured brain_area", "measured ventricle_area"} <= directions
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "Held-out and sampled scans" in page
    assert "a.u." in page
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["reconstruction/psnr"] > 10.0

    code, _, err = medlat(*command, f"hydra.run.dir={tmp_path / 'again'}")
    assert code == 0, err
    steps = ("images", "split", "generator", "directions/measured", "regressor", "measurements", "semantics/measured")
    assert all(f"{step}: reused" in err for step in (*steps, "evaluation"))
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == numbers

    _, plan, _ = medlat(*brains, "measure=brain", "directions=measured", "dry_run=true")
    state = {line.split()[0]: line.split()[1] for line in plan.splitlines() if line.startswith("  ")}
    assert [state[step] for step in ("images", "split", "generator", "regressor")] == ["exists"] * 4
    assert [state[step] for step in ("directions/measured", "measurements", "evaluation")] == ["to"] * 3, "they measure"


@pytest.mark.slow
def test_without_measurements_nothing_has_a_name(medlat, brains, tmp_path):
    code, _, err = medlat(*brains, "measure=none")
    assert code == 0, err
    run = tmp_path / "run"
    assert measured(run) == ["nothing"]
    assert all(row["effect"] == "nan" for row in rows(run / "semantics.csv"))
    named = rows(run / "names.csv")
    assert {row["method"] for row in named} == {"sefa", "random", "coordinate"}
    assert {row["name"] for row in named} == {"unnamed"}
    assert "Nothing is measured in this run" in (run / "report" / "index.html").read_text(encoding="utf-8")
    assert not (run / "figures" / "semantics_measurements.png").exists()
    assert not (run / "figures" / "purity.png").exists()
    assert (run / "figures" / "traversal_sefa.png").exists()
    assert "distance/fd_measurements" not in json.loads((run / "metrics.json").read_text())


CT = (*OUTSIDE, "+experiment=ct_vae_sefa", "scale=tiny", "dry_run=true")
REFUSED = {
    "of another unit": (["measure=he_tile"], "measure.he_tile: made for images in RGB, those of chest CT are in HU"),
    "of another channel": (
        ["data=histology_phantom", "measure=grey"],
        "measure.grey: made for images of 1 channel, those of H&E histology have 3",
    ),
    "the user's, of another unit": (["measure=brain"], "measure.brain: made for images in a.u."),
    "two of one name": (
        ["measure=[chest_ct,grey]"],
        "measure=[chest_ct,grey]: x_position, y_position: more than one measurement has this name; choose with "
        "measure.NAME.only=[...]",
    ),
    "no such set": (["measure=chest_tc"], "did you mean 'chest_ct'"),
    "no such measurement": (
        ["measure=chest_ct", "measure.chest_ct.only=[lung_fractoin]"],
        "no measurement 'lung_fractoin'; did you mean 'lung_fraction'?",
    ),
    "no such function": (["+measure.own._target_=outside.my_measures.brian"], "did you mean 'outside.my_measures"),
    "one that fails": (
        ["+measure.own._target_=outside.my_measures.failing"],
        "measure.own: tried on images of noise, measurement sum: AxisError",
    ),
    "one of another shape": (
        ["+measure.own._target_=outside.my_measures.of_another_shape"],
        "measurement sum: it gave values of shape [] for 2 images, expected one an image",
    ),
    "no set at all": (
        ["+measure.own._target_=outside.my_measures.no_set"],
        "measure.own: outside.my_measures.no_set gave 'brain', expected a MeasurementSet or a Measurement",
    ),
    "nothing to find directions of": (
        ["measure=none", "directions=measured"],
        "directions=measured: it needs measurements, and nothing is measured; expected measure=NAME",
    ),
    "nothing to be free of": (
        ["classifier=densenet", "directions=conditional", "directions.confounders=[body_aera]"],
        "directions.confounders: no measurement 'body_aera'; did you mean 'body_area'?",
    ),
    "no such window": (
        ["report.display_window=lungs"],
        "report.display_window=lungs: no window of chest CT; did you mean 'lung'?",
    ),
    "a window upside down": (["report.display_window=[1,0]"], "report.display_window=[1, 0]: expected [low, high]"),
    "a range upside down": (["data.intensity_range=[1,0]"], "data.intensity_range=[1, 0]: expected [low, high]"),
    "a range that is none": (["data.intensity_range=[nan,0]"], "data.intensity_range=[nan, 0]: expected [low, high]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_data_are_read(medlat, case, tmp_path):
    arguments, words = REFUSED[case]
    code, _, err = medlat(*CT, *arguments)
    assert code == 2, err
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "store" / "slices").exists()


def test_what_is_wrong_with_a_source_is_said_once(medlat, tmp_path):
    code, _, err = medlat(*OUTSIDE, *QUICK, "data=brain_mr", f"data.root={tmp_path / 'nowhere'}", "dry_run=true")
    assert code == 2
    assert err.count("data.root: no arrays in") == 1
    assert "1 problem in the configuration" in err


def test_a_source_says_what_its_images_are(medlat, brains):
    code, _, err = medlat(*brains, "data.source._target_=outside.my_data.Nameless", "dry_run=true")
    assert code == 2
    assert "data.source: Nameless.modality is 'MR', expected a medlat.data.modality.Modality" in err


def test_one_function_and_one_section_are_a_measurement(medlat):
    """Without a set, and beside another one."""
    code, out, err = medlat(*CT, "measure=[chest_ct,area]", "directions=measured")
    assert code == 0, err
    assert "evaluation" in out
