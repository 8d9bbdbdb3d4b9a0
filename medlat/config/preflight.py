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
from medlat.config.signatures import Parameter, Signature, of_dataclass, signature
from medlat.core.errors import ConfigErrors, UserError

_INSTANTIATE_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}  # hydra.utils.instantiate's own
_REFERENCE = re.compile(r"\$\{\s*(\.*[A-Za-z_][\w.\[\]]*)\s*\}")


def check(config: Mapping[str, Any] | DictConfig, schema: type, provided: Mapping[str, set[str]]) -> None:
    """Raises ConfigErrors with all that `problems` finds."""
    if found := problems(config, schema, provided):
        raise ConfigErrors(found)


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
    text: str = ""  # empty: an unknown key, whose nearest valid one is known when all are seen


@dataclass
class _Walk:
    root: DictConfig
    provided: Mapping[str, set[str]]
    found: list[_Problem] = field(default_factory=list)
    valid: dict[str, list[str]] = field(default_factory=dict)  # node -> the keys that it may have
    read: set[str] = field(default_factory=set)  # keys that other values read
    purposes: dict[str, Parameter] = field(default_factory=dict)  # key without a value -> what it is for

    def __post_init__(self) -> None:
        for key, text in _texts(OmegaConf.to_container(self.root, resolve=False)):
            self.read.update(_absolute(name, key) for name in _REFERENCE.findall(text))

    # --- nodes -----------------------------------------------------------------------------------------------

    def mapping(self, node: DictConfig, path: str, kind: Any) -> None:
        """A node, against its `_target_`, else against a dataclass, else each of its values by itself."""
        if _has_target(node):
            self._target(node, path)
        elif is_dataclass(kind):
            assert isinstance(kind, type)
            self._keys(node, path, of_dataclass(kind))
        else:
            self.valid[path] = [str(key) for key in node]
            inner = kinds.of_values(kind)
            for key in node:
                self._value(node, key, _join(path, key), Parameter(str(key), inner, required=False))

    def _target(self, node: DictConfig, path: str) -> None:
        target = self._resolved(node, "_target_", f"{path}._target_", None)
        if target is _NOTHING:
            return
        try:
            if not isinstance(target, str):
                raise UserError(f"{kinds.show(target)} is not the dotted name of a class or function")
            taken = signature(target)
        except UserError as error:
            self.found.append(_Problem(_join(path, "_target_"), str(error)))
            taken = Signature(open=True)
        self._keys(node, path, taken, target)

    def _keys(self, node: DictConfig, path: str, taken: Signature, target: str = "") -> None:
        special = _INSTANTIATE_KEYS if target else {"hydra"} if path == "" else set()
        supplied = {n for pattern, names in self.provided.items() if fnmatchcase(path, pattern) for n in names}
        supplied &= set(taken.parameters) | (supplied if taken.open else set())
        referenced = {key for key in map(str, node) if self._is_read(_join(path, key))}
        self.valid[path] = [key for key in taken.parameters if key not in supplied]
        self.valid[path] += [key for key in map(str, node) if key in referenced and key not in taken.parameters]
        for key in map(str, node):
            where = _join(path, key)
            if key in special:
                continue
            if key in supplied and target:
                self.found.append(_Problem(where, "the program sets this itself; remove it"))
            elif key in taken.parameters:
                self._value(node, key, where, taken.parameters[key])
            elif taken.open or key in referenced or _raw(node, key) != "???":  # nobody needs a value that nobody reads
                if not taken.open and key not in referenced:
                    self.found.append(_Problem(where))
                self._value(node, key, where, Parameter(key, Any, required=False))
        self._absent(node, path, taken, target, supplied)

    def _absent(self, node: DictConfig, path: str, taken: Signature, target: str, supplied: set[str]) -> None:
        if target and (node.get("_partial_") or "_args_" in node):
            return  # the rest is given later, or by position
        there = {*map(str, node), *supplied}
        for parameter in taken.parameters.values():
            if parameter.required and parameter.name not in there:
                who = f"{target.rpartition('.')[2]} needs it" if target else "it is needed"
                self.found.append(_Problem(_join(path, parameter.name), f"missing; {who}{_of(parameter)}"))

    def _is_read(self, key: str) -> bool:
        return any(name == key or name.startswith((f"{key}.", f"{key}[")) for name in self.read)

    # --- values ----------------------------------------------------------------------------------------------

    def _value(self, node: DictConfig | ListConfig, key: Any, where: str, parameter: Parameter) -> None:
        value = self._resolved(node, key, where, parameter)
        kind = parameter.annotation
        if value is _NOTHING:
            return
        if isinstance(value, DictConfig) and OmegaConf.is_interpolation(node, key):
            return  # a section that is another one: checked there
        if isinstance(value, DictConfig) and (_has_target(value) or _section(kind) or kinds.takes_mappings(kind)):
            self.mapping(value, where, _section(kind) or kind)
        elif isinstance(value, ListConfig) and (kind is Any or _holds_sections(value)):
            for index in range(len(value)):
                self._value(value, index, f"{where}[{index}]", Parameter(str(index), Any, required=False))
        else:
            self._fits(node, key, where, value, kind)

    def _fits(self, node: DictConfig | ListConfig, key: Any, where: str, value: Any, kind: Any) -> None:
        try:
            plain = OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if _is_node(value) else value
        except OmegaConfBaseException:
            is_list = isinstance(value, ListConfig)  # say which entry it is
            for entry in range(len(value)) if is_list else list(value):
                self._resolved(value, entry, f"{where}[{entry}]" if is_list else _join(where, entry), None)
            return
        if found := kinds.fault(plain, kind):
            self.found.append(_Problem("", kinds.complaint(self._origin(node, key, where), found)))

    def _origin(self, node: DictConfig | ListConfig, key: Any, where: str) -> str:
        """The key whose value is meant: `scale.size` for one that is just `${scale.size}`."""
        while True:
            raw = _raw(node, key)
            match = _REFERENCE.fullmatch(raw) if isinstance(raw, str) else None
            if match is None:
                return where
            where = _absolute(match[1], where)
            parent, _, key = where.rpartition(".")
            above = OmegaConf.select(self.root, parent) if parent else self.root
            if not isinstance(above, DictConfig):
                return where
            node = above

    def _resolved(self, node: DictConfig | ListConfig, key: Any, where: str, parameter: Parameter | None) -> Any:
        """The value with its interpolations resolved, or _NOTHING where there is none, which is then noted."""
        raw = _raw(node, key)
        if raw == "???":
            self.purposes.setdefault(where, parameter or Parameter(str(key), Any, required=True))
            self.found.append(_Problem(where, "???"))
            return _NOTHING
        try:
            return node[key]
        except InterpolationToMissingValueError:  # reported where it is missing, with what it is for here
            if parameter is not None:
                self.purposes.update({_absolute(name, where): parameter for name in _REFERENCE.findall(str(raw))})
        except OmegaConfBaseException as error:
            if text := self._unresolved(str(raw), error):
                self.found.append(_Problem(where, text))
        return _NOTHING

    def _unresolved(self, raw: str, error: OmegaConfBaseException) -> str:
        first = str(error).splitlines()[0]
        if isinstance(error, InterpolationKeyError):
            missing = next(iter(re.findall(r"Interpolation key '([^']*)' not found", first)), "")
            if missing and missing not in raw:
                return ""  # it reads a value that reads the missing one: reported there
            near = _nearest_key(missing, self._all_keys())
            return f"{raw} reads '{missing}', which does not exist" + (f"; did you mean '{near}'?" if near else "")
        if isinstance(error, UnsupportedInterpolationType):
            return f"{raw}: no such function '{first.rpartition(' ')[2]}'"
        if isinstance(error, GrammarParseError):
            return f"cannot read '{raw}': {first}"
        reason = first.partition("raised while resolving interpolation: ")[2].strip("'\"") or first
        return f"cannot resolve {raw}: {reason}"

    # --- the report ------------------------------------------------------------------------------------------

    def _all_keys(self) -> list[str]:
        written = _dotted(OmegaConf.to_container(self.root, resolve=False))
        return [_join(path, key) for path, keys in self.valid.items() for key in keys] + written

    def lines(self) -> list[str]:
        """The problems found, each once, in the order of the configuration."""
        unknown = {problem.key: suggestion(problem.key, self.valid) for problem in self.found if problem.text == ""}
        meant = "".join(unknown.values())
        lines = []
        for problem in self.found:
            if problem.key in unknown and problem.text == "":
                lines.append(f"{problem.key}: unknown key{unknown[problem.key]}")
            elif problem.text != "???":
                lines.append(f"{problem.key}: {problem.text}" if problem.key else problem.text)
            elif f"'{problem.key}'" not in meant:  # it was given, but misspelt
                lines.append(f"{problem.key}: has no value; give {problem.key}=...{_of(self.purposes[problem.key])}")
        return list(dict.fromkeys(lines))


