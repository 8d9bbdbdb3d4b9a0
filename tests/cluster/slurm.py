"""A SLURM of this machine's own: controller, two nodes, two partitions, started by hand below one folder.

No systemd, no cgroups, no accounting: what a container has. Debian's packages slurmctld, slurmd, slurm-client, munge.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
CONFIG = """\
ClusterName=medlat
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld
SlurmdLogFile={root}/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 RealMemory=8000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=60 PriorityTier=1 GraceTime=5 PreemptMode=REQUEUE State=UP
PartitionName=high Nodes=n1,n2 MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""


def install() -> None:
    """Debian's packages, where they are missing; raises where this is not root."""
    if shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged"):
        return
    assert os.geteuid() == 0, "SLURM is not installed, and only root can do so"
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], **quiet)


class Cluster:
    """Starts it below `root`; `stop` ends every process of it. environment: what its commands need to find it."""

    def __init__(self, root: Path) -> None:
        self.root, self.host = root, socket.gethostname().split(".")[0]
        for name in ("munge", "state", "spool", "log"):
            (root / name).mkdir(parents=True, mode=0o700)
        _resolvable(self.host)
        self.environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        ports = dict(zip(("port", "first", "second"), _free_ports(3), strict=True))
        (root / "slurm.conf").write_text(CONFIG.format(root=root, host=self.host, **ports))
        (root / "munge" / "key").write_bytes(secrets.token_bytes(1024))
        (root / "munge" / "key").chmod(0o400)
        munge = {name: root / "munge" / name for name in ("key", "socket", "pid", "log", "seed")}
        options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in munge.items()]
        self.call("munged", "--force", *options)
        self.call("slurmctld")
        for node in ("n1", "n2"):
            self.call("slurmd", "-N", node)
        idle = ("sinfo", "--noheader", "--partition=low", "--states=idle", "--format=%D")
        self.until(lambda: self.call(*idle).strip() == "2", "two idle nodes")

    def call(self, *command: str) -> str:
        """What a command prints. Raises CalledProcessError."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """The ids of jobs, e.g. "17_0" of an array; all that are not at an end, or those in the given states."""
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.call("squeue", "--noheader", "--array", "--format=%i", *chosen).split()

    def submitted(self) -> set[str]:
        """The ids of all jobs that there ever were."""
        return set(self.jobs("all"))

    def change(self, job: str, **properties: object) -> None:
        """What `scontrol update` can, e.g. TimeLimit=30."""
        self.call("scontrol", "update", f"jobid={job}", *(f"{name}={value}" for name, value in properties.items()))

    def hurry(self) -> None:
        """Let jobs that were queued again start now instead of in two minutes."""
        waiting = self.call("squeue", "--noheader", "--partition=low", "--states=PENDING", "--format=%i")
        for job in waiting.split():
            subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now"], env=self.environment, check=False)

    def until(self, true: Callable[[], object], what: str, within: float = 120.0) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + within
        while not true():
            queue = "" if time.monotonic() < deadline else self.call("squeue", "--all", "--states=all")
            assert not queue, f"no {what} within {within:.0f} s:\n{queue}"
            time.sleep(0.5)

    def stop(self) -> None:
        """End jobs, daemons and munge."""
        subprocess.run(["scancel", "--user=root"], env=self.environment, check=False)
        time.sleep(1.0)
        subprocess.run(["scontrol", "shutdown"], env=self.environment, check=False)
        subprocess.run(["munged", "--stop", f"--socket={self.root}/munge/socket"], check=False)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _resolvable(host: str) -> None:
    try:
        socket.gethostbyname(host)
    except OSError:
        with open("/etc/hosts", "a") as hosts:
            hosts.write(f"127.0.0.1 {host}\n")


if __name__ == "__main__":
    install()
