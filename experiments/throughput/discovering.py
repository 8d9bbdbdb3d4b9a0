"""How fast directions are found without labels: `python experiments/throughput/discovering.py [--reference DIR]`.

Shift-reconstruction in pairs a second, ours beside the floor (both decodings and the gradient of one, nothing else)
and, with --reference, beside the authors' public code (github.com/julschoen/Latent-Space-Exploration-CT, cloned to
DIR) on the same generator, batch and number of directions. Jacobian SVD in seconds. Generators have random weights,
which decide no time. Writes discovering.csv beside this file.
"""

import argparse
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from medlat.config.locate import config_dir
from medlat.core.spaces import ImageSpec
from medlat.core.tables import write_table
from medlat.directions.jacobian import Jacobian
from medlat.steps import builders

BATCH, DIRECTIONS, SECONDS = 128, 100, 4.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", type=Path)
    reference = parser.parse_args().reference
    rows = [row for name in ("dcgan", "vae_resnet") for row in training_rows(name, reference)]
    rows += [jacobian_row(name) for name in ("dcgan", "vae_resnet", "vae")]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| generator | what | value | of the floor |\n| --- | --- | ---: | ---: |")
    for row in rows:
        share = f"{row['of_floor']:.2f}" if row["of_floor"] else ""
        print(f"| {row['generator']} | {row['what']} | {row['value']:.3g} {row['unit']} | {share} |")
    write_table(Path(__file__).with_name("discovering.csv"), rows)


def training_rows(name: str, reference: Path | None) -> list[dict[str, Any]]:
    """Pairs a second of the floor, ours and theirs, taken in turn."""
    config = composed(name, "directions=shift_reconstruction", "directions/deformator=projective100")
    model = generator(config, 64)
    runs: dict[str, Callable[[], None]] = {"decoding and its gradient alone, bf16": floor(model)}
    runs["ours, with the held-out one, bf16"] = ours(config, model, torch.bfloat16)
    runs["ours, with the held-out one, float32"] = ours(config, model, torch.float32)
    runs["ours, without the held-out one, bf16"] = ours(config, model, torch.bfloat16, with_held_out=False)
    if reference is not None:
        runs["the authors' code, float32"] = theirs(reference, model)
    rates: dict[str, list[float]] = {what: [] for what in runs}
    for _ in range(3):  # in turn, so that a busy moment of the machine hits all
        for what, run in runs.items():
            rates[what].append(rate(run))
    best = {what: max(values) for what, values in rates.items()}
    first = next(iter(best.values()))
    title = f"{name}, 64², batch {BATCH}, K={DIRECTIONS}, LeNet"
    return [
        {"generator": title, "what": what, "value": value, "unit": "pairs/s", "of_floor": value / first}
        for what, value in best.items()
    ]


class NoHeldOut(nn.Module):
    """Knows nothing, and takes no time."""

    def forward(self, image: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(image), DIRECTIONS), torch.zeros(len(image))


def ours(config: Any, model: Any, dtype: torch.dtype, with_held_out: bool = True) -> Callable[[], None]:
    """A training step of both reconstructors and the directions, without Lightning around it.

    with_held_out: whether there is a held-out reconstructor, which the authors' code is without.
    """
    found: Any = builders.finder(config.directions)
    module = found.module(model)
    module.batch_size = BATCH
    module.log_dict = lambda *arguments, **named: None
    if not with_held_out:
        module.network.held_out = NoHeldOut()
    optimiser = module.optimisation.adam(module.network)
    module.network.to(memory_format=torch.channels_last).train()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = module.training_step(torch.zeros(()), 0)
        loss.backward()
        optimiser.step()

    return step


def floor(model: Any) -> Callable[[], None]:
    moves = torch.zeros(BATCH, 32, requires_grad=True)

    def step() -> None:
        codes = torch.randn(BATCH, 32)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                model.decode(codes)
            model.decode(codes + moves).float().sum().backward()

    return step


def theirs(folder: Path, model: Any) -> Callable[[], None]:
    """One step of the authors' own training loop, its logging and drawing taken out."""
    for name in ("tensorboardX", "torchvision", "torchvision.transforms", "torchvision.utils", "torchvision.models"):
        sys.modules[name] = types.ModuleType(name)
    for module, names in {
        "tensorboardX": ["SummaryWriter"],
        "torchvision.transforms": ["ToPILImage", "Resize"],
        "torchvision.utils": ["make_grid"],
        "torchvision.models": ["resnet18"],
    }.items():
        for name in names:
            setattr(sys.modules[module], name, lambda *arguments, **named: None)
    np.product = np.prod  # type: ignore[attr-defined]  # gone from NumPy 2
    sys.path.insert(0, str(folder))
    from LatentTrainer import Params, Trainer
    from Models.Deformator import LatentDeformator
    from Models.ShiftPredictor import LeNetShiftPredictor
    from Models.utils import DeformatorType

    class Wrapped(nn.Module):
        """The same generator, as their loop wants it."""

        dim_z = 32

        def forward(self, codes: Tensor) -> Tensor:
            return model.decode(codes.flatten(1))

        def gen_shifted(self, codes: Tensor, shift: Tensor) -> Tensor:
            return model.decode((codes + shift.reshape(codes.shape)).flatten(1))

    deformator = LatentDeformator(
        shift_dim=32, input_dim=DIRECTIONS, out_dim=32, type=DeformatorType.PROJECTIVE, random_init=True
    )
    predictor = LeNetShiftPredictor(DIRECTIONS, 1)
    settings = Params(n_steps=1, batch_size=BATCH, directions_count=DIRECTIONS)
    trainer = Trainer(settings, out_dir="/tmp/reference", device="cpu")
    trainer.log = trainer.log_final = lambda *arguments: None
    wrapped = Wrapped()
    return lambda: trainer.train(wrapped, deformator, predictor)


def rate(step: Callable[[], None]) -> float:
    """Pairs a second."""
    step()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        step()
        done += BATCH
    return done / (time.perf_counter() - start)


def jacobian_row(name: str) -> dict[str, Any]:
    """Seconds of the finder's own settings: z=32, 16 directions, 32 codes, 128²."""
    model = generator(composed(name), 128)
    finder = Jacobian()
    start = time.perf_counter()
    finder.find(model)
    what = f"Jacobian SVD, 128², z=32, {finder.count} directions of {finder.codes} codes"
    return {"generator": name, "what": what, "value": time.perf_counter() - start, "unit": "s", "of_floor": None}


def composed(name: str, *overrides: str) -> Any:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        sizes = [f"generator={name}", "generator.network.latent_dim=32"]
        return compose("config", [*sizes, f"scale.shift_reconstruction.batch_size={BATCH}", *overrides])


def generator(config: Any, side: int) -> Any:
    network = builders.network(config, ImageSpec(1, side, side, -1000.0, 2000.0, "HU", 400.0 / side))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
