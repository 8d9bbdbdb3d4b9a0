"""What a step of a run is, and what it is given.

A step of one's own is a class derived from `Step`, named in the configuration (`+steps.NAME._target_=my_steps.Mine`):
it runs when everything else is measured, what it leaves is kept in the store, and the numbers of its `metrics.json`
are among those of the run, as `NAME/...`.
"""

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from medlat.config.build import plain
from medlat.core.errors import UserError
from medlat.core.spaces import Directions, ImageSpec, LatentModel
from medlat.core.store import Artifact, Recipe, Store
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.steps import builders
from medlat.steps.methods import Method, methods

NOT_LEARNT_FROM = ("checkpoint_every_s", "validations")  # settings of a training that its result does not depend on


class Context:
    """What the steps of a run share: its configuration, the artifacts made so far, and the images, opened once.

    artifacts: by the name of the step that made them. tracker: of the run; None on a node that only helps to train.
    """

    def __init__(self, config: DictConfig, store: Store, source: Any) -> None:
        self.config, self.store, self.source = config, store, source
        self.artifacts: dict[str, Artifact] = {}
        self.identities: dict[str, str] = {}
        self.tracker: Any = None
        self._kept: dict[str, Any] = {}

    @cached_property
    def methods(self) -> list[Method]:
        return methods(self.config)

    @property
    def main(self) -> Method:
        return self.methods[0]

    @cached_property
    def device(self) -> torch.device:
        return builders.hardware(self.config).device

    @property
    def named_classes(self) -> frozenset[str]:
        """Classes outside medlat that a file may name: those that the configuration names."""
        return builders.named_classes(self.config)

    @property
    def images(self) -> ImageStore:
        return self.kept("images", lambda: ImageStore.open(self.folder("images")))

    @property
    def split(self) -> Split:
        return self.kept("split", lambda: Split.load(self.folder("split") / "split.json"))

    @property
    def spec(self) -> ImageSpec:
        """What an image of the network means."""
        return self.images.spec(builders.intensity_range(self.config))

    def folder(self, step: str) -> Path:
        """Where the artifact of a step lies."""
        return self.artifacts[step].path

    def generator(self, step: str = "generator") -> LatentModel:
        """The generator, loaded anew: training something with it may change it."""
        return builders.load_generator(self.artifacts[step], self.device, self.named_classes)

    def directions(self, method: Method) -> Directions:
        return Directions.load(self.folder(method.step) / "directions.safetensors")

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call of that name in this run."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def forget(self) -> None:
        """Everything read or made so far: some of it is damaged."""
        for kept in (self.artifacts, self.identities, self._kept):
            kept.clear()

    def made(self, step: "Step") -> Artifact:
        """The artifact of a step whose inputs are made: found in the store, or made now."""

        found = self.aside(step)
        self.add(step, found)
        return found

    def aside(self, step: "Step") -> Artifact:
        """The same of a step that only the one which asks for it reads: it is not among the artifacts of the run."""
        return self.store.make(step.recipe(self), lambda out: step.run(self, out), step.resumable, step.name)

    def add(self, step: "Step", found: Artifact) -> None:
        """An artifact that exists, with what it is known by to the steps that read it."""
        self.artifacts[step.name], self.identities[step.name] = found, step.identity(found)


class Step:
    """A step of a run: what it reads, what its result depends on, and how that is made.

    name:      in the list of artifacts, messages and the plan of a run.
    folder:    in the store; by default the name.
    needs:     names of the steps whose artifacts it reads.
    version:   rises when the same inputs give another result.
    resumable: whether an interrupted `run` goes on from what it finds in its folder.
    """

    name: str
    needs: tuple[str, ...] = ()
    version: int = 1
    resumable: bool = False
    section: DictConfig | None = None  # of the configuration, of a step that stands there

    @property
    def folder(self) -> str:
        return self.name

    def settings(self, config: DictConfig) -> dict[str, Any]:
        """The part of the configuration that the result depends on: plain values, no paths, no hardware."""
        return {} if self.section is None else plain(self.section)

    def inputs(self, context: Context) -> dict[str, str]:
        """What the result depends on beside the settings: name -> identity of each artifact that is read."""
        return {name: context.identities[name] for name in self.needs}

    def run(self, context: Context, out: Path) -> None:
        """Make the artifact: files in the folder `out`."""
        raise NotImplementedError

    def identity(self, artifact: Artifact) -> str:
        """What those know of the artifact that read it: where it is the same, so are they."""
        return artifact.key

    def recipe(self, context: Context) -> Recipe:
        """What determines the artifact. Raises KeyError where an input is not made yet."""
        settings = self.settings(context.config)
        code: dict[str, Any] = {"version": self.version} | dict(sources(settings))
        if not type(self).__module__.startswith("medlat."):
            code |= dict(_sources_of(type(self)))
        return Recipe(self.folder, settings, self.inputs(context), code)


@dataclass
class Plan:
    """The steps of a run in order, and what they share."""

    steps: list[Step]
    context: Context


def trained(config: DictConfig, section: Mapping[str, Any]) -> dict[str, Any]:
    """What a trained network depends on beside its inputs. section: of the network, as plain values."""
    shown = {name: value for name, value in section["training"].items() if name not in NOT_LEARNT_FROM}
    data = plain(config.data)
    return {
        "network": section["network"],
        "module": section["module"],
        "training": shown,
        "intensity_range": builders.intensity_range(config),
        "augment": data["augment"],
        "seed": config.seed,
    }


def sources(settings: Any) -> Iterator[tuple[str, str]]:
    """Of every component in plain settings (`_target_`, or a `function` as `package.module:name`) that comes from
    outside medlat and its libraries: its name and a hash of the file that it stands in.
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key == "_target_" or (key == "function" and isinstance(value, str)):
                yield from _sources_of(_located(value))
            else:
                yield from sources(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from sources(value)


def _located(target: str) -> Any:
    """The class or function of a dotted name; None for one of medlat's own, which steps' versions stand for."""
    module, _, name = target.rpartition(":" if ":" in target else ".")
    if module.startswith("medlat.") or not module:
        return None
    found: Any = import_module(module) if _is_module(module) else _located(module)
    return getattr(found, name, None)


def _is_module(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def _sources_of(found: Any) -> Iterator[tuple[str, str]]:
    """A class with the classes that it is derived from, or a function."""
    for part in inspect.getmro(found) if inspect.isclass(found) else [found]:
        module = sys.modules.get(getattr(part, "__module__", None) or "")
        path = getattr(module, "__file__", None)
        if path is None or module is None or module.__name__.split(".")[0] == "medlat" or _is_library(Path(path)):
            continue
        try:
            yield module.__name__, hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error


def _is_library(path: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(path.is_relative_to(paths[name]) for name in ("purelib", "platlib", "stdlib", "platstdlib"))


def file_hash(path: str, key: str) -> str:
    """A hash of a file's content. Raises UserError, naming the key, where it cannot be read."""
    try:
        with open(Path(path).expanduser(), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}") from error


def without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
