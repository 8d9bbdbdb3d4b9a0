"""What a `_target_` of a configuration takes: its parameters, their types, defaults and what they are for.

Targets of this package are read from their source (`medlat.config.static`); others, such as a user's own package or
`torch.optim.Adam`, are imported and asked.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from medlat.config import static
from medlat.core.errors import UserError, did_you_mean, nearest


@dataclass(frozen=True)
class Parameter:
    """annotation: a type, or Any where it cannot be known; doc: what its comment or docstring says, else empty."""

    name: str
    annotation: Any
    required: bool
    default: Any = None
    doc: str = ""


@dataclass(frozen=True)
class Signature:
    """parameters: in order, without `self`; open: any other name is taken as well (`**kwargs`)."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    open: bool = False


def signature(target: str) -> Signature:
    """The signature of a dotted `_target_`. Raises UserError, with the nearest valid name, where there is none."""
    if target.partition(".")[0] in static.PACKAGES:
        _check_path(target, static.children)
        found = static.locate(target)
        return _of_source(found) if found is not None else Signature(open=True)
    return _of_object(_imported(target))


@functools.cache  # reads the source
def of_dataclass(schema: type) -> Signature:
    """The fields of a dataclass as parameters, with the comments beside them."""
    hints = typing.get_type_hints(schema, include_extras=True)
    try:
        docs = _comments_of(textwrap.dedent(inspect.getsource(schema)))
    except OSError:  # made at run time: no source, no comments
        docs = {}
    parameters = {}
    for entry in dataclasses.fields(schema):
        missing = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        parameters[entry.name] = Parameter(
            entry.name, hints[entry.name], missing, None if missing else entry.default, docs.get(entry.name, "")
        )
    return Signature(parameters)


# --- names that do not exist -----------------------------------------------------------------------------------


def _check_path(target: str, children: Callable[[str], list[str]]) -> None:
    """Raises UserError at the first part of the dotted name that is not among the children of what stands before it."""
    first, *rest = target.split(".")
    prefix = first
    for position, part in enumerate(rest):
        choices = children(prefix)
        if part not in choices:
            kind = "module" if position < len(rest) - 1 else "name"
            near = _corrected(prefix, rest[position:], children)
            hint = f"; did you mean '{near}'?" if near else _choices(part, choices)
            raise UserError(f"no {kind} '{part}' in {prefix}{hint}")
        prefix = f"{prefix}.{part}"


def _corrected(prefix: str, rest: list[str], children: Callable[[str], list[str]]) -> str | None:
    for part in rest:
        choices = children(prefix)
        near = part if part in choices else nearest(part, choices)
        if near is None:
            return None
        prefix = f"{prefix}.{near}"
    return prefix


def _choices(word: str, choices: list[str]) -> str:
    return did_you_mean(word, [choice for choice in choices if not choice.startswith("_")][:30])


def _imported(target: str) -> Any:
    first = target.partition(".")[0]
    if not first or importlib.util.find_spec(first) is None:
        known = [*static.PACKAGES, *(module.name for module in pkgutil.iter_modules())]
        near = nearest(first, known)
        raise UserError(f"no package '{first}' is installed" + (f"; did you mean '{near}'?" if near else ""))
    try:
        return _object(target)
    except UserError:
        _check_path(target, _children_of_object)  # says it better where a name is merely misspelt
        raise


def _object(name: str) -> Any:
    """What a dotted name names, imported as far as needed."""
    parent, _, part = name.rpartition(".")
    owner = _object(parent) if parent else None
    if owner is not None and hasattr(owner, part):
        return getattr(owner, part)
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's module does when it is imported
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise UserError(f"importing {name} failed: {reason}") from error


def _children_of_object(name: str) -> list[str]:
    found = _object(name)
    modules = [module.name for module in pkgutil.iter_modules(getattr(found, "__path__", []))]
    return sorted({*dir(found), *modules})


# --- from source -------------------------------------------------------------------------------------------------


def _of_source(found: static.Found) -> Signature:
    if not isinstance(found.node, ast.ClassDef):
        kind = {ast.unparse(decorator) for decorator in found.node.decorator_list}
        return _of_function(found.node, found.module, bound="classmethod" in kind)
    own = next((n for n in found.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if own is not None:
        docs = _docstring_entries(ast.get_docstring(found.node)) | _docstring_entries(ast.get_docstring(own))
        return _of_function(own, found.module, bound=True, docs=docs)
    if _has_fields(found.node):
        return Signature({parameter.name: parameter for parameter in _fields(found)})
    inherited = Signature()
    for name, base in static.bases(found):
        if base is not None and isinstance(base.node, ast.ClassDef):
            return _of_source(base)
        if name not in ("object", "ABC", "Protocol", "Generic"):
            inherited = Signature(open=True)  # a base whose source is not ours to read
    return inherited


def _of_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
    module: static.Module,
    bound: bool,
    docs: dict[str, str] | None = None,
) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(positional, defaults, strict=True))[1 if bound else 0 :]
    pairs = pairs[max(len(arguments.posonlyargs) - bound, 0) :]  # those before `/` cannot be given by name
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    docs = (docs or {}) | _docstring_entries(ast.get_docstring(node)) | _argument_comments(node, module)
    parameters = {
        argument.arg: Parameter(
            argument.arg,
            static.evaluate(argument.annotation, module),
            default is None,
            _literal(default),
            docs.get(argument.arg, ""),
        )
        for argument, default in pairs
    }
    return Signature(parameters, open=arguments.kwarg is not None)


