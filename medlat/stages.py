"""The work of each stage: reads artefacts, leaves files in the folder it is given. `pipeline` says when."""

import csv
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat import build
from medlat.data.batches import in_batches
from medlat.data.slices import Preparation, SliceStore, prepare
from medlat.data.source import SliceSource
from medlat.data.splits import Split
from medlat.data.splits import split as divide
from medlat.evaluation import distance
from medlat.evaluation.readout import Readout, centre_and_scale
from medlat.evaluation.reconstruction import Reconstruction, reconstruct
from medlat.evaluation.semantics import CHANCE, Effect, Quantity, effects, gain, summary
from medlat.evaluation.traversal import latent_sigma, traverse
from medlat.generators.checkpoint import read_generator, save_generator
from medlat.measure.ct import MEASUREMENTS, measure
from medlat.progress import track
from medlat.randomness import generator_for
from medlat.spaces import Directions, ImageSpec, LatentModel
from medlat.store import Artefact, Store
from medlat.tracking import read_records

log = logging.getLogger(__name__)

Made = Mapping[str, Artefact]
BATCH = 256  # images at once where nothing is learnt
READOUT_IMAGES = 4000
READABLE = 0.5  # R² on held-out patients from which a factor counts


def slices(config: DictConfig, source: SliceSource, store: Store, out: Path) -> None:
    """Reads files; leaves the slice store."""
    data = config.data
    salt = data.salt or store.salt()
    workers = config.workers or os.cpu_count() or 1
    how = Preparation(data.image_size, data.field_of_view_mm, data.max_damaged, salt, workers, data.damaged_list)
    prepare(source, how, out)


def split(config: DictConfig, made: Made, out: Path) -> None:
    """Reads the slice store; leaves the indices of training, validation and test slices."""
    opened = SliceStore.open(made["slices"].path)
    parts = divide(opened.patient, opened.columns["position_mm"], **build.plain(config.data.split))
    parts.save(out / "split.json")
    log.info(
        "split: %d training, %d validation, %d test slices", len(parts.train), len(parts.validation), len(parts.test)
    )


def generator(config: DictConfig, made: Made, tracker: Any, out: Path) -> None:
    """Reads slices and split; leaves the trained generator and the curves of its training."""
    from medlat.data.batches import SliceData
    from medlat.generators.training import train

    opened, parts, spec = _data(config, made)
    network = build.network(config, spec)
    schedule, hardware = build.schedule(config), build.hardware(config)
    module = build.module(config, network, schedule.steps)
    data = SliceData(opened, parts, spec, schedule.batch_size, schedule.steps, config.seed, build.augment(config))
    train(module, data, schedule, hardware, out, tracker.replay)
    recipe = build.plain(config.generator.network)
    save_generator(out / "generator.safetensors", module.result, recipe, spec)  # type: ignore[arg-type]


def replay_curves(generator: Artefact, tracker: Any) -> None:
    """The curves of a generator that this run did not train itself."""
    if not tracker.has("train/loss"):
        tracker.replay(read_records(generator.path / "metrics.jsonl"))


def directions(config: DictConfig, section: DictConfig, made: Made, out: Path) -> None:
    """Reads the generator; leaves directions."""
    model = load_generator(made["generator"], build.hardware(config).device)
    build.finder(section).find(model).save(out / "directions.safetensors")


def evaluation(config: DictConfig, methods: Mapping[str, DictConfig], made: Made, out: Path) -> None:
    """Reads everything before it; leaves numbers, tables and the images for figures."""
    opened, parts, spec = _data(config, made)
    settings = config.evaluation
    hardware = build.hardware(config)
    device = hardware.device
    model = load_generator(made["generator"], device)
    numbers: dict[str, float] = {}
    with inference_precision(hardware):
        numbers |= _reconstruction(opened, parts, spec, model, device, settings.active_kl, out)
        samples = sample_images(model, settings.samples, config.seed)
        real, measured = _measured(opened, parts, spec)
        sampled = measure(_physical(samples, spec), spec.spacing_mm)
        numbers |= _distances(config, opened, parts, spec, samples, sampled, measured["test"], out)
        readout = _readout(opened, parts, measured, numbers)
        seen = np.concatenate([measured["test"], measured["train"]])
        rows = _semantics(config, methods, made, model, spec, seen, readout, out)
    for kind in sorted({row.kind for row in rows}):
        numbers |= _summaries(rows, kind, config.seed)
    _write_rows(out / "semantics.csv", [row.row() for row in rows])
    np.savez(out / "images.npz", real=real, samples=_physical(samples[: len(real)], spec))
    clean = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    (out / "metrics.json").write_text(json.dumps(clean, indent=2) + "\n")


