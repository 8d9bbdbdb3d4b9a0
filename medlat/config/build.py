"""Configuration to objects: the one place that builds what a `_target_` names, and knows at which key it stands."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from medlat.core.errors import ArgumentError, Keys

# What the program itself passes to constructors, by section: the configuration need not, and must not, hold it.
PROVIDED = {
    "generator.network": {"image"},
    "generator.module": {"network", "classifier", "seed", "steps"},
    "generator.module.objective": {"classifier"},
    "generator.module.discriminator": {"image"},
    "classifier.network": {"image", "task", "classes"},
    "classifier.module": {"network", "seed", "steps"},
    "compared.*.network": {"image", "task", "classes"},
    "compared.*.module": {"network", "seed", "steps"},
    "inversion.encoder.network": {"image", "shape"},
    "inversion.encoder.module": {"network", "model", "space", "seed", "steps"},
    "evaluation.features.*": {"name"},
    "measure.*": {"modality"},
    "*.deformator": {"size"},
    "*.reconstructor": {"image", "directions"},
    "*.held_out": {"image", "directions"},
}

# The keys that provided arguments are about: `{above}` is what the section of the object stands in.
ABOUT = {"image_size": "data.image_size", "task": "{above}.task", "classes": "{above}.classes"}
REFERENCE = re.compile(r"\$\{\s*(\.*[A-Za-z_][\w.\[\]]*)\s*\}")  # an interpolation that is a key
INSTRUCTIONS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def build(section: DictConfig, **provided: Any) -> Any:
    """The object of a section with `_target_`, those below it included. An ArgumentError of a constructor gets the
    whole key of the argument.
    """
    arguments = {str(key): _value(section, key) for key in section if key not in INSTRUCTIONS}
    given = [_value(section._args_, index) for index in range(len(section._args_))] if "_args_" in section else []
    target = partial(get_object(section._target_), *given, **arguments)
    if section.get("_partial_"):  # its errors are of the same key, whenever it is called
        return partial(_made, keys(section), target)
    return _made(keys(section), target, **provided)


def make(target: Callable[..., Any], section: DictConfig, **arguments: Any) -> Any:
    """An object of the program's own, made from the values of a section."""
    return _made(keys(section), target, **arguments)


def _made(names: Keys, target: Any, *given: Any, **arguments: Any) -> Any:
    with naming(names):
        found = target(*given, **arguments)
    with suppress(AttributeError, TypeError):  # it takes no attributes: then it is named by whoever calls it
        object.__setattr__(found, "config_keys", names)
    return found


def _value(node: DictConfig | ListConfig, key: Any) -> Any:
    """A value of a section as plain Python; a section with `_target_` as its object."""
    value = node[key]
    if isinstance(value, DictConfig):
        return build(value) if "_target_" in value else {name: _value(value, name) for name in value}
    return [_value(value, index) for index in range(len(value))] if isinstance(value, ListConfig) else value


@contextmanager
def naming(names: Keys | DictConfig) -> Iterator[None]:
    """Within it, an ArgumentError that knows the argument's name alone gets its whole key. names: of the object that is
    called, or its section.
    """
    try:
        yield
    except ArgumentError as error:
        named = error.under(names if isinstance(names, Keys) else keys(names))
        if named is error:
            raise
        raise named from error


def keys(section: DictConfig) -> Keys:
    """What the arguments of a section's object are called: one whose value is read from another key by that one."""
    where, root = key_of(section), cast(DictConfig, section._get_root())
    about = {name: key.format(above=where.rpartition(".")[0]) for name, key in ABOUT.items() if name not in section}
    others = {name: origin(root, key) for name, key in about.items()}
    names = [str(name) for name in section]
    read = {
        name: origin(root, f"{where}.{name}".lstrip(".")) for name in names if OmegaConf.is_interpolation(section, name)
    }
    return Keys(where, others | read)


def key_of(section: DictConfig) -> str:
    """Where a section stands in the configuration, e.g. "directions.deformator"; empty for the root."""
    return section._get_full_key(None) if section._get_parent() is not None else ""


def origin(root: Any, key: str) -> str:
    """The key whose value is meant by one: `scale.size` for one that is just `${scale.size}`."""
    while True:
        parent, _, name = key.rpartition(".")
        above = OmegaConf.select(root, parent) if parent else root
        raw = above._get_node(name) if isinstance(above, DictConfig) and name in list(above) else None
        match = REFERENCE.fullmatch(str(raw._value())) if raw is not None and raw._is_interpolation() else None
        if match is None:
            return key
        key = absolute(match[1], key)


def absolute(reference: str, key: str) -> str:
    """The key that an interpolation at `key` reads: `.size` is its sibling, `..size` one of its parent's."""
    name = reference.lstrip(".")
    up = len(reference) - len(name)
    return ".".join([*key.split(".")[:-up], name]) if up else name


def plain(section: DictConfig) -> dict[str, Any]:
    """A section as plain containers, interpolations resolved."""
    return OmegaConf.to_container(section, resolve=True)  # type: ignore[return-value]
