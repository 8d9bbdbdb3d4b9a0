"""TensorBoard and MLflow: what arrives there is read back, and nothing tells of the machine."""

import getpass
import io
import math
import os
import shutil
import socket
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from composed import composed
from PIL import Image

from medlat.core.errors import ArgumentError, ConfigErrors
from medlat.core.records import Record
from medlat.steps import checks
from medlat.study.mirrors import mlflow as of_mlflow
from medlat.study.mirrors import tensorboard as of_tensorboard
from medlat.study.tracking import Tracker, mirror_tables

CONFIG = {"a": {"b": [1, 2]}, "c": "x|y"}
PIXELS = np.linspace(0.0, 1.0, 12).reshape(3, 4)


@pytest.fixture
def figures(tmp_path) -> list[Path]:
    paths = [tmp_path / "one.png", tmp_path / "two.gif"]
    for path in paths:
        Image.new("RGB", (6, 5), "red").save(path)
    return paths


def mirrored(folder: Path, logger, figures: list[Path], exit_code: int = 0) -> Path:
    """The folder of a run that logged one of each."""
    folder.mkdir(exist_ok=True)
    tracker = Tracker(folder, logger, CONFIG, "my run", job_type="report", group="sweep_1")
    tracker.replay([Record("training/loss", step, 1.0 / (1 + step), 1.7e9 + step) for step in range(3)])
    tracker.images("figures", figures)
    tracker.image("training/fixed codes", PIXELS, 32)
    tracker.table("names", [{"direction": "sefa 00", "R²": 0.5}, {"direction": "sefa 01", "R²": None, "why": "=x"}])
    tracker.artifact("n-directions", "directions", figures[0])
    tracker.result({"stage/share²": 2.5, "stage/none": math.nan})
    assert tracker.mirror is not None, "it did not fail"
    tracker.close(exit_code)
    return folder


def files_of(folder: Path) -> bytes:
    return b"\0".join(
        str(path.relative_to(folder)).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file()
    )


# --- TensorBoard ------------------------------------------------------------------------------------------------------


@pytest.fixture
def events(tmp_path, figures):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = mirrored(tmp_path / "run", of_tensorboard.TensorBoard(), figures)
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    return found.Reload()


def test_curves_in_the_event_file(events):
    curve = events.Scalars("training/loss")
    assert [(each.step, each.wall_time) for each in curve] == [(step, 1.7e9 + step) for step in range(3)]
    assert [each.value for each in curve] == pytest.approx([1.0, 0.5, 1 / 3])
    assert events.Scalars("stage/share²")[0].value == 2.5
    assert math.isnan(events.Scalars("stage/none")[0].value)


def test_pictures_in_the_event_file(events, figures):
    assert set(events.Tags()["images"]) == {"figures/one", "figures/two", "training/fixed codes"}
    for path in figures:
        (image,) = events.Images(f"figures/{path.stem}")
        assert (image.encoded_image_string, image.width, image.height) == (path.read_bytes(), 6, 5)
    (image,) = events.Images("training/fixed codes")
    seen = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("L"))
    assert np.array_equal(seen, (255 * PIXELS).astype(np.uint8))
    assert image.step == 32


def test_tables_in_the_event_file(events):
    def text(name):
        return events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode().splitlines()

    assert text("names") == [
        "| direction | R² | why |",
        "| --- | --- | --- |",
        "| sefa 00 | 0.5 |  |",
        "| sefa 01 |  | =x |",
    ]
    assert text("config")[2:] == [
        "| name | my run |",
        "| job_type | report |",
        "| group | sweep_1 |",
        "| a.b | [1, 2] |",
        "| c | x\\|y |",
    ]


# --- MLflow -----------------------------------------------------------------------------------------------------------


def client_of(folder: Path):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """A database of MLflow, which takes it seconds to make."""
    for package in of_mlflow.NEEDED:
        pytest.importorskip(package, reason="the extra mlflow is not installed")
    folder = tmp_path_factory.mktemp("empty")
    (folder / "mlflow").mkdir()
    client_of(folder).search_experiments()
    return folder / "mlflow" / "mlflow.db"


@pytest.fixture
def run_folder(tmp_path, empty) -> Path:
    """A run's folder that has such a database."""
    (tmp_path / "run" / "mlflow").mkdir(parents=True)
    return Path(shutil.copy(empty, tmp_path / "run" / "mlflow")).parents[1]


def only_run(client, project="medlat"):
    (run,) = client.search_runs([client.get_experiment_by_name(project).experiment_id])
    return run


