"""Sweeps on a real SLURM: what is gathered, what is named, and that jobs come back as if nothing had been."""

import csv
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from cluster.slurm import Cluster, install
from runs import CHEAP, TINY

TESTS = Path(__file__).parents[1]

QUICK = (
    *(*TINY, "trainer=cpu", "trainer.threads=1", "logger=none", "workers=1"),
    *(*CHEAP, "evaluation.regressor_steps=5"),
)
ON_SLURM = (
    *("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"),
    "hydra.launcher.timeout_min=30",
)
LONG = (  # 50 steps, of two seconds while it is told to be slow
    *(*QUICK, *ON_SLURM, "seed=1", "generator.training.images=1600", "generator.training.checkpoint_every_s=5"),
    "data.augment={_target_:scripted.Slow,seconds:2.0}",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    install()
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.stop()


def start(cluster, folder, *arguments, **environment):
    """A sweep, from a folder of its own."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "medlat.run", "-m", "--config-dir", str(TESTS / "conf"), "hydra.sweep.dir=sweep"]
    here = {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "SLOW": str(folder / "slow")}
    full = [*command, "store=store", *arguments]
    return subprocess.Popen(
        full,
        cwd=folder,
        env={**cluster.environment, **here, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, out + err
    return out, err


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def logs(folder):
    return "".join(path.read_text() for path in sorted(folder.glob("sweep/.submitit/*/*_log.out")))


def results(folder):
    """What must not depend on what happened to a job: directions, bit for bit, and all final numbers."""
    metrics = json.loads((folder / "sweep" / "0" / "metrics.json").read_text())
    return (folder / "sweep" / "0" / "directions.safetensors").read_bytes(), metrics


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    """What the disturbed runs must leave, made beside them: a function that waits for it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(cluster, folder, *LONG)

    @cache
    def wait():
        finish(process)
        assert "continues at step" not in logs(folder)
        return results(folder)

    return wait


def test_six_jobs_train_one_generator(cluster, tmp_path):
    methods = ["sefa", "pca", "random", "coordinate", "jacobian", "posterior_axes"]
    out, _ = finish(start(cluster, tmp_path, *QUICK, *ON_SLURM, f"directions={','.join(methods)}"))
    assert "6 of 6 runs" in out
    found = rows(tmp_path / "sweep" / "runs.csv")
    assert [row["directions"] for row in found] == methods
    assert len({row["reconstruction/psnr"] for row in found}) == 1, "of the same generator"
    assert len(list(tmp_path.glob("store/generator/*/artifact.json"))) == 1


def test_what_failed_is_named_and_made_by_the_same_command(cluster, tmp_path):
    script, other = tmp_path / "fails", tmp_path / "hangs"
    script.write_text("fail")
    other.write_text("hang")
    arguments = (*QUICK, *ON_SLURM, "directions=scripted", "directions.does=NONE,FAILS,HANGS")
    names = {"NONE": str(tmp_path / "none"), "FAILS": str(script), "HANGS": str(other)}
    process = start(cluster, tmp_path, *arguments, **names)
    cluster.until(lambda: (tmp_path / "sweep" / "2" / "environment.json").exists(), "third job at work", 200)
    cluster.until(lambda: (tmp_path / "sweep" / "0" / "metrics.json").exists(), "first job at its end", 200)
    job = json.loads((tmp_path / "sweep" / "2" / "environment.json").read_text())["job"]
    cluster.until(lambda: cluster.jobs("RUNNING") == [job], "other job at its end")
    cluster.call("scancel", "--signal=KILL", "--full", job)
    out, err = finish(process, code=1)
    assert "1 of 3 runs" in out
    assert re.search(
        r"not finished: sweep/1 \(.*FAILS\): RuntimeError in directions/scripted: the finder broke as told", err
    )
    assert re.search(rf"not finished: sweep/2 \(.*HANGS\): killed, or still running \(SLURM job {job}\)", err)
    assert "the same command runs these again" in err
    assert [row["directions.does"] for row in rows(tmp_path / "sweep" / "runs.csv")] == ["NONE"]

    made = (tmp_path / "sweep" / "0" / "metrics.json").stat().st_mtime_ns
    script.unlink()
    other.unlink()
    out, _ = finish(start(cluster, tmp_path, *arguments, **names))
    assert "3 of 3 runs" in out
    assert (tmp_path / "sweep" / "0" / "metrics.json").stat().st_mtime_ns == made, "what was finished is not repeated"
    assert len(list(tmp_path.glob("store/generator/*/artifact.json"))) == 1


def start_slow(cluster, folder, *arguments):
    """A long sweep, for whatever is to happen to it."""
    folder.mkdir(exist_ok=True)
    (folder / "slow").write_text("")
    return start(cluster, folder, *LONG, *arguments)


def begun(cluster, folder):
    """Wait until the job has begun; returns its id."""
    environment = folder / "sweep" / "0" / "environment.json"
    cluster.until(environment.exists, "job that has begun", 200)
    return json.loads(environment.read_text())["job"]


def at_work(cluster, folder):
    """Wait until the job's training has a checkpoint; returns its id."""
    cluster.until(lambda: list(folder.glob("store/generator/.*.partial/progress/*.ckpt")), "checkpoint", 200)
    return begun(cluster, folder)


def comes_back(cluster, folder):
    """Wait until the job runs again and goes on."""
    cluster.until(lambda: hurried(cluster) and "continues at step" in logs(folder), "job that came back", 200)
    (folder / "slow").unlink()


def ends(cluster, process):
    """Wait for the end, however often the job comes back."""
    cluster.until(lambda: hurried(cluster) and process.poll() is not None, "end of the sweep", 200)
    out, _ = finish(process)
    assert "1 of 1 runs" in out


def hurried(cluster):
    cluster.hurry()
    return True


def test_jobs_that_are_queued_again_and_that_meet_their_limit_go_on(cluster, tmp_path, undisturbed):
    again, limited = tmp_path / "again", tmp_path / "limited"
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=25")
    processes = start_slow(cluster, again), start_slow(cluster, limited, *limit)
    job = begun(cluster, limited)
    cluster.change(job, TimeLimit=30)  # a slow machine's start alone may take the minute
    cluster.call("scontrol", "requeue", at_work(cluster, again))
    at_work(cluster, limited)
    cluster.change(job, EndTime="now+1minutes")
    for folder in (again, limited):
        comes_back(cluster, folder)
    cluster.change(job, TimeLimit=30)
    for folder, process in zip((again, limited), processes, strict=True):
        ends(cluster, process)
        assert "asked to end by a signal: saved first" in logs(folder)
        assert results(folder) == undisturbed()
    assert "this job is timed-out" in logs(limited)


def test_a_job_that_is_preempted_goes_on(cluster, tmp_path, undisturbed):
    expected = undisturbed()
    process = start_slow(cluster, tmp_path)
    at_work(cluster, tmp_path)
    cluster.call("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
    comes_back(cluster, tmp_path)
    ends(cluster, process)
    assert "asked to end by a signal: saved first" in logs(tmp_path)
    assert results(tmp_path) == expected


def test_two_nodes_train_one_gan(cluster, tmp_path):
    gan = (*QUICK, "generator=dcgan", "generator.training.images=256", "generator.training.batch_size=32")
    finish(start(cluster, tmp_path / "nodes", *gan, *ON_SLURM, "trainer.nodes=2"))
    found = re.findall(r"node (\d): trained to weights (\w+)", logs(tmp_path / "nodes"))
    assert sorted(node for node, _ in found) == ["0", "1"]
    assert len({weights for _, weights in found}) == 1, "equal, bit for bit"
    finish(start(cluster, tmp_path / "one", *gan, *ON_SLURM, "trainer.devices=2"))
    two, one = (next((tmp_path / p).glob("store/generator/*/generator.safetensors")) for p in ("nodes", "one"))
    assert two.read_bytes() == one.read_bytes(), "as two processes of one node do"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("hydra.launcher.partition=lwo", "hydra.launcher.partition=lwo: no such partition; did you mean 'low'?"),
        ("hydra.launcher.gpus_per_node=4", "hydra.launcher.gpus_per_node=4: partition 'low' has at most 0"),
        ("trainer.nodes=3", "hydra.launcher.nodes=3: partition 'low' has at most 2"),
        ("hydra.launcher.mem_gb=100", "hydra.launcher.mem_gb=100: a node of partition 'low' has 8 GB"),
        ("hydra.launcher.timeout_min=600", "hydra.launcher.timeout_min=600: partition 'low' allows 60"),
        ("trainer=gpu", "trainer.accelerator=gpu: no GPU is asked for; write hydra.launcher.gpus_per_node=1"),
        ("directions.cuont=3,4", "directions.cuont: unknown key; did you mean 'directions.count'?"),
        ("store=/proc/store", "store=/proc/store: cannot be written"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_submitted(cluster, tmp_path, wrong, said):
    before = cluster.submitted()
    _, err = finish(start(cluster, tmp_path, *QUICK, *ON_SLURM, wrong, "seed=1,2"), code=2)
    assert said in err
    assert cluster.submitted() == before
    assert not (tmp_path / "sweep").exists()
