"""State dicts from files: .safetensors, .pt of `torch.save`, Lightning's .ckpt. Nothing in them is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medlat.core.checkpoints import is_safetensors
from medlat.generators.imported.identify import WEIGHTS, what_is
from medlat.generators.imported.restricted import Refused, reading
from medlat.generators.imported.tensors import read_torch

SHOWN = 3  # names in a message


def load_weights(network: nn.Module, path: Path, prefix: str, named: str) -> None:
    """Give a network the weights of a file.

    prefix: that their names begin with there; it is taken off, others are left out. named: the key and the file, as
    messages begin. Raises UserError where the file holds no weights, or those of another network.
    """
    with reading(named):
        found = read_state(path)
        state = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        if not state:
            raise Refused(f"no name in it begins with '{prefix}'; there are {_groups(found)}")
        own = network.state_dict()
        if wrong := _difference(own, state):
            raise Refused(f"not the weights of {type(network).__name__}: {wrong}{_near(own, found, prefix)}")
        network.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; of a Lightning checkpoint its `state_dict`, of nested dicts with dots.

    Raises Refused where it holds something else, and says what.
    """
    kind = what_is(path)
    if kind.name not in WEIGHTS:
        raise Refused(kind.sentence(path))
    if is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise Refused(f"damaged ({error})") from error
    with open(path, "rb") as file:
        return tensors_of(read_torch(file, passes=True))


def tensors_of(content: Any) -> dict[str, Tensor]:
    """The tensors of what a file holds, by name."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    return dict(_flat(content, ""))


def _flat(content: Any, above: str) -> list[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        return [(above, content)]
    if not isinstance(content, Mapping):
        return []
    pairs = ((f"{above}.{name}" if above else str(name), value) for name, value in content.items())
    return [found for name, value in pairs for found in _flat(value, name)]


def _difference(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What keeps the weights from fitting; empty where they do."""
    missing, more = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(own)} are missing ({_some(missing)})")
    if more:
        said.append(f"{len(more)} belong to no layer ({_some(more)})")
    if shapes:
        first = min(shapes)
        said.append(f"{first} is {list(state[first].shape)}, expected {list(own[first].shape)}")
    return "; ".join(said)


def _near(own: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str) -> str:
    """The prefix with which names would fit, where there is one."""
    name = next(iter(own), "")
    for candidate in (other.removesuffix(name) for other in found if name and other.endswith(name)):
        if candidate != prefix and all(candidate + key in found for key in own):
            return f"; did you mean prefix={candidate or 'null'}?" if candidate else "; expected no prefix"
    return ""


def _groups(found: Mapping[str, Tensor]) -> str:
    return ", ".join(sorted({name.partition(".")[0] + "." for name in found})[: 4 * SHOWN])


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
