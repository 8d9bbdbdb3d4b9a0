"""A generator that somebody brings: what `generator=` says of it, and how it is a `LatentModel`.

The configuration builds an `Imported`, which makes medlat's checkpoint of it; the network in there is a `Brought`.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from medlat.core.checkpoints import save_generator
from medlat.core.errors import ArgumentError, UserError, key_in
from medlat.core.external import Culprit, check_file, last_line
from medlat.core.similarity import psnr
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.imported.state import load_weights

Prior = Literal["normal", "fitted"]
RANGES = ((0.0, 1.0), (-1.0, 1.0))  # that networks are trained on as a rule
TRIED_IMAGES = 32  # real ones, that say whether the declared range can be
GOOD_DB, BETTER_DB = 15.0, 3.0  # PSNR of images that come back, and by how much another range must be better
TRIED = "when it was tried on made-up codes and images"


class Imported:
    """A generator that was trained elsewhere or before, as the configuration names it.

    files:   argument -> path of each file that it is made of.
    fits:    whether the prior of its codes is fitted to training images.
    runs:    whether a program of a file is run, which is tried in a process of its own first.
    culprit: what messages name. origin: where it is from, in a word.
    """

    files: dict[str, Path]
    fits: bool = False
    runs: bool = False
    culprit: Culprit

    @property
    def origin(self) -> str:
        return self.culprit.value

    def fingerprints(self) -> dict[str, str]:
        """By argument: 16 hex digits that depend on every byte of the file."""
        found = {}
        for name, path in self.files.items():
            try:
                with open(path, "rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            except OSError as error:
                raise ArgumentError(name, f"cannot be read ({error.strerror})", str(path), of=self) from error
        return found

    def model(self, image: ImageSpec) -> LatentModel | None:
        """The generator with its weights, no program of it run yet; None where that is known when it is converted only.

        Raises UserError where it cannot be made, or its weights are another's.
        """
        return None

    def convert(self, image: ImageSpec, out: Path, images: Iterable[Tensor], device: torch.device) -> list[str]:
        """Write medlat's checkpoint of it to `out`. Returns what a reader of its results must know, in sentences.

        image: what the data's images are. images: batches [N, C, H, W] in [-1, 1] of training images, where it `fits`.
        """
        raise NotImplementedError


class BroughtGenerator(Imported):
    """What is declared of a generator from elsewhere: the arguments that its kinds share.

    code:        shape of a code: [D], or channels x height x width of a map of features; null: as its encoder says.
    value_range: what its images have for the lower and the upper end of the data's intensity range, [0, 1] or [-1, 1].
    weights:     a state dict: .safetensors, .pt, or a Lightning .ckpt; null: there is none.
    prefix:      that the names of the weights begin with there; it is taken off, and other weights are left out.
    prior:       of the codes: "normal", standard normal, as it was trained with, or "fitted", a Gaussian with mean and
                 covariance of 2,048 training images' codes; null: fitted where it has an encoder, else normal.

    Many finders ask the generator for every coordinate: codes that are maps of features, of thousands of numbers, cost
    thousands of decodings (`coordinate`, `jacobian`), or solve systems of that size (`ica`, `linear`, `pca`).

    Raises UserError for declarations that make no sense, and where a file is missing.
    """

    def __init__(
        self,
        culprit: Culprit,
        code: Sequence[int] | None,
        value_range: Sequence[float] | None,
        encodes: bool,
        weights: str | None = None,
        prefix: str = "",
        prior: Prior | None = None,
    ) -> None:
        self.culprit, self.encodes, self.prefix = culprit, encodes, prefix
        if code is not None and (len(code) not in (1, 3) or min(code) < 1):
            raise culprit.wrong("code", f"{list(code)}, expected [D], or [channels, height, width]")
        if code is None and not encodes:
            raise culprit.wrong("code", "null, and there is no encoder to ask; expected the shape of a code, e.g. [64]")
        if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
            raise culprit.wrong("value_range", f"{list(value_range)}, expected [low, high] with low below high")
        if prior is not None and prior not in get_args(Prior):
            raise culprit.wrong("prior", f"{prior}, expected normal or fitted")
        if prior == "fitted" and not encodes:
            raise culprit.wrong("prior", "fitted, and there is no encoder that gives codes of images; expected normal")
        self.code = None if code is None else tuple(code)
        self.value_range = None if value_range is None else (float(value_range[0]), float(value_range[1]))
        self.prior: Prior = prior or ("fitted" if encodes else "normal")
        self.fits = self.prior == "fitted"
        self.files = {} if weights is None else {"weights": Path(weights).expanduser()}
        for name, path in self.files.items():
            check_file(path, Culprit(culprit.owner, name, str(path)))

    def recipe(self, code: tuple[int, ...] | None, rank: int | None = None) -> dict[str, Any]:
        """Of the checkpoint: `_target_`, and its arguments but for the image."""
        raise NotImplementedError

    def network(self, image: ImageSpec, code: tuple[int, ...] | None) -> Any:
        """The network without weights. code: None where nothing is decoded yet."""
        raise NotImplementedError

    def model(self, image: ImageSpec) -> LatentModel:
        network = self.network(image, self.code or self._said_by_encoder(image))
        self._load(network)
        network.eval().requires_grad_(False)
        network.deterministic()
        return network

    def convert(self, image: ImageSpec, out: Path, images: Iterable[Tensor], device: torch.device) -> list[str]:
        model: Any = self.model(image)
        check_model(model, self.culprit)
        rank = None
        if self.fits and isinstance(model, Brought):
            model.to(device)
            codes = []
            for number, part in enumerate(images):
                if number == 0:
                    self._check_range(model, part[:TRIED_IMAGES].to(device))
                with torch.no_grad():
                    codes.append(model.encode(part.to(device)).flatten(1).double().cpu())
            rank = model.fit(torch.cat(codes))
        code = model.spaces["z"].shape if isinstance(model, Brought) else None
        save_generator(out, model, self.recipe(code, rank), image)
        return []

    def _check_range(self, model: "Brought", images: Tensor) -> None:
        """Whether real images come back far better with another range than the one that is declared."""
        declared, found = (model.low, model.high), {}
        for candidate in dict.fromkeys((declared, *RANGES)):
            model.low, model.high = candidate
            with torch.no_grad(), suppress(Exception):  # it may refuse images of another range itself
                found[candidate] = float(psnr(model.decode(model.encode(images)), images).mean())
        model.low, model.high = declared
        best = max(found, key=found.__getitem__)
        if found[best] >= GOOD_DB and found[best] - found[declared] > BETTER_DB:
            raise self.culprit.wrong(
                "value_range",
                f"{list(declared)}: {len(images)} training images come back with {found[declared]:.1f} dB, and with "
                f"{found[best]:.1f} dB where it is {list(best)}; expected the range that it was trained on",
            )

    def _said_by_encoder(self, image: ImageSpec) -> tuple[int, ...]:
        network = self.network(image, None).eval()
        with torch.no_grad():
            found = called(self.culprit, "encode", lambda: network.encode(torch.zeros(1, *image.shape), "z"))
        return tuple(found.shape[1:])

    def _load(self, network: nn.Module) -> None:
        if "weights" in self.files:
            named = f"{key_in(self.culprit.owner, 'weights')}={self.files['weights']}"
            holder: Any = network.network if isinstance(network, Brought) else network
            load_weights(holder, self.files["weights"], self.prefix, named)


class Brought(LatentModel, nn.Module):
    """Somebody's generator, with the one space `z`.

    image:       what the data's images are.
    code:        shape of a code; None: nothing is decoded.
    value_range: as of `BroughtGenerator`.
    encodes:     whether it has an encoder.
    rank:        of the Gaussian that codes are drawn from, as `fit` found it; None: they are standard normal.

    A subclass has `decoded`, and `encoded` where it has an encoder.
    """

    def __init__(
        self,
        image: ImageSpec,
        code: Sequence[int] | None,
        value_range: Sequence[float],
        encodes: bool,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        shape = tuple(code or ())
        self.image, self.encodes = image, encodes
        self.spaces = {"z": LatentSpace("z", shape, "normal" if rank is None else "empirical")}
        self.low, self.high = value_range
        self.register_buffer("code_mean", torch.zeros(shape))
        self.register_buffer("code_axes", torch.zeros(rank or 0, self.spaces["z"].size))
        self.code_mean: Tensor
        self.code_axes: Tensor

    def decoded(self, codes: Tensor) -> Any:
        """Codes [N, *code] -> images [N, C, H, W] in its own value range."""
        raise NotImplementedError

    def encoded(self, images: Tensor) -> Any:
        """Images [N, C, H, W] in its own value range -> codes [N, *code]."""
        raise NotImplementedError

    @property
    def capabilities(self) -> frozenset[str]:
        return super().capabilities - ({"encode"} if not self.encodes else frozenset())

    def fit(self, codes: Tensor) -> int:
        """From now on codes are drawn from the Gaussian with mean and covariance of `codes` [N, D] float64; its rank,
        which is min(N, D).
        """
        centred = (codes - codes.mean(dim=0)) / max(1, len(codes) - 1) ** 0.5
        if len(codes) > codes.shape[1]:
            values, axes = torch.linalg.eigh(centred.T @ centred)
            centred = axes.T * values.clamp_min(0.0).sqrt()[:, None]
        space = self.spaces["z"]
        self.spaces = {"z": LatentSpace("z", space.shape, "empirical")}
        self.code_mean = codes.mean(dim=0).reshape(space.shape).float().to(self.code_mean.device)
        self.code_axes = centred.float().contiguous().to(self.code_mean.device)
        return len(centred)

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        """n codes from the prior, [n, *code]."""
        of = self.spaces["z"]
        if of.prior == "normal":
            return torch.randn(n, *of.shape, generator=generator).to(self.code_mean.device)
        drawn = torch.randn(n, len(self.code_axes), generator=generator).to(self.code_mean.device)
        return self.code_mean + (drawn @ self.code_axes).reshape(n, *of.shape)

    def decode(self, codes: Tensor, space: str = "z") -> Tensor:
        """Codes [N, *code] -> images [N, C, H, W] in [-1, 1]: what lies beyond its value range is cut off."""
        found = _tensor(self.decoded(codes.contiguous()))
        return ((found - self.low) * (2.0 / (self.high - self.low)) - 1.0).clamp(-1.0, 1.0)

    def encode(self, images: Tensor, space: str = "z") -> Tensor:
        return _tensor(self.encoded(self.in_range(images)))

    def in_range(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> the same in its own value range."""
        return ((images.contiguous() + 1.0) * ((self.high - self.low) / 2.0) + self.low).contiguous()