def load_generator(artefact: Artefact, device: torch.device) -> Any:
    """The trained network, ready to decode."""
    recipe, image, weights = read_generator(artefact.path / "generator.safetensors")
    network = build.network_from(recipe, image)
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def inference_precision(hardware: Any) -> Any:
    """bf16 where training used it on a GPU; float32 on the CPU, where decoding is cheap and numbers are to be exact."""
    return torch.autocast("cuda", torch.bfloat16, enabled=hardware.device.type == "cuda")


@torch.inference_mode()
def sample_images(model: LatentModel, n: int, seed: int) -> Tensor:
    """n images from the prior of the default space, [n, C, H, W] in [-1, 1], on the CPU."""
    space = next(iter(model.spaces))
    codes = model.sample(n, space, generator_for(seed, "samples"))
    return torch.cat([model.decode(part, space).float().cpu() for part in codes.split(BATCH)])


def _data(config: DictConfig, made: Made) -> tuple[SliceStore, Split, ImageSpec]:
    opened = SliceStore.open(made["slices"].path)
    return opened, Split.load(made["split"].path / "split.json"), opened.spec(build.window(config))


def _physical(images: Tensor, spec: ImageSpec) -> np.ndarray:
    return spec.to_physical(images)[:, 0].numpy()


def _reconstruction(
    opened: SliceStore, parts: Split, spec: ImageSpec, model: Any, device: torch.device, active_kl: float, out: Path
) -> dict[str, float]:
    batches = (opened.fetch(rows, spec) for rows in in_batches(parts.test, BATCH))
    result: Reconstruction = reconstruct(
        model, track(batches, "reconstructing held-out slices", -(-len(parts.test) // BATCH)), device
    )
    decoded = spec.to_physical(torch.from_numpy(result.images))[:, 0].numpy()
    order = np.argsort(result.psnr)
    shown = np.unique(np.concatenate([order[:2], order[len(order) // 2 - 1 : len(order) // 2 + 1], order[-2:]]))
    np.savez(
        out / "reconstruction.npz",
        psnr=result.psnr,
        ms_ssim=result.ms_ssim,
        kl=result.kl,
        real=opened.physical(parts.test[shown], spec),
        decoded=decoded[shown],
        shown=shown,
    )
    return {f"reconstruction/{name}": value for name, value in result.summary(active_kl).items()}


def _measured(opened: SliceStore, parts: Split, spec: ImageSpec) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Some held-out images for figures, and measurements of test and training images."""
    seen = parts.train[np.linspace(0, len(parts.train) - 1, min(len(parts.train), READOUT_IMAGES)).astype(int)]
    measured = {}
    for name, rows in (("test", parts.test), ("train", seen)):
        batches = track(in_batches(rows, BATCH), f"measuring {name} slices", -(-len(rows) // BATCH))
        measured[name] = np.concatenate([measure(opened.physical(part, spec), spec.spacing_mm) for part in batches])
    measured["train_rows"] = seen
    spread = parts.test[np.linspace(0, len(parts.test) - 1, min(len(parts.test), 24)).astype(int)]
    return opened.physical(spread, spec), measured


def _distances(
    config: DictConfig,
    opened: SliceStore,
    parts: Split,
    spec: ImageSpec,
    samples: Tensor,
    sampled: np.ndarray,
    measured: np.ndarray,
    out: Path,
) -> dict[str, float]:
    """Samples against held-out patients, and held-out patients against each other (the floor)."""
    first, second = _halves(opened.patient[parts.test])
    n = min(len(first), len(second), len(samples))
    if n < 2:
        return {}
    one, two = (opened.fetch(parts.test[half[:n]], spec) for half in (first, second))
    found = distance.patch_distance(samples[:n], one)
    floor = distance.patch_distance(two, one)
    rows = [
        {
            "name": f"sliced Wasserstein, {side}²",
            "key": f"swd_{side}",
            "value": found[side],
            "floor": floor[side],
            "unit": "×10⁻³",
        }
        for side in found
    ]
    _, scale = centre_and_scale(measured)
    ours, reference, other = (x / scale for x in (sampled[:n], measured[first[:n]], measured[second[:n]]))
    known = np.isfinite(measured).mean(axis=0) > 0.9  # a measurement that is often absent would leave no rows
    gap, floor_gap = (distance.frechet(x[:, known], reference[:, known]) for x in (ours, other))
    rows.append(
        {"name": "Fréchet over measurements", "key": "fd_measurements", "value": gap, "floor": floor_gap, "unit": ""}
    )
    if config.evaluation.inception:
        features = [distance.inception_features(x, Path(config.evaluation.inception)) for x in (samples[:n], one, two)]
        values = (distance.frechet(features[0], features[1]), distance.frechet(features[2], features[1]))
        rows.append(
            {"name": "FID (Inception)", "key": "fid_inception", "value": values[0], "floor": values[1], "unit": ""}
        )
    _write_rows(out / "distances.csv", [row | {"images": n} for row in rows])
    numbers = {f"distance/{row['key']}": float(row["value"]) for row in rows}  # type: ignore[arg-type]
    return numbers | {f"distance/{row['key']}_floor": float(row["floor"]) for row in rows}  # type: ignore[arg-type]


def _halves(patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the slices of every other patient, and of the others; of one patient, every other slice."""
    numbers = np.unique(patient)
    chosen = np.isin(patient, numbers[::2]) if len(numbers) > 1 else np.arange(len(patient)) % 2 == 0
    rng = np.random.default_rng(0)
    return rng.permutation(np.flatnonzero(chosen)), rng.permutation(np.flatnonzero(~chosen))


def _readout(
    opened: SliceStore, parts: Split, measured: dict[str, np.ndarray], numbers: dict[str, float]
) -> Readout | None:
    """What reads the known factors from measurements: those that it can read on held-out patients (R² >= 0.5)."""
    factors = opened.factors()
    if not factors:
        return None
    rows = measured["train_rows"]
    known = {name: values[rows] for name, values in factors.items()}
    readout = Readout.fit(measured["train"], known, opened.patient[rows])
    scores = readout.r2(measured["test"], {name: values[parts.test] for name, values in factors.items()})
    numbers |= {f"readout/r2_{name}": value for name, value in scores.items()}
    readable = [name for name, value in scores.items() if value >= READABLE]
    return readout.keep(readable) if readable else None


def _semantics(
    config: DictConfig,
    methods: Mapping[str, DictConfig],
    made: Made,
    model: LatentModel,
    spec: ImageSpec,
    real: np.ndarray,
    readout: Readout | None,
    out: Path,
) -> list[Effect]:
    settings = config.evaluation
    steps = list(settings.steps)
    _, std = centre_and_scale(real)
    quantities = [Quantity(m.name, m.unit, "measurement", float(s)) for m, s in zip(MEASUREMENTS, std, strict=True)]
    factors = [] if readout is None else _factor_quantities(readout)
    rows: list[Effect] = []
    for place in methods:
        found = Directions.load(made[place].path / "directions.safetensors")
        codes = model.sample(settings.base_codes, found.space.name, generator_for(config.seed, "base codes"))
        base = _typical(model, codes, found.space.name, spec)
        sigma = latent_sigma(model, found, generator_for(config.seed, "sigma"))
        shown, readings = [], []
        traversals: Iterator[Tensor] = traverse(model, found, codes, steps, sigma)
        for name, images in zip(
            found.names, track(traversals, f"measuring {found.method} directions", len(found)), strict=True
        ):
            physical = _physical(images.flatten(0, 1), spec)
            values = measure(physical, spec.spacing_mm).reshape(len(codes), len(steps), -1)
            rows += effects(values, steps, quantities, found.method, name, config.seed)
            if readout is not None:
                rows += effects(readout.predict(values), steps, factors, found.method, name, config.seed)
            shown.append(physical.reshape(*images.shape[:2], *physical.shape[1:])[base])
            readings.append(values[base])
        np.savez(
            out / f"traversal_{found.method}.npz",
            images=np.stack(shown).astype(np.float32),
            values=np.stack(readings),
            steps=steps,
        )
    return rows


def _summaries(rows: list[Effect], kind: str, seed: int) -> dict[str, float]:
    """Purity, coverage and gain over random directions of every method."""
    by_method = {m: [r for r in rows if r.method == m] for m in dict.fromkeys(r.method for r in rows)}
    numbers: dict[str, float] = {}
    for method, own in by_method.items():
        found = summary(own, kind, seed)
        if method != CHANCE and CHANCE in by_method:
            found |= gain(own, by_method[CHANCE], kind, seed)
        numbers |= {f"semantics/{method}/{kind}_{name}": value for name, value in found.items()}
    return numbers


def _factor_quantities(readout: Readout) -> list[Quantity]:
    from medlat.data.ct.phantom import FACTORS

    units = {factor.name: factor.unit for factor in FACTORS}
    return [Quantity(n, units.get(n, ""), "factor", float(s)) for n, s in zip(readout.names, readout.std, strict=True)]


def _typical(model: LatentModel, codes: Tensor, space: str, spec: ImageSpec) -> int:
    """The base code whose image is nearest to the median in all measurements: the one that figures show."""
    with torch.inference_mode():
        values = measure(_physical(model.decode(codes, space).float().cpu(), spec), spec.spacing_mm)
    centre, scale = centre_and_scale(values)
    far = np.abs(values - centre) / scale
    return int(np.argmin(np.where(np.isfinite(far), far, 3.0).mean(axis=1)))


def _write_rows(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def report(config: DictConfig, methods: Mapping[str, DictConfig], made: Made, tracker: Any, folder: Path) -> None:
    """Reads the evaluation; leaves tables, figures and the page in the run's folder, and mirrors them to W&B."""
    from medlat.report.compile import Inputs, compile_report

    found = made["evaluation"].path
    numbers = json.loads((found / "metrics.json").read_text())
    tracker.result({name: math.nan if value is None else value for name, value in numbers.items()})
    shutil.copy(made["directions"].path / "directions.safetensors", folder)
    shutil.copy(found / "semantics.csv", folder)
    environment = json.loads((folder / "environment.json").read_text())
    curves = [vars(record) for record in read_records(made["generator"].path / "metrics.jsonl")]
    info = json.loads((made["slices"].path / "slices.json").read_text())
    inputs = Inputs(
        evaluation=found,
        curves=curves,
        controls=[place.removeprefix("controls/") for place in methods if place.startswith("controls/")],
        measurements=[(m.name, m.unit, m.factor) for m in MEASUREMENTS],
        window=tuple(config.report.window_hu),
        directions=config.report.directions,
        gifs=config.report.gifs,
        active_kl=config.evaluation.active_kl,
        title=f"{config.name}: what the latent directions mean",
        run=_run_facts(environment, info),
        warnings=_warnings(config, info),
    )
    pictures = compile_report(inputs, folder)
    tracker.images("figures", pictures)
    with open(folder / "semantics.csv", newline="") as file:
        tracker.table("semantics", list(csv.DictReader(file)))
    tracker.artifact(f"{config.name}-directions", "directions", folder / "directions.safetensors")
    log.info("report: %s", folder / "report" / "index.html")


def _run_facts(environment: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, str]:
    return {
        "command": environment["command"],
        "data": f"{info['slices']:,} slices of {len(info['patients']):,} patients",
        "seed": str(environment["seed"]),
        "device": f"{environment['device']}, {environment['cores']} cores, {environment['precision']}",
        "medlat": f"{environment['medlat']} ({(environment['commit'] or 'wheel')[:12]})",
        "torch": environment["libraries"]["torch"],
        "date": time.strftime("%Y-%m-%d"),
    }


def _warnings(config: DictConfig, info: Mapping[str, Any]) -> list[str]:
    found = []
    patients = len(info["patients"])
    if "phantom" in str(config.data.source["_target_"]):
        found.append("Phantom data: computed images stand in for patients.")
    elif patients < 20:
        found.append(
            f"Only {patients} patient{'s' * (patients > 1)}: numbers on held-out slices say little about others."
        )
    if config.data.split.by == "slab":
        found.append("Training and held-out slices are of the same patients: the results flatter.")
    if info["damaged"]:
        found.append(f"{info['damaged']} damaged files were left out.")
    return found
