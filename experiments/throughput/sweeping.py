"""What a sweep costs with each launcher of this machine: `python experiments/throughput/sweeping.py [key=value ...]`.

The sweep `seed=0,1,2 directions=sefa,pca,random` of `ct_vae_sefa`, each time over an empty store: one run after the
other with all cores, the same with one thread, and side by side by joblib. The floor of the last is half the wall time
of the one-thread sweep: two processes that share nothing cannot be faster. Memory is what the whole tree of processes
holds at once, pages that they share counted once (PSS, as Linux tells it). Writes sweeping.csv beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from medlat.core.tables import write_table

SWEEP = ("-m", "+experiment=ct_vae_sefa", "seed=0,1,2", "directions=sefa,pca,random", "logger=none")
CORES = len(os.sched_getaffinity(0))
WAYS = {
    "one after the other, all cores": ({}, "basic"),
    "one after the other, one thread": ({"OMP_NUM_THREADS": "1"}, "basic"),
    "side by side": ({}, "joblib"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*", default=["scale=tiny"])
    overrides = parser.parse_args().overrides
    rows = [measured(way, overrides) for way in WAYS]
    single, beside = rows[1]["seconds"], rows[2]
    beside["of_floor"] = beside["seconds"] / (single / min(CORES, 9))
    for row in rows:
        print(json.dumps(row))
    write_table(Path(__file__).with_suffix(".csv"), rows)


def measured(way: str, overrides: list[str]) -> dict[str, Any]:
    """A row: seconds, processor seconds, peak memory, and how many generators were trained."""
    environment, launcher = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "medlat.run", *SWEEP, *overrides, f"hydra/launcher={launcher}"]
        began, before, peak, largest = time.monotonic(), os.times(), 0.0, 0.0
        with open(Path(folder, "log"), "w") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT
            )
            while process.poll() is None:
                held = [proportional_mib(pid) for pid in tree(process.pid)]
                peak, largest = max(peak, sum(held)), max(largest, *held)
                time.sleep(0.5)
        after = os.times()
        assert process.returncode == 0, Path(folder, "log").read_text()
        generators = len(list(Path(folder).glob("outputs/store/generator/*/artifact.json")))
    return {
        "way": way,
        "settings": " ".join(overrides),
        "seconds": time.monotonic() - began,
        "processor_seconds": after[2] + after[3] - before[2] - before[3],
        "peak_mib": peak,
        "largest_process_mib": largest,
        "generators": generators,
        "of_floor": None,
    }


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def proportional_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


if __name__ == "__main__":
    main()
