"""The vocabulary every part of medlat shares: images, latent spaces, generators as `LatentModel`s, directions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medlat.core.errors import ArgumentError, UserError


@dataclass(frozen=True)
class ImageSpec:
    """What an image of the network means: its size, and the physical values of the network's range [-1, 1].

    low, high:  the intensity range: the physical values at -1 and +1, e.g. -1000 and 2000 HU.
    unit:       of the physical values, as their modality has it: "HU", "RGB", ...
    spacing_mm: distance between neighbouring pixels; isotropic.
    """

    channels: int
    height: int
    width: int
    low: float
    high: float
    unit: str
    spacing_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.height, self.width)

    @property
    def range(self) -> float:
        return self.high - self.low

    def to_network(self, values: Tensor | np.ndarray) -> Tensor:
        """Physical values (any dtype) -> float32 in [-1, 1]; values outside the intensity range are clamped."""
        return (
            torch.as_tensor(values)
            .to(torch.float32, copy=True)
            .sub_(self.low)
            .mul_(2.0 / self.range)
            .sub_(1.0)
            .clamp_(-1.0, 1.0)
        )

    def to_physical(self, images: Tensor) -> Tensor:
        """Network images -> float32 physical values in [low, high]."""
        return images.to(torch.float32).clamp(-1.0, 1.0).add(1.0).mul(self.range / 2.0).add(self.low)

    def pictures(self, images: Tensor) -> np.ndarray:
        """Network images [N, C, H, W] -> physical values as measurements and figures take them: see `pictures`."""
        return pictures(self.to_physical(images).numpy())

    def to_dict(self) -> dict:
        return asdict(self)


def pictures(values: np.ndarray) -> np.ndarray:
    """[N, 1, H, W] -> [N, H, W]; in colour [N, 3, H, W] -> [N, H, W, 3]."""
    return values[:, 0] if values.shape[1] == 1 else np.ascontiguousarray(values.transpose(0, 2, 3, 1))


@dataclass(frozen=True)
class LatentSpace:
    """A named space of codes.

    shape:  of one code, e.g. (32,) for `z`, (14, 512) for `w+`.
    prior:  "normal" (standard normal, known in closed form) or "empirical" (only `sample` knows it).
    """

    name: str
    shape: tuple[int, ...]
    prior: Literal["normal", "empirical"] = "normal"

    @property
    def size(self) -> int:
        """Numbers in one code."""
        return int(torch.Size(self.shape).numel())


class LatentModel:
    """A generator, as every direction method, inversion and measurement sees it: the base class of all of them.

    A class has `image` and `spaces`, and overrides `sample` and `decode`. What it can do beyond is optional: it
    overrides the methods of that capability, and has it. Nobody asks for its class.

    | capability | method to override |
    | --- | --- |
    | encode | `encode`, or `posterior`, whose mean is then the code |
    | posterior | `posterior` |
    | latent_affines | `latent_affines` |
    | map_codes | `map_codes` and `reached` |
    | invert | `invert` and `decode_with` |
    | sample_noise | `sample_noise`, of one that inverts |

    `decode` is a function of the code alone once `deterministic` was called. A network that is trained here is a
    `torch.nn.Module` as well: `class Mine(LatentModel, nn.Module)`.
    """

    image: ImageSpec
    spaces: dict[str, LatentSpace]  # the first is the default

    # --- required ------------------------------------------------------------------------------------------------

    def sample(self, n: int, space: str, generator: torch.Generator | None = None) -> Tensor:
        """n codes drawn from the space's prior, [n, *space.shape] float32."""
        raise NotImplementedError

    def decode(self, codes: Tensor, space: str) -> Tensor:
        """Codes [N, *space.shape] -> images [N, C, H, W] in [-1, 1]; differentiable in the codes."""
        raise NotImplementedError

    # --- optional ------------------------------------------------------------------------------------------------

    @property
    def image_spaces(self) -> tuple[str, ...]:
        """The spaces that real images can be inverted into, the default first: all, where the class does not say."""
        return tuple(self.spaces)

    # --- capabilities --------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do beyond decoding: the capabilities whose methods the class overrides. A class that has a method
        only under some settings takes it away here.
        """
        return frozenset(name for name, hooks in CAPABILITIES.items() if any(_overrides(type(self), h) for h in hooks))

    def can(self, capability: str) -> bool:
        """Whether it has the capability, one of `CAPABILITIES`."""
        assert capability in CAPABILITIES, capability
        return capability in self.capabilities

    def encode(self, images: Tensor, space: str) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> codes [N, *space.shape] float32, of any space that images are inverted
        into; of a posterior its mean.
        """
        return self.posterior(images, space)[0]

    def posterior(self, images: Tensor, space: str) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] in [-1, 1] -> mean and log variance of a normal posterior, both [N, *space.shape]."""
        raise NotImplementedError

    def invert(self, images: Tensor, codes: Tensor, space: str) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] and codes [N, *space.shape] -> the noise [N, ...] that belongs to each image:
        what its code leaves out. `decode_with` makes the image of both.
        """
        raise NotImplementedError

    def decode_with(self, codes: Tensor, noise: Tensor, space: str) -> Tensor:
        """Codes [N, *space.shape] and noise [N, ...] that `invert` found, of these codes or others -> images
        [N, C, H, W] in [-1, 1]; differentiable in the codes.
        """
        raise NotImplementedError

    def sample_noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Noise [n, ...] for `decode_with`, as of n images that are made up. Samples of a generator that has none are
        what `decode` makes of their codes.
        """
        raise NotImplementedError

    def latent_affines(self, space: str) -> list[Tensor]:
        """The weight matrices [out_i, space.size] through which codes of the space enter the network."""
        raise NotImplementedError

    def image_affines(self, space: str) -> tuple[int, ...]:
        """Which of `latent_affines`, by their places, belong to layers that make the image and hand nothing on."""
        return ()

    def reached(self, space: str) -> tuple[str, ...]:
        """The other spaces that codes of this one can be mapped to."""
        return ()

    def map_codes(self, codes: Tensor, source: str, target: str) -> Tensor:
        """Codes [N, *shape] of the space `source` -> the codes of `target`, one of `reached`, with the same images."""
        raise NotImplementedError

    def map_directions(self, vectors: Tensor, source: str, target: str) -> Tensor | None:
        """Directions [K, *shape] of the space `source`, which no code of `target` can be mapped to -> the directions of
        `target` that do the same, of any length; None where there are none.
        """
        return None

    def deterministic(self) -> None:
        """From now on `decode` is a function of the code alone: what is measured is one. A network that adds noise
        overrides this.
        """


CAPABILITIES = {  # name -> the methods of which one must be overridden
    "encode": ("encode", "posterior"),
    "posterior": ("posterior",),
    "invert": ("invert", "decode_with"),
    "sample_noise": ("sample_noise",),
    "latent_affines": ("latent_affines",),
    "map_codes": ("map_codes",),
}
REQUIRED = ("sample", "decode")


def _overrides(kind: type, method: str) -> bool:
    return getattr(kind, method) is not getattr(LatentModel, method)


def missing_parts(model: object) -> list[str]:
    """What a generator lacks, or has under a name that hides a method; in words, empty where it is whole."""
    if not isinstance(model, LatentModel):
        return ["the base class medlat.core.spaces.LatentModel"]
    lacking = [f"the method {name}" for name in REQUIRED if not _overrides(type(model), name)]
    lacking += [f"the attribute {name}" for name in ("image", "spaces") if not getattr(model, name, None)]
    methods = {name for name in vars(LatentModel) if not name.startswith("_")}
    layers = [name for name, _ in model.named_children()] if isinstance(model, torch.nn.Module) else []
    hidden = [name for name in sorted(methods) if name in layers or name in vars(model)]
    return lacking + [f"another name for its attribute '{name}', which is a method's" for name in hidden]


def kl_per_dimension(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, 1)) in nats for each latent dimension: [N, D] -> [N, D] (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


@dataclass
class Directions:
    """K directions in one latent space.

    vectors: [K, *space.shape] float32, unit length each.
    scores:  [K] float32, descending; what the method ranks by (its docstring says what that is).
    names:   K short names, e.g. "sefa 00".
    method:  the finder's name.
    """

    vectors: Tensor
    scores: Tensor
    names: list[str]
    method: str
    space: LatentSpace

    FORMAT = 1

    def __post_init__(self) -> None:
        assert self.vectors.shape[1:] == self.space.shape, (self.vectors.shape, self.space)
        assert len(self.vectors) == len(self.scores) == len(self.names)

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def ranked(
        cls, vectors: Tensor, scores: Tensor, method: str, space: LatentSpace, signed: bool = False
    ) -> "Directions":
        """Normalise, fix the sign (largest entry positive), sort by descending score and name.

        signed: the vectors' own signs mean something and stay.
        """
        flat = vectors.detach().to(torch.float32).flatten(1)
        flat = flat / flat.norm(dim=1, keepdim=True)
        if not signed:
            peak = flat.gather(1, flat.abs().argmax(dim=1, keepdim=True))
            flat = flat * torch.where(peak < 0, -1.0, 1.0)
        order = torch.argsort(scores, descending=True, stable=True)
        names = [f"{method} {i:02d}" for i in range(len(flat))]
        return cls(flat[order].reshape(-1, *space.shape), scores[order].to(torch.float32), names, method, space)

    def renamed(self, method: str) -> "Directions":
        """The same directions under another name."""
        if method == self.method:
            return self
        own = len(self.method)
        names = [method + name[own:] if name.startswith(self.method) else f"{method} {name}" for name in self.names]
        return Directions(self.vectors, self.scores, names, method, self.space)

    def save(self, path: Path) -> None:
        """One safetensors file with JSON metadata."""
        meta = {"format": self.FORMAT, "method": self.method, "space": asdict(self.space), "names": self.names}
        tensors = {"vectors": self.vectors.contiguous(), "scores": self.scores.contiguous()}
        save_file(tensors, path, metadata={"medlat": json.dumps(meta, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> "Directions":
        """Raises UserError where the file is damaged or of another format."""
        try:
            with safe_open(path, framework="pt") as file:
                meta = json.loads((file.metadata() or {})["medlat"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            if meta["format"] != cls.FORMAT:
                raise UserError(f"{path}: format {meta['format']}, expected {cls.FORMAT}")
            space = meta["space"] | {"shape": tuple(meta["space"]["shape"])}
            return cls(tensors["vectors"], tensors["scores"], meta["names"], meta["method"], LatentSpace(**space))
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: not a readable file of directions ({error})") from error


def chosen_space(model: LatentModel, name: str | None, for_images: bool = False) -> LatentSpace:
    """The space of that name; None: the model's default.

    for_images: the space is to hold real images: one of `image_spaces`. Raises UserError where there is none of that
    name.
    """
    usable = model.image_spaces if for_images else tuple(model.spaces)
    if name is None:
        return model.spaces[usable[0]]
    if name not in usable:
        found = "with this generator, images are inverted into" if for_images else "this generator has"
        raise ArgumentError("space", f"{found} {', '.join(usable)}", name)
    return model.spaces[name]


def device_of(model: LatentModel) -> torch.device:
    """Where the model takes its codes."""
    return model.sample(1, next(iter(model.spaces)), torch.Generator()).device


PIXELS_AT_ONCE = 2**20  # of images decoded together: 256 of 64², 1 of 1024²


def decode_in_parts(model: LatentModel, codes: Tensor, space: str, noise: Tensor | None = None) -> Tensor:
    """Any number of codes [N, *shape] -> images [N, C, H, W] float32 in [-1, 1] on the CPU, without gradients.

    noise: [N, ...], what belongs to the images that codes were found for, where that is known.
    """
    size = max(1, PIXELS_AT_ONCE // (model.image.height * model.image.width))
    with torch.inference_mode():
        if noise is None:
            return torch.cat([model.decode(part, space).float().cpu() for part in codes.split(size)])
        parts = zip(codes.split(size), noise.split(size), strict=True)
        return torch.cat([model.decode_with(part, own.to(part.device), space).float().cpu() for part, own in parts])


def stack_steps(code: Tensor, vectors: Tensor, steps: Sequence[float]) -> Tensor:
    """Codes of a traversal: code [N, *s] moved along vectors [K, *s] by each step -> [N, K, len(steps), *s]."""
    moves = torch.as_tensor(steps, dtype=vectors.dtype, device=vectors.device)
    moves = moves.reshape(1, 1, -1, *([1] * (vectors.dim() - 1)))
    return code[:, None, None] + moves * vectors[None, :, None]
