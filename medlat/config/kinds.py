"""Does a value from a configuration fit a type annotation, and what is the type called in words?

A configuration holds null, true/false, numbers, text, lists and mappings. Annotations may say more than that
(`tuple[float, float]`, `Path`, `Sequence[int]`), so a list fits any sequence or set and text fits a path. A whole
number is fine where a number is wanted; true and false are no numbers. What an annotation means by a class of its own
is for the constructor to say: everything fits it here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from medlat.core.errors import did_you_mean


class Component:
    """A section of a configuration that an object is built from: a mapping with a `_target_`."""


class Fault(NamedTuple):
    """Where a value does not fit: `[2]` of a list, the value found there and the type it should have."""

    where: str
    value: Any
    kind: Any


def fault(value: Any, kind: Any) -> Fault | None:
    """The first place where `value` (null, bool, number, text, list, dict) does not fit `kind`, or None."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union_fault(value, kind, arguments)
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in arguments)
        return None if fits else Fault("", value, kind)
    container = origin or kind
    if not isinstance(container, type) or container in (object, Any):
        return None
    if container is Component or is_dataclass(container):
        section = isinstance(value, Mapping) and (container is not Component or "_target_" in value)
        return None if section else Fault("", value, kind)
    if container in _SCALARS:
        return None if _SCALARS[container](value) else Fault("", value, kind)
    if issubclass(container, PurePath):
        return None if isinstance(value, str) else Fault("", value, kind)
    if issubclass(container, Mapping):
        return _mapping_fault(value, kind)
    if issubclass(container, Iterable) and container.__module__ in ("builtins", "collections.abc", "collections"):
        return _list_fault(value, kind, container, arguments)
    return None


_SCALARS = {
    NoneType: lambda v: v is None,
    bool: lambda v: isinstance(v, bool),
    int: lambda v: isinstance(v, int) and not isinstance(v, bool),
    float: lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    str: lambda v: isinstance(v, str),
}


def _union_fault(value: Any, kind: Any, members: tuple[Any, ...]) -> Fault | None:
    faults = [fault(value, member) for member in members]
    if None in faults:
        return None
    # Where one member at least is a container of the right sort, say which of its entries is wrong.
    inner = next((found for found in faults if found is not None and found.where), None)
    return inner or Fault("", value, kind)


def _mapping_fault(value: Any, kind: Any) -> Fault | None:
    if not isinstance(value, Mapping):
        return Fault("", value, kind)
    inner = of_values(kind)
    for key, item in value.items():
        if found := fault(item, inner):
            return Fault(f".{key}{found.where}", found.value, found.kind)
    return None


def _list_fault(value: Any, kind: Any, container: type, arguments: tuple[Any, ...]) -> Fault | None:
    if not isinstance(value, list | tuple):
        return Fault("", value, kind)
    kinds: Iterable[Any] = [arguments[0] if arguments else Any] * len(value)
    if container is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(arguments) != len(value):
            return Fault("", value, kind)
        kinds = arguments
    for index, (item, inner) in enumerate(zip(value, kinds, strict=True)):
        if found := fault(item, inner):
            return Fault(f"[{index}]{found.where}", found.value, found.kind)
    return None


def members(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of another type, it alone."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def takes_mappings(kind: Any) -> bool:
    """Whether some mapping fits."""
    return kind is Any or any(_is_mapping(member) for member in members(kind))


def of_values(kind: Any) -> Any:
    """The type of the values of a mapping type, Any where it says none."""
    arguments = next((get_args(member) for member in members(kind) if _is_mapping(member)), ())
    return arguments[1] if len(arguments) == 2 else Any


def _is_mapping(kind: Any) -> bool:
    container = get_origin(kind) or kind
    return isinstance(container, type) and issubclass(container, Mapping)


_SINGULAR = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
}
_PLURAL = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}


def words(kind: Any) -> str:
    """The type as a person says it, e.g. "a number", "two numbers", "one of mse, log_mse", "text or null"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(words(member) for member in arguments)
    if origin is Literal:
        return "one of " + ", ".join(show(choice).strip("'") for choice in arguments)
    container = origin or kind
    if container in _SINGULAR:
        return _SINGULAR[container]
    if not isinstance(container, type) or container is Any:
        return "any value"
    if container is Component or is_dataclass(container):
        return "a section with a _target_" if container is Component else "a section of settings"
    if issubclass(container, PurePath):
        return "a path"
    if issubclass(container, Mapping):
        return "a mapping"
    if container is tuple and arguments and arguments[-1] is not Ellipsis:
        same = len(set(arguments)) == 1
        return f"a list of {len(arguments)} {_PLURAL.get(arguments[0], 'values') if same else 'values'}"
    return f"a list of {_PLURAL[arguments[0]]}" if arguments and arguments[0] in _PLURAL else "a list"


def annotation(kind: Any) -> str:
    """The type as Python writes it, e.g. `list[float]`; empty for what `words` has already said."""
    if get_origin(kind) is Literal or kind in (Any, Component) or is_dataclass(kind):
        return ""
    if kind is NoneType:
        return "None"
    if get_origin(kind) in (Union, UnionType):
        names = [annotation(member) for member in get_args(kind)]
        return " | ".join(names) if all(names) else ""
    plain = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", plain)  # without the modules' names


def show(value: Any) -> str:
    """A value as a configuration file writes it, shortened."""
    special = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return special[value]
    if isinstance(value, Mapping):
        return "a mapping (" + ", ".join(map(str, value)) + ")"
    text = f"[{', '.join(map(show, value))}]" if isinstance(value, list | tuple) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def complaint(key: str, found: Fault) -> str:
    """The line that tells a user: `generator.training.beta: 'abc' is not a number (float)`."""
    origin = get_origin(found.kind)
    head = f"{key}{found.where}: {show(found.value)} is not {words(found.kind)}"
    if origin is Literal:
        choices = [str(choice) for choice in get_args(found.kind)]
        near = did_you_mean(str(found.value), choices)
        return head + (near if near.startswith("; did you mean") else "")
    name = annotation(found.kind)
    return head + (f" ({name})" if name else "") + _remedy(key + found.where, found)


def _remedy(key: str, found: Fault) -> str:
    """What to write instead, for the slips that the command line's own reading of values causes."""
    kinds = members(found.kind)
    wants_text = any(isinstance(m, type) and issubclass(m, str | PurePath) for m in kinds if not get_args(m))
    if wants_text and isinstance(found.value, int | float):
        return f"""; write "{key}='{show(found.value)}'\""""
    if int in kinds and isinstance(found.value, float) and found.value.is_integer():
        return f"; write {int(found.value)}"
    return ""
