"""Configuration -> objects. The only place that calls `hydra.utils.instantiate`."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medlat.config.command_line import name_problem
from medlat.errors import ConfigErrors, UserError

if TYPE_CHECKING:
    from torch import nn

    from medlat.classifiers.black_box import BlackBox
    from medlat.data.batches import Augment
    from medlat.data.source import SliceSource
    from medlat.directions.finder import Finder, SupervisedFinder
    from medlat.evaluation.features import Features
    from medlat.generators.pretrained.convert import Pretrained
    from medlat.spaces import ImageSpec, LatentModel
    from medlat.training.loop import GeneratorModule, TrainedModule
    from medlat.training.settings import Hardware, Schedule

SMALLEST_IMAGE = 16  # pixels
FEWEST_CODES = 4  # of an interval over base codes
# What the program itself passes to constructors, by section: the configuration need not, and must not, hold it.
PROVIDED = {
    "generator.network": {"image"},
    "generator.module": {"network", "classifier", "seed", "steps"},
    "generator.module.objective": {"classifier"},
    "generator.module.discriminator": {"image"},
    "classifier.network": {"image", "task", "classes"},
    "classifier.module": {"network", "seed", "steps"},
    "oracle.network": {"image", "task", "classes"},
    "oracle.module": {"network", "seed", "steps"},
    "inversion.encoder.network": {"image", "shape"},
    "inversion.encoder.module": {"network", "model", "space", "seed", "steps"},
    "evaluation.features.*": {"name"},
    "*.deformator": {"size"},
    "*.reconstructor": {"image", "directions"},
    "*.judge": {"image", "directions"},
}


def build(section: DictConfig, **provided: Any) -> Any:
    """The object of a section with `_target_`. A UserError of its constructor, or of one below it, is passed on as it
    is.
    """
    try:
        # A partial, called here: instantiate would turn the program's own dataclasses into configuration.
        return instantiate(section, _partial_=True, _convert_="all")(**provided)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise


def source(config: DictConfig) -> "SliceSource":
    """Where slices come from."""
    return build(config.data.source)


def network(config: DictConfig, image: "ImageSpec") -> "nn.Module":
    """The generator's network, untrained. Its first weights depend on the run's seed alone."""
    return _seeded(config, "weights", config.generator.network, image=image)


def network_from(recipe: dict[str, Any], image: "ImageSpec") -> "nn.Module":
    """The network a checkpoint describes."""
    return build(OmegaConf.create(recipe), image=image)


def module(
    config: DictConfig, network: "nn.Module", steps: int, classifier: "BlackBox | None" = None
) -> "GeneratorModule":
    """The LightningModule that trains the network. classifier: for one that asks it; None while nothing is trained."""
    asked = {"classifier": classifier} if asks_classifier(config) else {}
    return build(config.generator.module, network=network, seed=config.seed, steps=steps, **asked)


def asks_classifier(config: DictConfig) -> bool:
    """Whether the generator is trained on what a classifier predicts: its module then takes one."""
    from medlat.config.signatures import signature

    return not is_pretrained(config) and "classifier" in signature(config.generator.module["_target_"]).parameters


def is_pretrained(config: DictConfig) -> bool:
    """Whether the generator comes from a file: its section is then that of one object."""
    return "_target_" in config.generator


def pretrained(config: DictConfig) -> "Pretrained":
    """What converts a generator's file."""
    return build(config.generator)


def features(config: DictConfig) -> list["Features"]:
    """The user's feature extractors, by the names they are given."""
    sections = config.evaluation.features
    if "factors" in sections:
        raise UserError("evaluation.features.factors: the data set's own regressor has that name; choose another")
    return [build(section, name=name) for name, section in sections.items()]


def augment(config: DictConfig) -> "Augment | None":
    """What training images pass through, or None."""
    section = config.data.augment
    return None if section is None else build(section)


def schedule(config: DictConfig, section: str = "generator") -> "Schedule":
    """The length of a training: of the generator, or of another section."""
    from medlat.training.settings import Schedule

    return Schedule(**plain(OmegaConf.select(config, f"{section}.training")), section=section)