def test_a_run_of_mlflow(run_folder, figures):
    folder = mirrored(run_folder, of_mlflow.MLflow("medlat"), figures)
    client = client_of(folder)
    run = only_run(client)
    assert (run.info.run_name, run.info.status) == ("my run", "FINISHED")
    assert run.data.params == {"a.b": "[1, 2]", "c": "x|y"}
    assert {key: run.data.tags[key] for key in ("job_type", "group")} == {"job_type": "report", "group": "sweep_1"}
    assert run.data.metrics["stage/share_"] == 2.5
    assert math.isnan(run.data.metrics["stage/none"])
    curve = sorted(client.get_metric_history(run.info.run_id, "training/loss"), key=lambda each: each.step)
    assert [(each.step, each.timestamp) for each in curve] == [
        (step, 1_700_000_000_000 + 1000 * step) for step in range(3)
    ]
    assert [each.value for each in curve] == pytest.approx([1.0, 0.5, 1 / 3])
    kept = {path.name: path for path in (folder / "mlflow" / "artifacts").rglob("*") if path.is_file()}
    assert set(kept) == {"one.png", "two.gif", "32.png", "names.csv"}
    assert kept["two.gif"].read_bytes() == figures[1].read_bytes()
    assert np.array_equal(np.asarray(Image.open(kept["32.png"])), (255 * PIXELS).astype(np.uint8))
    assert kept["names.csv"].read_text() == "direction,R²,why\nsefa 00,0.5,\nsefa 01,,'=x\n"
    assert len(list((folder / "mlflow" / "artifacts").rglob("directions/one.png"))) == 1


def test_a_run_that_failed(run_folder, figures):
    client = client_of(mirrored(run_folder, of_mlflow.MLflow("p"), figures, exit_code=1))
    assert only_run(client, "p").info.status == "FAILED"


def test_many_values_and_settings_at_once(run_folder):
    tracker = Tracker(run_folder, of_mlflow.MLflow("p"), {f"k{i}": i for i in range(250)}, "n")
    tracker.replay([Record("loss", step, float(step), 1.7e9) for step in range(2500)])
    assert tracker.mirror is not None
    client = client_of(run_folder)
    run = only_run(client, "p")
    assert len(run.data.params) == 250
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2500


def test_runs_are_tracked_where_the_user_says(run_folder, tmp_path, figures, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow puts the files of such a database
    logger = of_mlflow.MLflow("p", f"sqlite:///{run_folder / 'mlflow' / 'mlflow.db'}")
    for number in range(2):
        folder = mirrored(tmp_path / str(number), logger, figures)
        assert not (folder / "mlflow").exists()
    client = client_of(run_folder)
    assert len(client.search_runs([client.get_experiment_by_name("p").experiment_id])) == 2


# --- both -------------------------------------------------------------------------------------------------------------

TARGETS = {
    "tensorboard": ("medlat.study.mirrors.tensorboard.TensorBoard", {}),
    "mlflow": ("medlat.study.mirrors.mlflow.MLflow", {"project": "p", "uri": None}),
}


@pytest.fixture(params=TARGETS)
def either(request, tmp_path) -> str:
    """The name of one; the run's folder is `run`."""
    pytest.importorskip(request.param, reason=f"the extra {request.param} is not installed")
    (tmp_path / "run").mkdir()
    if request.param == "mlflow":
        (tmp_path / "run" / "mlflow").mkdir()
        shutil.copy(request.getfixturevalue("empty"), tmp_path / "run" / "mlflow")
    return request.param


def test_nothing_tells_of_the_machine_or_its_user(tmp_path, figures, either):
    logger = of_tensorboard.TensorBoard() if either == "tensorboard" else of_mlflow.MLflow("p")
    said = files_of(mirrored(tmp_path / "run", logger, figures) / either)
    if either == "mlflow":  # which notes where its own folder is
        with sqlite3.connect(tmp_path / "run" / "mlflow" / "mlflow.db") as database:
            said = "\n".join(database.iterdump()).replace(str(tmp_path / "run" / "mlflow"), "").encode()
        assert f"'{getpass.getuser()}'".encode() not in said
    for secret in (socket.gethostname(), str(tmp_path), str(Path(__file__).parent), os.path.expanduser("~") + "/"):
        assert secret.encode() not in said, secret


def test_the_tables_of_a_sweep_go_there_too(tmp_path, either):
    target, settings = TARGETS[either]
    mirror_tables(
        tmp_path / "run", {"_target_": target, **settings}, "n", {"runs": [{"run": "0", "a": 1.5}], "none": []}
    )
    assert b"1.5" in files_of(tmp_path / "run" / either)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mlruns", "uri: expected null, sqlite:////DIR/FILE.db or http://HOST:PORT, not mlruns"),
        ("file:///tmp/mlruns", "uri: expected null"),
        ("https://me:Zq7X@mlflow.example", "uri: has a password, which config.yaml would keep"),
        ("postgresql+psycopg://me:Zq7X@host/db", "uri: has a password"),
    ],
)
def test_where_runs_cannot_be_tracked(monkeypatch, uri, words):
    monkeypatch.setattr(of_mlflow, "find_spec", lambda package: package)
    with pytest.raises(ArgumentError) as told:
        of_mlflow.MLflow("p", uri)
    assert str(told.value).startswith(words)
    assert "Zq7X" not in str(told.value)
    assert of_mlflow.MLflow("p", "http://localhost:5000").uri == "http://localhost:5000"


@pytest.mark.parametrize(("name", "module"), [("tensorboard", of_tensorboard), ("mlflow", of_mlflow)])
def test_without_the_package_it_is_refused_before_anything_is_made(monkeypatch, name, module):
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(ConfigErrors) as caught:
        checks.check_values(composed(f"logger={name}"))
    (line,) = caught.value.problems
    assert line.startswith("logger: ")
    assert line.endswith(f'is not installed; pip install -e ".[{name}]" in a clone, or expected logger=none')
