"""A diffusion autoencoder (Preechakul et al. 2022, arXiv 2111.15640): a code that says what an image shows, and noise
that says the rest.

An encoder gives the code z; a rectified flow (Liu et al. 2023, arXiv 2209.03003), conditioned on z, carries noise to
images along the ordinary differential equation dx/dt = v(x, t, z), from t = 1 to 0. The same equation backwards carries
an image to the noise that belongs to it; with that noise a moved code changes what z decides and leaves the rest. That
the image comes back is the solver's doing and no merit of the training: it holds for any weights.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, NotNegative, Width, Widths
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.dae.unet import GROUP, VelocityUNet
from medlat.generators.sizes import check_positive
from medlat.generators.vae.networks import BASE, ResidualBlock
from medlat.training.settings import fast

SMALLEST_SPREAD = 1e-3
EVERY = 32  # images, one whose own noise is looked at
MOMENTUM = 0.01  # of the running mean, variance and correlation of codes
Way = Literal[1, -1]  # along the time of the flow: 0 is the image, 1 the noise
TO_NOISE: Way = 1
TO_IMAGE: Way = -1


class SemanticEncoder(nn.Module):
    """Images [N, C, H, W] in [-1, 1] -> features [N, D] float32, each of mean 0 and variance 1 over images; their
    correlation [D, D] is known.

    capacity: channels of the first feature map, at a quarter of the resolution; doubled at each halving, up to 8 times.
    """

    def __init__(self, image: ImageSpec, latent_dim: int, capacity: int) -> None:
        super().__init__()
        stride = 4 if min(image.height, image.width) >= 8 * BASE else 2
        levels = max(1, int(math.log2(min(image.height, image.width) / (BASE * stride))))
        widths = [capacity * min(2**i, 8) for i in range(levels + 1)]
        grid = [side // stride // 2**levels for side in (image.height, image.width)]
        self.stem = nn.Conv2d(image.channels, widths[0], 2 * stride, stride, padding=(stride + 1) // 2)
        self.blocks = nn.Sequential(*[ResidualBlock(a, b, "down", "batch") for a, b in pairwise(widths)])
        self.head = nn.Linear(widths[-1] * math.prod(grid), latent_dim)
        self.standardise = nn.BatchNorm1d(latent_dim, momentum=MOMENTUM, affine=False)
        self.register_buffer("correlation", torch.eye(latent_dim))
        self.correlation: Tensor

    def forward(self, images: Tensor) -> Tensor:
        raw = self._raw(images)
        with torch.autocast(images.device.type, enabled=False):
            features = self.standardise(raw)
            if self.training:
                self.correlation.lerp_(features.detach().T @ features.detach() / len(features), MOMENTUM)
        return features

    def _raw(self, images: Tensor) -> Tensor:
        """[N, D] float32, before they are standardised."""
        h = self.blocks(F.leaky_relu(self.stem(images), 0.2)).flatten(1).float()
        with torch.autocast(images.device.type, enabled=False):
            return self.head(h)

    @torch.no_grad()
    def settle(self, batches: Iterable[Tensor]) -> None:
        """Standardise over these images [N, C, H, W], and know the correlation over them: what was known so far are
        running estimates over batches, which themselves were standardised one by one.
        """
        raw = torch.cat([self._raw(images).double() for images in batches])
        norm, mean, variance = self.standardise, raw.mean(0), raw.var(0, correction=0)
        features = (raw - mean) * (variance + norm.eps).rsqrt()
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]
        self.correlation.copy_(features.T @ features / len(features))


class DiffusionAutoencoder(LatentModel, nn.Module):
    """A `LatentModel` with the one space `z`; it encodes, and inverts exactly.

    Codes are the encoder's features whitened, and without what varies by less than the noise of the training, which
    decides nothing: over real images they have variance 1 in every direction of the subspace that is left. So a linear
    classifier's weights are the direction in which images differ (the pattern of Haufe et al. 2014; of raw features
    they are not: their smallest differences may tell the most, and moved along those an image hardly changes). Samples
    are drawn from the Gaussian with the codes' covariance.

    image:            what the images are; sides must be multiples of `patch`.
    latent_dim:       D, length of a code.
    widths:           channels of the U-Net at each resolution, multiples of 16; None: 48, 96, 96.
    depth:            its blocks at each resolution, on either side.
    patch:            side of the pixel blocks that its first features stand for: 1, 2 or 4 (cheaper each time).
    encoder_capacity: channels of the encoder's first feature map.
    spread:           σ of the noise that is added to features while it trains, in their standard deviations.
    steps:            of the solver, from noise to image or back, one evaluation each. An image with its own noise comes
                      back whatever their number; images of moved codes are the nearer to the equation's, the more.
    """

    def __init__(
        self,
        image: ImageSpec,
        latent_dim: Width = 64,
        widths: Widths | None = None,
        depth: Width = 1,
        patch: Literal[1, 2, 4] = 2,
        encoder_capacity: Width = 32,
        spread: NotNegative = 0.1,
        steps: Count = 8,
    ) -> None:
        super().__init__()
        check_positive(latent_dim=latent_dim, depth=depth, encoder_capacity=encoder_capacity, steps=steps)
        widths = [48, 96, 96] if widths is None else widths
        _check_sizes(image, widths, patch)
        self.image, self.steps, self.spread = image, steps, spread
        self.spaces = {"z": LatentSpace("z", (latent_dim,), prior="empirical")}
        self.encoder = SemanticEncoder(image, latent_dim, encoder_capacity)
        self.velocity = VelocityUNet(image.channels, latent_dim, patch, list(widths), depth)
        noise = torch.randn(image.shape, generator=generator_for("diffusion autoencoder", "noise"))
        self.register_buffer("noise", noise)  # common: of codes that come without an image
        self.noise: Tensor

    def encode(self, images: Tensor, space: str = "z") -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> codes [N, D] float32."""
        return _product(self.encoder(images), self._power(-0.5))

    def _features(self, codes: Tensor) -> Tensor:
        """Codes [N, D] -> the features that the U-Net takes."""
        return _product(codes, self._power(0.5))

    def _power(self, exponent: float) -> Tensor:
        """[D, D]: a power of the features' correlation, by its eigenvalues; 0 for those below the noise of training.
        With -1/2 it whitens (ZCA, Kessy et al. 2018), and turns features as little as can be.
        """
        values, vectors = torch.linalg.eigh(self.encoder.correlation.double())
        noise = max(self.spread, SMALLEST_SPREAD) ** 2
        powers = torch.where(values > noise, values.clamp_min(noise) ** exponent, 0.0)
        return (vectors * powers) @ vectors.T

    @property
    def dimensions(self) -> int:
        """That codes use, of D."""
        return round(float(self._power(0.0).trace()))

    @torch.no_grad()
    def settle(self, batches: Iterable[Tensor]) -> None:
        """Once trained, know codes and noise of these images [N, C, H, W]: see `SemanticEncoder.settle`, and make the
        common noise as strong as their own, which is weaker than 1: a stronger one adds texture that no image has.
        """
        some: list[Tensor] = []

        def passing() -> Iterator[Tensor]:
            for images in batches:
                some.append(images[::EVERY])
                yield images

        self.encoder.settle(passing())
        own = [self.own_noise(images, self._features(self.encode(images))) for images in some]
        self.weigh_noise(torch.cat(own))

    @torch.no_grad()
    def weigh_noise(self, own: Tensor) -> None:
        """Make the common noise as strong as images' own [N, C, H, W]."""
        self.noise.mul_((own.square().mean() / self.noise.square().mean()).sqrt())

    def decode(self, codes: Tensor, space: str = "z") -> Tensor:
        """Codes [N, D] -> images [N, C, H, W] in [-1, 1], all from the common noise."""
        return self.render(self._features(codes), self.noise.expand(len(codes), -1, -1, -1), self.steps)

    def decode_with(self, codes: Tensor, noise: Tensor, space: str = "z") -> Tensor:
        """Codes [N, D] and the noise [N, 2C, H, W] that belongs to each -> images [N, C, H, W] in [-1, 1]."""
        x, probe = noise.chunk(2, dim=1)
        return self._flow(x, probe, self._features(codes), TO_IMAGE)[0].clamp(-1.0, 1.0)

    def invert(self, images: Tensor, codes: Tensor, space: str = "z") -> Tensor:
        """Images [N, C, H, W] in [-1, 1] and codes [N, D] -> the noise [N, 2C, H, W] from which these codes are decoded
        to these images, but for rounding: both values that the solver ends with.
        """
        return torch.cat(self._flow(images, images, self._features(codes), TO_NOISE), dim=1)

    @torch.no_grad()
    def own_noise(self, images: Tensor, features: Tensor) -> Tensor:
        """The noise [N, C, H, W] of images [N, C, H, W] with these features [N, D]."""
        return self._flow(images, images, features, TO_NOISE)[0]

    def render(self, features: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Features [N, D] and noise [N, C, H, W] -> images [N, C, H, W] in [-1, 1], in so many steps of the solver."""
        return self._flow(noise, noise, features, TO_IMAGE, steps)[0].clamp(-1.0, 1.0)

    def _flow(
        self, x: Tensor, probe: Tensor, features: Tensor, way: Way, steps: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The solution of dx/dt = v(x, t, z) from one end to the other, by the reversible Heun method (Kidger et al.
        2021, arXiv 2105.13493, algorithms 1 and 2): of second order with one evaluation a step, and what it does to
        x and `probe`, where velocities are asked for, it undoes on the way back.
        """
        count = self.steps if steps is None else steps
        times = [i / count for i in range(count + 1)][::way]
        step = way / count
        forward = forward_ad.unpack_dual(features).tangent is not None  # derivatives of GroupNorm that know no autocast
        with nullcontext() if forward else fast(x.device):
            velocity = self.velocity(probe, x.new_full([len(x)], times[0]), features)
            for time in times[1:]:
                probe = 2.0 * x - probe + step * velocity
                before, velocity = velocity, self.velocity(probe, x.new_full([len(x)], time), features)
                x = x + 0.5 * step * (before + velocity)
        return x, probe

    def forward(self, images: Tensor, noise: Tensor, time: Tensor, blur: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images, noise [N, C, H, W], time [N] in [0, 1] and blur [N, D] ~ N(0, 1) -> the velocity at that time on the
        straight way from each image to its noise, what it should be, and the features [N, D] that it was given.
        """
        features = self.encoder(images) + self.spread * blur
        far = time[:, None, None, None]
        return self.velocity(torch.lerp(images, noise, far), time, features), noise - images, features

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        """n codes, [n, D], from the Gaussian with the covariance of real images' codes."""
        normal = torch.randn(n, *self.spaces[space].shape, generator=generator).to(self.noise.device)
        return _product(normal, self._power(0.0))

    def sample_noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """[n, 2C, H, W] from the standard normal distribution, which the flow starts from while it trains."""
        return torch.randn(n, *self.image.shape, generator=generator).to(self.noise.device).repeat(1, 2, 1, 1)

    def latent_affines(self, space: str = "z") -> list[Tensor]:
        """The one weight matrix [E, D] that codes enter through."""
        return [_product(self.velocity.of_code.weight, self._power(0.5))]


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """rows [N, D] times a matrix [D, D], float32; in float64, which stays what it is where bf16 is asked for."""
    return (rows.double() @ matrix.double()).float()


def _check_sizes(image: ImageSpec, widths: Sequence[int], patch: int) -> None:
    if patch not in (1, 2, 4):
        raise ArgumentError("patch", "expected 1, 2 or 4", patch)
    if not widths or any(width < GROUP or width % GROUP for width in widths):
        raise ArgumentError("widths", f"expected multiples of {GROUP}", list(widths))
    for side in (image.height, image.width):
        if side % patch:
            nearest = max(1, round(side / patch)) * patch
            raise ArgumentError(
                "image_size", f"with patch={patch} this network needs a multiple of it; nearest: {nearest}", side
            )