def is_own_classifier(config: DictConfig) -> bool:
    """Whether the classifier is the user's own: its section is then that of one object."""
    return config.classifier is not None and "_target_" in config.classifier


def of_oracle(config: DictConfig) -> DictConfig:
    """The configuration with the oracle in the classifier's place. It learns with another seed: the same network, seed
    and images would give the same classifier.
    """
    from medlat.randomness import derive_seed

    found = copy.deepcopy(config)
    found.classifier, found.seed = config.oracle, derive_seed(config.seed, "oracle")
    return found


def own_classifier(config: DictConfig, image: "ImageSpec") -> "BlackBox":
    """The user's classifier. Raises UserError where it does not take such images or returns what it should not."""
    from medlat.classifiers.adapters import check

    black_box = build(config.classifier)
    check(black_box, image)
    return black_box


def classifier_network(config: DictConfig, image: "ImageSpec", task: str, classes: list[str]) -> Any:
    """The classifier's network, untrained. Its first weights depend on the run's seed alone."""
    return _seeded(config, "classifier", config.classifier.network, image=image, task=task, classes=classes)


def classifier_module(config: DictConfig, network: "nn.Module", steps: int) -> "TrainedModule":
    """The LightningModule that trains the classifier."""
    return build(config.classifier.module, network=network, seed=config.seed, steps=steps)


def needs_encoder(config: DictConfig) -> bool:
    """Whether some method of inversion begins with an encoder."""
    return any(build(section).needs_encoder for section in _inversions(config))


def _inversions(config: DictConfig) -> list[DictConfig]:
    return [config.inversion.method, *config.inversion.others.values()]


def inverter_space(config: DictConfig) -> str | None:
    """The space asked for; None: the generator's default for real images."""
    return build(config.inversion.method).space


def inversion_space(config: DictConfig, model: "LatentModel") -> str:
    """The space that real images are inverted into. Raises UserError where the generator has none of that name."""
    from medlat.inversion.inverter import chosen_space

    return chosen_space(model, inverter_space(config)).name


def fitting_method(config: DictConfig) -> Any:
    """How the many training images are inverted that directions are found from: by the encoder alone where the method
    begins with one, else by the method itself.
    """
    from medlat.inversion.encode import Encode

    method = build(config.inversion.method)
    return Encode(method.space) if method.needs_encoder else method


def encoder_network(config: DictConfig, model: "LatentModel", space: str) -> Any:
    """The encoder's network, untrained."""
    shape = list(model.spaces[space].shape)
    return _seeded(config, "encoder", config.inversion.encoder.network, image=model.image, shape=shape)


def encoder_module(
    config: DictConfig, network: "nn.Module", model: "LatentModel", space: str, steps: int
) -> "TrainedModule":
    """The LightningModule that trains the encoder."""
    section = config.inversion.encoder.module
    return build(section, network=network, model=model, space=space, seed=config.seed, steps=steps)


def _seeded(config: DictConfig, purpose: str, section: DictConfig, **provided: Any) -> Any:
    """An object with random weights that depend on the run's seed and the purpose alone."""
    import torch

    from medlat.randomness import derive_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, purpose))
        return build(section, **provided)


def hardware(config: DictConfig) -> "Hardware":
    """Where to compute."""
    from medlat.training.settings import Hardware

    return Hardware(**plain(config.trainer))


def finder(section: DictConfig) -> "Finder | SupervisedFinder":
    """A direction method."""
    return build(section)


def is_supervised(section: DictConfig) -> bool:
    """Whether a direction method learns from a classifier."""
    from medlat.directions.finder import is_supervised

    return is_supervised(build(section))


def looks_at_images(section: DictConfig) -> bool:
    """Whether a direction method learns from real images."""
    from medlat.directions.finder import is_taught_by_images

    return is_taught_by_images(build(section))


def plain(section: DictConfig) -> dict[str, Any]:
    """A section as plain containers, interpolations resolved."""
    return OmegaConf.to_container(section, resolve=True)  # type: ignore[return-value]


