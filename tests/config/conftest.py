"""A small program to configure: its package (read, never imported), its configuration, its schema."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from medlat.config import static
from medlat.config.kinds import Component

PACKAGE = {
    "__init__.py": "",
    "base.py": '''
        import a_package_that_does_not_exist  # importing this file would fail
        from typing import Literal
        Shape = tuple[float, float]
        Loss = Literal["mse", "log_mse"]

        class Base:
            """A base.

            width, height: pixels along each side.
            """

            def __init__(self, width: int, height: int = 4) -> None: ...
    ''',
    "nets.py": '''
        import torch_not_installed_either
        from pathlib import Path
        from collections.abc import Sequence
        from dataclasses import dataclass, field
        from typing import ClassVar, NamedTuple
        from lab.base import Base, Loss, Shape

        class Net(Base):
            def forward(self): ...

        class Module(Outer.LightningModule):
            """Trains.

            beta: weight of the KL, in nats.
            """

            def __init__(
                self,
                network: Net,
                beta: float,
                loss: Loss = "mse",
                window: Shape | None = None,
                steps: Sequence[int] = (),
                verbose: bool = False,  # say more
                *,
                path: "Path | None" = None,
            ) -> None: ...

            @classmethod
            def small(cls, depth: int = 2): ...

        class Foreign(Elsewhere): ...
        class Nothing: ...

        @dataclass(frozen=True)
        class Parent:
            root: str  # the folder of images

        @dataclass(frozen=True)
        class Source(Parent):
            KIND: ClassVar[str] = "x"
            limit: int | None = None
            extra: list[str] = field(default_factory=list)
            cache: dict = field(init=False)

        class Pair(NamedTuple):
            left: int
            right: int = 0

        def make(size: int, *args, scale: Optional[float] = 1.0, **kwargs): ...
    ''',
}

CONF = {
    "config.yaml": """
        # The root
        defaults:
          - data: phantom
          - model: vae
          - pick@controls.chance: chance
          - scale: small
          - _self_
        name: run
        seed: 0
        workers: null
        dry_run: false
        mode: fast
        steps: [1.0, 2.0]
    """,
    "data/phantom.yaml": """
        # Drawn images
        window_hu: [-1000, 2000]
        source: {_target_: lab.nets.Source, root: /nowhere}
    """,
    "data/folder_base.yaml": "window_hu: [-1000, 2000]",
    "data/folder.yaml": """
        # A folder of images: data.root=DIR
        defaults: [folder_base, _self_]
        root: ???
        source: {_target_: lab.nets.Source, root: "${data.root}"}
    """,
    "model/vae.yaml": """
        # A plain VAE
        network: {_target_: lab.nets.Net, width: "${scale.width}"}
        training: {_target_: lab.nets.Module, beta: 0.5}
    """,
    "pick/chance.yaml": """
        # Random ones
        _target_: lab.nets.Pair
        left: 1
    """,
    "scale/small.yaml": "# seconds\nwidth: 8",
    "experiment/first.yaml": "# @package _global_\n# The first one\nname: first",
    "experiment/paper/second.yaml": "# @package _global_\n\n# The second one\nname: second",
}


@dataclass
class Data:
    source: Component  # where images come from
    window_hu: tuple[float, float]


@dataclass
class Model:
    network: Component
    training: Component


@dataclass
class Root:
    name: str
    seed: int  # decides everything random
    workers: int | None
    dry_run: bool
    mode: Literal["fast", "slow"]
    steps: list[float]
    data: Data
    model: Model
    controls: dict[str, Component]
    scale: dict[str, Any]


PROVIDED = {"model.training": {"network"}}


def _write_tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package `lab`, known by its source alone."""
    folder = _write_tree(tmp_path / "lab", PACKAGE)
    monkeypatch.setitem(static.PACKAGES, "lab", folder)
    return folder


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return _write_tree(tmp_path / "conf", CONF)


@pytest.fixture
def schema() -> type:
    return Root


@pytest.fixture
def provided() -> dict[str, set[str]]:
    return PROVIDED


@pytest.fixture
def write_tree() -> Callable[[Path, dict[str, str]], Path]:
    """Writes files (relative name -> indented text) below a folder."""
    return _write_tree