def check_model(model: LatentModel, culprit: Culprit) -> None:
    """Try it on two codes, zero and drawn, and on two images, one grey and one of noise: whether it gives what is
    declared, the same for the same each time, and images have gradients in the codes.

    Raises UserError where something is not so.
    """
    space, image = next(iter(model.spaces.values())), model.image
    draw = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.zeros(space.shape), torch.randn(space.shape, generator=draw)]).requires_grad_()
    with torch.enable_grad():
        images = called(culprit, "decode", lambda: model.decode(codes, space.name))
    _check_shape(culprit, "decode", images, (2, *image.shape), f"of codes {list(codes.shape)}")
    if not images.requires_grad:
        raise culprit.error("its images have no gradient in the codes; expected a decode without no_grad or detach")
    with torch.no_grad():
        again = called(culprit, "decode", lambda: model.decode(codes, space.name))
    _check_same(culprit, "decode", "images", images.detach(), again)
    if not model.can("encode"):
        return
    noise = torch.rand(image.shape, generator=draw) * 2.0 - 1.0
    made = torch.stack([torch.zeros(image.shape), noise])
    with torch.no_grad():
        found, again = (called(culprit, "encode", lambda: model.encode(made, space.name)) for _ in range(2))
    _check_shape(culprit, "encode", found, (2, *space.shape), f"of images {list(made.shape)}")
    _check_same(culprit, "encode", "codes", found, again)