def window(config: DictConfig) -> tuple[float, float]:
    """What the network sees as [-1, 1], in HU. Raises UserError where it is not low < high."""
    low, high = config.data.window
    if not low < high:
        raise UserError(
            f"data.window=[{low:g}, {high:g}]: expected [low, high] with low below high, e.g. [-1000, 2000]"
        )
    return float(low), float(high)


def check_values(config: DictConfig) -> None:
    """Build what is cheap to build, before any data are read; the user's programs (TorchScript) are not loaded. Raises
    ConfigErrors with all that the constructors refuse.
    """
    _attempt(_attempts(config))


def try_programs(config: DictConfig) -> None:
    """Run the user's programs (TorchScript) on made-up images, each in a process of its own: the last check before data
    are read. Raises ConfigErrors with all that is refused.
    """
    _attempt(_trials(config))


def _attempt(attempts: Iterable[Callable[[], Any]]) -> None:
    problems = []
    for attempt in attempts:
        try:
            attempt()
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise ConfigErrors(list(dict.fromkeys(problems)))


def _attempts(config: DictConfig) -> list[Callable[[], Any]]:
    sections = [config.directions, *config.others.values(), *config.controls.values()]
    checks: list[Callable[[], Any]] = [partial(_check_name, config), partial(source, config), partial(window, config)]
    checks += [partial(_check_steps, "evaluation.steps", config.evaluation.steps), partial(_check_codes, config)]
    if is_pretrained(config):
        checks.append(partial(pretrained, config))
    else:
        sections += [s for s in _parts(config.generator) if not s.get("_partial_")]
        checks += [partial(_module, config)]
    checks += [lambda: hardware(config).device, partial(augment, config), partial(features, config)]
    checks += [partial(build, section) for section in sections]
    return checks + _explanation_checks(config)


def _trials(config: DictConfig) -> list[Callable[[], Any]]:
    from medlat.classifiers import adapters
    from medlat.evaluation import features as extractors
    from medlat.external import is_program
    from medlat.trial import tried

    judges = [config] if config.oracle is None else [config, of_oracle(config)]
    asked: list[tuple[Any, Any]] = [(adapters.check, build(c.classifier)) for c in judges if is_own_classifier(c)]
    asked += [(extractors.check, extractor) for extractor in features(config)]
    image = _image(config, *window(config))
    return [partial(tried, made.culprit, check, made, image) for check, made in asked if is_program(made)]


def _explanation_checks(config: DictConfig) -> list[Callable[[], Any]]:
    methods = {"directions": config.directions} | {f"others.{name}": s for name, s in config.others.items()}
    if config.classifier is None:
        refusals = [partial(_refuse_supervised, key, section) for key, section in methods.items()]
        return [*refusals, partial(_refuse_asking, config), partial(_refuse_oracle, config)]
    checks: list[Callable[[], Any]] = [partial(build, section) for section in _inversions(config)]
    checks += [partial(_check_explain, config), *_classifier_checks(config)]
    if is_own_classifier(config):
        checks.append(partial(_check_black_box, config, methods))
    return checks + (_classifier_checks(of_oracle(config)) if config.oracle is not None else [])


def _classifier_checks(config: DictConfig) -> list[Callable[[], Any]]:
    if is_own_classifier(config):
        return [partial(_check_own_classifier, config)]
    return [partial(_classifier_check, config), *(partial(build, s) for s in _parts(config.classifier))]


def _refuse_supervised(key: str, section: DictConfig) -> None:
    if is_supervised(section):
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


def _refuse_oracle(config: DictConfig) -> None:
    if config.oracle is not None:
        raise UserError("oracle: it judges how a classifier is explained, and there is none; expected classifier=NAME")


def _module_name(config: DictConfig) -> str:
    return config.generator.module["_target_"].rpartition(".")[2]


