"""What can be asked of SLURM, and what a job knows of itself. `sinfo` here prints what a real one printed."""

import os

import pytest
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from medlat.core import machine
from medlat.core.errors import UserError
from medlat.study import cluster
from medlat.study.cluster import Partition, read_partitions
from medlat.study.sweep import submitted, wait_for_jobs

TOLD = """\
cpu*|12|64|257000|(null)|2-00:00:00
gpu|4|32|515000|gpu:a100:4(S:0-1)|1-12:00:00
gpu|2|64|1031000|gpu:h100:8|1-12:00:00
debug|1|4+|8000+|gpu:1|30:00
open|1|8|16000|(null)|infinite
"""
LAUNCHER = {
    "partition": None,
    "nodes": 1,
    "tasks_per_node": 1,
    "gpus_per_node": None,
    "cpus_per_task": 8,
    "mem_gb": 32,
    "timeout_min": 240,
    "gres": None,
}
TRAINER = {"accelerator": "auto", "devices": 1, "nodes": 1}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A SLURM of two commands: what is asked is answered with TOLD."""
    for name, text in {"sinfo": f"cat <<'END'\n{TOLD}END\n", "sbatch": "exit 1\n"}.items():
        (tmp_path / name).write_text("#!/bin/sh\n" + text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_partitions_are_read():
    found = read_partitions(TOLD)
    assert found["gpu"] == Partition("gpu", nodes=6, cpus=64, memory_mb=1031000, gpus=8, minutes=36 * 60)
    assert found["cpu"] == found[""] == Partition("cpu", 12, 64, 257000, 0, 48 * 60)
    assert found["debug"] == Partition("debug", 1, 4, 8000, 1, 30)
    assert found["open"].minutes is None


@pytest.mark.parametrize(
    ("launcher", "trainer"),
    [
        ({}, {}),
        ({"partition": "gpu", "gpus_per_node": 8, "cpus_per_task": 64}, {"devices": 8, "accelerator": "gpu"}),
        ({"partition": "gpu", "gpus_per_node": 4, "nodes": 6}, {"devices": 4, "nodes": 6}),
        ({"partition": "gpu", "gres": "gpu:a100:1"}, {"accelerator": "gpu"}),
        ({"partition": "open", "timeout_min": 100000, "mem_gb": 15}, {}),
        ({"nodes": 2}, {"nodes": 2, "devices": 4, "accelerator": "cpu"}),
    ],
)
def test_what_can_be_had(slurm, launcher, trainer):
    cluster.check(LAUNCHER | launcher, TRAINER | trainer, cluster.partitions())


@pytest.mark.parametrize(
    ("launcher", "trainer", "said"),
    [
        ({"partition": "gpus"}, {}, "partition=gpus: no such partition; did you mean 'gpu'?"),
        ({"partition": "gpu", "gpus_per_node": 9}, {"devices": 9}, "gpus_per_node=9: partition 'gpu' has at most 8"),
        ({"gpus_per_node": 1}, {}, "gpus_per_node=1: partition 'cpu' has at most 0"),
        ({"nodes": 13}, {"nodes": 13}, "nodes=13: partition 'cpu' has at most 12"),
        ({"cpus_per_task": 65}, {}, "cpus_per_task=65: partition 'cpu' has at most 64"),
        ({"mem_gb": 252}, {}, "mem_gb=252: a node of partition 'cpu' has 251 GB"),
        ({"timeout_min": 2881}, {}, "timeout_min=2881: partition 'cpu' allows 2880"),
        ({"tasks_per_node": 4}, {"devices": 4}, "tasks_per_node=4: expected 1"),
        ({"nodes": 2}, {}, "nodes=2: training uses trainer.nodes=1; they must agree"),
        ({}, {"nodes": 2}, "nodes=1: training uses trainer.nodes=2; they must agree"),
        ({"partition": "gpu", "gpus_per_node": 2}, {}, "gpus_per_node=2: training uses trainer.devices=1; they must"),
        ({}, {"accelerator": "gpu", "devices": 2}, "no GPU is asked for; write hydra.launcher.gpus_per_node=2"),
    ],
)
def test_what_cannot_be_had(slurm, launcher, trainer, said):
    with pytest.raises(UserError) as caught:
        cluster.check(LAUNCHER | launcher, TRAINER | trainer, cluster.partitions())
    assert said in str(caught.value)
    assert str(caught.value).startswith(("hydra.launcher.", "trainer.accelerator"))


def test_a_cluster_without_a_default_partition(slurm):
    (slurm / "sinfo").write_text(f"#!/bin/sh\ncat <<'END'\n{TOLD.replace('*', '')}END\n")
    with pytest.raises(UserError, match=r"partition=None: no such partition; this cluster has no default one"):
        cluster.check(LAUNCHER, TRAINER, cluster.partitions())


def test_a_controller_that_does_not_answer(slurm):
    (slurm / "sinfo").write_text("#!/bin/sh\necho 'slurm_load_partitions: Unable to contact controller' >&2\nexit 1\n")
    with pytest.raises(UserError, match="SLURM does not answer: slurm_load_partitions: Unable to contact"):
        cluster.partitions()


def test_no_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no SLURM on this machine"):
        cluster.partitions()


@pytest.mark.parametrize("accounting", [True, False])
def test_every_job_of_an_array_is_waited_for(tmp_path, monkeypatch, accounting):
    """Told by sacct, or without accounting by squeue; the second job still runs when it is first asked for."""
    asked = tmp_path / "asked"
    told = {"sacct": ["JobID|State|NodeList", "17_0|COMPLETED|n1", "17_1|{}|n2"]}
    told["squeue"] = told["sacct"]
    for name in told if accounting else ["squeue"]:
        lines = "\\n".join(told[name]).format("$STATE")
        (tmp_path / name).write_text(
            f"#!/bin/sh\nif [ -s {asked} ]; then STATE=COMPLETED; else STATE=RUNNING; fi\necho {name} $@ >> {asked}\n"
            f'printf "{lines}\\n"\n'
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for name in ("17_0", "17_1"):
        place = tmp_path / ".submitit" / name
        place.mkdir(parents=True)
        (place / f"{name}_submitted.pkl").write_bytes(b"")
    (tmp_path / ".submitit" / "17").mkdir()
    (tmp_path / ".submitit" / "17" / "17_submission.sh").write_text("#SBATCH --array=0-1%2")
    monkeypatch.setattr("submitit.slurm.slurm.SlurmJob.watcher", SlurmInfoWatcher())
    cluster.watch_without_accounting()
    (tmp_path / "asked").unlink(missing_ok=True)
    monkeypatch.setattr(SlurmJob.watcher, "_delay_s", 0.1)
    assert submitted(tmp_path) == {"17_0", "17_1"}
    wait_for_jobs(tmp_path, sorted(submitted(tmp_path)))
    assert {line.split()[0] for line in asked.read_text().splitlines()} == {"sacct" if accounting else "squeue"}


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "17"}, "17"),
        ({"SLURM_JOB_ID": "19", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"}, "17_2"),
        ({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "3"}, "17 (again, 3)"),
    ],
)
def test_a_job_knows_its_name(monkeypatch, variables, job):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert machine.job() == job
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert machine.node() == (1 if job else 0)


def test_cores_are_the_job_s_share(monkeypatch):
    here = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert machine.cores() == here
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as joblib and SLURM set it
    assert machine.cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", str(here + 1))
    assert machine.cores() == here
