"""The stages of a run, in order: what each reads and what it leaves in the store."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medlat import build
from medlat.errors import UserError
from medlat.store import Artefact, Recipe, Store, hash_of

log = logging.getLogger(__name__)


@dataclass
class Plan:
    """The recipes of a run's stages, as far as they are known before anything is made.

    A stage below the slices is keyed by their content, so its key is known once they are in the store.
    """

    config: DictConfig
    store: Store
    source: Any
    made: dict[str, Artefact] = field(default_factory=dict)

    def slices(self) -> Recipe:
        data = build.plain(self.config.data)
        source = {name: value for name, value in data["source"].items() if name != "root"}
        config = {"source": source, "salt": data["salt"] and hash_of(data["salt"])}
        config |= {name: data[name] for name in ("image_size", "field_of_view_mm")}
        return Recipe("slices", config, {"files": self.source.fingerprint()})

    def split(self) -> Recipe:
        return Recipe("split", build.plain(self.config.data.split), {"slices": self._content()})

    def generator(self) -> Recipe:
        if build.is_pretrained(self.config):
            section = build.plain(self.config.generator) | {"weights": build.pretrained(self.config).fingerprint()}
            config = {"pretrained": section, "window": build.plain(self.config.data.window)}
            return Recipe("generator", config, {"slices": self._content()})
        sections = build.plain(self.config.generator)
        shown = {
            name: value
            for name, value in sections["training"].items()
            if name not in ("checkpoint_every_s", "validations")
        }
        config = {"network": sections["network"], "module": sections["module"], "training": shown}
        data = build.plain(self.config.data)
        config |= {"window": data["window"], "augment": data["augment"], "seed": self.config.seed}
        return Recipe("generator", config, {"slices": self._content(), "split": self._key("split")})

    def directions(self, section: DictConfig) -> Recipe:
        return Recipe("directions", build.plain(section), {"generator": self._key("generator")})

    def regressor(self) -> Recipe:
        data = self.config.data
        config = {"steps": self.config.evaluation.regressor_steps, "window": build.plain(data.window)}
        return Recipe("regressor", config, {"slices": self._content(), "split": self._key("split")})

    def evaluation(self) -> Recipe:
        inputs = {name: self._key(name) for name in ("split", "generator", "regressor", *self.methods())}
        config = build.plain(self.config.evaluation) | {"seed": self.config.seed}
        for name, section in config["features"].items():
            if "path" in section:
                section["path"] = file_hash(section["path"], f"evaluation.features.{name}.path")
        return Recipe("evaluation", config, inputs | {"slices": self._content()})

    def methods(self) -> dict[str, DictConfig]:
        """Direction methods by their place: the one asked for, then the controls, without one that is that method."""
        chosen = self.config.directions
        others = {name: s for name, s in self.config.controls.items() if s["_target_"] != chosen["_target_"]}
        return {"directions": chosen} | {f"controls/{name}": section for name, section in others.items()}

    def stages(self) -> dict[str, Callable[[], Recipe]]:
        """Every stage in order, with what makes its recipe."""
        finders = {name: partial(self.directions, section) for name, section in self.methods().items()}
        return (
            {"slices": self.slices, "split": self.split, "generator": self.generator}
            | finders
            | {"regressor": self.regressor, "evaluation": self.evaluation}
        )

    def _key(self, stage: str) -> str:
        return self.made[stage].key

    def _content(self) -> str:
        return json.loads((self.made["slices"].path / "slices.json").read_text())["digest"]


def plan(config: DictConfig) -> Plan:
    """The stages that a configuration asks for."""
    return Plan(config, Store(config.store), build.source(config))


def run(config: DictConfig, folder: Path) -> None:
    """Make every artefact that does not exist yet, then the report; the record of the run goes to `folder`."""
    from medlat.record import recorded
    from medlat.stages import data, directions, evaluation, generator, regressor, report

    todo = plan(config)
    build.hardware(config).limit_threads()
    make, made, methods = todo.store.make, todo.made, todo.methods()
    with recorded(config, folder, todo) as tracker:
        made["slices"] = make(todo.slices(), lambda out: data.slices(config, todo.source, todo.store, out))
        made["split"] = make(todo.split(), lambda out: data.split(config, made, out))
        if build.is_pretrained(config):
            made["generator"] = make(todo.generator(), lambda out: generator.pretrained(config, made, out))
        else:
            training = partial(generator.generator, config, made, tracker)
            made["generator"] = make(todo.generator(), training, resumable=True)
        generator.replay_curves(made["generator"], tracker)
        for name, section in methods.items():
            made[name] = make(todo.directions(section), partial(directions.directions, config, section, made))
        made["regressor"] = make(todo.regressor(), lambda out: regressor.regressor(config, made, out))
        made["evaluation"] = make(todo.evaluation(), lambda out: evaluation.evaluation(config, methods, made, out))
        report.report(config, methods, made, tracker, folder)


def describe(plan: Plan) -> str:
    """What a run would do: stages, which artefacts exist, sizes, images. Reads nothing but the store and file names."""
    lines = [f"plan of {plan.config.name} (store: {plan.store.root})"]
    for stage, recipe_of in plan.stages().items():
        try:
            recipe = recipe_of()
        except KeyError:  # an input does not exist yet
            lines.append(f"  {stage:<22} to be made")
            continue
        found = plan.store.find(recipe)
        if found:
            plan.made[stage] = found
        state = f"exists ({_size(found.path)})" if found else "to be made" + _left_over(plan.store, recipe)
        lines.append(f"  {stage:<22} {state:<28} {recipe.stage}/{recipe.key}")
    return "\n".join([*lines, *_expectations(plan)])


def _expectations(plan: Plan) -> list[str]:
    side = plan.config.data.image_size
    training_line = _training(plan.config)
    made = "slices" in plan.made
    count = _slice_count(plan.made["slices"]) if made else plan.source.expected()
    if count is None:
        return [f"  slices: known when the volumes' headers are read, each of {side}²", training_line]
    size = count * side * side * 2 / 1e6
    return [f"  slices: {'' if made else 'up to '}{count:,} of {side}², {size:,.1f} MB in the store", training_line]


def _training(config: DictConfig) -> str:
    if build.is_pretrained(config):
        return f"  generator: from {config.generator.weights}"
    training = config.generator.training
    steps = build.schedule(config).steps
    return f"  training: {training.images:,} images in {steps:,} steps of {training.batch_size}"


def _slice_count(slices: Artefact) -> int:
    return int(json.loads((slices.path / "slices.json").read_text())["slices"])


def _left_over(store: Store, recipe: Recipe) -> str:
    partial = store.root / recipe.stage / f".{recipe.key}.partial" / "progress"
    return " (continues)" if partial.is_dir() and any(partial.iterdir()) else ""


def _size(folder: Path) -> str:
    total = sum(os.path.getsize(p) for p in folder.rglob("*") if p.is_file())
    return f"{total / 1e6:.1f} MB"


def file_hash(path: str, key: str) -> str:
    """A hash of a file's content. Raises UserError, naming the key, where it cannot be read."""
    try:
        with open(Path(path).expanduser(), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}") from error
