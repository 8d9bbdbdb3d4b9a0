"""What a `_target_` of a configuration takes: its parameters, their types, defaults and what they are for.

Targets of this package are read from their source (`medlat.config.static`); others, such as a user's own package or
`torch.optim.Adam`, are imported and asked.
"""

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import textwrap
import types
import typing
from dataclasses import dataclass, field, is_dataclass
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
    return signature_of(_object(target))


def signature_of(found: Any) -> Signature:
    """The signature of a class or function."""
    return _read(found)


@functools.cache  # it reads the source
def _read(found: Any) -> Signature:
    if found is static.UNKNOWN:
        return Signature(open=True)
    try:
        taken = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # built-ins without a signature
        return Signature(open=True)
    docs, module = _docs(found), _maker(found).__module__
    names = {
        p.name: Parameter(
            p.name,
            _evaluated(p.annotation, module),
            p.default is p.empty,
            None if p.default is p.empty else p.default,
            docs.get(p.name, ""),
        )
        for p in taken
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return Signature(names, open=any(p.kind is p.VAR_KEYWORD for p in taken))


def _maker(found: Any) -> Any:
    """The class whose constructor makes objects of a class; of a function, itself."""
    return next((c for c in getattr(found, "__mro__", ()) if "__init__" in vars(c)), found)


def _evaluated(annotation: Any, module: str) -> Any:
    """An annotation as a type; one kept as text is read in its module's names, and is Any where that fails."""
    if annotation is inspect.Parameter.empty or annotation is static.UNKNOWN:
        return Any
    if annotation is None:
        return types.NoneType
    if not isinstance(annotation, str):
        return annotation
    names = static.load(module) or vars(sys.modules.get(module, types))
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, {}, names, include_extras=True)["it"]
    except Exception:  # names that exist for type checkers only, or syntax that the annotation alone does not show
        return Any


# --- names -------------------------------------------------------------------------------------------------------


def _object(target: str) -> Any:
    """What a dotted name names. Raises UserError, with the nearest name, where it does not exist."""
    prefix, *rest = target.split(".")
    if prefix not in static.PACKAGES and (not prefix or importlib.util.find_spec(prefix) is None):
        near = nearest(prefix, [*static.PACKAGES, *(module.name for module in pkgutil.iter_modules())])
        raise UserError(f"no package '{prefix}' is installed" + (f"; did you mean '{near}'?" if near else ""))
    for position, part in enumerate(rest):
        found = _named(prefix)
        choices = static.children(found)
        if part not in choices and not hasattr(found, part):
            kind = "module" if position < len(rest) - 1 else "name"
            near = _corrected(prefix, rest[position:])
            public = [choice for choice in choices if not choice.startswith("_")][:30]
            raise UserError(
                f"no {kind} '{part}' in {prefix}"
                + (f"; did you mean '{near}'?" if near else did_you_mean(part, public))
            )
        prefix = f"{prefix}.{part}"
    return _named(prefix)


def _named(name: str) -> Any:
    """What an existing name names, imported as far as needed."""
    if name.partition(".")[0] in static.PACKAGES:
        return static.find(name)
    parent, _, part = name.rpartition(".")
    owner = _named(parent) if parent else None
    if hasattr(owner, part):
        return getattr(owner, part)
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's module does when it is imported
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise UserError(f"importing {name} failed: {reason}") from error


def _corrected(name: str, rest: list[str]) -> str | None:
    """The name that was most likely meant by `rest` below one that exists."""
    for part in rest:
        choices = static.children(_named(name))
        near = part if part in choices else nearest(part, choices)
        if near is None:
            return None
        name = f"{name}.{near}"
    return name


# --- what a parameter is for -------------------------------------------------------------------------------------

_ENTRY = re.compile(r"^ *([A-Za-z_]\w*(?:, *[A-Za-z_]\w*)*)(?: \([^)]*\))?: +(\S.*)$", re.MULTILINE)
_COMMENT = re.compile(r"#\s*(\S.*)$")


def _docs(found: Any) -> dict[str, str]:
    """name -> the first line of `name: what it is` (several names: `low, high: ...`) in a docstring, or a comment."""
    docs: dict[str, str] = {}
    for owner in getattr(found, "__mro__", (found,)):
        own = vars(owner).get("__init__") if isinstance(owner, type) else None
        entries = _ENTRY.findall(f"{owner.__doc__}\n{own.__doc__ if own else ''}")
        told = {name.strip(): textwrap.shorten(text, 90, placeholder=" ...") for names, text in entries
                for name in names.split(",")}  # fmt: skip
        docs = told | _comments(owner) | docs
        if own and not is_dataclass(owner):
            break
    return docs


def _comments(found: Any) -> dict[str, str]:
    """name -> the comment beside a field, or beside an argument that stands on a line of its own."""
    try:
        source = getattr(found, "__source__", None) or inspect.getsource(found)
        tree: Any = ast.parse(textwrap.dedent(source)).body[0]
    except (OSError, TypeError, SyntaxError):  # made at run time, or built in
        return {}
    parts = tree.body if isinstance(tree, ast.ClassDef) else [tree]
    made = next((n for n in parts if isinstance(n, ast.FunctionDef) and n.name in ("__init__", found.__name__)), None)
    arguments = [*made.args.args, *made.args.kwonlyargs] if made else []
    starts = [a.lineno for a in arguments] + ([made.lineno] if made else [])
    ends = {a.arg: a.end_lineno for a in arguments if starts.count(a.lineno) == 1}
    ends |= {
        n.target.id: n.end_lineno for n in parts if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    lines = textwrap.dedent(source).splitlines()
    found_in = {name: _COMMENT.search(lines[(end or 1) - 1]) for name, end in ends.items()}
    return {name: match[1] for name, match in found_in.items() if match}
