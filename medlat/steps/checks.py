"""What can be known to be wrong before any data are read: values are tried by building what is cheap to build."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from medlat.config.build import build, key_of, naming
from medlat.core.errors import ConfigErrors, UserError
from medlat.directions.finder import need_capabilities, needs_of
from medlat.steps.builders import (
    _inversions,
    asks_classifier,
    augment,
    classifier_module,
    compared_classifiers,
    compared_methods,
    display_window,
    features,
    finder,
    hardware,
    imported,
    intensity_range,
    inverter_space,
    is_imported,
    is_own_classifier,
    measurement_sets,
    measurements,
    modality,
    module,
    own_classifier,
    schedule,
    source,
    with_classifier,
)
from medlat.steps.methods import MAIN, chance_of, methods

if TYPE_CHECKING:
    from medlat.classifiers.black_box import BlackBox
    from medlat.core.spaces import ImageSpec
    from medlat.generators.imported.brought import Imported

SMALLEST_IMAGE = 16  # pixels
FEWEST_CODES = 4  # of an interval over base codes


def check_values(config: DictConfig, found: Sequence[str] = (), is_made: bool = False) -> None:
    """Build what is cheap to build, before any data are read; the user's programs (TorchScript) are not loaded. Raises
    ConfigErrors with all that the constructors refuse.

    found: lines on values that are known to be out of range; what fails because of them is not our fault. is_made:
    whether everything lies in the store: what trains networks was then checked before, and is not imported.
    """
    try:
        attempts = _attempts(config, is_made)
    except Exception:
        if not found:
            raise
        attempts = []
    _attempt(attempts, found)


def try_programs(config: DictConfig) -> None:
    """Run the user's programs (TorchScript) on made-up images, each in a process of its own: the last check before data
    are read. Raises ConfigErrors with all that is refused.
    """
    _attempt(_trials(config))


def _attempt(attempts: Iterable[Callable[[], Any]], found: Sequence[str] = ()) -> None:
    problems = {line.partition(": ")[0]: line for line in found}  # each value once
    for attempt in attempts:
        try:
            attempt()
        except UserError as error:
            problems.setdefault(str(error).partition(": ")[0] if found else str(error), str(error))
        except Exception:
            if not found:
                raise
    if problems:
        raise ConfigErrors(list(problems.values()))


def _attempts(config: DictConfig, is_made: bool) -> list[Callable[[], Any]]:
    sections = [config.directions, *compared_methods(config).values(), *config.controls.values()]
    checks: list[Callable[[], Any]] = [partial(_check_damaged_list, config), partial(_check_store, config)]
    checks += [partial(source, config), partial(_check_split, config)]
    checks += [partial(intensity_range, config), partial(display_window, config)]
    checks.append(partial(_check_measurements, config))
    checks += [partial(_check_steps, "evaluation.steps", config.evaluation.steps), partial(_check_codes, config)]
    if is_imported(config):
        checks.append(partial(imported, config) if is_made else partial(_check_imported, config))
    elif not is_made:
        sections += [s for s in _parts(config.generator) if not s.get("_partial_")]
        checks += [partial(_module, config)]
    checks += [lambda: hardware(config).device, partial(augment, config), partial(features, config)]
    checks += [partial(build, config.logger)] if config.logger is not None else []
    checks += [partial(build, section) for section in sections] + [partial(_check_methods, config)]
    return checks + _explanation_checks(config, is_made)


def _trials(config: DictConfig) -> list[Callable[[], Any]]:
    from medlat.classifiers import adapters
    from medlat.core.external import is_program
    from medlat.core.trial import tried
    from medlat.evaluation import features as extractors

    classifiers = [config, *(with_classifier(config, name) for name in compared_classifiers(config))]
    asked: list[tuple[Any, Any]] = [(adapters.check, build(c.classifier)) for c in classifiers if is_own_classifier(c)]
    asked += [(extractors.check, extractor) for extractor in features(config)]
    programs = [(check, made) for check, made in asked if is_program(made)]
    if is_imported(config) and imported(config).runs:
        programs.append((_try_generator, imported(config)))
    image = _image(config, *intensity_range(config))
    return [partial(tried, made.culprit, check, made, image) for check, made in programs]


def _try_generator(found: "Imported", image: "ImageSpec") -> None:
    from medlat.generators.imported.brought import check_model

    model = found.model(image)
    assert model is not None
    check_model(model, found.culprit)


def _explanation_checks(config: DictConfig, is_made: bool) -> list[Callable[[], Any]]:
    others = compared_classifiers(config)
    asked = {"directions": config.directions}
    asked |= {f"compared.{name}": section for name, section in compared_methods(config).items()}
    if config.classifier is None:
        refusals = [partial(_refuse_supervised, key, section) for key, section in asked.items()]
        return [*refusals, partial(_refuse_asking, config), *(partial(_refuse_alone, name) for name in others)]
    checks: list[Callable[[], Any]] = [partial(build, section) for section in _inversions(config)]
    checks += [partial(_check_explain, config), *_classifier_checks(config, is_made)]
    if is_own_classifier(config):
        checks.append(partial(_check_black_box, config, asked))
    for name in others:
        other = with_classifier(config, name)
        checks += [partial(_check_name, name), *_classifier_checks(other, is_made)]
        if is_own_classifier(other):
            checks.append(partial(_check_answers, other, {"directions": config.directions}))
    return checks


def _classifier_checks(config: DictConfig, is_made: bool) -> list[Callable[[], Any]]:
    if is_own_classifier(config):
        return [partial(_check_own_classifier, config)]
    if is_made:
        return []
    parts = [partial(build, section) for section in _parts(config.classifier)]
    return [partial(_check_labels, config), partial(_classifier_check, config), *parts]


def _check_methods(config: DictConfig) -> None:
    """What every method needs, and which control says what chance gives."""
    found = methods(config)
    for method in found:
        assert method.needs is not None
    chance_of(config, found)


def _refuse_supervised(key: str, section: DictConfig) -> None:
    if "supervision" in needs_of(build(section)):
        raise UserError(
            f"{key}: {section['_target_'].rpartition('.')[2]} learns from a classifier, and there is none; expected "
            f"classifier=densenet, resnet, torchscript, onnx, python or medlat"
        )


def _refuse_asking(config: DictConfig) -> None:
    if asks_classifier(config):
        raise UserError(
            f"generator.module: {_module_name(config)} is trained on what a classifier predicts, and there is none; "
            f"expected classifier=densenet, resnet, torchscript, python or medlat, or generator=vae_fine"
        )


def _refuse_alone(name: str) -> None:
    raise UserError(
        f"compared.{name}: it is compared with the classifier that is explained, and there is none; expected "
        f"classifier=NAME"
    )


def _check_name(name: str) -> None:
    if name == MAIN:
        raise UserError(
            f"compared.{name}: in tables the classifier that is explained is called so; expected another name"
        )


def _module_name(config: DictConfig) -> str:
    return config.generator.module["_target_"].rpartition(".")[2]


def _check_explain(config: DictConfig) -> None:
    asked, space = config.explain, inverter_space(config)
    for name, section in config.inversion.compared.items():
        if (other := build(section).space) != space:
            raise UserError(f"inversion.compared.{name}.space={other}: expected {space}, the space of inversion.method")
    _check_steps("explain.steps", asked.steps)
    if asked.integrated_gradients and find_spec("captum") is None:
        raise UserError(
            'explain.integrated_gradients: Captum is not installed; pip install -e ".[captum]" in a clone, or expected '
            "false"
        )
    for name in ("images", "codes", "control_directions", "shown"):
        if asked[name] < (10 if name == "codes" else 1):
            raise UserError(f"explain.{name}={asked[name]}: expected at least {10 if name == 'codes' else 1}")


def _check_labels(config: DictConfig) -> None:
    """Whether there will be something to train a classifier on, as far as the source knows."""
    if not getattr(source(config), "has_labels", True):
        raise UserError(
            "classifier: it is trained on labels, and data.label or data.labels is null; expected a CSV (data.labels) "
            "with a column of labels (data.label), or an experiment without a classifier, e.g. +experiment=ct_vae_sefa"
        )


def _check_own_classifier(config: DictConfig) -> None:
    """A program is not run: `try_programs` does."""
    from medlat.core.external import is_program

    if not is_program(build(config.classifier)):
        own_classifier(config, _image(config, *intensity_range(config)))


def _check_measurements(config: DictConfig) -> None:
    """Whether the sets are made for such images, the user's own by measuring two of noise; whether direction methods
    find there what they need.
    """
    image, kind = _image(config, *intensity_range(config)), modality(config)
    shape = (2, image.height, image.width, *([3] if kind.colour else []))
    noise = np.random.default_rng(0).uniform(image.low, image.high, shape).astype(np.float32)
    for name, found in measurement_sets(config).items():
        if config.measure[name] is None or config.measure[name]["_target_"].startswith("medlat."):
            continue
        try:
            found.measure(noise, (config.data.field_of_view_mm or image.width) / image.width)
        except Exception as error:  # whatever the user's function does
            text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise UserError(f"measure.{name}: tried on images of noise, {text}") from error
    names = measurements(config).names
    for method in methods(config):
        wanted = getattr(method.finder(), "check_measurements", None)
        if wanted is not None and "measurements" in method.needs:
            with naming(method.section):
                wanted(names)


def _check_damaged_list(config: DictConfig) -> None:
    """Made as an empty file would be: what it is to hold is known after hours of reading."""
    if (name := config.data.damaged_list) is None:
        return
    path = Path(name).expanduser()
    try:
        there = path.exists()
        with open(path, "a", encoding="utf-8"):
            pass
        if not there:
            path.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"data.damaged_list={name}: cannot be written ({reason})") from error


def _check_store(config: DictConfig) -> None:
    """No more than the path: whether it can be written is tried when a run begins."""
    try:
        path = Path(config.store).expanduser().absolute()
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if not there.is_dir():
            raise NotADirectoryError(0, f"{there} is a file")
    except (OSError, ValueError) as error:
        raise UserError(
            f"store={config.store}: cannot be made ({getattr(error, 'strerror', None) or error})"
        ) from error


def _check_split(config: DictConfig) -> None:
    if (total := config.data.split.test + config.data.split.validation) >= 1.0 and config.data.split.by != "given":
        raise UserError(
            f"data.split.validation={config.data.split.validation:g}: with data.split.test it is a share "
            f"of {total:g}, and nothing is left to train on"
        )


def _check_steps(key: str, steps: Sequence[float]) -> None:
    steps = list(steps)
    if steps != sorted(set(steps)) or 0.0 not in steps or len(steps) < 3 or not all(map(math.isfinite, steps)):
        raise UserError(f"{key}={steps}: expected at least three rising numbers, 0 among them")


def _check_codes(config: DictConfig) -> None:
    if (found := config.evaluation.base_codes) < FEWEST_CODES:
        raise UserError(
            f"evaluation.base_codes={found}: expected at least {FEWEST_CODES}, as halves of them are compared (the "
            f"default is 48)"
        )


def _check_black_box(config: DictConfig, methods: dict[str, DictConfig]) -> None:
    """Refuse what needs gradients that the user's classifier does not have, and an output that it lacks."""
    black_box = _check_answers(config, methods)
    if config.explain.integrated_gradients and not black_box.differentiable:
        raise UserError(
            "explain.integrated_gradients: true, and the classifier is a black box without gradients; expected false"
        )
    if asks_classifier(config) and not black_box.differentiable:
        raise UserError(
            f"generator.module: {_module_name(config)} needs gradients, and the classifier is a black box without; "
            f"expected a differentiable classifier (densenet, resnet, torchscript or medlat), or generator=vae_fine"
        )


