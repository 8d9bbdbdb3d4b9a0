"""Training of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958)."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count, NotNegative, PositiveShare, Seed, Share, Width
from medlat.generators.gan.augmentation import Adaptive
from medlat.generators.gan.losses import gradient_penalty, path_lengths
from medlat.generators.gan.module import GANModule, Terms
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.training.optimisation import Adam, Averaging
from medlat.training.processes import share_mean
from medlat.training.settings import cpu_errs_in_second_derivatives

PATH_DECAY = 0.99  # of the running mean path length, per step
W_DECAY = 0.998  # of the running mean of w


class StyleGAN2Module(GANModule):
    """Non-saturating logistic loss, R1 and path-length penalties on some steps only ("lazy"), style mixing, and a
    running mean of w.

    A lazy penalty is added to the loss of every n-th step, n times as strong, and shares that step's update, so the
    optimisers' settings need no correction for further updates.

    style_mixing:  probability that the codes of a batch change at a random layer (Karras et al. 2019, section 3.1).
    r1:            γ of the R1 penalty, γ/2·E|∇D|²; r1_every: steps between two.
    path_length:   weight of the path-length penalty (section 3.2), 0: none; path_every: steps between two;
                   path_share: of the batch that it is computed on.
    """

    def __init__(
        self,
        network: StyleGAN2,
        seed: Seed,
        steps: Count,
        discriminator: Callable[..., nn.Module],
        generator_adam: Adam,
        discriminator_adam: Adam,
        averaging: Averaging | None = None,
        augmentation: Adaptive | None = None,
        accumulate: Width = 1,
        style_mixing: Share = 0.9,
        r1: NotNegative = 1.0,
        r1_every: Count = 16,
        path_length: NotNegative = 0.0,
        path_every: Count = 4,
        path_share: PositiveShare = 0.5,
    ) -> None:
        adams = (generator_adam, discriminator_adam)
        super().__init__(network, seed, steps, discriminator, *adams, averaging, augmentation, accumulate)
        _check(0.0 <= style_mixing <= 1.0, "style_mixing", style_mixing, "a probability from 0 to 1")
        _check(0.0 < path_share <= 1.0, "path_share", path_share, "a share above 0, up to 1")
        for name, value in {"r1": r1, "path_length": path_length}.items():
            _check(value >= 0.0, name, value, "a number of at least 0")
        for name, every in {"r1_every": r1_every, "path_every": path_every}.items():
            _check(every >= 1, name, every, "a whole number of at least 1")
        self.style_mixing, self.r1, self.r1_every = style_mixing, r1, r1_every
        self.path_length, self.path_every, self.path_share = path_length, path_every, path_share
        self.register_buffer("path_mean", torch.zeros(()))
        self.path_mean: Tensor

    def generate(self, n: int, generator: torch.Generator) -> Tensor:
        return saturate(self._synthesise(self._codes(n, generator), generator))

    def discriminator_penalty(self, images: Tensor, step: int, part: int) -> Terms:
        if self.r1 > 0.0 and step % self.r1_every == 0:
            with self.twice_differentiable():
                squared = gradient_penalty(lambda x: self.discriminate(x, "real", step, part), images)
            yield "r1", squared * (0.5 * self.r1 * self.r1_every)

    def generator_penalty(self, n: int, step: int, part: int) -> Terms:
        if self.path_length == 0.0 or step % self.path_every != 0:
            return
        generator = self.random("path length", step, part)
        with self.twice_differentiable():
            codes = self._codes(max(1, round(n * self.path_share)), generator)
            images = self._synthesise(codes, generator)
            noise = torch.randn(images.shape, generator=generator, device=generator.device)
            lengths = path_lengths(images, codes, noise)
        mean = torch.lerp(
            self.path_mean, share_mean(lengths.detach().mean()), 1.0 - PATH_DECAY ** (1.0 / self.accumulate)
        )
        self.path_mean.copy_(mean)
        yield "path_length", (lengths - mean).square().mean() * (self.path_length * self.path_every)

    @contextmanager
    def twice_differentiable(self) -> Iterator[None]:
        """Not in fp16, which would lose small gradients; without torch.compile, which has no second derivatives."""
        kind = self.device.type
        bf16 = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
        bf16 = bf16 and not (kind == "cpu" and cpu_errs_in_second_derivatives())
        precision = torch.autocast(kind, torch.bfloat16, enabled=bf16)
        with precision, torch.compiler.set_stance("force_eager"):
            yield

    def _codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Codes of w+ [n, L, w_dim], mixed from two."""
        network: StyleGAN2 = self.network
        layers = network.synthesis.codes
        z = torch.randn(2 * n, network.spaces["z"].size, generator=generator, device=generator.device)
        draws = torch.rand(2, generator=generator, device=generator.device).tolist()
        mixed = draws[0] < self.style_mixing
        w = network.mapping(z if mixed else z[:n])
        if torch.is_grad_enabled():  # in the generator's turn
            network.track_mean(w[:n], W_DECAY ** (1.0 / self.accumulate))
        cut = 1 + math.floor(draws[1] * (layers - 1)) if mixed else layers
        first, second = network.broadcast(w[:n]), network.broadcast(w[-n:])
        return torch.cat([first[:, :cut], second[:, cut:]], dim=1)

    def _synthesise(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        network: StyleGAN2 = self.network
        noise = network.noise_maps(len(codes), "random", generator)
        return network.synthesis(network.synthesis.styles(codes), noise)


def saturate(images: Tensor) -> Tensor:
    """Images clamped to [-1, 1], with the gradient of those outside as far as it leads back.

    The synthesis has no bound, real images end at the intensity range: air is -1 exactly, and a discriminator would
    know the generator by what is left of noise in it. A plain clamp would have no gradient where an image is wrongly
    saturated.
    """
    if images.requires_grad:
        outward = images.detach().clamp(-1.0, 1.0) - images.detach()  # sign of the way back, 0 inside
        images.register_hook(lambda gradient: torch.where(outward * gradient > 0.0, 0.0, gradient))
    return images + (images.detach().clamp(-1.0, 1.0) - images.detach())


def _check(good: bool, name: str, value: float, expected: str) -> None:
    if not good:
        raise ArgumentError(name, f"expected {expected}", value)
