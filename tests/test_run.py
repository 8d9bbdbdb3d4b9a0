"""The command line as a user meets it: a whole run, what it leaves, what it reuses, and what it says of wrong input."""

import csv
import json
import os
import pickle
import re
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import CHEAP, FEW_FIGURES, NO_FIGURES, QUICK, TINY, finish, linked, spoil, start

from medlat.core.checkpoints import read_generator
from medlat.core.digests import digests
from medlat.core.spaces import Directions
from medlat.phantoms.ct.export import write_dicom_series, write_nifti_volumes
from medlat.phantoms.ct.source import CTPhantom
from medlat.report.readers import keep

LEFT = [
    *("config.yaml", "environment.json", "artifacts.json", "metrics.json", "metrics.jsonl", "wandb"),
    *("directions.safetensors", "semantics.csv", "report/index.html", "model_card.md"),
    *(f"figures/traversal_sefa.{kind}" for kind in ("png", "pdf", "csv")),
    *(f"figures/{name}.png" for name in ("difference_sefa", "semantics_factors", "training_curves", "samples")),
    *(
        f"figures/{name}.png"
        for name in ("reconstructions", "purity", "distances", "latent_usage", "semantics_measurements")
    ),
    *("figures/training_grid.png", "figures/overview_sefa.gif", "figures/sefa_00.gif"),
]


def test_what_a_run_leaves(finished):
    run = finished / "run"
    for name in LEFT:
        assert (run / name).exists(), name
    environment = json.loads((run / "environment.json").read_text())
    assert {"commit", "command", "seed", "device", "libraries", "data_fingerprint"} <= set(environment)
    artifacts = json.loads((run / "artifacts.json").read_text())
    assert set(artifacts) == {
        "images",
        "split",
        "generator",
        *(f"directions/{name}" for name in ("sefa", "random", "coordinate")),
        "regressor",
        "measurements",
        "fidelity",
        *(f"semantics/{name}" for name in ("sefa", "random", "coordinate")),
        "evaluation",
    }
    roles = {name: entry["role"] for name, entry in artifacts.items() if "role" in entry}
    assert list(roles.values()) == ["main", "control", "control"]
    assert next(iter(roles)) == "directions/sefa"
    assert all((finished / "store" / entry["path"] / "artifact.json").exists() for entry in artifacts.values())


def test_a_report_can_be_left_out(finished, medlat, tmp_path):
    """The same numbers and tables, and a word where the page would be."""
    code, _, err = medlat(*TINY, "report=none", store=str(finished / "store"))
    assert code == 0, err
    assert "tables only" in err
    run = tmp_path / "run"
    assert not (run / "figures").exists()
    assert [path.name for path in (run / "report").iterdir()] == ["no_page.txt"]
    for name in ("metrics.json", "semantics.csv", "names.csv"):
        assert (run / name).read_bytes() == (finished / "run" / name).read_bytes(), name