class _Nothing:
    """No value: it is missing or cannot be resolved."""


_NOTHING = _Nothing()


def suggestion(key: str, valid: Mapping[str, list[str]]) -> str:
    """`; did you mean 'X'?` for an unknown dotted key, else the keys that its node may have.

    valid: node -> keys. The same key of another node wins, then one spelt alike in the same node, then one spelt very
    much alike elsewhere; among equals the one nearest in the tree.
    """
    node, _, name = key.rpartition(".")
    scored = []
    for other, names in valid.items():
        for candidate in names:
            alike = SequenceMatcher(None, name.lower(), candidate.lower()).ratio()
            if alike >= (0.5 if other == node else 0.85):
                near = len(_common(other.split("."), node.split(".")))
                score = alike + (0.25 if other == node else 0.0)
                scored.append((alike == 1.0, score, near, _join(other, candidate)))
    if scored:
        return f"; did you mean '{max(scored, key=lambda entry: entry[:3])[3]}'?"
    own = sorted(valid.get(node, []))
    if not own:
        return f"; {node} takes none" if node else ""
    return f"; choose from {', '.join(own)}"


def _nearest_key(key: str, keys: list[str]) -> str | None:
    name = key.rpartition(".")[2]
    same = [other for other in keys if other.rpartition(".")[2] == name]  # the right name in another section
    alike = [(SequenceMatcher(None, key, other).ratio(), other) for other in same or keys]
    score, best = max(alike, default=(0.0, None))
    return best if score >= (0.3 if same else 0.6) else None


