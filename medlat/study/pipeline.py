"""A run: its steps in order. To run, to follow on another node and to describe are three walks over them."""

import json
import logging
import os
from pathlib import Path

from omegaconf import DictConfig

from medlat.config.build import build
from medlat.core import machine
from medlat.core.digests import DamagedFile
from medlat.core.errors import UserError
from medlat.core.files import read_json
from medlat.core.progress import at_work
from medlat.core.store import PROGRESS, Artifact, Recipe, Store
from medlat.steps import builders
from medlat.steps.alignment import Alignment
from medlat.steps.audit import Audit
from medlat.steps.classifier import Classifier, say_target
from medlat.steps.data import Division, Images
from medlat.steps.directions import FoundDirections
from medlat.steps.evaluation import Evaluation
from medlat.steps.explanation import ExplanationBy
from medlat.steps.fidelity import Fidelity
from medlat.steps.generator import Generator, replay_curves, train_generator
from medlat.steps.inversion import Inversion, TrainedEncoder
from medlat.steps.measurements import Measurements
from medlat.steps.methods import PERMUTED, asked_of, classifier_step, has_permuted, methods
from medlat.steps.regressor import Regressor
from medlat.steps.report import report
from medlat.steps.semantics import Semantics
from medlat.steps.step import Context, Plan, Step
from medlat.steps.verdict import Explanation

log = logging.getLogger(__name__)


def plan(config: DictConfig) -> Plan:
    """The steps that a configuration asks for."""
    return Plan(steps_of(config), Context(config, Store(config.store), builders.source(config)))


def steps_of(config: DictConfig) -> list[Step]:
    """Every step, each after those that it reads."""
    explains, found = config.classifier is not None, methods(config)
    others = list(builders.compared_classifiers(config))
    steps: list[Step] = [Images(), Division()]
    if explains:
        steps += [Classifier(), *([Classifier(PERMUTED)] if has_permuted(config) else [])]
        steps += [Classifier(classifier_step(name)) for name in others]
    steps.append(Generator(config))
    if explains:
        steps += [TrainedEncoder(), Inversion()]
    asked = asked_of(config) if others else {}
    once = {method.step: method for method in [*found, *asked.values()]}
    steps += [FoundDirections(method) for method in once.values()]
    steps += [Regressor(), Measurements(), Fidelity()]
    steps += [*(Semantics(method, explains) for method in found), Evaluation(found)]
    if explains:
        steps.append(Audit(found[0]))
        steps += [ExplanationBy(method, others) for method in found]
        steps += [*([Alignment(asked)] if others else []), Explanation(found, bool(others))]
    for name, section in config.steps.items():
        step: Step = build(section)
        step.name, step.section = name, section
        _check_needs(step, [earlier.name for earlier in steps])
        steps.append(step)
    return steps


def _check_needs(step: Step, earlier: list[str]) -> None:
    """Raises UserError where a step of the user's reads what no step before it makes, or has the name of one."""
    if step.name in earlier:
        raise UserError(f"steps.{step.name}: a step of that name is part of every run; expected another name")
    for name in step.needs:
        if name not in earlier:
            raise UserError(
                f"steps.{step.name}: it needs '{name}', which no step before it makes; there are {', '.join(earlier)}"
            )


def is_made(config: DictConfig) -> bool:
    """Whether every artifact of a run lies in the store."""
    try:
        todo = plan(config)
        for step in todo.steps:
            found = todo.context.store.find(step.recipe(todo.context))
            if found is None:
                return False
            todo.context.add(step, found)
    except Exception:  # whoever checks or makes them says what it is
        return False
    return True


def run(config: DictConfig, folder: Path) -> None:
    """Make every artifact that does not exist yet, then the report; the record of the run goes to `folder`."""
    from medlat.study.record import recorded

    todo = plan(config)
    builders.hardware(config).limit_threads()
    with recorded(config, folder, todo) as tracker:
        todo.context.tracker = tracker
        try:
            _make(todo, folder)
        except DamagedFile as error:  # seen when it was read
            todo.context.store.distrust(error.path)
            todo.context.forget()
            _make(todo, folder)


def _make(todo: Plan, folder: Path) -> None:
    with at_work() as begin:
        for step in todo.steps:
            begin(step.name)
            found = todo.context.made(step)
            if isinstance(step, Generator):
                replay_curves(found, todo.context.tracker)
            if step.name == "classifier":
                say_target(todo.context)
        begin("report")
        report(todo.context, todo.steps, folder)


def follow(config: DictConfig, folder: Path) -> None:
    """What a node beside the first does: it takes part in the training of the generator, and waits for what that needs.

    folder: of the run, where the first node says if it fails.
    """
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
        train_generator(todo.context, partial)
        return True

    for step in todo.steps:
        trains = isinstance(step, Generator) and not step.imported
        recipe = step.recipe(todo.context)
        found = todo.context.store.follow(recipe, join if trains else lambda partial: False, given_up)
        if found is None or isinstance(step, Generator):
            return
        todo.context.add(step, found)


def describe(plan: Plan) -> str:
    """What a run would do: steps, which artifacts exist, sizes, images. Reads nothing but the store and file names."""
    context = plan.context
    lines = [f"plan of {context.config.name} (store: {context.store.root})"]
    for step in plan.steps:
        try:
            recipe = step.recipe(context)
        except KeyError:  # an input does not exist yet
            lines.append(f"  {step.name:<22} to be made")
            continue
        found = context.store.find(recipe)
        if found:
            context.add(step, found)
        state = f"exists ({_size(found.path)})" if found else "to be made" + _left_over(context.store, recipe)
        lines.append(f"  {step.name:<22} {state:<28} {recipe.step}/{recipe.key}")
    return "\n".join([*lines, *_expectations(context)])


def _expectations(context: Context) -> list[str]:
    side = context.config.data.image_size
    training_lines = [_training(context.config), *_brought_classifier(context.config)]
    made = "images" in context.artifacts
    count = _image_count(context.artifacts["images"]) if made else context.source.expected()
    if count is None:
        return [f"  images: known when the files are read, each of {side}²", *training_lines]
    if count == 0:
        place = getattr(context.source, "folder", None)
        return [f"  images: no fitting file{'' if place is None else f' below {place}'}; a run would end here"]
    size = count * side * side * 2 / 1e6
    return [f"  images: {'' if made else 'up to '}{count:,} of {side}², {size:,.1f} MB in the store", *training_lines]


def _brought_classifier(config: DictConfig) -> list[str]:
    if not builders.is_own_classifier(config):
        return []
    named = config.classifier.get("path") or config.classifier.get("function")
    return [f"  classifier: from {named}, asked and not trained"]


def _training(config: DictConfig) -> str:
    if builders.is_imported(config):
        return f"  generator: from {builders.imported(config).origin}"
    training = config.generator.training
    steps = builders.schedule(config).steps
    return f"  training: {training.images:,} images in {steps:,} steps of {training.batch_size}"


def _image_count(images: Artifact) -> int:
    return int(json.loads((images.path / "slices.json").read_text())["slices"])


def _left_over(store: Store, recipe: Recipe) -> str:
    partial = store.root / recipe.step / f".{recipe.key}.partial" / PROGRESS
    return " (continues)" if partial.is_dir() and any(partial.iterdir()) else ""


def _size(folder: Path) -> str:
    total = sum(os.path.getsize(p) for p in folder.rglob("*") if p.is_file())
    return f"{total / 1e6:.1f} MB"
