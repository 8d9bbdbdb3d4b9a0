"""How fast medlat's networks train beside the public code of the papers, in turns in one process.

    python experiments/throughput/beside.py stylegan2 CHECKOUT [--size 64]   # NVlabs/stylegan2-ada-pytorch
    python experiments/throughput/beside.py dcgan CHECKOUT      # julschoen/Latent-Space-Exploration-CT
    python experiments/throughput/beside.py vae CHECKOUT        # the same

CHECKOUT: a clone of that repository, whose code this runs, in float32; on the CPU in the plain operations that
StyleGAN2's falls back to, with `--device cuda` in its compiled ones. Both sides take the same steps on the same
batches. The networks of `stylegan2` and `dcgan` are the same on both sides; of `vae`, medlat's has the widths of the
authors' encoder, but nothing learnt at 128² and 1x1 shortcuts for 3x3 ones, about half the parameters.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlat.core.spaces import ImageSpec, kl_per_dimension
from medlat.generators.dcgan.networks import DCGAN, DCGANDiscriminator
from medlat.generators.gan.losses import discriminator_logistic, generator_logistic, gradient_penalty
from medlat.generators.stylegan2.discriminator import Discriminator
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.generators.vae.networks import VAE

R1_EVERY = 16
Step = Callable[[int], None]
REFERENCE = "reference, float32"


class Contestant(NamedTuple):
    step: Step
    parameters: int


class Pair(NamedTuple):
    """The two networks of a GAN, and how they are called."""

    generator: nn.Module
    discriminator: nn.Module
    generate: Callable[[], Tensor]  # a batch of images
    judge: Callable[[Tensor], Tensor]  # their logits [N]


def gan_step(pair: Pair, real: Tensor, r1: float, bf16: bool) -> Step:
    """Logistic loss, a step of each network; R1 at every 16th, in the same update."""
    adams = [torch.optim.Adam(n.parameters(), lr=2e-3, betas=(0.0, 0.99)) for n in pair[:2]]

    def step(number: int) -> None:
        pair.discriminator.requires_grad_(True)
        adams[1].zero_grad()
        with mixed(bf16):
            with torch.no_grad():
                fake = pair.generate()
            loss = discriminator_logistic(pair.judge(real), pair.judge(fake))
        loss.backward()
        if r1 and number % R1_EVERY == 0:
            with mixed(bf16):
                penalty = gradient_penalty(pair.judge, real)
            (penalty * (0.5 * r1 * R1_EVERY)).backward()
        adams[1].step()
        pair.discriminator.requires_grad_(False)
        adams[0].zero_grad()
        with mixed(bf16):
            loss = generator_logistic(pair.judge(pair.generate()))
        loss.backward()
        adams[0].step()

    return step


def vae_step(network: nn.Module, forward: Callable[[], tuple[Tensor, Tensor]], real: Tensor, bf16: bool) -> Step:
    """Squared error and KL; `forward` gives the reconstruction and the KL."""
    adam = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step(_: int) -> None:
        adam.zero_grad()
        with mixed(bf16):
            reconstruction, kl = forward()
            loss = F.mse_loss(reconstruction.float(), real) + 1e-3 * kl.float().mean()
        loss.backward()
        adam.step()

    return step


def mixed(bf16: bool) -> torch.autocast:
    return torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=bf16)


def stylegan2(checkout: Path, batch: int, side: int, base: int, most: int) -> dict[str, Contestant]:
    """64 latent dimensions, 2 mapping layers, random noise."""
    sys.path.insert(0, str(checkout))
    theirs, real, z = importlib.import_module("training.networks"), torch.rand(batch, 1, side, side) * 2 - 1, 64

    def reference() -> Pair:
        widths = {"channel_base": base, "channel_max": most, "num_fp16_res": 0}
        g = theirs.Generator(z, 0, z, side, 1, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=widths)
        d = theirs.Discriminator(0, side, 1, **widths, epilogue_kwargs={"mbstd_group_size": 4})
        return Pair(g, d, lambda: g(torch.randn(batch, z), None, noise_mode="random"), lambda x: d(x, None)[:, 0])

    def ours() -> Pair:
        widths = {"channel_base": base, "channel_max": most}
        g = StyleGAN2(spec(side), z, z, 2, **widths).to(memory_format=torch.channels_last)
        d = Discriminator(spec(side), **widths).to(memory_format=torch.channels_last)

        def generate() -> Tensor:
            styles = g.synthesis.styles(g.broadcast(g.mapping(torch.randn(batch, z))))
            return g.synthesis(styles, g.noise_maps(batch, "random"))

        return Pair(g, d, generate, d)

    return gans(reference, ours, real, r1=0.1)


def dcgan(checkout: Path, batch: int) -> dict[str, Contestant]:
    """128², 32 latent dimensions, 128 channels."""
    theirs, real = of_schoen(checkout, "DCGAN"), torch.rand(batch, 1, 128, 128) * 2 - 1

    def reference() -> Pair:
        g, d = theirs.Generator(), theirs.Discriminator()
        g.apply(theirs.weights_init)
        d.apply(theirs.weights_init)
        d.noise = False  # on its input
        return Pair(g, d, lambda: g(torch.randn(batch, 32, 1, 1)), lambda x: d(x).float().flatten())

    def ours() -> Pair:
        g = DCGAN(spec(128)).to(memory_format=torch.channels_last)
        d = DCGANDiscriminator(spec(128)).to(memory_format=torch.channels_last)
        return Pair(g, d, lambda: g.decode(torch.randn(batch, 32)), d)

    return gans(reference, ours, real, r1=0.0)


def vae(checkout: Path, batch: int) -> dict[str, Contestant]:
    """128², 32 latent dimensions, 64 channels at 64²."""
    theirs, real = of_schoen(checkout, "VAE").VAE("cpu"), torch.rand(batch, 1, 128, 128) * 2 - 1

    def reference() -> tuple[Tensor, Tensor]:
        kl, reconstruction = theirs(real)
        return reconstruction, kl

    def ours(bf16: bool) -> Contestant:
        network = VAE(spec(128), 32, capacity=64, stem_stride=2).to(memory_format=torch.channels_last)

        def forward() -> tuple[Tensor, Tensor]:
            reconstruction, mean, log_variance = network(real, torch.randn(batch, 32))
            return reconstruction, kl_per_dimension(mean, log_variance).sum(dim=1)

        return Contestant(vae_step(network, forward, real, bf16), parameters(network))

    first = Contestant(vae_step(theirs, reference, real, bf16=False), parameters(theirs))
    return {REFERENCE: first, "medlat, float32": ours(False), "medlat, bf16": ours(True)}


def gans(reference: Callable[[], Pair], ours: Callable[[], Pair], real: Tensor, r1: float) -> dict[str, Contestant]:
    def contestant(pair: Pair, bf16: bool) -> Contestant:
        return Contestant(gan_step(pair, real, r1, bf16), parameters(*pair[:2]))

    return {
        REFERENCE: contestant(reference(), False),
        "medlat, float32": contestant(ours(), False),
        "medlat, bf16": contestant(ours(), True),
    }


def of_schoen(checkout: Path, name: str) -> ModuleType:
    """A module of the authors' `Models`, without the helpers for their trained weights, which need further packages."""
    helpers = ModuleType("Models.utils")
    helpers.gan_with_shift = lambda make: make  # type: ignore[attr-defined]
    sys.modules["Models.utils"] = helpers
    sys.path.insert(0, str(checkout))
    return importlib.import_module(f"Models.{name}")


