import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from medlat.config.kinds import Component, words
from medlat.config.signatures import signature, signature_of
from medlat.core.errors import UserError

WriteTree = Callable[[Path, dict[str, str]], Path]


def kinds(target: str) -> dict[str, Any]:
    return {name: parameter.annotation for name, parameter in signature(target).parameters.items()}


def required(target: str) -> list[str]:
    return [name for name, parameter in signature(target).parameters.items() if parameter.required]


def test_init_read_from_source() -> None:
    found = kinds("lab.nets.Module")
    assert found.pop("network").__name__ == "Net"
    assert words(kinds("lab.nets.Module")["network"]) == words(Component), "of a class that is known: it is built"
    assert found == {
        "beta": float,
        "loss": Literal["mse", "log_mse"],  # an alias of another module
        "window": tuple[float, float] | None,
        "steps": Sequence[int],
        "verbose": bool,
        "path": Path | None,  # written as a string
    }
    assert required("lab.nets.Module") == ["network", "beta"]
    parameters = signature("lab.nets.Module").parameters
    assert parameters["loss"].default == "mse"
    assert parameters["beta"].doc == "weight of the KL, in nats."  # from the docstring
    assert parameters["verbose"].doc == "say more"  # from the comment


def test_init_inherited_from_another_module() -> None:
    assert kinds("lab.nets.Net") == {"width": int, "height": int}
    assert required("lab.nets.Net") == ["width"]
    assert signature("lab.nets.Net").parameters["height"].doc == "pixels along each side."


def test_dataclass_named_tuple_function_and_classmethod() -> None:
    assert kinds("lab.nets.Source") == {"root": str, "limit": int | None, "extra": list[str]}
    assert required("lab.nets.Source") == ["root"]
    assert signature("lab.nets.Source").parameters["root"].doc == "the folder of images"
    assert kinds("lab.nets.Pair") == {"left": int, "right": int}
    assert kinds("lab.nets.make") == {"size": int, "scale": Any}  # `Optional` is not imported there
    assert kinds("lab.nets.Module.small") == {"depth": int}


def test_open_signatures() -> None:
    assert signature("lab.nets.make").open  # **kwargs
    assert signature("lab.nets.Foreign").open  # its base cannot be read
    assert not signature("lab.nets.Nothing").open
    assert not signature("lab.nets.Module").open


def test_an_edited_file_is_read_again(lab: Path) -> None:
    assert kinds("lab.nets.Pair") == {"left": int, "right": int}
    (lab / "nets.py").write_text("def Pair(other: str): ...\n# longer, so that size and time differ\n")
    os.utime(lab / "nets.py", ns=(1, 1))
    assert kinds("lab.nets.Pair") == {"other": str}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("lab.nets.Modul", "no name 'Modul' in lab.nets; did you mean 'lab.nets.Module'?"),
        ("lab.netz.Module", "no module 'netz' in lab; did you mean 'lab.nets.Module'?"),
        ("lab.netz.Modul", "no module 'netz' in lab; did you mean 'lab.nets.Module'?"),
        ("lab.qqqqqq.Module", "no module 'qqqqqq' in lab; choose from base, nets"),
        ("lab.nets.Module.smal", "no name 'smal' in lab.nets.Module; did you mean 'lab.nets.Module.small'?"),
        ("jsom.dumps", "no package 'jsom' is installed; did you mean 'json'?"),
        ("json.dump_s", "no name 'dump_s' in json; did you mean 'json.dumps'?"),
        ("json.decodr.JSONDecoder", "no module 'decodr' in json; did you mean 'json.decoder.JSONDecoder'?"),
    ],
)
def test_wrong_target(target: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        signature(target)
    assert str(caught.value) == message


def test_imported_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_tree: WriteTree) -> None:
    text = '''
        from __future__ import annotations
        from typing import TYPE_CHECKING, Optional
        if TYPE_CHECKING:
            from nowhere import Tensor

        class Finder:
            """Finds.

            Args:
                count (int): how many
            """
            def __init__(self, model: Tensor, count: int, scale: Optional[float] = None, *, best=3) -> None: ...
    '''
    package = {"__init__.py": "", "finders.py": text, "broken.py": "1 / 0", "needs.py": "import absent_module"}
    write_tree(tmp_path / "users_own", package)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert kinds("users_own.finders.Finder") == {"model": Any, "count": int, "scale": Optional[float], "best": Any}  # noqa: UP045
    assert required("users_own.finders.Finder") == ["model", "count"]
    assert signature("users_own.finders.Finder").parameters["count"].doc == "how many"
    for target, message in {
        "users_own.broken.X": "importing users_own.broken failed: ZeroDivisionError: division by zero",
        "users_own.needs.X": "importing users_own.needs failed: No module named 'absent_module'",
        "users_own.finders.Findr": "no name 'Findr' in users_own.finders; did you mean 'users_own.finders.Finder'?",
    }.items():
        with pytest.raises(UserError) as caught:
            signature(target)
        assert str(caught.value) == message
    assert "nowhere" not in sys.modules


def test_builtin_without_signature_takes_anything() -> None:
    assert signature("builtins.type").open


@dataclass
class Section:
    side: int  # pixels along each side
    names: list[str] = field(default_factory=list)
    label: str = "x"


def test_schema_dataclass() -> None:
    parameters = signature_of(Section).parameters
    assert [p.required for p in parameters.values()] == [True, False, False]
    assert parameters["side"].doc == "pixels along each side"
    assert parameters["names"].annotation == list[str]
    assert parameters["label"].default == "x"
