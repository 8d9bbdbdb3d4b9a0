"""What busy neighbours cost: the step of a GAN on all cores, in quiet and beside as many busy processes.

    python experiments/throughput/neighbours.py [--rounds 5] [--seconds 6] [--generator stylegan2]

Each way in which threads of OpenMP may wait for each other is tried in turn, in a process of its own, in quiet and
under load; the ways take turns within a round, so that a machine that changes its speed changes it for all. Writes
neighbours.csv beside this file: medians over the rounds, and each as a share of the quiet speed of the first row.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

WAYS: dict[str, dict[str, str]] = {  # how threads wait
    "libgomp's own: 300,000 turns": {"GOMP_SPINCOUNT": "300000"},
    "medlat: 100,000 turns": {},
    "30,000 turns": {"GOMP_SPINCOUNT": "30000"},
    "PASSIVE: asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--generator", default="stylegan2")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.generator, arguments.seconds)
        return
    speeds: dict[tuple[str, bool], list[float]] = {(way, load): [] for way in WAYS for load in (False, True)}
    for turn in range(arguments.rounds):
        for way in list(WAYS) if turn % 2 == 0 else list(WAYS)[::-1]:
            for load in (False, True):
                speeds[way, load].append(speed(arguments.generator, arguments.seconds, WAYS[way], load))
    base = float(np.median(speeds[next(iter(WAYS)), False]))
    rows = []
    for way in WAYS:
        quiet, loaded = (np.array(speeds[way, load]) for load in (False, True))
        row = {"generator": arguments.generator, "threads wait": way}
        row |= {"quiet, images/s": round(float(np.median(quiet)), 1)}
        row |= {"beside busy processes, images/s": round(float(np.median(loaded)), 1)}
        row |= {"quiet, of the first row": round(float(np.median(quiet / base)), 2)}
        row |= {"busy, of its own quiet": round(float(np.median(loaded) / np.median(quiet)), 2)}
        rows.append(row)
        print(row)
    path = Path(__file__).with_suffix(".csv")
    kept = list(csv.DictReader(path.open())) if path.exists() else []
    kept = [row for row in kept if row["generator"] != arguments.generator]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *rows])


def speed(generator: str, seconds: float, way: Mapping[str, str], load: bool) -> float:
    """Images per second of training steps in a fresh process."""
    kept = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    command = [sys.executable, __file__, "--child", f"--generator={generator}", f"--seconds={seconds}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept | dict(way))
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    cores = len(os.sched_getaffinity(0)) if load else 0
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        time.sleep(0.5)
        return float(process.communicate("go\n")[0])
    finally:
        for neighbour in busy:
            neighbour.kill()


def child(generator: str, seconds: float) -> None:
    """Warm up, say so, and when told take steps for so long."""
    from benchmark import gan_step  # which imports torch, after medlat has said how its threads are to wait

    step = gan_step(generator, 64)
    for number in range(3):
        step(number)
    print("ready", flush=True)
    sys.stdin.readline()
    start, images, number = time.perf_counter(), 0, 1
    while time.perf_counter() < start + seconds:
        images += step(number)
        number += 1
    print(images / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