def spec(side: int) -> ImageSpec:
    return ImageSpec(1, side, side, -1000.0, 2000.0, "HU", 400 / side)


def parameters(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


def seconds(step: Step, with_r1: bool) -> float:
    """Of a step: the mean of 16, one of them with R1, or of one where there is no R1."""

    def timed(number: int) -> float:
        start = time.perf_counter()
        step(number)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    plain = timed(1)
    return ((R1_EVERY - 1) * plain + timed(R1_EVERY)) / R1_EVERY if with_r1 else plain


def matrix_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product."""
    matrix = torch.randn(2048, 2048).to(dtype)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / float(np.median(times)) / 1e9


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_subparsers(dest="what", required=True)
    for name in ("stylegan2", "dcgan", "vae"):
        one = what.add_parser(name)
        one.add_argument("checkout", type=Path)
        one.add_argument("--batch", type=int, default=32)
        one.add_argument("--rounds", type=int, default=5)
        one.add_argument("--device", default="cpu")
        if name == "stylegan2":
            one.add_argument("--size", type=int, default=64, help="side of the images")
            one.add_argument("--base", type=int, default=2048, help="channels at a resolution, times its side")
            one.add_argument("--max", type=int, default=64, help="largest number of channels")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    torch.manual_seed(0)
    torch.set_default_device(given.device)
    if given.what == "stylegan2":
        contestants = stylegan2(given.checkout, given.batch, given.size, given.base, given.max)
    else:
        contestants = {"dcgan": dcgan, "vae": vae}[given.what](given.checkout, given.batch)
    with_r1 = given.what == "stylegan2"
    for contestant in contestants.values():
        seconds(contestant.step, with_r1)  # the first are slower
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(given.rounds):
        for name, contestant in contestants.items():
            times[name].append(seconds(contestant.step, with_r1))
    found = {name: float(np.median(values)) for name, values in times.items()}
    print("| | parameters | images/s | ratio |\n| --- | ---: | ---: | ---: |")
    for name, contestant in contestants.items():
        speed, ratio = given.batch / found[name], found[REFERENCE] / found[name]
        print(f"| {name} | {contestant.parameters:,} | {speed:.1f} | {ratio:.2f} |")
    for dtype in (torch.float32, torch.bfloat16):
        print(f"matrix product, {str(dtype).removeprefix('torch.')}: {matrix_rate(dtype):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
