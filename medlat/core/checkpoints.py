"""Generators on disk: one safetensors file whose header holds the recipe of the network. Nothing is ever unpickled."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec

FORMAT = 1
LARGEST = 1e9  # of the numbers that describe images
CODE = ("function", "program")  # arguments of a recipe that name what is run


def save_generator(path: Path, network: nn.Module, recipe: dict[str, Any], image: ImageSpec) -> None:
    """Write weights and recipe.

    recipe: plain values: `_target_`, the network's class, and its arguments but for the image.
    """
    header = json.dumps({"format": FORMAT, "recipe": recipe, "image": image.to_dict()}, sort_keys=True)
    # Apart from each other: weights that are shared are one piece of memory, which safetensors cannot have twice.
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    fresh = path.with_name(f".{path.name}.new")
    save_file(weights, fresh, metadata={"medlat": header})  # one entry: several are written in any order
    os.replace(fresh, path)


def read_generator(path: Path, allowed: Collection[str] = ()) -> tuple[dict[str, Any], ImageSpec, dict[str, Tensor]]:
    """Recipe, image specification and weights of a file.

    allowed: dotted names of classes outside medlat that the file may name: those that the user's configuration names.
    Who gets a file from somebody else does not run what its header says. Raises UserError where the file is damaged, of
    another format, holds a pickle, or names another class.
    """
    try:
        _refuse_pickle(path)
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["medlat"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if header["format"] != FORMAT:
            raise UserError(f"{path}: checkpoint of format {header['format']}, expected {FORMAT}")
        recipe, image = header["recipe"], ImageSpec(**header["image"])
        numbers = (*image.shape, image.low, image.high, image.spacing_mm)
        plain = all(isinstance(number, int | float) and abs(number) < LARGEST for number in numbers)
        if not plain or not isinstance(recipe, dict):
            raise ValueError("its header is not one that medlat writes")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged checkpoint ({error}); delete its folder to make it anew") from error
    for target in code_named({"_target_": ""} | recipe):
        if target not in allowed:
            named = f", or {' or '.join(sorted(allowed))}" if allowed else ""
            raise UserError(
                f"{path}: the checkpoint names the class {target!r}; only medlat.* and classes that the configuration "
                f"names too are built from a file; expected medlat.*{named}"
            )
    return recipe, image, weights


def code_named(recipe: Any) -> Iterator[str]:
    """What a recipe names that would be imported or run, at any depth, and is not medlat's own: classes, functions
    ("package.module:function"), and what is to run a program that lies among the weights.
    """
    if isinstance(recipe, dict):
        for key, value in recipe.items():
            foreign = key in CODE or (key == "_target_" and not str(value).startswith("medlat."))
            if foreign and value is not None:
                yield str(value)
            yield from code_named(value)
    elif isinstance(recipe, list):
        for value in recipe:
            yield from code_named(value)


def is_safetensors(path: Path) -> bool:
    """Whether it begins as a safetensors file does: the length of its header, then the header, which is JSON.

    The length comes first to be looked at: one of 640 begins with the bytes of a pickle, one of 19,280 with a zip's.
    """
    with open(path, "rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") + 8 <= path.stat().st_size


def _refuse_pickle(path: Path) -> None:
    if is_safetensors(path):
        return
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] == b"PK" or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"):
        raise UserError(
            f"{path}: holds a pickle, which could run code; refused. Expected a safetensors file made by medlat"
        )


def weights_digest(network: nn.Module) -> str:
    """16 hex digits of all weights and buffers, bit for bit."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
