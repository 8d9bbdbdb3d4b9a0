"""Weights trained elsewhere -> a checkpoint of medlat. No file is executed, whatever it holds."""

import importlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from medlat.core.checkpoints import read_generator, save_generator
from medlat.core.errors import ArgumentError, UserError, did_you_mean
from medlat.core.external import Culprit
from medlat.core.ranges import Share
from medlat.core.spaces import ImageSpec
from medlat.generators.imported.brought import Imported
from medlat.generators.imported.identify import what_is
from medlat.generators.imported.layout import STYLEGAN2, Foreign, recipe_of
from medlat.generators.imported.nvidia import from_nvidia
from medlat.generators.imported.restricted import Refused, reading
from medlat.generators.imported.rosinality import from_rosinality
from medlat.generators.imported.tensors import read_pickle, read_torch
from medlat.generators.stylegan2.networks import Noise

CPU = torch.device("cpu")
OWN = ("medlat", "nvidia", "rosinality")  # kinds of files
EXPECTED = (
    "expected medlat's generator.safetensors, a .pkl of the StyleGAN2-ADA or StyleGAN3 repository, or a .pt of "
    "rosinality's stylegan2-pytorch"
)


def read_foreign(path: Path) -> Foreign:
    """The generator of a file of another repository.

    Raises UserError, naming the file, where it is none, damaged, or holds what weights do not need.
    """
    kind = kind_of(path)
    with reading(_where(path)), open(path, "rb") as file:
        found = from_nvidia(read_pickle(file)) if kind == "nvidia" else from_rosinality(read_torch(file))
        recipe_of(found)
        return found


def kind_of(path: Path) -> str:
    """Which of the three kinds it is. Raises UserError where there is no file, or of another kind, and says which."""
    with reading(_where(path)):
        if not path.exists() and not path.is_symlink():
            raise Refused(f"no such file; {EXPECTED}")
        found = what_is(path)
        if found.name == "torch":
            return "rosinality"  # its reader says what is wrong
        if found.name not in OWN:
            raise Refused(found.sentence(path) if found.use else f"{found.what}; {EXPECTED}")
        return found.name


class Pretrained(Imported):
    """A generator that was trained before, here or elsewhere.

    weights:    the file.
    truncation: ψ of the truncation trick, of a StyleGAN2; null: as in the file, 1 where it does not say.
    noise:      what a StyleGAN2 adds: "fixed" maps of the file, "random" ones, or none ("off"); null: as in the file,
                fixed where it does not say.
    label:      of a conditional StyleGAN2: the number of the one that all images are to have, or "all": codes of w are
                drawn with each label alike, so that directions lead within labels and across them.
    network:    dotted name of the network's class, where it is one of the user's own.

    Raises UserError where the file is missing or of another kind. No more than its first bytes are read.
    """

    def __init__(
        self,
        weights: str,
        truncation: Share | None = None,
        noise: Noise | None = None,
        network: str | None = None,
        label: int | str | None = None,
    ) -> None:
        if truncation is not None and not 0.0 <= truncation <= 1.0:
            raise ArgumentError("truncation", "expected a number from 0 to 1", truncation)
        if noise is not None and noise not in get_args(Noise):
            raise ArgumentError("noise", f"no such noise{did_you_mean(str(noise), get_args(Noise))}", noise)
        if isinstance(label, str) and label != "all":
            raise ArgumentError("label", "expected the number of a label, or all", label)
        self.label = label
        self.path, self.truncation, self.noise = Path(weights).expanduser(), truncation, noise
        self.files, self.culprit = {"weights": self.path}, Culprit(self, "weights", weights)
        self.allowed = () if network is None else (network,)
        self.kind = kind_of(self.path)

    def model(self, image: ImageSpec) -> Any:
        checked, recipe, _ = self._made(image)
        network = type(checked)(image, **_arguments(recipe))  # with what no file holds, and `checked` has no memory for
        network.load_state_dict(checked.state_dict(), assign=True)
        network.eval().requires_grad_(False)
        network.deterministic()
        return network

    def convert(
        self, image: ImageSpec, out: Path, images: Iterable[Tensor] = (), device: torch.device = CPU
    ) -> list[str]:
        network, recipe, said = self._made(image)
        save_generator(out, network, recipe, image)
        return said

    def _made(self, image: ImageSpec) -> tuple[Any, dict[str, Any], list[str]]:
        """The network with its weights, its recipe, and what is to be said of it.

        image: what the data's images are. Raises UserError where the network's differ.
        """
        recipe, weights, said = self._read(image)
        given = {"truncation": self.truncation, "noise": self.noise}
        chosen = {name: value for name, value in given.items() if value is not None}
        if chosen and recipe["_target_"] != STYLEGAN2:
            raise ArgumentError(next(iter(chosen)), f"only a StyleGAN2 has it; this is a {recipe['_target_']}", of=self)
        return _network(self.path, recipe | chosen, image, weights, self.allowed), recipe | chosen, said

    def _read(self, image: ImageSpec) -> tuple[dict[str, Any], dict[str, Tensor], list[str]]:
        """Recipe and weights of a network of such images, and what is to be said of it."""
        if self.kind == "medlat":
            recipe, own, weights = _read_own(self.path, self.allowed)
            _check_shape(self.path, own.shape, image)
            _check_range(self.path, own, image)
            if self.label is not None:
                raise ArgumentError(
                    "label", "medlat's own file has the labels it was made with; expected null", of=self
                )
            return recipe, weights, []
        found, said = self._labelled(read_foreign(self.path))
        if (found.channels, image.channels) == (3, 1):
            found = found.grey()
            said.append(
                "The generator makes images in colour: what is shown and measured is the mean of their channels."
            )
        recipe, shape = recipe_of(found)
        _check_shape(self.path, shape, image)
        # Apart from each other: tensors of a file may share memory, which safetensors cannot.
        weights = {name: t.clone(memory_format=torch.contiguous_format) for name, t in found.weights.items()}
        return recipe, weights, said

    def _labelled(self, found: Foreign) -> tuple[Foreign, list[str]]:
        """The network of the label that is asked for."""
        count, label = found.labels, self.label
        if not count:
            if label is not None:
                raise ArgumentError("label", "this generator's images have no labels; expected null", label, of=self)
            return found, []
        if label == "all":
            return found, [f"The generator's images have one of {count} labels: codes are drawn with each alike."]
        if not isinstance(label, int) or not 0 <= label < count:
            expected = (
                f"this generator's images have one of {count} labels; expected its number, 0 to {count - 1}, or all"
            )
            raise ArgumentError("label", expected, "null" if label is None else label, of=self)
        return found.of_label(label), [
            f"The generator's images have one of {count} labels: here all have label {label}."
        ]


