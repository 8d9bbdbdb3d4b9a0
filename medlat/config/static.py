"""What a class or function of this package takes, read from its source without importing it.

Importing `medlat.generators.vae.module` costs seconds (torch, Lightning); a wrong key in a configuration should be
reported before that. The packages read this way are those of `PACKAGES`; their `__init__.py` files are empty.
"""

import ast
import collections.abc
import io
import tokenize
import types
import typing
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from medlat.config.kinds import Component
from medlat.core import ranges

PACKAGES: dict[str, Path] = {"medlat": Path(__file__).resolve().parents[1]}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Found(NamedTuple):
    """A definition and the module whose names its annotations use."""

    node: Definition
    module: "Module"


class Module:
    """The syntax tree of one source file."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        return {node.name: node for node in self.tree.body if isinstance(node, Definition)}

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """name -> (module, name there), of `from module import name [as ...]`."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                base = self.package.rsplit(".", node.level - 1)[0] if node.level > 1 else self.package
                module = f"{base}.{node.module}" if node.level and node.module else node.module or base
                found.update({alias.asname or alias.name: (module, alias.name) for alias in node.names})
        return found

    @cached_property
    def aliases(self) -> dict[str, ast.expr]:
        """name -> expression, of `Name = ...` at the top level: types are often named so."""
        return {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    @cached_property
    def comments(self) -> dict[int, str]:
        """line -> the text of its comment."""
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}

    def find(self, name: str) -> Found | None:
        """A class or function of this module, or of the one that it is imported from."""
        if name in self.definitions:
            return Found(self.definitions[name], self)
        module, original = self.imports.get(name, ("", ""))
        source = load(module)
        return source.find(original) if source else None


@cache
def _parsed(name: str, path: Path, modified_ns: int) -> Module:
    return Module(name, path)


def load(name: str) -> Module | None:
    """The module of that dotted name, or None where it is not a source file of `PACKAGES`."""
    path = source_file(name)
    return _parsed(name, path, path.stat().st_mtime_ns) if path else None


def source_file(name: str) -> Path | None:
    first, *rest = name.split(".")
    if first not in PACKAGES:
        return None
    base = PACKAGES[first].joinpath(*rest)
    candidates = [base / "__init__.py"] + ([base.parent / f"{base.name}.py"] if rest else [])
    return next((path for path in candidates if path.is_file()), None)


def children(name: str) -> list[str]:
    """What can stand after `name.` in a `_target_`: submodules, definitions, methods of a class."""
    path = source_file(name)
    if path is None:
        module, _, attribute = name.rpartition(".")
        parent = load(module) if module else None
        found = parent.find(attribute) if parent else None
        methods = found.node.body if found and isinstance(found.node, ast.ClassDef) else []
        return [node.name for node in methods if isinstance(node, ast.FunctionDef)]
    source = load(name)
    assert source is not None
    names = [*source.definitions, *source.imports]
    if path.name == "__init__.py":
        names += [p.stem for p in path.parent.iterdir() if p.suffix == ".py" and p.stem != "__init__"]
        names += [p.name for p in path.parent.iterdir() if (p / "__init__.py").is_file()]
    return sorted(names)


def locate(target: str) -> Found | None:
    """The definition that a `_target_` names; None where its source is not at hand (it comes from another package)."""
    module_name, _, name = target.rpartition(".")
    module = load(module_name) if module_name else None
    if module is not None:
        return module.find(name)
    outer = locate(module_name) if module_name else None
    if outer is None or not isinstance(outer.node, ast.ClassDef):
        return None
    return next((Found(n, outer.module) for n in outer.node.body if isinstance(n, Definition) and n.name == name), None)


def bases(found: Found) -> Iterator[tuple[str, Found | None]]:
    """The base classes in order: their names, and their definitions where the source is at hand."""
    assert isinstance(found.node, ast.ClassDef)
    for base in found.node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        name = ast.unparse(expression)
        yield name.rpartition(".")[2], found.module.find(name)


_TYPES: dict[str, Any] = {t.__name__: t for t in (int, float, str, bool, list, dict, tuple, set, frozenset, object)}
_TYPES |= {"Path": Path, "Any": Any}
_MODULES = ("typing", "collections.abc")


def evaluate(expression: ast.expr | None, module: Module) -> Any:
    """The type that an annotation means. What it would take an import to know is Any."""
    try:
        return Any if expression is None else _evaluate(expression, module, depth=0)
    except (TypeError, SyntaxError, RecursionError):  # an annotation that only a type checker understands
        return Any


def _evaluate(node: ast.expr, module: Module, depth: int) -> Any:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _evaluate(ast.parse(node.value, mode="eval").body, module, depth + 1)
        return types.NoneType if node.value is None else node.value
    if isinstance(node, ast.Name | ast.Attribute):
        return _named(node, module, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = (_evaluate(node.left, module, depth), _evaluate(node.right, module, depth))
        return Any if Any in sides else typing.Union[sides]  # noqa: UP007 (the members are values here)
    if isinstance(node, ast.List):
        return [_evaluate(item, module, depth) for item in node.elts]
    if isinstance(node, ast.Subscript):
        outer = _evaluate(node.value, module, depth)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer is Any:
            return Any
        if outer is typing.Literal:
            return typing.Literal[tuple(ast.literal_eval(item) for item in inner)]
        if outer is typing.Annotated:
            return _evaluate(inner[0], module, depth)
        members = tuple(_evaluate(item, module, depth) for item in inner)
        return outer[members[0] if len(members) == 1 else members]
    return Any


def _named(node: ast.Name | ast.Attribute, module: Module, depth: int) -> Any:
    if depth > 20:  # an alias of itself
        return Any
    if isinstance(node, ast.Attribute):
        prefix = ast.unparse(node.value)
        prefix = {"t": "typing", "abc": "collections.abc"}.get(prefix, prefix)
        return _typing_name(prefix, node.attr)
    if node.id in module.aliases:
        return _evaluate(module.aliases[node.id], module, depth + 1)
    if node.id in module.imports and node.id != "Path":
        source, name = module.imports[node.id]
        if source == ranges.__name__:  # light, and its types hold what they were made of
            return getattr(ranges, name, Any)
        other = load(source)
        if other is not None and name in other.aliases:
            return _evaluate(other.aliases[name], other, depth + 1)
        if other is None:
            return _typing_name(source, name)
    if isinstance(getattr(module.find(node.id), "node", None), ast.ClassDef):
        return Component  # an object of a class of ours is built, never written down
    return _TYPES.get(node.id, Any)


def _typing_name(module: str, name: str) -> Any:
    if module == "pathlib":
        return Path if name in ("Path", "PurePath", "PosixPath") else Any
    if module not in _MODULES:
        return Any
    found = getattr(collections.abc if module == "collections.abc" else typing, name, Any)
    return Any if isinstance(found, typing.TypeVar | types.FunctionType) else found
