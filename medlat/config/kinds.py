"""Does a value from a configuration fit a type annotation, and what is the type called in words?

pydantic decides, strictly and as of JSON: a configuration holds null, true/false, numbers, text, lists and mappings. A
list fits any sequence or set and text fits a path; a whole number is fine where a number is wanted; true and false are
no numbers; NaN and infinity are none either. Ranges stand in the annotation (`Annotated[int, Ge(1)]`, see
`medlat.core.ranges`). What an annotation means by a class of its own is for the constructor to say: everything fits it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from medlat.core.errors import did_you_mean


class Component:
    """A section of a configuration that an object is built from: a mapping with a `_target_`."""


class Fault(NamedTuple):
    """Where a value does not fit: `[2]` of a list, the value found there, the type it should have, and what a rule of
    that type says in words ("" where none does).
    """

    where: str
    value: Any
    kind: Any
    rule: str = ""


def fault(value: Any, kind: Any) -> Fault | None:
    """The first place where `value` (null, bool, number, text, list, dict) does not fit `kind`, or None. Of a union
    with a container of the right sort, the wrong entry of that.
    """
    try:
        _adapter(kind).validate_json(json.dumps(value, default=str))
        return None
    except ValidationError as error:
        found = [_at(value, kind, entry) for entry in error.errors(include_url=False)]
        deepest = max(found, key=lambda one: len(one.where))
        rules = [one for one in found if one.rule]
        return deepest if deepest.where else rules[0] if rules else Fault("", value, kind)


def _at(value: Any, kind: Any, error: Mapping[str, Any]) -> Fault:
    where = ""
    for part in error["loc"]:  # names of the members of unions stand among the places
        if isinstance(part, int) and isinstance(value, list | tuple) and part < len(value):
            where, value, kind = f"{where}[{part}]", value[part], _entry(kind, part)
        elif isinstance(value, Mapping) and part in value:
            where, value, kind = f"{where}.{part}", value[part], of_values(kind)
    rule = {"finite_number": "a finite number", "value_error": str(error.get("ctx", {}).get("error", ""))}
    rule |= dict.fromkeys(_BOUNDS, words(kind))
    return Fault(where, value, kind, rule.get(error["type"], ""))


_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_too_short")


def _entry(kind: Any, index: int) -> Any:
    """The type of an entry of a list type."""
    for member in map(plain, members(kind)):
        arguments = get_args(member)
        if arguments and not _is_mapping(member):
            fixed = get_origin(member) is tuple and arguments[-1] is not Ellipsis
            return arguments[index] if fixed else arguments[0]
    return Any


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(_known(kind), config=ConfigDict(strict=True, allow_inf_nan=False))


def _known(kind: Any) -> Any:
    """The type as far as a configuration can fit it or not: classes that are built, functions and the like are Any."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[_known(arguments[0]), *kind.__metadata__]
    if origin in (Union, UnionType):
        return Union[tuple(_known(member) for member in arguments)]  # noqa: UP007 (the members are values here)
    if origin is Literal:
        return Annotated[Any, AfterValidator(_one_of(arguments))]
    container = origin or kind
    if not isinstance(container, type) or container in (object, Any):
        return Any
    if container is Component or is_dataclass(container):
        return Annotated[dict[str, Any], AfterValidator(_with_target)] if container is Component else dict[str, Any]
    if container in (NoneType, bool, int, float, str) or issubclass(container, PurePath):
        return container
    if issubclass(container, Mapping):
        return dict[str, _known(of_values(kind))]  # type: ignore[misc]
    if issubclass(container, Iterable) and container.__module__ in ("builtins", "collections.abc", "collections"):
        if container is tuple and arguments:
            return tuple[tuple(a if a is Ellipsis else _known(a) for a in arguments)]  # type: ignore[misc]
        return list[_known(arguments[0]) if arguments else Any]  # type: ignore[misc]
    return Any


def _one_of(choices: Sequence[Any]) -> Any:
    def check(value: Any) -> Any:  # pydantic's own holds 1 for True
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise ValueError
        return value

    return check


def _with_target(value: Mapping[str, Any]) -> Any:
    if "_target_" not in value:
        raise ValueError
    return value


def plain(kind: Any) -> Any:
    """The type without its ranges and rules."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def members(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of another type, it alone."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def takes_mappings(kind: Any) -> bool:
    """Whether some mapping fits."""
    return kind is Any or any(_is_mapping(plain(member)) for member in members(kind))


def of_values(kind: Any) -> Any:
    """The type of the values of a mapping type, Any where it says none."""
    arguments = next((get_args(member) for member in map(plain, members(kind)) if _is_mapping(member)), ())
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
    if origin is Annotated:
        return words(arguments[0]) + _range(kind.__metadata__)
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
    return f"a list of {_PLURAL[plain(arguments[0])]}" if arguments and plain(arguments[0]) in _PLURAL else "a list"


def _range(rules: Sequence[Any]) -> str:
    """` of at least 1`, ` from 0 to below 1`, ` above 0`; nothing for rules that are no bounds."""
    if any(isinstance(r, MinLen) for r in rules):
        return " that is not empty"
    low = next((f"of at least {r.ge:g}" if isinstance(r, Ge) else f"above {r.gt:g}"
                for r in rules if isinstance(r, Ge | Gt)), "")  # fmt: skip
    high = next((f"{r.le:,}" if isinstance(r, Le) else f"below {r.lt:g}" for r in rules if isinstance(r, Le | Lt)), "")
    if not high:
        return f" {low}" if low else ""
    if low.startswith("of at least "):
        return f" from {low.removeprefix('of at least ')} to {high}"
    if low:
        return f" {low} {'and' if high.startswith('below') else 'up to'} {high}"
    return f" {'' if high.startswith('below') else 'up to '}{high}"


def annotation(kind: Any) -> str:
    """The type as Python writes it, e.g. `list[float]`; empty for what `words` has already said."""
    if get_origin(kind) in (Literal, Annotated) or kind in (Any, Component) or is_dataclass(kind):
        return ""
    if kind is NoneType:
        return "None"
    if get_origin(kind) in (Union, UnionType):
        names = [annotation(member) for member in get_args(kind)]
        return " | ".join(names) if all(names) else ""
    found = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    return "" if "Annotated" in found else re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", found)  # without the modules' names


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
    """The line that tells a user: `generator.training.beta: 'abc' is not a number (float)`, or of a number out of range
    `seed=-1: expected a whole number of at least 0`.
    """
    if found.rule:
        return f"{key}{found.where}={show(found.value)}: expected {found.rule}"
    head = f"{key}{found.where}: {show(found.value)} is not {words(found.kind)}"
    if get_origin(found.kind) is Literal:
        choices = [str(choice) for choice in get_args(found.kind)]
        near = did_you_mean(str(found.value), choices)
        return head + (near if near.startswith("; did you mean") else "")
    name = annotation(found.kind)
    return head + (f" ({name})" if name else "") + _remedy(key + found.where, found)


def _remedy(key: str, found: Fault) -> str:
    """What to write instead, for the slips that the command line's own reading of values causes."""
    kinds = tuple(map(plain, members(found.kind)))
    wants_text = any(isinstance(m, type) and issubclass(m, str | PurePath) for m in kinds if not get_args(m))
    if wants_text and isinstance(found.value, int | float):
        return f"""; write "{key}='{show(found.value)}'\""""
    if int in kinds and isinstance(found.value, float) and found.value.is_integer():
        return f"; write {int(found.value)}"
    if int in kinds and isinstance(found.value, str) and found.value.strip("0").isdecimal():
        return f"; write {found.value.lstrip('0')}"
    return ""