def _check_explain(config: DictConfig) -> None:
    asked, space = config.explain, inverter_space(config)
    for name, section in config.inversion.others.items():
        if (other := build(section).space) != space:
            raise UserError(f"inversion.others.{name}.space={other}: expected {space}, the space of inversion.method")
    _check_steps("explain.steps", asked.steps)
    for name in ("images", "codes", "controls", "shown"):
        if asked[name] < (10 if name == "codes" else 1):
            raise UserError(f"explain.{name}={asked[name]}: expected at least {10 if name == 'codes' else 1}")


def _check_own_classifier(config: DictConfig) -> None:
    """A program is not run: `try_programs` does."""
    from medlat.external import is_program

    if not is_program(build(config.classifier)):
        own_classifier(config, _image(config, *window(config)))


def _check_name(config: DictConfig) -> None:
    if problem := name_problem(config.name):
        raise UserError(problem)


def _check_steps(key: str, steps: Sequence[float]) -> None:
    steps = list(steps)
    if steps != sorted(set(steps)) or 0.0 not in steps or len(steps) < 3 or not all(map(math.isfinite, steps)):
        raise UserError(f"{key}={steps}: expected at least three rising numbers, 0 among them")


def _check_codes(config: DictConfig) -> None:
    if (found := config.evaluation.base_codes) < FEWEST_CODES:
        raise UserError(
            f"evaluation.base_codes={found}: expected at least {FEWEST_CODES}, as intervals are drawn over base codes "
            f"(the default is 48)"
        )


def _check_black_box(config: DictConfig, methods: dict[str, DictConfig]) -> None:
    """Refuse methods that need gradients which the user's classifier does not have."""
    black_box = build(config.classifier)
    for key, section in methods.items():
        if getattr(build(section), "needs_gradients", False) and not black_box.differentiable:
            raise UserError(
                f"{key}: {section['_target_'].rpartition('.')[2]} needs gradients, and the classifier is a black box "
                f"without; expected linear, logistic, svm, style_channels or conditional"
            )
    if asks_classifier(config) and not black_box.differentiable:
        raise UserError(
            f"generator.module: {_module_name(config)} needs gradients, and the classifier is a black box without; "
            f"expected a differentiable classifier (densenet, resnet, torchscript or medlat), or generator=vae_fine"
        )


def _classifier_check(config: DictConfig) -> None:
    """The classifier's network without its numbers."""
    import torch

    from medlat.training.loop import check_hardware

    section, how_long = config.classifier, schedule(config, "classifier")
    with torch.device("meta"):
        task = section.task or "binary"
        classes = ["0", "1"] if task == "binary" else ["value"] if task == "regression" else ["0", "1", "2"]
        network = build(section.network, image=_image(config), task=task, classes=classes)
        check_hardware(classifier_module(config, network, how_long.steps), how_long, hardware(config))


def _parts(section: DictConfig) -> list[DictConfig]:
    """What a trained network's module is built from."""
    return [s for s in section.module.values() if isinstance(s, DictConfig) and "_target_" in s]


def _image(config: DictConfig, low: float = -1.0, high: float = 1.0) -> "ImageSpec":
    """What images of the source will be, as far as it is known before any is read. low, high: of the window."""
    from medlat.spaces import ImageSpec

    side, modality = config.data.image_size, source(config).modality
    if side < SMALLEST_IMAGE:
        raise UserError(
            f"data.image_size={side}: expected at least {SMALLEST_IMAGE}; what is smaller cannot be measured"
        )
    return ImageSpec(modality.channels, side, side, low, high, modality.unit, 1.0)


def _module(config: DictConfig) -> None:
    """The network and what trains it, without their numbers: sizes are checked, and what does not go together."""
    import torch

    from medlat.training.loop import check_hardware

    image, how_long = _image(config), schedule(config)
    with torch.device("meta"):
        network = build(config.generator.network, image=image)
        check_hardware(module(config, network, how_long.steps), how_long, hardware(config))
        for section in (config.directions, *config.others.values(), *config.controls.values()):
            found = finder(section)
            if hasattr(found, "check"):
                found.check(network)  # sizes that depend on the generator
