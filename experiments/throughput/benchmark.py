"""How fast this machine trains, reads DICOM and fetches batches, each beside the floor that limits it.

    python experiments/throughput/benchmark.py [--seconds 5]

Numbers of one run belong together: compare ratios, not seconds of different days. Writes results.csv beside this file.
"""

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import medlat  # noqa: F401  (before torch, which reads how its threads are to wait when it is loaded)  # isort: skip
import numpy as np
import pydicom
import torch
from hydra import compose, initialize_config_dir

from medlat.config.locate import config_dir
from medlat.core.spaces import ImageSpec
from medlat.core.tables import write_table
from medlat.data.batches import ShuffledBatches
from medlat.data.ct.dicom import CTDicom
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.resample import ToGrid
from medlat.generators.vae.networks import VAE
from medlat.generators.vae.objective import VAEObjective
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom
from medlat.steps import builders
from medlat.training.optimisation import Optimisation
from medlat.training.settings import cpu_has_bf16

CORES = os.cpu_count() or 1
BATCH = 32  # of the default experiment
FAST = torch.bfloat16 if cpu_has_bf16() else torch.float32


def rate(step: Callable[[], int], seconds: float) -> float:
    """Items per second: the median over repeated calls of `step`, which returns how many it did."""
    step()
    speeds, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(speeds) < 3:
        start = time.perf_counter()
        count = step()
        speeds.append(count / (time.perf_counter() - start))
    return float(np.median(speeds))


def training(side: int, seconds: float) -> list[dict]:
    """The step of the default VAE: whole, without the optimiser, in float32, and the matrix work alone."""
    spec = ImageSpec(1, side, side, -1000.0, 2000.0, "HU", 400 / side)
    network = VAE(spec, latent_dim=24, capacity=48).to(memory_format=torch.channels_last)
    optimisation, objective = Optimisation(), VAEObjective()
    optimizer, averaged = optimisation.adam(network), optimisation.averaged(network)
    images = torch.rand(BATCH, 1, side, side) * 2 - 1

    def gradients(dtype: torch.dtype) -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = objective(network, images, torch.randn(BATCH, 24))["loss"]
        optimizer.zero_grad()
        loss.backward()
        return BATCH

    def whole(dtype: torch.dtype) -> int:
        gradients(dtype)
        optimizer.step()
        averaged.update_parameters(network)
        return BATCH

    fast = FAST
    found = rate(lambda: whole(fast), seconds)
    name = f"VAE training step, {side}²"
    precision = str(fast).removeprefix("torch.")
    return [
        row(name, f"whole step, {precision}", found, "images/s"),
        row(name, f"forward and backward only, {precision}", rate(lambda: gradients(fast), seconds), "images/s", found),
        row(name, "whole step, float32", rate(lambda: whole(torch.float32), seconds), "images/s", found),
        row(name, f"share of the step in convolutions: {convolutions(lambda: whole(fast)):.0%}", float("nan"), ""),
    ]


def gan(name: str, option: str, side: int, seconds: float) -> list[dict]:
    """The step of a GAN at its laptop size: whole, in float32, and with its penalties left out."""
    step, fast = gan_step(option, side), FAST

    def sixteen(dtype: torch.dtype) -> int:
        return sum(step(number, dtype) for number in range(16))

    found = rate(lambda: sixteen(fast), seconds)
    what, precision = f"{name} training step, {side}²", str(fast).removeprefix("torch.")
    return [
        row(what, f"mean of 16 steps, one with R1 if it has that, {precision}", found, "images/s"),
        row(what, f"a step without penalties, {precision}", rate(lambda: step(1, fast), seconds), "images/s", found),
        row(what, "mean of 16 steps, float32", rate(lambda: sixteen(torch.float32), seconds), "images/s", found),
        row(what, f"share of the step in convolutions: {convolutions(lambda: step(1, fast)):.0%}", float("nan"), ""),
    ]


def gan_step(option: str, side: int) -> Callable[..., int]:
    """step(number, dtype): the step of that number of a GAN at its laptop size; returns how many images it took."""
    module, images = _gan(option, side)
    optimisers, _ = module.configure_optimizers()

    def step(number: int, dtype: torch.dtype = FAST) -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            module._turn(module.discriminator, optimisers[1], module._discriminator_terms, [images], number)
            module._turn(module.network, optimisers[0], module._generator_terms, [images], number)
        return len(images)

    return step


def _gan(option: str, side: int) -> tuple[Any, torch.Tensor]:
    """The module of a generator's default configuration, outside a Trainer, and a batch."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("config", overrides=[f"generator={option}", f"data.image_size={side}"])
    network = builders.network(config, ImageSpec(1, side, side, -1000.0, 2000.0, "HU", 400 / side))
    module: Any = builders.module(config, network, steps=1).to(memory_format=torch.channels_last)
    module.manual_backward = lambda loss: loss.backward()
    return module, torch.rand(builders.schedule(config).batch_size, 1, side, side) * 2 - 1


def convolutions(step: Callable[[], int]) -> float:
    """The share of a step's time that convolutions and their gradients take."""
    with torch.profiler.profile() as profile:
        for _ in range(3):
            step()
    times = {e.key: e.self_cpu_time_total for e in profile.key_averages()}
    return sum(t for name, t in times.items() if "conv" in name) / sum(times.values())