def _check_answers(config: DictConfig, methods: dict[str, DictConfig]) -> "BlackBox":
    """Refuse methods that need gradients which the user's classifier does not have, and an output that it lacks."""
    from medlat.classifiers.black_box import target_of

    black_box = build(config.classifier)
    with naming(config.explain):
        target_of(black_box, config.explain.target)
    whose = key_of(config.classifier)
    for key, section in methods.items():
        if "gradients" in needs_of(build(section)) and not black_box.differentiable:
            raise UserError(
                f"{key}: {section['_target_'].rpartition('.')[2]} needs gradients, and {whose} is a black box without; "
                f"expected linear, logistic, svm, style_channels or conditional"
            )
    return black_box


def _classifier_check(config: DictConfig) -> None:
    """The classifier's network without its numbers."""
    import torch

    from medlat.classifiers.networks import ClassifierNetwork
    from medlat.training.loop import check_hardware

    section, how_long = config.classifier, schedule(config, "classifier")
    with torch.device("meta"):
        task = section.task or "binary"
        classes = ["0", "1"] if task == "binary" else ["value"] if task == "regression" else ["0", "1", "2"]
        network = build(section.network, image=_image(config), task=task, classes=classes)
        if not isinstance(network, ClassifierNetwork):
            raise UserError(
                f"classifier.network._target_={section.network['_target_']}: expected a subclass of "
                f"{ClassifierNetwork.__module__}.{ClassifierNetwork.__name__}"
            )
        check_hardware(classifier_module(config, network, how_long.steps), how_long, hardware(config))


