"""What a diffusion autoencoder costs: a training step, encoding, decoding and inversion by solver steps, each beside
its floor; and a step of MONAI's U-Net of the same task beside ours, where `einops` is installed (`pip install einops`).

    python experiments/throughput/diffusing.py [--seconds 3]

Numbers of one run belong together: compare ratios. Writes diffusing.csv beside this file.
"""

import argparse
import importlib.util
import resource
from collections.abc import Callable
from pathlib import Path

import torch
from benchmark import FAST, rate, row, written
from torch import Tensor

from medlat.core.spaces import ImageSpec
from medlat.generators.dae.module import DiffusionAutoencoderModule
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.training.optimisation import Optimisation

BATCH = 32
STEPS = (4, 8, 12, 16)
WIDTHS = {64: [48, 96, 96], 128: [48, 96, 96, 96]}


def network(side: int) -> DiffusionAutoencoder:
    spec = ImageSpec(1, side, side, 0.0, 255.0, "grey", 1.0)
    return DiffusionAutoencoder(spec, 64, WIDTHS[side], encoder_capacity=48).to(memory_format=torch.channels_last)


def training(side: int, seconds: float) -> list[dict]:
    """The step of the default training at that size: whole, without the optimiser, in float32."""
    model = network(side)
    module = DiffusionAutoencoderModule(model, 0, 1, Optimisation(1e-3, ema_decay=0.999))
    adam = module.configure_optimizers()["optimizer"]
    images, generator = torch.rand(BATCH, 1, side, side) * 2 - 1, torch.Generator().manual_seed(0)

    def gradients(dtype: torch.dtype) -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found, wanted = model(images, *module._draw(BATCH, generator))
        adam.zero_grad()
        (found - wanted).square().mean().backward()
        return BATCH

    def whole(dtype: torch.dtype) -> int:
        gradients(dtype)
        adam.step()
        module.averaged.update_parameters(model)
        return BATCH

    what, precision = f"training step, {side}²", str(FAST).removeprefix("torch.")
    found = rate(lambda: whole(FAST), seconds)
    floor = rate(lambda: forward_and_backward(model, images), seconds)
    return [
        row(what, f"whole, {precision}", found, "images/s"),
        row(what, "floor: forward and backward of the two networks alone", floor, "images/s", found),
        row(what, "whole, float32", rate(lambda: whole(torch.float32), seconds), "images/s", found),
    ]


def forward_and_backward(model: DiffusionAutoencoder, images: Tensor) -> int:
    with torch.autocast("cpu", FAST, enabled=torch.bfloat16 == FAST):
        features = model.encoder(images)
        model.velocity(images, torch.rand(len(images)), features).sum().backward()
    return len(images)


@torch.inference_mode()
def using(side: int, seconds: float) -> list[dict]:
    """Encoding, decoding and inversion of 64 images: beside one evaluation of the velocity."""
    model, n = network(side).eval(), 64
    images = torch.rand(n, 1, side, side) * 2 - 1
    codes = model.encode(images)

    def evaluation() -> int:
        with torch.autocast("cpu", FAST, enabled=torch.bfloat16 == FAST):
            model.velocity(images, torch.rand(n), codes)
        return n

    def times(act: Callable[[], Tensor]) -> float:
        return rate(lambda: len(act()), seconds)

    what, one = f"64 images of {side}²", rate(evaluation, seconds)
    rows = [row(what, "one evaluation of the velocity", one, "images/s")]
    rows.append(row(what, "encoding", times(lambda: model.encode(images)), "images/s", one))
    for model.steps in STEPS:
        evaluations = model.steps + 1
        rows.append(row(what, f"decoding, {model.steps} steps", times(lambda: model.decode(codes)), "images/s", one))
        rows.append(row(what, f"floor: {evaluations} evaluations", one / evaluations, "images/s", one))
    model.steps = 12
    found = times(lambda: model.invert(images, codes))
    rows.append(row(what, "inversion, 12 steps", found, "images/s", one))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [*rows, row(what, "memory so far", peak, "MiB peak")]


def beside_monai(side: int, seconds: float) -> list[dict]:
    """Forward and backward of MONAI's U-Net, with pixels in blocks as ours has them, and on pixels as its tutorial."""
    from monai.networks.nets import DiffusionModelUNet

    ours, widths, what = network(side).velocity, WIDTHS[side], f"U-Net, forward and backward, {side}²"
    levels = {"channels": widths, "attention_levels": [False] * len(widths), "num_res_blocks": 1, "norm_num_groups": 16}
    blocks = DiffusionModelUNet(2, 4, 4, **levels)
    pixels = DiffusionModelUNet(2, 1, 1, **levels)

    def speed(model: torch.nn.Module, channels: int, wide: int, *further: Tensor) -> float:
        model = model.to(memory_format=torch.channels_last)
        x = torch.randn(BATCH, channels, wide, wide).contiguous(memory_format=torch.channels_last)

        def step() -> int:
            with torch.autocast("cpu", FAST, enabled=torch.bfloat16 == FAST):
                model(x, torch.rand(BATCH), *further).sum().backward()
            return BATCH

        return rate(step, seconds)

    def size(model: torch.nn.Module) -> str:
        return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters"

    found = speed(ours, 1, side, torch.randn(BATCH, 64))
    return [
        row(what, f"ours, with a code, {size(ours)}", found, "images/s"),
        row(what, f"MONAI's on the same blocks, {size(blocks)}", speed(blocks, 4, side // 2), "images/s", found),
        row(what, f"MONAI's on pixels, {size(pixels)}", speed(pixels, 1, side), "images/s", found),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    seconds = parser.parse_args().seconds
    rows = using(64, seconds) + using(128, seconds) + training(64, seconds) + training(128, seconds)
    if importlib.util.find_spec("einops"):
        rows += beside_monai(64, seconds)
    written(rows, Path(__file__).with_name("diffusing.csv"))


if __name__ == "__main__":
    main()
