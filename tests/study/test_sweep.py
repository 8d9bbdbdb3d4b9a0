"""Sweeps on this machine: what is checked first, what is repeated, what is gathered, and each launcher of it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import CHEAP, TINY

from medlat.config.locate import config_dir
from medlat.core.errors import UserError
from medlat.study.sweep import in_order, prepare

HERE = Path(__file__).parents[1]
SMALL = (*TINY, *CHEAP, "evaluation.regressor_steps=5", "logger=none", "trainer=cpu", "workers=1")
SCRIPTED = ("--config-dir", str(HERE / "conf"))


def command(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """A sweep as it is typed, with its store in a folder of its own; what it says."""
    full = [sys.executable, "-m", "medlat.run", "-m", "store=store", *arguments]
    env = {**os.environ, "PYTHONPATH": str(HERE), **environment}
    done = subprocess.run(full, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def made(folder: Path, stage: str) -> int:
    return len(list(folder.glob(f"store/{stage}/*/artifact.json")))


# --- before anything is started ---------------------------------------------------------------------------------------


def test_what_shares_a_generator_is_started_last():
    """Hydra varies the last override fastest: jobs side by side then train different generators."""
    given = ["directions=sefa,pca", "seed=1,2", "scale=tiny", "evaluation.samples=8,16", "+generator.x=range(3)"]
    assert in_order(given) == [
        "scale=tiny",
        *("directions=sefa,pca", "evaluation.samples=8,16"),
        *("+generator.x=range(3)", "seed=1,2"),
    ]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """prepared("a=1,2") -> what a sweep below tmp_path would be."""
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: prepare([*SMALL, *overrides], [config_dir()])


@pytest.mark.parametrize("name", ["lung study", "\u00e9tude (v2)", "a+b/c-d.e"])
def test_any_name_can_be_swept(prepared, name):
    """Hydra reads the folder that is made of it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = prepared("seed=0,1", f"name='{name}'")
    added = next(text for text in found.overrides if text.startswith("hydra.sweep.dir="))
    assert OverridesParser.create().parse_override(added).value() == str(found.folder)
    assert name in str(found.folder)


