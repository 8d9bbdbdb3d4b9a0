"""StyleGAN2's generator (Karras et al. 2020, arXiv 1912.04958): mapping network and synthesis, as a `LatentModel` with
the spaces w, z, w+ and s.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count, Positive, Share, Width
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.sizes import check_positive
from medlat.generators.stylegan2.encoder import Encoder
from medlat.generators.stylegan2.ops import (
    SQRT2,
    Conv,
    Linear,
    at_least_float32,
    clamped,
    modulated_conv,
    modulated_linear,
    normalise,
    upsample,
)
from medlat.generators.stylegan2.sizes import channel_widths, smallest_map

Noise = Literal["random", "fixed", "off"]
Architecture = Literal["skip", "orig", "resnet"]
MAPPING_BATCH = 4096
FORWARD = ("z", "w", "w+", "s")  # the way that a code takes


class Mapping(nn.Module):
    """z [N, z_dim] -> w [N, w_dim]: z is normalised, then passes fully connected layers that learn slowly.

    labels: [count, length] of the embedded labels, of a conditional network (Karras et al. 2020, arXiv 2006.06676): the
    normalised one of each code stands behind its z.
    """

    def __init__(
        self, z_dim: Width, w_dim: Width, layers: int, lr_multiplier: float, labels: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("labels", None if labels is None else torch.randn(labels))
        self.labels: Tensor | None
        sizes = [z_dim + (0 if labels is None else labels[1])] + [w_dim] * layers
        self.layers = nn.ModuleList(Linear(a, b, lr_multiplier=lr_multiplier, lrelu=True) for a, b in pairwise(sizes))

    def forward(self, z: Tensor, chosen: Tensor | None = None) -> Tensor:
        """chosen: [N] number of the label of each code; None: the first."""
        x = normalise(at_least_float32(z))
        if self.labels is not None:
            rows = self.labels[:1].expand(x.shape[0], -1) if chosen is None else self.labels[chosen]
            x = torch.cat([x, normalise(rows)], dim=1)
        for layer in self.layers:
            x = layer(x)
        return at_least_float32(x)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU.

    x [N, I, H, W], style [N, I], noise [N or 1, 1, H', W'] or None -> [N, O, H', W'], twice the size with `up`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: Width,
        size: tuple[int, int],
        up: bool,
        clamp: Positive | None,
    ) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, *size))
        self.noise: Tensor
        self.up, self.clamp = up, clamp

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        y, demodulation = modulated_conv(x, self.weight, style, up=self.up)
        # The gain sqrt(2) behind the leaky ReLU goes to what stands before it.
        y = y * (SQRT2 * demodulation).to(y.dtype)[:, :, None, None]
        y = y + (SQRT2 * self.bias).to(y.dtype)[:, None, None]
        if noise is not None:
            y = y + (SQRT2 * self.noise_strength * noise).to(y.dtype)
        y = F.leaky_relu(y, 0.2)
        return clamped(y, self.clamp)


class ToImage(nn.Module):
    """Modulated 1x1 convolution without demodulation: x [N, I, H, W], style [N, I] -> float32 [N, C, H, W]."""

    def __init__(self, inputs: int, channels: Width, w_dim: Width, clamp: Positive | None) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain, self.clamp = 1.0 / math.sqrt(inputs), clamp

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        y = modulated_linear(x, self.weight[:, :, 0, 0] * self.gain, style)
        y = at_least_float32(y) + self.bias[None, :, None, None]
        return clamped(y, self.clamp)


class Synthesis(nn.Module):
    """Styles of all layers -> images.

    Layers in the order of their codes: conv, then at each further resolution conv (up), conv. "skip": a `ToImage`
    behind each resolution, whose image is added to the upsampled one of the resolution below; it takes the code of the
    next resolution's first layer, or the last code of all. "orig": one behind the last resolution. "resnet": likewise,
    and what enters a resolution is upsampled and added to what leaves it (figure 7 of the paper).
    """

    def __init__(
        self,
        channels: Width,
        widths: Sequence[int],
        base: tuple[int, int],
        w_dim: Width,
        clamp: Positive | None,
        architecture: Architecture = "skip",
    ) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(widths[0], *base))
        self.levels = len(widths)
        self.first = 0 if architecture == "skip" else self.levels - 1  # that has a `ToImage`
        sizes = [(base[0] * 2**i, base[1] * 2**i) for i in range(len(widths))]
        self.convs = nn.ModuleList([StyledConv(widths[0], widths[0], w_dim, sizes[0], False, clamp)])
        for (a, b), size in zip(pairwise(widths), sizes[1:], strict=True):
            self.convs += [StyledConv(a, b, w_dim, size, True, clamp), StyledConv(b, b, w_dim, size, False, clamp)]
        self.to_image = nn.ModuleList(ToImage(width, channels, w_dim, clamp) for width in widths[self.first :])
        past = pairwise(widths) if architecture == "resnet" else ()
        self.past = nn.ModuleList(Conv(a, b, 1, bias=False, lrelu=False) for a, b in past)

    @property
    def codes(self) -> int:
        """Codes of w+: one for each convolution, and one for the last `ToImage`."""
        return len(self.convs) + 1

    def modulated(self) -> list[tuple["StyledConv | ToImage", int]]:
        """Every layer with a style, with the place of its code in w+; the order of the space s."""
        pairs: list[tuple[StyledConv | ToImage, int]] = []
        for level in range(self.levels):
            pairs += [(cast(StyledConv, self.convs[i]), i) for i in _convs_at(level)]
            if level >= self.first:
                pairs.append((cast(ToImage, self.to_image[level - self.first]), 2 * level + 1))
        return pairs

    def styles(self, codes: Tensor) -> list[Tensor]:
        """Codes of w+ [N, L, w_dim] -> the style [N, I] of each modulated layer."""
        return [at_least_float32(layer.affine(codes[:, i])) for layer, i in self.modulated()]

    def forward(self, styles: Sequence[Tensor], noise: Sequence[Tensor | None]) -> Tensor:
        """styles: of each modulated layer; noise: of each convolution -> images [N, C, H, W] float32, not clamped."""
        remaining = iter(styles)
        x = self.constant[None].expand(styles[0].shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for level in range(self.levels):
            entered = x
            for i in _convs_at(level):
                x = self.convs[i](x, next(remaining), noise[i])
            if self.past and level:
                x = (x + upsample(self.past[level - 1](entered))) / SQRT2
            if level >= self.first:
                here = self.to_image[level - self.first](x, next(remaining))
                image = here if image is None else upsample(image) + here
        assert image is not None
        return image


def _convs_at(level: int) -> Sequence[int]:
    return [0] if level == 0 else [2 * level - 1, 2 * level]


class StyleGAN2(LatentModel, nn.Module):
    """Mapping and synthesis, the mean w that training tracks, and truncation.

    image:            what the images are; sides base·2^n, with the same n.
    z_dim, w_dim:     length of codes.
    mapping_layers:   fully connected layers from z to w; mapping_lr_multiplier: their learning rate, relative.
    channel_base:     channels at a resolution = channel_base / (its longer side), at most channel_max. The paper's
                      configuration F: 32768 and 512.
    base:             [height, width] of the smallest feature map.
    truncation:       ψ of the truncation trick: sampled codes are moved to the mean w by 1 - ψ (1: not at all).
    noise:            what `decode` adds: "fixed" maps that belong to the network, "random" ones, or none ("off").
    clamp:            largest magnitude of features; null: 256 in fp16, else none.
    encoder:          whether it also learns the way back, from images to w (`encode`), as in StylEx.
    architecture:     how images leave the synthesis: "skip", "orig" or "resnet".
    labels:           [count, length] of embedded labels, of a conditional network. Of several, samples of w have all of
                      them alike, and there is no space z: such a code does not say which.
    """

    def __init__(
        self,
        image: ImageSpec,
        z_dim: Width = 512,
        w_dim: Width = 512,
        mapping_layers: Width = 8,
        mapping_lr_multiplier: Positive = 0.01,
        channel_base: Count = 32768,
        channel_max: Width = 512,
        base: tuple[int, int] | None = None,
        truncation: Share = 1.0,
        noise: Noise = "fixed",
        clamp: Positive | None = None,
        encoder: bool = False,
        architecture: Architecture = "skip",
        labels: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_positive(z_dim=z_dim, w_dim=w_dim, mapping_layers=mapping_layers, channel_max=channel_max)
        if not 0.0 <= truncation <= 1.0:
            raise ArgumentError("truncation", "expected a number from 0 to 1", truncation)
        for name, value in {"mapping_lr_multiplier": mapping_lr_multiplier, "clamp": clamp}.items():
            if value is not None and not value > 0.0:
                raise ArgumentError(name, "expected a number above 0", value)
        base = smallest_map(base)
        widths = channel_widths(image, base, channel_base, channel_max)
        self.image, self.base, self.truncation, self.noise = image, base, truncation, noise
        self.z_dim, self.label_count = z_dim, 1 if labels is None else labels[0]
        self.mapping = Mapping(z_dim, w_dim, mapping_layers, mapping_lr_multiplier, labels)
        self.synthesis = Synthesis(image.channels, widths, base, w_dim, clamp, architecture)
        self.encoder = Encoder(image, widths[::-1], base, w_dim, clamp) if encoder else None
        self.register_buffer("w_mean", torch.zeros(w_dim))
        self.w_mean: Tensor
        styles = sum(layer.affine.weight.shape[0] for layer, _ in self.synthesis.modulated())
        self.spaces = {
            "w": LatentSpace("w", (w_dim,), "empirical"),
            "z": LatentSpace("z", (z_dim,)),
            "w+": LatentSpace("w+", (self.synthesis.codes, w_dim), "empirical"),
            "s": LatentSpace("s", (styles,), "empirical"),
        }
        if self.label_count > 1:
            del self.spaces["z"]

    @property
    def image_spaces(self) -> tuple[str, ...]:
        """Only in `w+` do its images come close to real ones. Not z: only the direction of such a code counts, and of
        the mean code, 0, there is not even that.
        """
        return ("w+", "w", "s")

    @torch.no_grad()
    def track_mean(self, w: Tensor, decay: float = 0.998) -> None:
        """Move the mean w towards the mean of a batch [N, w_dim]."""
        self.w_mean.lerp_(w.detach().mean(dim=0), 1.0 - decay)

    def sample(self, n: int, space: str = "w", generator: torch.Generator | None = None) -> Tensor:
        """n codes: z ~ N(0, 1), mapped to the space, truncated by ψ in all but z; [n, *shape]."""
        device = self.w_mean.device
        z = torch.randn(n, self.z_dim, generator=generator).to(device)
        if space == "z":
            return z
        drawn = torch.zeros(n, dtype=torch.long)
        if self.label_count > 1:
            drawn = torch.randint(self.label_count, (n,), generator=generator)
        with torch.no_grad():
            parts = zip(z.split(MAPPING_BATCH), drawn.to(device).split(MAPPING_BATCH), strict=True)
            w = torch.cat([self.truncate(self.mapping(part, chosen)) for part, chosen in parts])
            if space == "w":
                return w
            codes = self.broadcast(w)
            if space == "w+":
                return codes
            return torch.cat([torch.cat(self.synthesis.styles(part), dim=1) for part in codes.split(MAPPING_BATCH)])

    def truncate(self, w: Tensor) -> Tensor:
        return w if self.truncation == 1.0 else torch.lerp(self.w_mean, w, self.truncation)

    def broadcast(self, w: Tensor) -> Tensor:
        """One code for all layers: [N, w_dim] -> [N, L, w_dim]."""
        return w[:, None].expand(-1, self.synthesis.codes, -1)

    def decode(self, codes: Tensor, space: str = "w") -> Tensor:
        """Codes [N, *shape] of a space -> images [N, C, H, W] in [-1, 1]; z is truncated by ψ."""
        if space == "z":
            codes, space = self.truncate(self.mapping(codes)), "w"
        if space == "w":
            codes, space = self.broadcast(codes), "w+"
        styles = self.synthesis.styles(codes) if space == "w+" else codes.split(self._style_sizes(), dim=1)
        return self.synthesis(styles, self.noise_maps(len(codes), self.noise)).clamp(-1.0, 1.0)

    @property
    def capabilities(self) -> frozenset[str]:
        """It can encode where it was made with an encoder."""
        return super().capabilities - (set() if self.encoder is not None else {"encode"})

    def encode(self, images: Tensor, space: str = "w") -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> codes [N, *shape] float32 of w, by its own encoder, or of a space behind
        it.
        """
        assert self.encoder is not None
        codes = self.encoder(images)
        return codes if space == "w" else self.map_codes(codes, "w", space)

    def reached(self, space: str) -> tuple[str, ...]:
        return FORWARD[FORWARD.index(space) + 1 :]

    def map_codes(self, codes: Tensor, source: str, target: str) -> Tensor:
        """Forward alone: z (truncated as `decode` does) -> w -> w+ -> s."""
        steps = {
            "w": lambda z: self.truncate(self.mapping(z)),
            "w+": self.broadcast,
            "s": lambda wide: torch.cat(self.synthesis.styles(wide), dim=1),
        }
        for space in FORWARD[FORWARD.index(source) + 1 : FORWARD.index(target) + 1]:
            codes = steps[space](codes)
        return codes

    def map_directions(self, vectors: Tensor, source: str, target: str) -> Tensor | None:
        """A direction of w is one of w+ that moves all layers alike."""
        return self.broadcast(vectors) if (source, target) == ("w", "w+") else None

    def deterministic(self) -> None:
        """Noise that is drawn anew becomes the network's own maps."""
        if self.noise == "random":
            self.noise = "fixed"

    def noise_maps(self, n: int, kind: Noise, generator: torch.Generator | None = None) -> list[Tensor | None]:
        """Noise of each convolution: [n, 1, H, W] drawn anew, the network's own [1, 1, H, W], or None."""
        if kind == "off":
            return [None] * len(self.synthesis.convs)
        own = [cast(StyledConv, conv).noise for conv in self.synthesis.convs]
        if kind == "fixed":
            return list(own)
        return [torch.randn(n, *x.shape[1:], generator=generator, device=x.device) for x in own]

    def latent_affines(self, space: str = "w") -> list[Tensor]:
        """z: the first layer of the mapping. w, w+: the layers that make styles, for w+ in the columns of their code.
        s: the modulated convolutions [O·k·k, I], in the columns of their style.
        """
        if space == "z":
            return [cast(Linear, self.mapping.layers[0]).scaled()[:, : self.z_dim]]
        layers = self.synthesis.modulated()
        if space == "s":
            kernels = [layer.weight.transpose(0, 1).flatten(1).T for layer, _ in layers]
            return list(torch.block_diag(*kernels).split([len(k) for k in kernels]))
        weights = [layer.affine.scaled() for layer, _ in layers]
        if space == "w":
            return weights
        places = [i for _, i in layers]
        return [_in_columns(w, i, self.synthesis.codes) for w, i in zip(weights, places, strict=True)]

    def image_affines(self, space: str = "w") -> tuple[int, ...]:
        layers = enumerate(self.synthesis.modulated()) if space != "z" else ()
        return tuple(i for i, (layer, _) in layers if isinstance(layer, ToImage))

    def _style_sizes(self) -> list[int]:
        return [layer.affine.weight.shape[0] for layer, _ in self.synthesis.modulated()]


def _in_columns(weight: Tensor, place: int, codes: int) -> Tensor:
    """[O, D] -> [O, codes·D] with zeros but for the columns of one code."""
    wide = weight.new_zeros(len(weight), codes, weight.shape[1])
    wide[:, place] = weight
    return wide.flatten(1)