def dicom(folder: Path, seconds: float) -> list[dict]:
    """512² DICOM to a store of 64² slices: all cores, one core, and what the steps take by themselves on one core."""
    few, many = (CTDicom(str(folder / name)) for name in (_dicom(folder, "few", 12), _dicom(folder, "many", 80)))
    paths = sorted((folder / "few").rglob("*.dcm"))

    def into_store(source: CTDicom, workers: int) -> tuple[int, float]:
        out = Path(tempfile.mkdtemp(dir=folder))
        start = time.perf_counter()
        prepare(source, Preparation(64, 400.0, 0.0, "salt", workers), out)
        return len(ImageStore.open(out)), time.perf_counter() - start

    def steady(workers: int) -> float:
        """Slices per second of the larger set beyond the smaller: without the start of processes and imports."""
        (n, short), (m, long) = into_store(few, workers), into_store(many, workers)
        return (m - n) / (long - short)

    def decode() -> int:
        for path in paths:
            _ = pydicom.dcmread(path).pixel_array
        return len(paths)

    def load() -> int:
        for path in paths:
            path.read_bytes()
        return len(paths)

    torch.set_num_threads(1)
    chunks = few.scan(lambda f, items, _: map(f, items)).chunks
    reading = rate(lambda: sum(1 for c in chunks for _ in few.read(c)), seconds)
    slices = list(few.read(chunks[0]))
    grid = ToGrid(64, 400.0)
    gridding = rate(lambda: [grid(s) for s in slices] and len(slices), seconds)
    decoding, loading = rate(decode, seconds), rate(load, seconds)
    torch.set_num_threads(CORES)
    into_store(few, CORES)  # the first starts from a cold cache
    every, single = steady(CORES), steady(1)
    name = "DICOM 512² to store 64²"
    return [
        row(name, f"everything, {CORES} processes, steady state", every, "slices/s"),
        row(name, "everything, 1 process, steady state", single, "slices/s", every),
        row(name, "decoding, HU and orientation, 1 core", reading, "slices/s", every),
        row(name, "decoding alone (pydicom), 1 core", decoding, "slices/s", every),
        row(name, "cutting and resampling to 64², 1 core", gridding, "slices/s", every),
        row(name, "reading the files' bytes, 1 core", loading, "slices/s", every),
    ]


def _dicom(folder: Path, name: str, patients: int) -> str:
    """A tree of 512² DICOM files with pixels of 0.7 mm, as scanners make them."""
    write_dicom_series(
        folder / name, CTPhantom(patients=patients, slices_per_patient=8, size=512, field_of_view_mm=358.4)
    )
    return name


def batches(folder: Path, seconds: float) -> list[dict]:
    """Whole batches of 64² from the store, beside copying the same bytes."""
    out = folder / "store"
    out.mkdir()
    prepare(CTPhantom(100, 16, 64), Preparation(64, 400.0, 0.0, "salt", CORES), out)
    store = ImageStore.open(out)
    spec = store.spec((-1000.0, 2000.0))
    sampler = ShuffledBatches(np.arange(len(store)), 256, 10**9, seed=0)
    indices = [sampler.batch(step) for step in range(64)]
    found = rate(lambda: sum(len(store.fetch(i, spec)) for i in indices), seconds)
    gathered = rate(lambda: sum(len(store.images[i]) for i in indices), seconds)
    raw = torch.from_numpy(store.images[indices[0]])
    converted = rate(lambda: sum(len(spec.to_network(raw)) for _ in indices), seconds)
    name = "store to batches, 64²"
    return [
        row(name, "fetch: gather, range, float32", found, "slices/s"),
        row(name, "gather from the memory map only", gathered, "slices/s", found),
        row(name, "range and float32 only", converted, "slices/s", found),
    ]


def memory(folder: Path) -> list[dict]:
    """Peak memory of preparing a data set and reading it whole in batches, for one and for eight times the slices."""
    rows = []
    for patients in (50, 400):
        peak = _peak_in_child(folder / f"memory{patients}", patients)
        rows.append(row("memory, 64²", f"prepare and read {patients * 16:,} slices", peak, "MiB peak"))
    return rows


def _peak_in_child(out: Path, patients: int) -> float:
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        torch.set_num_threads(1)
        out.mkdir()
        prepare(CTPhantom(patients, 16, 64), Preparation(64, 400.0, 0.0, "salt", 1), out)
        store = ImageStore.open(out)
        for start in range(0, len(store), 256):
            store.fetch(np.arange(start, min(start + 256, len(store))), store.spec((-1000.0, 2000.0)))
        os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return float(os.read(read, 64))


def row(what: str, part: str, value: float, unit: str, whole: float | None = None) -> dict:
    return {"what": what, "part": part, "value": value, "unit": unit, "ratio": value / whole if whole else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = memory(folder)  # first: it forks, which threads would forbid
        rows += batches(folder, seconds) + dicom(folder, seconds) + training(64, seconds) + training(128, seconds)
        rows += gan("StyleGAN2", "stylegan2", 64, seconds) + gan("StyleGAN2", "stylegan2", 128, seconds)
        rows += gan("DCGAN", "dcgan", 64, seconds) + gan("DCGAN", "dcgan", 128, seconds)
    written(rows, Path(__file__).with_name("results.csv"))


def written(rows: list[dict], path: Path) -> None:
    """Print the rows as a table, and write them to a CSV."""
    print(f"{platform.processor() or platform.machine()}, {CORES} cores, torch {torch.__version__}\n")
    print("| what | part | value | of the whole |\n| --- | --- | ---: | ---: |")
    for r in rows:
        value = "" if np.isnan(r["value"]) else f"{r['value']:,.0f} {r['unit']}"
        ratio = "" if r["ratio"] is None else f"{r['ratio']:.3g}x"
        print(f"| {r['what']} | {r['part']} | {value} | {ratio} |")
    write_table(path, rows)


if __name__ == "__main__":
    main()