def _network(
    path: Path, recipe: dict[str, Any], image: ImageSpec, weights: dict[str, Tensor], allowed: Collection[str]
) -> nn.Module:
    """The network of a recipe with the weights as they are; memory is taken for nothing else."""
    module, _, name = recipe["_target_"].rpartition(".")
    try:
        known = module.startswith("medlat.generators.") or recipe["_target_"] in allowed
        found = getattr(importlib.import_module(module), name) if known else None
        if not isinstance(found, type) or not issubclass(found, nn.Module):
            raise UserError(f"{recipe['_target_']!r} is not a generator")
        with torch.device("meta"):
            network = found(image, **_arguments(recipe))
        network.load_state_dict(weights, assign=True)
    except (UserError, ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{_where(path)}: not a generator of this version of medlat ({error})") from error
    return network


def _arguments(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if name != "_target_"}


def _read_own(path: Path, allowed: Collection[str] = ()) -> tuple[dict[str, Any], ImageSpec, dict[str, Tensor]]:
    with reading(_where(path)):
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("medlat", "{}"))
        except SafetensorError as error:
            raise Refused(f"damaged ({error})") from error
        if not isinstance(header, dict) or not isinstance(header.get("recipe"), dict):
            raise Refused(f"holds no generator of medlat; {EXPECTED}")
        recipe, image, weights = read_generator(path, allowed)
        numbers = (*image.shape, image.low, image.high, image.spacing_mm)
        if not all(isinstance(number, int | float) for number in numbers):
            raise Refused("damaged: its header does not say what its images are")
    return recipe, image, weights


def _check_shape(path: Path, shape: tuple[int, int, int], image: ImageSpec) -> None:
    channels, height, width = shape
    if channels != image.channels:
        raise UserError(
            f"{_where(path)}: its images have {channels} channel{'s' * (channels > 1)} of {height}x{width} pixels, the "
            f"data's have {image.channels}; expected a network of {image.channels}"
        )
    if (height, width) != (image.height, image.width):
        raise UserError(
            f"{_where(path)}: its images have {height}x{width} pixels, the data's {image.height}x{image.width}; "
            f"set data.image_size={height}"
        )


def _check_range(path: Path, own: ImageSpec, image: ImageSpec) -> None:
    if (own.low, own.high, own.unit) != (image.low, image.high, image.unit):
        raise UserError(
            f"{_where(path)}: it was trained on images of [{own.low:g}, {own.high:g}] {own.unit}, the data are of "
            f"[{image.low:g}, {image.high:g}] {image.unit}; set data.intensity_range=[{own.low:g}, {own.high:g}]"
        )


def _where(path: Path) -> str:
    return f"generator.weights={path}"
