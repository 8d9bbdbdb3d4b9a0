"""SLURM: what can be asked for, before anything is submitted."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medlat.core.errors import UserError, did_you_mean

KEY = "hydra.launcher"
UNDER_WAY = {"CONFIGURING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "REQUEUE_HOLD"}


@dataclass(frozen=True)
class Partition:
    """What a partition's nodes have, at most. minutes: its time limit; None: no limit."""

    name: str
    nodes: int
    cpus: int
    memory_mb: int
    gpus: int
    minutes: int | None


def partitions() -> dict[str, Partition]:
    """The partitions of the cluster, by name; the default one is also at "". Raises UserError without SLURM."""
    if shutil.which("sinfo") is None or shutil.which("sbatch") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm: no SLURM on this machine (sbatch is not found); expected a node of a "
            "cluster that jobs are submitted from; here hydra/launcher=joblib runs a sweep"
        )
    asked = ["sinfo", "--all", "--noheader", "--format=%P|%D|%c|%m|%G|%l"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise UserError(
            f"hydra/launcher=submitit_slurm: SLURM does not answer: {said[-1] if said else error}"
        ) from error
    return read_partitions(told)


def read_partitions(told: str) -> dict[str, Partition]:
    """Lines "name*|nodes|cpus|MB|gres|limit" of sinfo, one for each kind of node, the default partition with a star."""
    found: dict[str, Partition] = {}
    for line in told.splitlines():
        name, nodes, cpus, memory, gres, limit = line.split("|")
        numbers = [int(re.match(r"\d+", text)[0]) for text in (nodes, cpus, memory)]  # type: ignore[index]
        gpus = sum(int(count) for count in re.findall(r"gpu(?::[^:,(]+)?:(\d+)", gres))
        before = found.get(name.rstrip("*"), Partition(name, 0, 0, 0, 0, None))
        merged = Partition(
            name.rstrip("*"),
            before.nodes + numbers[0],
            max(before.cpus, numbers[1]),
            max(before.memory_mb, numbers[2]),
            max(before.gpus, gpus),
            _minutes(limit),
        )
        found[merged.name] = merged
        if name.endswith("*"):
            found[""] = merged
    return found


def check(launcher: Mapping[str, Any], trainer: Mapping[str, Any], known: Mapping[str, Partition]) -> None:
    """Raises UserError where a job cannot be had as the launcher's section asks for it, or trains with others.

    known: what `partitions` found.
    """
    where = _partition(launcher["partition"], known)
    asked = {"nodes": where.nodes, "gpus_per_node": where.gpus, "cpus_per_task": where.cpus}
    for name, most in asked.items():
        if (launcher[name] or 0) > most:
            raise UserError(f"{KEY}.{name}={launcher[name]}: partition '{where.name}' has at most {most}")
    if (launcher["mem_gb"] or 0) * 1024 > where.memory_mb:
        has = f"{where.memory_mb / 1024:.0f} GB"
        raise UserError(f"{KEY}.mem_gb={launcher['mem_gb']}: a node of partition '{where.name}' has {has}")
    if where.minutes is not None and launcher["timeout_min"] > where.minutes:
        raise UserError(
            f"{KEY}.timeout_min={launcher['timeout_min']}: partition '{where.name}' allows {where.minutes}; a run that "
            "needs longer comes back and goes on"
        )
    _agrees(launcher, trainer)


def _partition(name: str | None, known: Mapping[str, Partition]) -> Partition:
    if (name or "") not in known:
        near = did_you_mean(name, [other for other in known if other]) if name else "; this cluster has no default one"
        raise UserError(f"{KEY}.partition={name}: no such partition{near}")
    return known[name or ""]


def _agrees(launcher: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    """Raises UserError where the trainer would use other hardware than was asked for."""
    if launcher["tasks_per_node"] != 1:
        raise UserError(
            f"{KEY}.tasks_per_node={launcher['tasks_per_node']}: expected 1, a process that starts the others"
        )
    if launcher["nodes"] != trainer["nodes"]:
        raise UserError(
            f"{KEY}.nodes={launcher['nodes']}: training uses trainer.nodes={trainer['nodes']}; they must agree"
        )
    gpus, devices = launcher["gpus_per_node"], trainer["devices"]
    if gpus is not None and trainer["accelerator"] != "cpu" and gpus != devices:
        raise UserError(f"{KEY}.gpus_per_node={gpus}: training uses trainer.devices={devices}; they must agree")
    if not gpus and trainer["accelerator"] == "gpu" and launcher["gres"] is None:
        raise UserError(f"trainer.accelerator=gpu: no GPU is asked for; write {KEY}.gpus_per_node={devices}")


def _minutes(limit: str) -> int | None:
    """ "1-02:30:00", "02:30:00", "30:00" or "infinite" in minutes."""
    if not limit[0].isdigit():
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes = (parts[0], parts[1]) if len(parts) == 3 else (0, parts[0])
    return 60 * (24 * int(days or 0) + hours) + minutes


def watch_without_accounting() -> None:
    """Let submitit ask `squeue` how its jobs are where `sacct` has no accounting to answer from: it would wait forever
    for a job that was killed.
    """
    from submitit.slurm.slurm import SlurmJob

    try:
        subprocess.run(["sacct", "--noheader", "--jobs=1"], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        SlurmJob.watcher = _queue_watcher()
    SlurmJob.watcher._delay_s = 30


def _queue_watcher() -> Any:
    from submitit.slurm.slurm import SlurmInfoWatcher

    class QueueWatcher(SlurmInfoWatcher):
        """submitit's, told by squeue, which forgets a job some minutes after its end (MinJobAge)."""

        def _make_command(self) -> list[str] | None:
            asked = super()._make_command()
            return asked and ["squeue", "--all", "--array", "--states=all", "--format=%i|%T|%N"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            told = string.decode() if isinstance(string, bytes) else string
            _, *lines = told.splitlines()
            found = super().read_info("\n".join(["JobID|State|NodeList", *lines]))
            for job in found.values():
                job["State"] = "RUNNING" if job["State"] in UNDER_WAY else job["State"]
            forgotten = {"State": "FORGOTTEN"}
            return {job: found.get(job, forgotten) for job in self._registered} | found

    return QueueWatcher()
