"""The stages of a run, in order: what each reads and what it leaves in the store."""

import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medlat.config import build
from medlat.core import machine
from medlat.core.digests import DamagedFile
from medlat.core.errors import UserError
from medlat.core.files import read_json
from medlat.core.store import PROGRESS, Artifact, Recipe, Store, hash_of
from medlat.steps import builders
from medlat.study.places import ORACLE, SHUFFLED, judge_of, name_of

log = logging.getLogger(__name__)

PLACES = (
    "root",
    "path",
    "labels",
    "annotations",
)  # of a source: where its files lie; their content is told by its fingerprint
NOT_LEARNT_FROM = ("checkpoint_every_s", "validations")  # settings of a training that its result does not depend on


@dataclass
class Plan:
    """The recipes of a run's stages, as far as they are known before anything is made.

    A stage below the slices is keyed by their content, so its key is known once they are in the store.
    """

    config: DictConfig
    store: Store
    source: Any
    made: dict[str, Artifact] = field(default_factory=dict)

    def slices(self) -> Recipe:
        data = build.plain(self.config.data)
        source = {name: value for name, value in data["source"].items() if name not in PLACES}
        config = {"source": source, "salt": data["salt"] and hash_of(data["salt"])}
        config |= {name: data[name] for name in ("image_size", "field_of_view_mm")}
        config["modality"] = self.source.modality.to_dict()
        return Recipe("slices", config, {"files": self.source.fingerprint()})

    def split(self) -> Recipe:
        return Recipe("split", build.plain(self.config.data.split), {"slices": self._content()})

    def generator(self) -> Recipe:
        if builders.is_pretrained(self.config):
            section = build.plain(self.config.generator) | {"weights": builders.pretrained(self.config).fingerprint()}
            config = {"pretrained": section, "intensity_range": self._range()}
            return Recipe("generator", config, {"slices": self._content()})
        config = self._trained(build.plain(self.config.generator))
        inputs = {"slices": self._content(), "split": self._key("split")}
        if builders.asks_classifier(self.config):
            inputs["classifier"] = self._key("classifier")
        return Recipe("generator", config, inputs)

    def classifier(self, place: str = "classifier") -> Recipe:
        if place == ORACLE:
            return replace(self, config=builders.of_oracle(self.config)).classifier()
        section = build.plain(self.config.classifier)
        if builders.is_own_classifier(self.config):
            if "path" in section:
                section["path"] = file_hash(section["path"], "classifier.path")
            if "function" in section:
                section["source"] = source_hash(section["function"])
            config = {
                "own": section,
                "intensity_range": self._range(),
                "seed": self.config.seed,
            }
        else:
            config = self._trained(section) | {name: section[name] for name in ("task", "bias")}
            config["shuffled"] = place == "shuffled"
        config["label"] = self.config.explain.label
        return Recipe("classifier", config, {"slices": self._content(), "split": self._key("split")})

    def encoder(self) -> Recipe:
        config = {"encoder": None}
        if builders.needs_encoder(self.config):
            section = build.plain(self.config.inversion.encoder)
            config = self._trained(section) | {"space": builders.inverter_space(self.config)}
        inputs = {"slices": self._content()} | {name: self._key(name) for name in ("split", "generator")}
        return Recipe("encoder", config, inputs)

    def inversion(self) -> Recipe:
        section = build.plain(self.config.inversion)
        config = {name: section[name] for name in ("method", "others", *(["compared"] if section["others"] else []))}
        config |= {name: self.config.explain[name] for name in ("images", "codes")}
        inputs = {"slices": self._content()} | {name: self._key(name) for name in ("split", "generator", "encoder")}
        return Recipe("inversion", config, inputs)

    def directions(self, section: DictConfig, judge: str = "classifier", name: str | None = None) -> Recipe:
        inputs = {"generator": self._key("generator")}
        config = {key: value for key, value in build.plain(section).items() if key not in NOT_LEARNT_FROM}
        if builders.looks_at_images(section):
            inputs |= {"slices": self._content(), "split": self._key("split")}
        if name is not None:
            config["name"] = name
        if builders.measures(section):
            config["measure"] = builders.measured_by(self.config)
        if builders.is_supervised(section):
            asked = build.plain(self.config.explain)
            config |= {"explain": {name: asked[name] for name in ("target", "threshold", "wanted")}}
            config["seed"] = self.config.seed
            inputs |= {"classifier": self._key(judge), "inversion": self._key("inversion")}
        return Recipe("directions", config, inputs)

    def regressor(self) -> Recipe:
        config = {
            "steps": self.config.evaluation.regressor_steps,
            "intensity_range": self._range(),
        }
        return Recipe("regressor", config, {"slices": self._content(), "split": self._key("split")})

    def evaluation(self) -> Recipe:
        inputs = {name: self._key(name) for name in ("split", "generator", "regressor", *self.methods())}
        config = build.plain(self.config.evaluation) | {"seed": self.config.seed}
        config["measure"] = builders.measured_by(self.config)
        for name, section in config["features"].items():
            if "path" in section:
                section["path"] = file_hash(section["path"], f"evaluation.features.{name}.path")
        return Recipe("evaluation", config, inputs | {"slices": self._content()})

    def explanation(self) -> Recipe:
        names = ("split", "classifier", "generator", "encoder", "inversion", "evaluation", *self.methods())
        config = build.plain(self.config.explain) | {"seed": self.config.seed}
        inputs = {name: self._key(name) for name in (*names, *([ORACLE] if self.config.oracle is not None else []))}
        return Recipe("explanation", config, {"slices": self._content()} | inputs)

    @property
    def explains(self) -> bool:
        """Whether there is a classifier to explain."""
        return self.config.classifier is not None

    def methods(self) -> dict[str, DictConfig]:
        """Direction methods by their place: the one asked for, others beside it, then the controls, without one that is
        that method. With a classifier, one that knows nothing is a control of supervised directions.
        """
        chosen = self.config.directions
        controls = {name: s for name, s in self.config.controls.items() if s["_target_"] != chosen["_target_"]}
        found = {"directions": chosen} | {f"others/{name}": s for name, s in self.config.others.items()}
        found |= {f"controls/{name}": section for name, section in controls.items()}
        return found | ({SHUFFLED: chosen} if self._has_shuffled() else {})

    def judges(self) -> list[str]:
        """The places of the classifiers: the one explained, one that learns from shuffled labels, and the oracle."""
        asked = {"classifier": True, "shuffled": self._has_shuffled(), ORACLE: self.config.oracle is not None}
        return [place for place, is_asked in asked.items() if is_asked] if self.explains else []

    def _has_shuffled(self) -> bool:
        asked = self.explains and self.config.explain.shuffled and not builders.is_own_classifier(self.config)
        return asked and builders.is_supervised(self.config.directions)

    def stages(self) -> dict[str, Callable[[], Recipe]]:
        """Every stage in order, with what makes its recipe."""
        stages: dict[str, Callable[[], Recipe]] = {"slices": self.slices, "split": self.split}
        stages |= {place: partial(self.classifier, place) for place in self.judges()}
        stages["generator"] = self.generator
        if self.explains:
            stages |= {"encoder": self.encoder, "inversion": self.inversion}
        for name, section in self.methods().items():
            stages[name] = partial(self.directions, section, judge_of(name), name_of(name))
        stages |= {"regressor": self.regressor, "evaluation": self.evaluation}
        return stages | ({"explanation": self.explanation} if self.explains else {})

    def _trained(self, section: dict[str, Any]) -> dict[str, Any]:
        """What a trained network depends on beside its inputs."""
        shown = {name: value for name, value in section["training"].items() if name not in NOT_LEARNT_FROM}
        config = {"network": section["network"], "module": section["module"], "training": shown}
        config["intensity_range"] = self._range()
        return config | {"augment": build.plain(self.config.data)["augment"], "seed": self.config.seed}

    def _range(self) -> list[float]:
        return list(builders.intensity_range(self.config))

    def _key(self, stage: str) -> str:
        return self.made[stage].key

    def _content(self) -> str:
        return json.loads((self.made["slices"].path / "slices.json").read_text())["digest"]