def test_the_numbers_of_a_run(finished):
    run = finished / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert 15.0 < metrics["reconstruction/psnr"] < 60.0
    assert 0.0 < metrics["semantics/random/factor_purity"] <= 1.0
    assert metrics["readout/r2_x"] > 0.5
    with open(run / "semantics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"sefa", "random", "coordinate"}
    readable = [name for name, value in metrics.items() if name.startswith("readout/") and value >= 0.5]
    assert len(rows) == 3 * 8 * (12 + len(readable)), "methods x directions x (measurements + factors)"
    for direction in {row["direction"] for row in rows}:
        shares = [float(r["share"]) for r in rows if r["direction"] == direction and r["kind"] == "factor"]
        assert np.nansum(shares) == pytest.approx(1.0)
    curves = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in curves if entry["name"] == "train/loss"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 3200, "images shown"


def test_directions_of_a_run_fit_its_generator(finished):
    found = Directions.load(finished / "run" / "directions.safetensors")
    artifacts = json.loads((finished / "run" / "artifacts.json").read_text())
    recipe, image, weights = read_generator(
        finished / "store" / artifacts["generator"]["path"] / "generator.safetensors"
    )
    assert found.vectors.shape == (8, recipe["latent_dim"])
    assert (image.height, image.low, image.high) == (32, -1000.0, 2000.0)
    affine = weights["entry.weight"]
    assert np.allclose((found.vectors @ affine.T).square().sum(1), found.scores, rtol=1e-3)


def test_the_same_command_reuses_everything(finished, medlat, tmp_path):
    code, _, err = medlat(*TINY, *NO_FIGURES, "seed=0", store=str(finished / "store"))
    assert code == 0, err
    assert err.count("reused") == 13, "all artifacts, and the report"
    again = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert again == json.loads((finished / "run" / "metrics.json").read_text())
    names = {json.loads(line)["name"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()}
    assert "train/loss" in names, "the curves of the reused generator are part of the record"


@pytest.mark.slow
def test_a_report_made_anew_has_what_readers_said(finished, medlat, tmp_path):
    run, name, left = tmp_path / "run", "bending of the spine", list[tuple[bytes, ...]]()
    for times in range(2):  # the second time in the folder of the first
        code, _, err = medlat(*TINY, *FEW_FIGURES, store=str(finished / "store"))
        assert code == 0, err
        assert (run / "report" / "index.html").read_text().count(name) == times
        left.append(tuple((run / table).read_bytes() for table in ("names.csv", "semantics.csv", "metrics.json")))
        keep(run, "sefa 02", {"name": name, "star": True, "note": ""})
    assert left[0] == left[1], "what is measured knows nothing of it"


def test_another_method_reuses_the_generator_and_hardware_does_not_count(finished, medlat):
    code, out, _ = medlat(
        *TINY, "directions=coordinate", "trainer=cpu", "workers=1", "dry_run=true", store=str(finished / "store")
    )
    assert code == 0
    assert re.search(r"generator +exists", out)
    assert re.search(r"evaluation +to be made", out)
    code, out, _ = medlat(*TINY, "seed=1", "dry_run=true", store=str(finished / "store"))
    assert re.search(r"images +exists", out)
    assert re.search(r"generator +to be made", out)


def test_a_plan_makes_nothing(medlat, tmp_path):
    code, out, err = medlat(*TINY, "dry_run=true")
    assert (code, err) == (0, "")
    assert "96 of 32²" in out
    assert "3,200 images in 100 steps of 32" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_and_started_again(tmp_path):
    """SIGKILL in training; the same command again ends with the bytes of a run that nobody disturbed."""
    settings = (
        *TINY,
        *CHEAP,
        "generator.training.images=9600",
        "generator.training.checkpoint_every_s=0.3",
        "logger=none",
    )
    (tmp_path / "whole").mkdir()
    finish(start(tmp_path / "whole", *settings))
    (tmp_path / "killed").mkdir()
    process = start(tmp_path / "killed", *settings)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("killed/store/generator/.*.partial/progress/*.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("killed/store/generator/*/artifact.json")), "nothing half-made is taken for whole"
    assert "continues at step" in finish(start(tmp_path / "killed", *settings))
    for name in ("store/generator/*/generator.safetensors", "run/directions.safetensors", "run/metrics.json"):
        whole, killed = (next((tmp_path / place).glob(name)).read_bytes() for place in ("whole", "killed"))
        assert whole == killed, name
    curves = [
        [
            (e["name"], e["step"], e["value"])
            for e in map(json.loads, next(tmp_path.glob(f"{p}/store/generator/*/metrics.jsonl")).open())
        ]
        for p in ("whole", "killed")
    ]
    assert curves[0] == curves[1]


def test_a_diverging_training_says_so_and_keeps_nothing_bad(medlat, tmp_path):
    code, _, err = medlat(
        *TINY, *CHEAP, "generator.module.optimisation.learning_rate=1e9", "generator.training.images=3200"
    )
    assert code == 2
    assert re.search(r"training diverged at step \d+ of 100 .*learning_rate=1e\+09", err)
    assert not list(tmp_path.glob("store/generator/*/generator.safetensors"))


# --- other generators -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "spaces"),
    [pytest.param("ct_stylegan_sefa", 32, marks=pytest.mark.slow), ("ct_dcgan_sefa", 8)],
)
def test_a_gan_goes_through_the_whole_pipeline(medlat, shared_store, tmp_path, experiment, spaces):
    """With features of the user's own beside medlat's."""
    path, place = tmp_path / "network.pt", "evaluation.features.mine"
    torch.jit.script(torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten())).save(str(path))
    settings = [f"+experiment={experiment}", "scale=tiny", *QUICK, "directions.count=2", "controls.random.count=2"]
    settings += ["controls.coordinate.count=2", "generator.training.images=640"]
    code, _, err = medlat(*settings, f"+features@{place}=torchscript", f"{place}.path={path}", store=shared_store)
    assert code == 0, err
    run = tmp_path / "run"
    for name in ("samples", "distances", "training_grid", "training_curves", "traversal_sefa"):
        assert (run / f"figures/{name}.png").exists(), name
    assert not (run / "figures/reconstructions.png").exists(), "there is no encoder"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["distance/patch_distance_32"] > metrics["distance/patch_distance_32_floor"]
    assert 0.0 <= metrics["distance/recall_factors"] <= 1.0
    assert metrics["distance/path_length_factors"] > 0.0
    names = {json.loads(line)["name"] for line in (run / "metrics.jsonl").read_text().splitlines()}
    assert {"train/generator", "train/discriminator", "validation/patch_distance", "validation/spread"} <= names
    assert Directions.load(run / "directions.safetensors").vectors.shape == (2, spaces)
    with open(run / "figures" / "distances.csv", newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert rows["fid_mine"]["name"] == "FID (mine)"
    assert float(rows["fid_mine"]["value"]) > 0.0
    assert "samples are few" in rows["fid_factors"]["warning"]
    assert rows["fid_mine"]["warning"].startswith("8 samples are few"), "4 features of 8 images"


def test_a_generator_from_a_file(finished, medlat, tmp_path):
    """medlat's own weights, taken from a store, give the numbers of the run that trained them."""
    path = next((finished / "store").glob("generator/*/generator.safetensors"))
    store = linked(finished / "store", tmp_path / "copy")
    code, _, err = medlat(*TINY, *NO_FIGURES, "generator=pretrained", f"generator.weights={path}", store=str(store))
    assert code == 0, err
    ours, theirs = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", finished / "run")
    )
    assert ours == theirs
    code, _, err = medlat(
        *TINY, "generator=pretrained", f"generator.weights={path}", "data.intensity_range=[-1000,1000]"
    )
    assert code == 2
    assert "data.intensity_range" in err


def test_a_diverging_gan_says_so(medlat, tmp_path):
    settings = ["+experiment=ct_stylegan_sefa", "scale=tiny", *CHEAP, "generator.training.images=640"]
    code, _, err = medlat(*settings, "generator.module.generator_adam.learning_rate=1e9")
    assert code == 2
    assert re.search(r"training diverged at step \d+ of 40 .*generator_adam.learning_rate=1e\+09", err)
    assert not list(tmp_path.glob("store/generator/*/generator.safetensors"))


# --- wrong input ------------------------------------------------------------------------------------------------

WRONG = {
    "unknown experiment": (["+experiment=ct_vae_sfa"], "did you mean 'ct_vae_sefa'"),
    "misspelt key": ([*TINY, "seeed=3"], "did you mean 'seed'"),
    "misspelt deeper": ([*TINY, "data.intensty_range=[0,1]"], "did you mean 'data.intensity_range'"),
    "misspelt deepest": ([*TINY, "generator.module.objective.bta=1"], "did you mean 'generator.module.objective.beta'"),
    "wrong type": ([*TINY, "generator.module.objective.beta=abc"], "generator.module.objective.beta"),
    "missing root": ([*TINY, "data=ct_dicom"], "data.root"),
    "no such root": ([*TINY, "data=ct_dicom", "data.root=/nowhere/at/all"], "/nowhere/at/all"),
    "one patient": ([*TINY, "data.source.patients=1"], "one patient only"),
    "window": ([*TINY, "data.intensity_range=[500,-1000]"], "data.intensity_range=[500, -1000]"),
    "resolution": ([*TINY, "data.image_size=50"], "nearest: 64"),
    "store": ([*TINY, "store=/proc/medlat"], "store=/proc/medlat"),
    "count": ([*TINY, "directions.count=0"], "directions.count=0"),
    "one code": ([*TINY, "evaluation.base_codes=1"], "evaluation.base_codes=1: expected a whole number from 4"),
    "steps": ([*TINY, "evaluation.steps=[1,2]"], "evaluation.steps=[1, 2]: expected at least three rising"),
    "steps that are no numbers": (
        [*TINY, "evaluation.steps=[-1,0,nan]"],
        "evaluation.steps[2]=nan: expected a finite number",
    ),
    "empty root": ([*TINY, "data=ct_dicom", "data.root="], "data.root"),
    "features": (
        [*TINY, "+features@evaluation.features.mine=torchscript", "evaluation.features.mine.path=/nowhere.pt"],
        "evaluation.features.mine.path=/nowhere.pt: no such file",
    ),
    "weights": ([*TINY, "generator=pretrained", "generator.weights=/nowhere.pkl"], "generator.weights=/nowhere.pkl"),
    "processes": ([*TINY, *CHEAP, "trainer.devices=2"], "trainer.devices=2: VAEModule trains in one"),
    "augmentation": (
        ["+experiment=ct_stylegan_sefa", "scale=tiny", "ada@generator.module.augmentation=histology"],
        "expected images of 3 channels (RGB), found 1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(medlat, tmp_path, case):
    arguments, words = WRONG[case]
    code, _, err = medlat(*arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    message = [line for line in err.splitlines() if not re.match(r"\[\d\d:", line)]
    assert len(message) <= 3, "one short message"
    assert not list(tmp_path.glob("store/*/.*.partial")), "nothing half-written"


def test_everything_wrong_at_once(medlat):
    code, _, err = medlat(*TINY, "data.intensity_range=[1,0]", "data.image_size=50", "directions.count=0")
    assert code == 2
    assert "3 problems" in err
    assert all(key in err for key in ("data.intensity_range", "data.image_size", "directions.count"))


def test_debug_shows_the_traceback(medlat):
    assert "Traceback" in medlat(*TINY, "data.intensity_range=[1,0]", "debug=true")[2]


def test_a_root_without_ct(medlat, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    (root / "a.txt").write_text("text")
    code, _, err = medlat(*TINY, "data=ct_dicom", f"data.root={root}")
    assert code == 2
    assert "data.root: no CT" in err or "data.root: no" in err
    assert "1 not DICOM" in err


@pytest.mark.slow
def test_full_disk(tmp_path):
    """A limit on file size stands in for a full disk: the kernel refuses the write in the same way."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731
    process = start(tmp_path, *TINY, "logger=none", preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "the disk is full" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("store/*/.*.partial"))


class Bomb:
    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return (open, (self.trace, "w"))


@pytest.mark.parametrize("kind", ["damaged", "hostile"])
def test_a_bad_checkpoint(finished, medlat, tmp_path, kind):
    """With digests that fit, as somebody may leave it who can write to the store."""
    store, trace = linked(finished / "store", tmp_path / "copy"), tmp_path / "ran"
    path = next(store.glob("generator/*/generator.safetensors"))
    spoil(path, path.read_bytes()[:1000] if kind == "damaged" else pickle.dumps(Bomb(trace)))
    noted = json.loads((path.parent / "artifact.json").read_text())
    noted["files"][path.name] = digests(path)
    spoil(path.parent / "artifact.json", json.dumps(noted).encode())
    code, _, err = medlat(*TINY, "directions=random", "directions.seed=5", store=str(store))
    assert code == 2
    assert "generator.safetensors" in err
    assert ("damaged checkpoint" if kind == "damaged" else "holds a pickle") in err
    assert not trace.exists()


def test_flipped_bytes_in_the_store(finished, medlat, tmp_path):
    """Weights, an image, a test slice moved to training: seen, said, and made anew."""
    linked(finished / "store", tmp_path / "store")
    for name, place in (("generator/*/generator.safetensors", -100), ("images/*/images.npy", 5000)):
        path = next(tmp_path.glob(f"store/{name}"))
        data = bytearray(path.read_bytes())
        data[place] ^= 16
        spoil(path, data)
    split = next(tmp_path.glob("store/split/*/split.json"))
    parts = json.loads(split.read_text())
    parts["train"].append(parts["test"].pop())
    spoil(split, json.dumps(parts).encode())
    code, _, said = medlat(*TINY, *NO_FIGURES)
    assert code == 0, said
    for step in ("images", "split", "generator"):
        assert f"{step}: damaged in the store" in said, step
    for name in ("metrics.json", "directions.safetensors", "semantics.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / "run" / name).read_bytes(), name


@pytest.mark.slow
def test_a_full_disk_below_the_run(finished, tmp_path):
    """Everything is made, the report too, and its place in the run finds no room: what is there is whole, and the same
    command goes on.
    """
    linked(finished / "store", tmp_path / "store")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))  # noqa: E731
    process = start(tmp_path, *TINY, preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    said = [line for line in err.splitlines() if not line.startswith("[")]
    assert said == [f"medlat: hydra.run.dir={tmp_path / 'run'}: the disk is full (File too large); free space or set "
                    "hydra.run.dir=DIR"]  # fmt: skip
    run = tmp_path / "run"
    assert json.loads((run / "failure.json").read_text())["where"] == "in report"
    assert set(json.loads((run / "artifacts.json").read_text())) >= {"generator", "evaluation"}
    assert not [path.name for path in run.rglob("*.new")]
    figures = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert figures
    assert all(data == (finished / "run" / "figures" / name).read_bytes() for name, data in figures.items()), "whole"
    finish(start(tmp_path, *TINY))
    assert (run / "report" / "index.html").exists()
    assert not (run / "failure.json").exists()


# --- how a run ends -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM])
def test_one_run_in_a_folder_and_a_signal_that_ends_it(finished, tmp_path, number):
    """Outside of any training; also where what was interrupted makes an error of its own of it."""
    linked(finished / "store", tmp_path / "store")
    script, here = tmp_path / "script", Path(__file__).parent
    script.write_text("hang and fail" if number == signal.SIGTERM else "hang")
    environment = {**os.environ, "SCRIPT": str(script), "PYTHONPATH": str(here)}
    settings = (
        "--config-dir",
        str(here / "conf"),
        *TINY,
        "logger=none",
        "directions=scripted",
        "directions.does=SCRIPT",
    )
    process = start(tmp_path, *settings, env=environment)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("store/directions/.*.partial")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number == signal.SIGHUP:
        second = start(tmp_path, *settings, env=environment)
        _, err = second.communicate(timeout=300)
        assert second.returncode == 2
        assert err.startswith(f"medlat: hydra.run.dir={tmp_path / 'run'}: another run is at work in that folder")
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert f"medlat: interrupted by {number.name}; the same command continues" in err
    assert "Traceback" not in err


# --- what is kept of what is printed ------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["terminal", "SLURM", "file"])
def test_names_of_patients_files_are_said_on_a_terminal_only(medlat, monkeypatch, tmp_path, to):
    root = tmp_path / "data"
    (root / "smith_john").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (32, 32), "red").save(root / "smith_john" / f"{name}.png")
    rows = [f"smith_john/{name}.png,{name},group {name}" for name in ("a", "b")]
    (root / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    if to == "SLURM":
        monkeypatch.setenv("SLURM_JOB_ID", "77")
    if to == "file":
        monkeypatch.setattr("medlat.core.machine._is_file", lambda stream: True)
    settings = ("+experiment=histology_vae_linear", "scale=tiny", "data=image_folder", f"data.root={root}")
    code, _, err = medlat(*settings)
    assert code == 2
    assert ("smith_john" in err.replace(str(root), "")) == (to == "terminal")
    assert ("UserError in split: not kept" in err) == (to != "terminal")
    (root / "labels.csv").write_text("\n".join(["path,label,group", *rows, "smith_john/gone.png,a,group c"]))
    code, _, err = medlat(*settings)
    assert code == 2
    assert ("gone.png" in err) == (to == "terminal")


def test_a_secret_is_not_typed(medlat, tmp_path):
    for mode in ([], ["-m"]):
        typed = ("data.salt=SECRETSALT", "++data.salt=SECRETSALT", "data={salt: SECRETSALT}", " data.salt=SECRETSALT")
        for text in (*typed, "data.salt =SECRETSALT", "++data@data={salt: SECRETSALT}"):
            code, out, err = medlat(*mode, *TINY, text)
            assert code == 2
            assert "use MEDLAT_SALT" in err
            assert "SECRETSALT" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_names_of_experiments(medlat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVIL", "../../evil")
    bad = ("../../evil", "/abs", "''", "a/../../b", "' '", "a/", "x" * 300, "a\x1b[31m", "a\udcff", "..")
    bad += ("${oc.env:EVIL}",)
    for name in bad:
        for mode in ([], ["-m"]):
            code, _, err = medlat(*mode, *TINY, f"name={name}", "hydra.run.dir=${name}")
            assert code == 2, name
            assert "\x1b" not in err
    assert list(tmp_path.iterdir()) == []
    code, out, _ = medlat(*TINY, "name='lung study'", "dry_run=true")
    assert (code, "plan of lung study" in out) == (0, True)


# --- other sources ----------------------------------------------------------------------------------------------


def phantom(patients=4, slices=3):
    return CTPhantom(patients=patients, slices_per_patient=slices, size=64)


def test_dicom_with_bad_files_among_good_ones(medlat, tmp_path):
    root = tmp_path / "tree"
    paths = write_dicom_series(root, phantom())
    paths[2].write_bytes(paths[2].read_bytes()[:3000])
    (root / "empty.dcm").write_bytes(b"")
    (root / "notes.txt").write_text("not DICOM")
    listing = tmp_path / "listing.txt"
    code, _, err = medlat(
        *TINY, *CHEAP, "data=ct_dicom", f"data.root={root}", "data.max_damaged=0.5", f"data.damaged_list={listing}"
    )
    assert code == 0, err
    assert str(paths[2]) in err
    assert "empty.dcm" in err
    assert len(listing.read_text().splitlines()) == 2
    info = json.loads(next(tmp_path.glob("store/images/*/slices.json")).read_text())
    assert info["slices"] == 11
    lines = [["damaged", 1, "empty file"], ["damaged", 1, "truncated"], ["left out", 1, "not DICOM"]]
    assert info["account"] == lines
    assert "damaged          1  truncated" in err


def test_nifti(medlat, tmp_path):
    write_nifti_volumes(tmp_path / "volumes", phantom())
    code, _, err = medlat(*TINY, *CHEAP, "data=ct_nifti", f"data.root={tmp_path / 'volumes'}")
    assert code == 0, err
    info = json.loads(next(tmp_path.glob("store/images/*/slices.json")).read_text())
    assert (info["slices"], len(info["patients"])) == (12, 4)


def test_a_datalist_of_monai(medlat, tmp_path):
    write_nifti_volumes(tmp_path / "volumes", phantom())
    files = sorted((tmp_path / "volumes").rglob("*.nii*"))
    items = [{"image": str(path.relative_to(tmp_path)), "patient": path.name} for path in files]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": items}))
    code, _, err = medlat(
        *TINY, *CHEAP, "data=monai", f"data.root={tmp_path / 'dataset.json'}", "data.group_key=patient"
    )
    assert code == 0, err
    info = json.loads(next(tmp_path.glob("store/images/*/slices.json")).read_text())
    assert (info["slices"], len(info["patients"]), info["account"]) == (12, 4, [])
    assert info["modality"]["name"] == "chest CT"


@pytest.mark.slow
def test_one_patient_by_slabs(medlat, tmp_path):
    code, _, err = medlat(
        *TINY, *QUICK, "data.source.patients=1", "data.source.slices_per_patient=20", "data.split.by=slab"
    )
    assert code == 0, err
    assert "results flatter" in (tmp_path / "run" / "report" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["ct_tcga_luad", "ct_lidc", "."])
def test_real_slices(medlat, tmp_path, real_data, folder):
    code, _, err = medlat(*TINY, *CHEAP, "data=ct_dicom", f"data.root={real_data / folder}")
    assert code == 0, err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(metrics["reconstruction/psnr"])


@pytest.mark.slow
def test_a_sweep_trains_one_generator(monkeypatch, medlat, tmp_path):
    code, _, err = medlat("-m", *TINY, *QUICK, "directions=sefa,random", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert code == 0, err
    assert len(list(tmp_path.glob("store/generator/*/artifact.json"))) == 1
    assert all((tmp_path / "sweep" / job / "report" / "index.html").exists() for job in "01")