def _of(parameter: Parameter) -> str:
    """` (text, a folder of DICOM files)`, as far as it is known."""
    kind = "" if parameter.annotation is Any else kinds.words(parameter.annotation)
    purpose = ", ".join(part for part in (kind, parameter.doc.rstrip(".")) if part)
    return f" ({purpose})" if purpose else ""


def _common(a: list[str], b: list[str]) -> list[str]:
    return [x for x, y in zip(a, b, strict=False) if x == y]


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _is_node(value: Any) -> bool:
    return isinstance(value, DictConfig | ListConfig)


def _has_target(node: DictConfig) -> bool:
    return "_target_" in list(node)  # `in node` is false for ???


def _holds_sections(value: ListConfig) -> bool:
    plain: Any = OmegaConf.to_container(value, resolve=False)
    return any(isinstance(item, dict) for item in plain)


def _raw(node: DictConfig | ListConfig, key: Any) -> Any:
    """A text that is no value yet as written, an interpolation or ???; else the value."""
    if OmegaConf.is_missing(node, key):
        return "???"
    if not OmegaConf.is_interpolation(node, key):
        return node[key]
    plain: Any = OmegaConf.to_container(node, resolve=False)  # dear: of all that the node holds
    return plain[key]


def _section(kind: Any) -> type | None:
    """The dataclass of a field, also where it may be null."""
    return next((member for member in kinds.members(kind) if isinstance(member, type) and is_dataclass(member)), None)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text of a tree."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, _join(key, name))
    elif isinstance(value, str):
        yield key, value


def _absolute(reference: str, key: str) -> str:
    """The key that an interpolation at `key` reads: `.size` is its sibling, `..size` one of its parent's."""
    name = reference.lstrip(".")
    up = len(reference) - len(name)
    return ".".join([*key.split(".")[:-up], name]) if up else name


def _dotted(value: Any, key: str = "") -> list[str]:
    """Every dotted key of a tree of plain mappings."""
    if not isinstance(value, dict):
        return []
    return [k for name, item in value.items() for k in (_join(key, name), *_dotted(item, _join(key, name)))]
