"""Every mistake in a configuration, found at once and before anything heavy is imported or read.

Nodes with a `_target_` are checked against the signature of what they name, wherever they stand; the others against
dataclasses (`medlat.config.schema`). A key that neither knows is still fine where another value reads it
(`${data.root}`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from medlat.config import kinds
from medlat.config.build import INSTRUCTIONS, REFERENCE, absolute, origin
from medlat.config.signatures import Parameter, Signature, signature, signature_of
from medlat.core.errors import UserError

_NOTHING = object()  # no value: it is missing or cannot be resolved
_MISSING = "has no value"


def problems(
    config: Mapping[str, Any] | DictConfig, schema: type, provided: Mapping[str, set[str]] | None = None
) -> list[str]:
    """One line for each mistake, beginning with its key; empty where there is none.

    schema:   the dataclass that describes the root; its fields may be dataclasses, and `dict[str, Any]` is a section
              that may hold anything.
    provided: pattern of config paths ("generator.training", "controls.*") -> names of constructor arguments that the
              program supplies itself: they need not be in the configuration, and must not.
    """
    root = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    walk = _Walk(root, provided or {})
    walk.mapping(root, "", schema)
    return walk.lines()


@dataclass
class _Problem:
    key: str
    text: str
    about: str = ""  # a key that does not exist, whose nearest valid one is known when all are seen


@dataclass
class _Walk:
    root: DictConfig
    provided: Mapping[str, set[str]]
    found: list[_Problem] = field(default_factory=list)
    valid: dict[str, list[str]] = field(default_factory=dict)  # node -> the keys that it may have
    read: set[str] = field(default_factory=set)  # keys that other values read, and the sections that those are in
    purposes: dict[str, Parameter] = field(default_factory=dict)  # key without a value -> what it is for

    def __post_init__(self) -> None:
        for key, text in _texts(OmegaConf.to_container(self.root, resolve=False)):
            for name in REFERENCE.findall(text):
                parts = re.split(r"\.|(?=\[)", absolute(name, key))
                self.read |= {".".join(parts[: n + 1]) for n in range(len(parts))}

    # --- nodes -----------------------------------------------------------------------------------------------

    def mapping(self, node: DictConfig, path: str, kind: Any) -> None:
        """A node, against its `_target_`, else against a dataclass, else each of its values by itself."""
        if _has_target(node):
            self._target(node, path)
        elif is_dataclass(kind):
            self._keys(node, path, signature_of(kind))
        else:
            self.valid[path] = [str(key) for key in node]
            for key in self.valid[path]:
                self._value(node, key, _join(path, key), Parameter(key, kinds.of_values(kind), required=False))

    def _target(self, node: DictConfig, path: str) -> None:
        target = self._resolved(node, "_target_", _join(path, "_target_"), None)
        if target is _NOTHING:
            return
        try:
            if not isinstance(target, str):
                raise UserError(f"{kinds.show(target)} is not the dotted name of a class or function")
            taken = signature(target)
        except UserError as error:
            self.found.append(_Problem(_join(path, "_target_"), str(error)))
            taken = Signature(open=True)
        self._keys(node, path, taken, str(target))

    def _keys(self, node: DictConfig, path: str, taken: Signature, target: str = "") -> None:
        supplied = {n for pattern, names in self.provided.items() if fnmatchcase(path, pattern) for n in names}
        supplied &= set(taken.parameters) | (supplied if taken.open else set())
        special = INSTRUCTIONS if target else {"hydra"} if path == "" else ()
        names = [key for key in map(str, node) if key not in special]
        referenced = [key for key in names if _join(path, key) in self.read]
        self.valid[path] = list(dict.fromkeys([*(key for key in taken.parameters if key not in supplied), *referenced]))
        for key in names:
            where = _join(path, key)
            if key in supplied and target:
                self.found.append(_Problem(where, "the program sets this itself; remove it"))
                continue
            if key not in taken.parameters and key not in referenced and not taken.open:
                if OmegaConf.is_missing(node, key):
                    continue  # nobody needs a value that nobody reads
                self.found.append(_Problem(where, "unknown key", about=where))
            self._value(node, key, where, taken.parameters.get(key, Parameter(key, Any, required=False)))
        if target and (node.get("_partial_") or "_args_" in node):
            return  # the rest is given later, or by position
        who = f"{target.rpartition('.')[2]} needs it" if target else "it is needed"
        self.found += [
            _Problem(_join(path, parameter.name), f"missing; {who}{_of(parameter)}")
            for parameter in taken.parameters.values()
            if parameter.required and parameter.name not in {*map(str, node), *supplied}
        ]

    # --- values ----------------------------------------------------------------------------------------------

    def _value(self, node: DictConfig | ListConfig, key: Any, where: str, parameter: Parameter) -> None:
        value, kind = self._resolved(node, key, where, parameter), parameter.annotation
        section = next((m for m in kinds.members(kind) if isinstance(m, type) and is_dataclass(m)), None)
        if value is _NOTHING or (isinstance(value, DictConfig) and OmegaConf.is_interpolation(node, key)):
            return  # what is another section is checked there
        if isinstance(value, DictConfig) and (_has_target(value) or section or kinds.takes_mappings(kind)):
            self.mapping(value, where, section or kind)
        elif isinstance(value, ListConfig) and (kind is Any or _holds_sections(value)):
            self._entries(value, where)
        else:
            try:
                is_node = isinstance(value, DictConfig | ListConfig)
                plain = OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if is_node else value
            except OmegaConfBaseException:
                self._entries(value, where)  # says which it is
                return
            if line := kinds.complaint(origin(self.root, where), plain, kind):
                self.found.append(_Problem("", line))

    def _entries(self, value: DictConfig | ListConfig, where: str) -> None:
        for entry in range(len(value)) if isinstance(value, ListConfig) else list(value):
            inner = f"{where}[{entry}]" if isinstance(value, ListConfig) else _join(where, entry)
            self._value(value, entry, inner, Parameter(str(entry), Any, required=False))

    def _resolved(self, node: DictConfig | ListConfig, key: Any, where: str, parameter: Parameter | None) -> Any:
        """The value with its interpolations resolved, or _NOTHING where there is none, which is then noted."""
        if OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            self.purposes.setdefault(where, parameter or Parameter(str(key), Any, required=True))
            self.found.append(_Problem(where, _MISSING))
            return _NOTHING
        try:
            return node[key]
        except OmegaConfBaseException as error:
            plain: Any = OmegaConf.to_container(node, resolve=False)
            raw = str(plain[key])
            if not isinstance(error, InterpolationToMissingValueError):
                self.found += self._unresolved(where, raw, error)
            elif parameter is not None:  # reported where it is missing, with what it is for here
                self.purposes.update({absolute(name, where): parameter for name in REFERENCE.findall(raw)})
        return _NOTHING

    def _unresolved(self, where: str, raw: str, error: OmegaConfBaseException) -> Iterator[_Problem]:
        first = str(error).splitlines()[0]
        if isinstance(error, InterpolationKeyError):
            missing = "".join(re.findall(r"Interpolation key '([^']*)' not found", first))
            if missing in raw:  # else it reads a value that reads the missing one: reported there
                yield _Problem(where, f"{raw} reads '{missing}', which does not exist", about=missing)
        elif isinstance(error, UnsupportedInterpolationType):
            yield _Problem(where, f"{raw}: no such function '{first.rpartition(' ')[2]}'")
        elif isinstance(error, GrammarParseError):
            yield _Problem(where, f"cannot read '{raw}': {first}")
        else:
            reason = first.partition("raised while resolving interpolation: ")[2].strip("'\"") or first
            yield _Problem(where, f"cannot resolve {raw}: {reason}")

    # --- the report ------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """The problems found, each once, in the order of the configuration."""
        hints = [suggestion(p.about, self.valid, reference=p.about != p.key) if p.about else "" for p in self.found]
        lines = []
        for problem, hint in zip(self.found, hints, strict=True):
            if problem.text != _MISSING:
                lines.append((f"{problem.key}: " if problem.key else "") + problem.text + hint)
            elif not any(f"'{problem.key}'" in other for other in hints):  # else it was given, but misspelt
                lines.append(f"{problem.key}: has no value; give {problem.key}=...{_of(self.purposes[problem.key])}")
        return list(dict.fromkeys(lines))


def suggestion(key: str, valid: Mapping[str, list[str]], reference: bool = False) -> str:
    """`; did you mean 'X'?` for an unknown dotted key, else the keys that its node may have.

    valid:     node -> keys. The same key of another node wins, then one spelt alike in the same node, then one spelt
               very much alike elsewhere; among equals the one nearest in the tree.
    reference: a value reads the key, which could be any: no list of keys.
    """
    node, _, name = key.rpartition(".")
    scored = []
    for other, names in valid.items():
        for candidate in names:
            alike = SequenceMatcher(None, name.lower(), candidate.lower()).ratio()
            if alike >= ((0.6 if reference else 0.5) if other == node else 0.85):
                pairs = zip(other.split("."), node.split("."), strict=False)
                near = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
                scored.append((alike == 1.0, alike + 0.25 * (other == node), near, _join(other, candidate)))
    if scored:
        return f"; did you mean '{max(scored, key=lambda entry: entry[:3])[3]}'?"
    if reference:
        return ""
    own = sorted(valid.get(node, []))
    return f"; choose from {', '.join(own)}" if own else f"; {node} takes none" if node else ""


def _of(parameter: Parameter) -> str:
    """` (text, a folder of DICOM files)`, as far as it is known."""
    kind = "" if parameter.annotation is Any else kinds.words(parameter.annotation)
    purpose = ", ".join(part for part in (kind, parameter.doc.rstrip(".")) if part)
    return f" ({purpose})" if purpose else ""


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _has_target(node: DictConfig) -> bool:
    return "_target_" in list(node)  # `in node` is false for ???


def _holds_sections(value: ListConfig) -> bool:
    plain: Any = OmegaConf.to_container(value, resolve=False)
    return any(isinstance(item, dict) for item in plain)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text of a tree."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, _join(key, name))
    elif isinstance(value, str):
        yield key, value