def called(culprit: Culprit, method: str, call: Callable[[], Any]) -> Tensor:
    """What it gives. Raises UserError, whatever it raises."""
    try:
        return call()
    except UserError:
        raise
    except Exception as error:  # whatever somebody's code raises
        raise culprit.error(f"{method} raises {type(error).__name__} {TRIED} ({last_line(error)})") from error


def _tensor(found: Any) -> Tensor:
    if not isinstance(found, Tensor):
        raise TypeError(f"it returns a {type(found).__name__}; expected one tensor")
    return found.float()


def _check_shape(culprit: Culprit, method: str, found: Tensor, expected: tuple[int, ...], of: str) -> None:
    if tuple(found.shape) == expected:
        if not torch.isfinite(found).all():
            raise culprit.error(f"{method} gives NaN or infinity {TRIED}")
        return
    problem = f"{method} gives {list(found.shape)} {of}, expected {list(expected)}"
    sides = tuple(found.shape[2:])
    if method == "decode" and found.shape[:2] == expected[:2] and len(sides) == 2 and sides[0] == sides[1]:
        problem += f"; set data.image_size={sides[0]}"
    raise culprit.error(problem)


def _check_same(culprit: Culprit, method: str, what: str, one: Tensor, other: Tensor) -> None:
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3):
        raise culprit.error(f"{method} gives other {what} for the same each time; expected what depends on them alone")
