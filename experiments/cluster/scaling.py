"""What the study of Schön et al. costs at its own size: `python experiments/cluster/scaling.py`.

Takes a few steps of everything that the twelve runs train (128², batches of 128, `scale=paper`) on this machine's CPU,
counts their floating-point operations, and computes the hours of the whole, here and on a GPU. GPU hours are operations
divided by a rate that is assumed, not measured: `SHARE` of the peak. Writes scaling.csv beside this file.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medlat.config.locate import config_dir
from medlat.core.spaces import ImageSpec
from medlat.core.tables import write_table
from medlat.generators.gan.module import GANModule
from medlat.steps import builders

sys.path.insert(0, str(Path(__file__).parents[1] / "throughput"))
from beside import matrix_rate
from discovering import ours

SIDE = 128
DEFORMATORS = 3  # each with both reconstructors on both generators: twelve runs
PEAK = {"A100": 312e12, "RTX 3090": 71e12}  # FLOP/s of dense bf16 products, from the maker's data sheets
SHARE = 0.2  # of the peak that convolutions of this size are assumed to reach


def main() -> None:
    rows = []
    for name in ("dcgan", "vae_resnet"):
        config = composed(name)
        network = builders.network(config, ImageSpec(1, SIDE, SIDE, -1000.0, 2000.0, "HU", 400.0 / SIDE))
        network.to(memory_format=torch.channels_last)
        schedule = builders.schedule(config)
        step = generator_step(config, network, schedule.batch_size)
        rows.append(row(f"{name}, training", step, schedule.batch_size, schedule.images))
        model = network.eval().requires_grad_(False)
        for reconstructor in ("lenet", "resnet18"):
            config = composed(name, f"directions/reconstructor={reconstructor}")
            sizes = config.scale.shift_reconstruction
            step = ours(config, model, torch.bfloat16)
            what = f"{name}, shift-reconstruction, {reconstructor}, {DEFORMATORS} runs"
            rows.append(row(what, step, sizes.batch_size, DEFORMATORS * sizes.pairs))
    total = {key: sum(r[key] for r in rows) for key in ("hours_here", "exaflop", *(f"hours_{gpu}" for gpu in PEAK))}
    rows.append({"what": "everything"} | total)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; ", end="")
    print(f"a matrix product in bf16: {matrix_rate(torch.bfloat16):,.0f} GFLOP/s\n")
    heads = ("images or pairs", "a second, here", "GFLOP each", "GFLOP a second, here", "EFLOP", "hours here")
    heads += tuple(f"{gpu} hours" for gpu in PEAK)
    print(f"| what | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
    for r in rows:
        cells = [f"{r[key]:,.4g}" if key in r else "" for key in list(rows[0])[1:]]
        print(f"| {r['what']} | " + " | ".join(cells) + " |")
    write_table(Path(__file__).with_suffix(".csv"), rows)


def row(what: str, step: Callable[[], Any], batch: int, count: int) -> dict[str, Any]:
    """What `count` images or pairs cost by a step that takes `batch` of them."""
    with FlopCounterMode(display=False) as counter:
        step()
    each = counter.get_total_flops() / batch
    times = []
    for _ in range(2):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    rate = batch / min(times)
    return {
        "what": what,
        "count": count,
        "a_second": rate,
        "gflop_each": each / 1e9,
        "gflop_a_second": each * rate / 1e9,
        "exaflop": each * count / 1e18,
        "hours_here": count / rate / 3600,
        **{f"hours_{gpu}": each * count / (SHARE * peak) / 3600 for gpu, peak in PEAK.items()},
    }


def generator_step(config: Any, network: Any, batch: int) -> Callable[[], Any]:
    """A training step in bf16, outside a Trainer: without validation, checkpoints and data."""
    module: Any = builders.module(config, network, steps=1).to(memory_format=torch.channels_last)
    module.log_dict = lambda *arguments, **named: None
    images = torch.rand(batch, 1, SIDE, SIDE) * 2 - 1
    return gan_step(module, images) if isinstance(module, GANModule) else vae_step(module, images)


def gan_step(module: Any, images: Tensor) -> Callable[[], None]:
    module.manual_backward = lambda loss: loss.backward()
    (generators, discriminators), _ = module.configure_optimizers()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            module._turn(module.discriminator, discriminators, module._discriminator_terms, [images], 1)
            module._turn(module.network, generators, module._generator_terms, [images], 1)

    return step


def vae_step(module: Any, images: Tensor) -> Callable[[], None]:
    optimiser = module.optimisation.adam(module.network)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.training_step(images, 0)
        loss.backward()
        optimiser.step()

    return step


def composed(generator: str, *overrides: str) -> Any:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        study = ["+experiment=schon2022/directions", "scale=paper", f"generator={generator}", "trainer=cpu"]
        return compose("config", [*study, "directions/deformator=projective100", *overrides])


if __name__ == "__main__":
    main()
