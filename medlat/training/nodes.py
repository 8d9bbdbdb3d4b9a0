"""Several machines that train one generator: how they find each other, by a file on the disk that all of them see."""

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from medlat.core import machine
from medlat.core.errors import ArgumentError
from medlat.core.files import read_json, write_json
from medlat.training.settings import Hardware

MEETING = "meeting.json"


@dataclass(frozen=True)
class Meeting:
    """Where the first node waits for the others. job: which attempt of which SLURM job; checkpoint: the file name that
    all go on from, None for the start.
    """

    job: str | None
    address: str
    port: int
    checkpoint: str | None

    def attend(self) -> None:
        """Tell Lightning and torch where to meet, and which of the nodes this one is."""
        os.environ.update(MASTER_ADDR=self.address, MASTER_PORT=str(self.port), NODE_RANK=str(machine.node()))


def call(folder: Path, checkpoint: str | None) -> Meeting:
    """Of the first node: choose a port and say so in `folder`."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    meeting = Meeting(machine.job(), socket.gethostname(), port, checkpoint)
    write_json(folder / MEETING, asdict(meeting))
    return meeting


def called(folder: Path) -> Meeting | None:
    """The meeting of this attempt of this job, if the first node has called it."""
    told = read_json(folder / MEETING)
    return Meeting(**told) if told is not None and told["job"] == machine.job() else None


def check(hardware: Hardware) -> None:
    """Raises UserError where the SLURM job that this process is in has another number of nodes."""
    found = int(os.environ.get("SLURM_JOB_NUM_NODES", 1))
    if hardware.nodes != found:
        here = f"this SLURM job has {found}" if machine.job() else "there is one outside of a SLURM job"
        expected = "hydra/launcher=submitit_slurm asks for as many as it says"
        raise ArgumentError("nodes", f"{here}; {expected}", hardware.nodes, of=hardware)