def plan(config: DictConfig) -> Plan:
    """The stages that a configuration asks for."""
    return Plan(config, Store(config.store), builders.source(config))


def run(config: DictConfig, folder: Path) -> None:
    """Make every artifact that does not exist yet, then the report; the record of the run goes to `folder`."""
    from medlat.study.record import recorded

    todo = plan(config)
    builders.hardware(config).limit_threads()
    with recorded(config, folder, todo) as tracker:
        try:
            _make(todo, tracker, folder)
        except DamagedFile as error:  # seen when it was read
            todo.store.distrust(error.path)
            todo.made.clear()
            _make(todo, tracker, folder)


def _make(todo: Plan, tracker: Any, folder: Path) -> None:
    """Every artifact, in order, and the report."""
    from medlat.steps import (
        classifier,
        data,
        directions,
        evaluation,
        explanation,
        generator,
        inversion,
        regressor,
        report,
    )

    config, make, made, methods = todo.config, todo.store.make, todo.made, todo.methods()
    made["slices"] = make(todo.slices(), partial(data.slices, config, todo.source, todo.store))
    made["split"] = make(todo.split(), lambda out: data.split(config, made, todo.source, out))
    for place in todo.judges():
        training = partial(classifier.classifier, config, made, tracker, place=place)
        made[place] = make(todo.classifier(place), training, resumable=True)
    if builders.is_pretrained(config):
        made["generator"] = make(todo.generator(), lambda out: generator.pretrained(config, made, out))
    else:
        training = partial(generator.generator, config, made, tracker)
        made["generator"] = make(todo.generator(), training, resumable=True)
    generator.replay_curves(made["generator"], tracker)
    if todo.explains:
        made["encoder"] = make(todo.encoder(), partial(inversion.encoder, config, made, tracker), resumable=True)
        made["inversion"] = make(todo.inversion(), lambda out: inversion.inversion(config, made, out))
    for name, section in methods.items():
        how: dict[str, Any] = {"judge": judge_of(name), "name": name_of(name)}
        finding = partial(directions.directions, config, section, made, tracker, **how)
        made[name] = make(todo.directions(section, **how), finding, resumable=True)
    made["regressor"] = make(todo.regressor(), lambda out: regressor.regressor(config, made, out))
    made["evaluation"] = make(todo.evaluation(), lambda out: evaluation.evaluation(config, methods, made, out))
    if todo.explains:
        made["explanation"] = make(todo.explanation(), lambda out: explanation.explanation(config, methods, made, out))
    report.report(config, methods, made, tracker, folder)


