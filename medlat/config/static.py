"""What this package defines, made from its source without importing it: classes and functions with empty bodies.

Importing `medlat.generators.vae.module` costs seconds (torch, Lightning); a wrong key in a configuration should be
reported before that. Python makes the class from what is left of its source, so `inspect.signature` says what it takes.
"""

import ast
import builtins
import importlib
import inspect
import pkgutil
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from medlat.core import ranges

PACKAGES: dict[str, Path] = {"medlat": Path(__file__).resolve().parents[1]}
_LIGHT = {*sys.stdlib_module_names, "annotated_types", "pydantic", ranges.__name__}  # imported as they are

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Foreign:
    """A base class whose source is not at hand: its constructor may take anything."""

    def __init__(self, **settings: Any) -> None: ...


class _Unknown:
    """A value that it takes an import to know. As a type, everything fits it."""

    def __mro_entries__(self, bases: tuple) -> tuple[type]:
        return (type("Foreign", (Foreign,), {}),)

    def __getattr__(self, name: str) -> "_Unknown":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *given: Any, **arguments: Any) -> "_Unknown":
        return self

    __getitem__ = __or__ = __ror__ = __call__


UNKNOWN = _Unknown()


class Skeleton(dict):
    """The names of a module, each made when it is first asked for. Those that need an import are UNKNOWN."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__()
        self.name, self.path, self.source = name, path, path.read_text(encoding="utf-8")
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.nodes: dict[str, ast.expr | ast.ClassDef | Function | tuple[str, str]] = {}
        tree = ast.parse(self.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.nodes |= {alias.asname or alias.name: self._origin(node, alias.name) for alias in node.names}
        for node in tree.body:
            if isinstance(node, ast.ClassDef | Function):
                self.nodes[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.nodes[node.targets[0].id] = node.value

    def _origin(self, node: ast.Import | ast.ImportFrom, name: str) -> tuple[str, str]:
        """(module, name there) of an imported name; of a module, ""."""
        if isinstance(node, ast.Import):
            return name, ""
        base = ".".join(self.package.split(".")[: 1 - node.level or None]) if node.level else ""
        return ".".join(filter(None, [base, node.module])), name

    def __missing__(self, name: str) -> Any:
        self[name] = UNKNOWN  # as long as it is being made: it may speak of itself
        with suppress(Exception):  # whatever it does with what is not known
            self[name] = self._made(name, self.nodes.get(name))
        return self[name]

    def _made(self, name: str, node: ast.expr | ast.ClassDef | Function | tuple[str, str] | None) -> Any:
        if node is None:
            return getattr(builtins, name, UNKNOWN)
        if isinstance(node, tuple):
            return _elsewhere(*node)
        if isinstance(node, ast.expr):
            return self.value(ast.Expression(node))
        source = self.source.splitlines()[node.lineno - 1 : node.end_lineno]  # with the comments beside it
        code = compile(ast.Module([_bare(node)], []), str(self.path), "exec")
        scope = {n.id: self[n.id] for n in ast.walk(node) if isinstance(n, ast.Name)} | {"__name__": self.name}
        exec(code, scope)
        made: Any = scope[name]
        made.__source__ = "\n".join(source)
        return made

    def value(self, expression: ast.Expression | str) -> Any:
        """What an expression of this module means, e.g. a type that is written as text."""
        return eval(compile(expression, str(self.path), "eval"), {}, self)


def _bare(node: Any) -> Any:
    """A definition without its bodies; of methods, constructors alone keep their arguments."""
    documented = node.body[: ast.get_docstring(node) is not None]
    if isinstance(node, ast.ClassDef):
        kept = [
            _bare(n) if isinstance(n, Function) else n for n in node.body if isinstance(n, Function | ast.AnnAssign)
        ]
        node.decorator_list = [d for d in node.decorator_list if "dataclass" in ast.unparse(d)]
        node.body = [*documented, *kept, ast.copy_location(ast.Pass(), node)]
        return node
    makers = [d for d in node.decorator_list if ast.unparse(d) in ("classmethod", "staticmethod")]
    if node.col_offset and not makers and node.name not in ("__init__", "__new__"):
        node.args = ast.arguments([], [], None, [], [], None, [])
    node.decorator_list, node.returns, node.body = makers, None, [*documented, ast.copy_location(ast.Pass(), node)]
    return node


def _elsewhere(module: str, name: str) -> Any:
    """What is imported: as it is from light modules, a skeleton from `PACKAGES`, else UNKNOWN."""
    if module in _LIGHT or module.partition(".")[0] in _LIGHT:
        found = importlib.import_module(module)
        return getattr(found, name) if name else found
    source = load(module)
    return UNKNOWN if source is None or not name else source[name]


@cache
def _read(name: str, path: Path, modified_ns: int) -> Skeleton:
    return Skeleton(name, path)


def load(name: str) -> Skeleton | None:
    """The module of that dotted name, or None where it is not a source file of `PACKAGES`."""
    first, *rest = name.split(".")
    if first not in PACKAGES:
        return None
    base = PACKAGES[first].joinpath(*rest)
    paths = [base / "__init__.py"] + [base.with_name(f"{base.name}.py")] * bool(rest)
    path = next((path for path in paths if path.is_file()), None)
    return _read(name, path, path.stat().st_mtime_ns) if path else None


def find(name: str) -> Any:
    """What a dotted name of `PACKAGES` names: a Skeleton, a class, a function."""
    module, _, part = name.rpartition(".")
    source = load(name)
    if source is not None or not module:
        return source
    owner = find(module)
    return owner[part] if isinstance(owner, Skeleton) else getattr(owner, part, UNKNOWN)


def children(found: Any) -> list[str]:
    """What can stand after the name of a module or class: submodules, definitions, methods."""
    if isinstance(found, Skeleton):
        inner = found.path.parent.iterdir() if found.path.name == "__init__.py" else ()
        modules = [p.stem for p in inner if (p.suffix == ".py" and p != found.path) or (p / "__init__.py").is_file()]
        defined = [name for name, node in found.nodes.items() if not isinstance(node, ast.expr)]
        return sorted({*defined, *modules})
    names = dir(found)
    if isinstance(found, ModuleType):
        names += [module.name for module in pkgutil.iter_modules(getattr(found, "__path__", []))]
    elif hasattr(found, "__source__"):
        names = [n for n in names if inspect.isroutine(getattr(found, n))]
    return sorted(set(names))
