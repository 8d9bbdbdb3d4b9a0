"""Does a value from a configuration fit a type annotation, and what is the type called in words?

pydantic decides, strictly and as of JSON: a configuration holds null, true/false, numbers, text, lists and mappings. A
list fits any sequence or set and text fits a path; a whole number is fine where a number is wanted; true and false are
no numbers; NaN and infinity are none either. Ranges stand in the annotation (`Annotated[int, Ge(1)]`, see
`medlat.core.ranges`). What an annotation means by a class of its own is for the constructor to say: everything fits it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from medlat.core.errors import did_you_mean


class Component:
    """A section of a configuration that an object is built from: a mapping with a `_target_`. So are classes that were
    read from their source (`medlat.config.static`).
    """

    __source__ = ""


_SIMPLE = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
_PLURAL = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_too_short")


def complaint(key: str, value: Any, kind: Any) -> str:
    """The line that tells a user where a value (null, bool, number, text, list, dict) does not fit: `directions.count:
    'abc' is not a whole number`, or of one out of range `seed=-1: expected a whole number of at least 0`. Empty where
    it fits. Of a union with a container of the right sort, it is about the wrong entry of that.
    """
    try:
        _adapter(kind).validate_json(json.dumps(value, default=str))
        return ""
    except ValidationError as error:
        faults = [_fault(value, kind, entry) for entry in error.errors(include_url=False)]
    where, found, wanted, rule = max(faults, key=lambda fault: (len(fault[0]), bool(fault[3])))
    if rule:
        return f"{key}{where}={show(found)}: expected {rule}"
    return f"{key}{where}: {show(found)} is not {words(wanted)}{_remedy(key + where, found, wanted)}"


def _fault(value: Any, kind: Any, error: Mapping[str, Any]) -> tuple[str, Any, Any, str]:
    """Where a value does not fit (`[2]` of a list), what is found there, the type that it should have, and what a rule
    of that type says in words ("" where none does).
    """
    where = ""
    for part in error["loc"]:  # names of the members of unions stand among the places
        if isinstance(part, int) and isinstance(value, list | tuple) and part < len(value):
            where, value, kind = f"{where}[{part}]", value[part], _entry(kind, part)
        elif isinstance(value, Mapping) and part in value:
            where, value, kind = f"{where}.{part}", value[part], of_values(kind)
    rules = {"finite_number": "a finite number", "value_error": str(error.get("ctx", {}).get("error", ""))}
    return where, value, kind, words(kind) if error["type"] in _BOUNDS else rules.get(error["type"], "")


def _remedy(key: str, value: Any, kind: Any) -> str:
    """The choice that is near, or what to write for the slips that the command line's own reading of values causes."""
    kinds = tuple(map(plain, members(kind)))
    if get_origin(kind) is Literal:
        near = did_you_mean(str(value), map(str, get_args(kind)))
        return near if near.startswith("; did you mean") else ""
    if any(isinstance(m, type) and issubclass(m, str | PurePath) for m in kinds) and isinstance(value, int | float):
        return f"""; write "{key}='{show(value)}'\""""
    if int in kinds and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if int in kinds and isinstance(value, str) and value.strip("0").isdecimal():
        return f"; write {value.lstrip('0')}"
    return ""


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(_read(kind)[0], config=ConfigDict(strict=True, allow_inf_nan=False))


def words(kind: Any) -> str:
    """The type as a person says it, e.g. "a number", "two numbers", "one of mse, log_mse", "text or null"."""
    return _read(kind)[1]


@cache
def _read(kind: Any) -> tuple[Any, str]:
    """The type as far as a configuration can fit it or not, and in words. Functions and the like are anything."""
    origin, arguments = get_origin(kind), get_args(kind)
    container = origin or kind
    if kind in _SIMPLE:
        return kind, _SIMPLE[kind]
    if origin is Annotated:
        inner, said = _read(arguments[0])
        return Annotated[inner, *kind.__metadata__], said + _range(kind.__metadata__)
    if origin in (Union, UnionType):
        types, said_of = zip(*map(_read, arguments), strict=True)
        return Union[types], " or ".join(said_of)  # noqa: UP007 (the members are values here)
    if origin is Literal:
        return Annotated[Any, AfterValidator(_one_of(arguments))], "one of " + ", ".join(map(_bare, arguments))
    if not isinstance(container, type) or container in (object, Any):
        return Any, "any value"
    if hasattr(container, "__source__"):
        return Annotated[dict[str, Any], AfterValidator(_with_target)], "a section with a _target_"
    if is_dataclass(container):
        return dict[str, Any], "a section of settings"
    if issubclass(container, PurePath):
        return container, "a path"
    if issubclass(container, Mapping):
        return dict[str, _read(of_values(kind))[0]], "a mapping"  # type: ignore[misc]
    if not issubclass(container, Iterable) or container.__module__ not in ("builtins", "collections.abc"):
        return Any, "any value"
    entries = _PLURAL.get(plain(arguments[0])) if arguments else None
    if container is tuple and arguments and arguments[-1] is not Ellipsis:
        said = entries if entries and len(set(arguments)) == 1 else "values"
        return tuple[tuple(_read(a)[0] for a in arguments)], f"a list of {len(arguments)} {said}"  # type: ignore[misc]
    inner = _read(arguments[0])[0] if arguments else Any
    return list[inner], f"a list of {entries}" if entries else "a list"  # type: ignore[valid-type]


def _range(rules: Sequence[Any]) -> str:
    """` of at least 1`, ` from 0 to below 1`, ` above 0`; nothing for rules that are no bounds."""
    said = {type(rule): rule for rule in rules}
    if MinLen in said:
        return " that is not empty"
    low = f" above {said[Gt].gt:g}" if Gt in said else f" of at least {said[Ge].ge:g}" if Ge in said else ""
    high = f"{said[Le].le:,}" if Le in said else f"below {said[Lt].lt:g}" if Lt in said else ""
    if high and Ge in said:
        return f" from {said[Ge].ge:g} to {high}"
    if not high or Lt not in said:
        return low + (f" up to {high}" if high else "")
    return f"{low} and {high}" if low else f" {high}"


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


def _entry(kind: Any, index: int) -> Any:
    """The type of an entry of a list type."""
    for member in map(plain, members(kind)):
        arguments = get_args(member)
        if arguments and not _is_mapping(member):
            fixed = get_origin(member) is tuple and arguments[-1] is not Ellipsis
            return arguments[index] if fixed else arguments[0]
    return Any


def show(value: Any) -> str:
    """A value as a configuration file writes it, shortened."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "a mapping (" + ", ".join(map(str, value)) + ")"
    text = f"[{', '.join(map(show, value))}]" if isinstance(value, list | tuple) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _bare(value: Any) -> str:
    return show(value).strip("'")