def follow(config: DictConfig, folder: Path) -> None:
    """What a node beside the first does: it takes part in the training of the generator, and waits for what that needs.

    folder: of the run, where the first node says if it fails.
    """
    from medlat.steps import generator
    from medlat.study.collect import FAILURE
    from medlat.training import nodes

    todo = plan(config)
    builders.hardware(config).limit_threads()

    def given_up() -> bool:
        failure = read_json(folder / FAILURE)
        return failure is not None and failure["job"] == machine.job()

    attended = []

    def join(partial: Path) -> bool:
        meeting = nodes.called(partial)
        if meeting is None or meeting in attended:  # the first node has yet to put the result in its place
            return False
        attended.append(meeting)
        generator.generator(config, todo.made, None, partial)
        return True

    for stage, recipe_of in todo.stages().items():
        trains = stage == "generator" and not builders.is_pretrained(config)
        found = todo.store.follow(recipe_of(), join if trains else lambda partial: False, given_up)
        if found is None or stage == "generator":
            return
        todo.made[stage] = found


def describe(plan: Plan) -> str:
    """What a run would do: stages, which artifacts exist, sizes, images. Reads nothing but the store and file names."""
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
    if builders.is_pretrained(config):
        return f"  generator: from {config.generator.weights}"
    training = config.generator.training
    steps = builders.schedule(config).steps
    return f"  training: {training.images:,} images in {steps:,} steps of {training.batch_size}"


def _slice_count(slices: Artifact) -> int:
    return int(json.loads((slices.path / "slices.json").read_text())["slices"])


def _left_over(store: Store, recipe: Recipe) -> str:
    partial = store.root / recipe.stage / f".{recipe.key}.partial" / PROGRESS
    return " (continues)" if partial.is_dir() and any(partial.iterdir()) else ""


def _size(folder: Path) -> str:
    total = sum(os.path.getsize(p) for p in folder.rglob("*") if p.is_file())
    return f"{total / 1e6:.1f} MB"


def source_hash(function: str) -> str | None:
    """A hash of the file that a function `package.module:name` stands in; None where it has none."""
    found = importlib.util.find_spec(function.partition(":")[0])
    return file_hash(found.origin, "classifier.function") if found and found.has_location and found.origin else None


def file_hash(path: str, key: str) -> str:
    """A hash of a file's content. Raises UserError, naming the key, where it cannot be read."""
    try:
        with open(Path(path).expanduser(), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}") from error