def _parts(section: DictConfig) -> list[DictConfig]:
    """What a trained network's module is built from."""
    return [s for s in section.module.values() if isinstance(s, DictConfig) and "_target_" in s]


def _image(config: DictConfig, low: float = -1.0, high: float = 1.0) -> "ImageSpec":
    """What images of the source will be, as far as it is known before any is read. low, high: the intensity range."""
    from medlat.core.spaces import ImageSpec

    side, kind = config.data.image_size, modality(config)
    if side < SMALLEST_IMAGE:
        raise UserError(
            f"data.image_size={side}: expected at least {SMALLEST_IMAGE}; what is smaller cannot be measured"
        )
    return ImageSpec(kind.channels, side, side, low, high, kind.unit, 1.0)


def _module(config: DictConfig) -> None:
    """The network and what trains it, without their numbers: sizes are checked, and what does not go together."""
    import torch

    from medlat.training.loop import check_hardware

    image, how_long = _image(config), schedule(config)
    with torch.device("meta"):
        network = build(config.generator.network, image=image)
        _check_generator(config.generator.network["_target_"], network)
        check_hardware(module(config, network, how_long.steps), how_long, hardware(config))
        _check_fits(config, network)


def _check_imported(config: DictConfig) -> None:
    """A generator from elsewhere: tried on made-up codes and images, but for a program, which `try_programs` runs."""
    from medlat.generators.imported.brought import check_model

    found = imported(config)
    model = found.model(_image(config, *intensity_range(config)))
    if model is not None:
        if not found.runs:
            check_model(model, found.culprit)
        _check_fits(config, model)


def _check_fits(config: DictConfig, network: Any) -> None:
    """Whether the methods can work on the generator, of which sizes and capabilities are asked."""
    from medlat.core.spaces import chosen_space
    from medlat.inversion.inverter import check_inverter

    for section in (config.directions, *compared_methods(config).values(), *config.controls.values()):
        found: Any = finder(section)
        with naming(section):
            need_capabilities(found, network)
            if getattr(found, "space", None) is not None:
                chosen_space(network, found.space)
            if hasattr(found, "check"):
                found.check(network)  # sizes that depend on the generator
    if config.classifier is not None:
        for section in _inversions(config):
            with naming(section):
                check_inverter(build(section), network)


def _check_generator(target: str, network: Any) -> None:
    """Refuse a class that is no whole generator: what trains, saves and measures it could not."""
    from torch import nn

    from medlat.core.spaces import missing_parts

    lacking = [] if isinstance(network, nn.Module) else ["the base class torch.nn.Module"]
    if lacking := lacking + missing_parts(network):
        raise UserError(f"generator.network._target_={target}: it lacks {', '.join(lacking)}")