@pytest.mark.slow
def test_the_same_command_finds_its_folder(prepared):
    folder = prepared("seed=1,2", "directions=sefa,pca").folder
    assert folder.parent == Path("outputs/ct_vae_sefa")
    assert prepared("directions=sefa,pca", "seed=1,2", "hydra/launcher=joblib").folder == folder
    jobs = (folder / "jobs.json").read_text()
    prepared("directions=sefa,pca", "seed=1,2")
    assert json.loads((folder / "jobs.json").read_text())["jobs"] == json.loads(jobs)["jobs"]
    assert prepared("seed=1,2", "directions=sefa,random").folder != folder
    assert prepared("seed=1,2", "hydra.sweep.dir=mine").folder == Path("mine")
    jobs = json.loads((folder / "jobs.json").read_text())["jobs"]
    assert [job[-2:] for job in jobs] == [
        [f"directions={method}", f"seed={seed}"] for method in ("sefa", "pca") for seed in (1, 2)
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param(("directions.cuont=3,4",), "directions.cuont", marks=pytest.mark.slow),
        (("directions=sefa,pcaa",), "pcaa"),
        pytest.param(("directions.count=3,-1",), "count=-1", marks=pytest.mark.slow),
        (
            ("generator=vae,dcgan", "directions=sefa,posterior_axes"),
            "directions=posterior_axes: DCGAN has no posterior",
        ),
        (("directions=glob(s*)",), "StyleChannels learns from a classifier"),
        (("directions=glob(x*)",), "directions: no option is like glob(x*)"),
        pytest.param(("seed=1,2", "store_mode=640"), "store_mode=640: expected 700", marks=pytest.mark.slow),
        (("seed=1,2", "store=/proc/store"), "store=/proc/store: cannot be written"),
        (("seed=1,2", "trainer.nodes=2"), "trainer.nodes=2"),
        (("seed=1,2", "hydra/launcher=submitit_slurm"), "no SLURM on this machine"),
        (("seed=1,2", "hydra/launcher=submitit"), "submitit_slurm"),
        (("seed=1,2", "hydra/sweeper=optuna"), "objective=null: hydra/sweeper=optuna needs"),
    ],
)
def test_a_mistake_is_said_before_anything_is_started(medlat, tmp_path, monkeypatch, wrong, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM
    code, out, err = medlat("-m", *SMALL, *wrong)
    assert (code, out) == (2, "")
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(prepared):
    with pytest.raises(UserError, match=r"hydra\.sweep\.dir=/proc/sweep: cannot be written"):
        prepared("seed=1,2", "hydra.sweep.dir=/proc/sweep")


@pytest.mark.slow
def test_of_many_jobs_every_value_is_looked_at(prepared, monkeypatch):
    monkeypatch.setattr("medlat.config.compose_errors.MAX_JOBS", 4)
    with pytest.raises(UserError, match="pcaa"):
        prepared("seed=range(0,6)", "directions=sefa,pcaa")


def test_a_launcher_that_is_not_installed(prepared, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="joblib_launcher is not installed; pip install hydra-joblib-launcher"):
        prepared("seed=1,2", "hydra/launcher=joblib")


# --- what becomes of its jobs -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failed_run_is_named_and_alone_made_again(tmp_path):
    script = tmp_path / "script"
    script.write_text("fail")
    names = {"NONE": str(tmp_path / "none"), "FAILS": str(script)}
    sweep = (*SCRIPTED, *SMALL, "directions=scripted", "directions.does=FAILS,NONE", "hydra.sweep.dir=sweep")
    said = command(tmp_path, *sweep, code=1, **names)
    assert "1 of 2 runs" in said
    assert "not finished: sweep/0" in said
    assert "RuntimeError in directions/scripted: the finder broke as told" in said
    assert [row["run"] for row in rows(tmp_path / "sweep" / "runs.csv")] == ["1"]
    failure = json.loads((tmp_path / "sweep" / "0" / "failure.json").read_text())
    assert (failure["where"], failure["job"]) == ("in directions/scripted", None)

    before = (tmp_path / "sweep" / "1" / "metrics.json").stat().st_mtime_ns
    script.unlink()
    said = command(tmp_path, *sweep, **names)
    assert "sweep/1: finished earlier" in said
    assert "2 of 2 runs" in said
    assert (tmp_path / "sweep" / "1" / "metrics.json").stat().st_mtime_ns == before
    assert not (tmp_path / "sweep" / "0" / "failure.json").exists()
    assert made(tmp_path, "generator") == 1


@pytest.mark.slow
def test_side_by_side_with_joblib(tmp_path):
    """Threads are divided, and what two runs share is made once."""
    said = command(tmp_path, *SMALL, "directions=sefa,random", "seed=1,2", "hydra/launcher=joblib")
    assert "4 of 4 runs" in said
    (folder,) = tmp_path.glob("outputs/ct_vae_sefa/sweep_*")
    cores = [json.loads((folder / str(n) / "environment.json").read_text())["cores"] for n in range(4)]
    assert cores == [1] * 4
    assert {stage: made(tmp_path, stage) for stage in ("images", "generator", "directions")} == {
        "images": 1,
        "generator": 2,
        "directions": 6,  # of each generator: sefa, and both controls, of which random is the other method
    }


@pytest.mark.slow
def test_as_slurm_would_start_them(tmp_path):
    """submitit_local; what a restrictive mode leaves to others, and that a secret stays one."""
    given = ("seed=1,2", "hydra/launcher=submitit_local", "store_mode=750")
    said = command(tmp_path, *SMALL, *given, MEDLAT_SALT="heimlich")
    assert "2 of 2 runs" in said
    assert not [path for path in tmp_path.glob("**/*") if path.is_file() and b"heimlich" in path.read_bytes()]
    left = [path for top in ("store", "outputs/ct_vae_sefa") for path in tmp_path.glob(f"{top}/*/**/*")]
    runs = [path for path in left if ".submitit" not in path.parts and path.name not in ("runs.csv", "summary.csv")]
    assert len(runs) > 100
    assert {oct(path.stat().st_mode & 0o027) for path in runs} == {"0o0"}


@pytest.mark.slow
def test_a_search_goes_on(tmp_path):
    """A trial, then one more of the same study; each is a run, and its value is the run's."""
    import optuna

    beta = "generator.module.objective.beta"
    arguments = (*SMALL, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "hydra.sweep.dir=search")
    search = (*arguments, f"{beta}=tag(log, interval(0.01, 1))")
    said = command(tmp_path, *search, "objective=reconstruction/pnsr", "hydra.sweep.dir=other", code=2)
    assert "objective=reconstruction/pnsr: no final number of run 1-0; did you mean 'reconstruction/psnr'?" in said
    for trials in (1, 2):
        command(tmp_path, *search, "objective=reconstruction/psnr")
        study = optuna.load_study("ct_vae_sefa", f"sqlite:///{tmp_path}/search/study.db")
        runs = [tmp_path / "search" / name for name in ("1-0", "2-0")[:trials]]
        numbers = [json.loads((run / "metrics.json").read_text())["reconstruction/psnr"] for run in runs]
        assert [trial.value for trial in study.trials] == numbers
    betas = [trial.params[beta] for trial in study.trials]
    assert len(set(betas)) == 2
    assert all(0.01 <= beta <= 1.0 for beta in betas)
    assert len(rows(tmp_path / "search" / "runs.csv")) == 2
