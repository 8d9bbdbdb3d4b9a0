"""What a process knows of where it runs: its SLURM job, its share of the cores, where its output goes."""

import os
import stat
import sys
from typing import TextIO


def job() -> str | None:
    """The SLURM job that this process is in, e.g. "17_3" of an array, and how often it was requeued: "17_3 (again, 2)";
    None outside of SLURM.
    """
    ids = [os.environ.get(name) for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")]
    name = "_".join(filter(None, ids)) if all(ids) else os.environ.get("SLURM_JOB_ID")
    again = os.environ.get("SLURM_RESTART_COUNT")
    return f"{name} (again, {again})" if name and again else name


def node() -> int:
    """Which of a job's nodes this is, from 0."""
    return int(os.environ.get("SLURM_NODEID", 0)) if job() else 0


def cores() -> int:
    """The CPU cores that this process may use: what the job asked for, what the process is bound to, or (where several
    run side by side, as joblib starts them) what its share is.
    """
    shares = [os.environ.get(name, "") for name in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")]
    return min([len(os.sched_getaffinity(0)), *(int(share) for share in shares if share.isdigit() and int(share))])


def logged_to_a_file() -> bool:
    """Whether what is printed is kept, as it is in a job of submitit or of SLURM, and wherever stderr is a file."""
    return "SUBMITIT_EXECUTOR" in os.environ or (job() is not None and not sys.stderr.isatty()) or _is_file(sys.stderr)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):  # it is none of the system's, or closed
        return False