def _argument_comments(node: ast.FunctionDef | ast.AsyncFunctionDef, module: static.Module) -> dict[str, str]:
    """Comments beside arguments that stand on a line of their own."""
    arguments = [*node.args.args, *node.args.kwonlyargs]
    lines = [argument.lineno for argument in arguments]
    return {
        argument.arg: module.comments[argument.lineno]
        for argument in arguments
        if argument.lineno in module.comments and argument.lineno != node.lineno and lines.count(argument.lineno) == 1
    }


def _has_fields(node: ast.ClassDef) -> bool:
    named_tuple = any(ast.unparse(base).rpartition(".")[2] == "NamedTuple" for base in node.bases)
    return named_tuple or any(_is_call_of(decorator, "dataclass") for decorator in node.decorator_list)


def _is_call_of(node: ast.expr, name: str) -> bool:
    function = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(function).rpartition(".")[2] == name


def _fields(found: static.Found) -> Iterator[Parameter]:
    """The fields of a dataclass or named tuple that its constructor takes, those of its bases first."""
    assert isinstance(found.node, ast.ClassDef)
    for _, base in reversed(list(static.bases(found))):
        if base is not None and isinstance(base.node, ast.ClassDef) and _has_fields(base.node):
            yield from _fields(base)
    docs = _docstring_entries(ast.get_docstring(found.node))
    for entry in found.node.body:
        if not isinstance(entry, ast.AnnAssign) or not isinstance(entry.target, ast.Name):
            continue
        kind = ast.unparse(entry.annotation)
        if kind.startswith(("ClassVar", "typing.ClassVar")) or kind in ("KW_ONLY", "dataclasses.KW_ONLY"):
            continue
        default: ast.expr | None = entry.value
        if isinstance(default, ast.Call) and _is_call_of(default, "field"):
            options = {keyword.arg: keyword.value for keyword in default.keywords}
            if "init" in options and _literal(options["init"]) is False:
                continue
            default = options.get("default", options.get("default_factory"))
        doc = found.module.comments.get(entry.lineno, docs.get(entry.target.id, ""))
        annotation = static.evaluate(entry.annotation, found.module)
        yield Parameter(entry.target.id, annotation, default is None, _literal(default), doc)


def _literal(node: ast.expr | None) -> Any:
    """The value of a default where it is written out, else None."""
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


# --- from objects ------------------------------------------------------------------------------------------------


def _of_object(found: Any) -> Signature:
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # built-ins without a signature
        return Signature(open=True)
    docs = _docstring_entries(inspect.getdoc(found))
    names = {
        p.name: Parameter(
            p.name,
            _evaluated(p.annotation, found),
            p.default is p.empty,
            None if p.default is p.empty else p.default,
            docs.get(p.name, ""),
        )
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return Signature(names, open=any(p.kind is p.VAR_KEYWORD for p in parameters))


def _evaluated(annotation: Any, owner: Any) -> Any:
    """An annotation as a type; one kept as text is read in its module's names, and is Any where that fails."""
    if annotation is inspect.Parameter.empty:
        return Any
    if annotation is None:
        return types.NoneType
    if not isinstance(annotation, str):
        return annotation
    module = inspect.getmodule(owner)
    try:
        return typing.get_type_hints(
            types.SimpleNamespace(__annotations__={"it": annotation}),
            vars(module) if module else {},
            include_extras=True,
        )["it"]
    except Exception:  # names that exist for type checkers only, or syntax that the annotation alone does not show
        return Any


# --- what a parameter is for -------------------------------------------------------------------------------------

_ENTRY = re.compile(r"^(\s*)([A-Za-z_]\w*(?:, *[A-Za-z_]\w*)*)(?: \([^)]*\))?:\s+(\S.*)$")


def _docstring_entries(doc: str | None) -> dict[str, str]:
    """name -> first line of `name: what it is` (several names: `low, high: ...`)."""
    entries = {}
    for line in (doc or "").splitlines():
        if match := _ENTRY.match(line):
            text = textwrap.shorten(match[3], 90, placeholder=" ...")
            entries.update({name.strip(): text for name in match[2].split(",")})
    return entries


def _comments_of(source: str) -> dict[str, str]:
    """field -> the comment on its line, in the source of a class."""
    fields = re.finditer(r"^ +(\w+):[^#\n]*#\s*(\S.*)$", source, re.MULTILINE)
    return {match[1]: match[2] for match in fields}
