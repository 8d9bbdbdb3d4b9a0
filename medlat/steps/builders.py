"""The objects that a configuration asks for, by what they are in a run."""

import copy
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medlat.config.build import build, make, naming, plain
from medlat.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from medlat.classifiers.black_box import BlackBox
    from medlat.core.spaces import ImageSpec, LatentModel
    from medlat.core.store import Artifact
    from medlat.data.batches import Augment
    from medlat.data.modality import Modality
    from medlat.data.source import SliceSource
    from medlat.directions.finder import Finder, SupervisedFinder
    from medlat.evaluation.features import Features
    from medlat.generators.imported.brought import Imported
    from medlat.inversion.inverter import Inverter
    from medlat.measure.measurement import MeasurementSet
    from medlat.training.loop import GeneratorModule, TrainedModule
    from medlat.training.settings import Hardware, Schedule

CLASSIFIERS = "medlat.classifiers."  # where the classes of classifiers that are brought stand


def source(config: DictConfig) -> "SliceSource":
    """Where slices come from, and who they are of."""
    from medlat.data.groups import Grouped, rule

    found = build(config.data.source)
    with naming(config.data):
        group = rule(found, config.data.group)
    return found if group is None else make(Grouped, config.data, source=found, group=group)


def is_phantom(config: DictConfig) -> bool:
    """Whether images are computed and stand in for patients'."""
    return "phantom" in str(config.data.source["_target_"])


def source_of(config: DictConfig, files: Sequence[str], modality: "Modality") -> Any:
    """The same for files and folders that are named one by one, absolute paths. Raises UserError where the source reads
    no such files.
    """
    from hydra.utils import get_object

    section = config.data.source
    if not hasattr(get_object(section._target_), "of_files"):
        kind = section._target_.rpartition(".")[2]
        raise UserError(f"data.source: {kind} has no `of_files`, so that single files are not read as its images are")
    found = copy.deepcopy(section)
    found._target_ += ".of_files"
    return build(found, files=files, modality=modality)


def network(config: DictConfig, image: "ImageSpec") -> "nn.Module":
    """The generator's network, untrained. Its first weights depend on the run's seed alone."""
    return _seeded(config, "weights", config.generator.network, image=image)


def named_classes(config: DictConfig) -> frozenset[str]:
    """Classes and functions that the configuration names for networks: beside medlat's, a file that this run reads may
    name these and no others. Of a run that is long done, its own config.yaml says them.
    """
    from medlat.core.checkpoints import code_named

    paths = ["generator.network", "classifier.network", "inversion.encoder.network"]
    paths += [f"compared.{name}.network" for name in compared_classifiers(config)]
    sections = [OmegaConf.select(config, path) for path in paths]
    found = [OmegaConf.select(config, f"{path}._target_") for path in paths]
    # Of what comes from a file, `network` is the class itself.
    found += [section for section in sections if isinstance(section, str)]
    found += [name for section in sections if isinstance(section, DictConfig) for name in code_named(plain(section))]
    if is_imported(config):
        found += [config.generator._target_, *code_named(plain(config.generator))]
    return frozenset(name for name in found if isinstance(name, str))


def network_from(recipe: dict[str, Any], image: "ImageSpec") -> "nn.Module":
    """The network a checkpoint describes."""
    return build(OmegaConf.create(recipe), image=image)


def load_generator(artifact: "Artifact", device: "torch.device", allowed: Collection[str]) -> Any:
    """The trained network, ready to decode. allowed: classes outside medlat that the file may name."""
    import torch

    from medlat.core.checkpoints import read_generator

    recipe, image, weights = read_generator(artifact.path / "generator.safetensors", allowed)
    network: Any = network_from(recipe, image)
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    network.deterministic()
    network = network.to(device)
    if str(recipe["_target_"]).startswith("medlat.generators.imported."):
        return network  # somebody's: it may ask for the memory as it lies (`view`)
    return network.to(memory_format=torch.channels_last)


def module(
    config: DictConfig, network: "nn.Module", steps: int, classifier: "BlackBox | None" = None
) -> "GeneratorModule":
    """The LightningModule that trains the network. classifier: for one that asks it; None while nothing is trained."""
    asked = {"classifier": classifier} if asks_classifier(config) else {}
    return build(_augmented(config), network=network, seed=config.seed, steps=steps, **asked)


def _augmented(config: DictConfig) -> DictConfig:
    """The section of the generator's module; adaptive augmentation without a pipeline has the modality's."""
    from medlat.config.signatures import signature

    section = config.generator.module
    adaptive = section.get("augmentation")
    if adaptive is None or adaptive.get("pipeline", ...) is not None:
        return section
    target = modality(config).augmentation
    signature(target)  # says it where there is none of that name
    found = copy.deepcopy(section)
    OmegaConf.update(found, "augmentation.pipeline", {"_target_": target}, force_add=True)
    return found


def asks_classifier(config: DictConfig) -> bool:
    """Whether the generator is trained on what a classifier predicts: its module then takes one."""
    from medlat.config.signatures import signature

    return not is_imported(config) and "classifier" in signature(config.generator.module["_target_"]).parameters


def is_imported(config: DictConfig) -> bool:
    """Whether the generator was trained elsewhere or before: its section is then that of one object."""
    return "_target_" in config.generator


def imported(config: DictConfig) -> "Imported":
    """What makes medlat's generator of one from elsewhere."""
    return build(config.generator)


def features(config: DictConfig) -> list["Features"]:
    """The user's feature extractors, by the names they are given."""
    sections = config.evaluation.features
    for name in ("factors", "labels"):
        if name in sections:
            raise UserError(f"evaluation.features.{name}: the data set's own regressor has that name; choose another")
    return [build(section, name=name) for name, section in sections.items()]


def augment(config: DictConfig) -> "Augment | None":
    """What training images pass through, or None."""
    section = config.data.augment
    return None if section is None else build(section)


def schedule(config: DictConfig, section: str = "generator") -> "Schedule":
    """The length of a training: of the generator, or of another section."""
    from medlat.training.settings import Schedule

    training = OmegaConf.select(config, f"{section}.training")
    return make(Schedule, training, **plain(training))


def is_own_classifier(config: DictConfig) -> bool:
    """Whether the classifier is the user's own: its section is then that of one object."""
    return config.classifier is not None and "_target_" in config.classifier


def compared_classifiers(config: DictConfig) -> dict[str, DictConfig]:
    """The sections of `compared` that are classifiers', by name: of one to be trained, or of the user's own."""
    return {str(name): section for name, section in config.get("compared", {}).items() if _is_classifier(section)}


def compared_methods(config: DictConfig) -> dict[str, DictConfig]:
    """All others of `compared`, which are direction methods'."""
    return {str(name): section for name, section in config.compared.items() if not _is_classifier(section)}


def _is_classifier(section: DictConfig) -> bool:
    return str(section.get("_target_", CLASSIFIERS)).startswith(CLASSIFIERS)


def with_classifier(config: DictConfig, name: str) -> DictConfig:
    """The configuration with a compared classifier in the classifier's place. It learns with a seed of its own: the
    same network, seed and images would give the same classifier.
    """
    from medlat.core.randomness import derive_seed

    found = copy.deepcopy(config)
    found.classifier, found.seed = config.compared[name], derive_seed(config.seed, name)
    found.classifier._set_key(f"compared.{name}")  # what is wrong with it is said of the key that the user knows
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
    return [config.inversion.method, *config.inversion.compared.values()]


def inverter(config: DictConfig) -> "Inverter":
    """How real images are inverted."""
    return build(config.inversion.method)


def inverter_space(config: DictConfig) -> str | None:
    """The space asked for; None: the generator's default for real images."""
    return inverter(config).space


def inversion_space(config: DictConfig, model: "LatentModel") -> str:
    """The space that real images are inverted into. Raises UserError where the generator has none of that name."""
    from medlat.core.spaces import chosen_space

    with naming(config.inversion.method):
        return chosen_space(model, inverter_space(config), for_images=True).name


def keeps_noise(config: DictConfig) -> bool:
    """Whether explained images are decoded with the noise that belongs to each."""
    return inverter(config).keeps_noise


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

    from medlat.core.randomness import derive_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, purpose))
        return build(section, **provided)


def hardware(config: DictConfig) -> "Hardware":
    """Where to compute."""
    from medlat.training.settings import Hardware

    return make(Hardware, config.trainer, **plain(config.trainer))


def finder(section: DictConfig) -> "Finder | SupervisedFinder":
    """A direction method."""
    return build(section)


def modality(config: DictConfig) -> "Modality":
    """What the source's images are. Raises UserError where it does not say so."""
    from medlat.data.modality import Modality

    found = getattr(made := build(config.data.source), "modality", None)
    if not isinstance(found, Modality):
        raise UserError(
            f"data.source: {type(made).__name__}.modality is {found!r}, expected a medlat.data.modality.Modality"
        )
    return found


def intensity_range(config: DictConfig) -> tuple[float, float]:
    """What the network sees as [-1, 1], in the images' unit. Raises UserError where it is not low < high."""
    kind = modality(config)
    try:
        return kind.network_range(config.data.intensity_range)
    except UserError as error:
        raise UserError(f"data.intensity_range={error}") from error


def display_window(config: DictConfig) -> tuple[float, float]:
    """What figures show as black and white, in the images' unit. Raises UserError where it is not low < high."""
    kind = modality(config)
    try:
        return kind.display_window(plain(config.report)["display_window"])
    except UserError as error:
        raise UserError(f"report.display_window={error}") from error


def measurements(config: DictConfig) -> "MeasurementSet":
    """Everything that is measured: the sets under `measure` as one. Raises UserError where one of them is not made for
    the source's images, or two have a name in common.
    """
    from medlat.measure.measurement import joined

    sets = measurement_sets(config)
    try:
        return joined(sets.values())
    except UserError as error:
        raise UserError(f"measure=[{','.join(sets)}]: {error}; choose with measure.NAME.only=[...]") from error


def measurement_sets(config: DictConfig) -> dict[str, "MeasurementSet"]:
    """The sets under `measure`, by name. Raises UserError where one is not made for the source's images."""
    kind, found = modality(config), {}
    for name, section in _measure_sections(config).items():
        try:
            found[name] = _measurement_set(section, kind)
            found[name].check(kind)
        except UserError as error:
            raise UserError(f"measure.{name}: {error}") from error
    return found


def measured_by(config: DictConfig) -> list[dict[str, Any]]:
    """What tells this choice of measurements from others: the sets' functions and settings, in order."""
    sections = [plain(section) for section in _measure_sections(config).values()]
    return [{name: value for name, value in section.items() if value is not None} for section in sections]


def _measure_sections(config: DictConfig) -> dict[str, DictConfig]:
    """By name; one without a section of its own is what the modality names, if it names any."""
    own = modality(config).measurements
    default = None if own is None else OmegaConf.create({"_target_": own})
    found = {str(name): default if section is None else section for name, section in config.measure.items()}
    return {name: section for name, section in found.items() if section is not None}


def _measurement_set(section: DictConfig, kind: "Modality") -> "MeasurementSet":
    from medlat.config.signatures import signature
    from medlat.measure.measurement import Measurement, MeasurementSet

    target = section["_target_"]
    provided = {"modality": kind} if "modality" in signature(target).parameters else {}
    found = build(section, **provided)
    if isinstance(found, Measurement):
        return MeasurementSet([found])
    if not isinstance(found, MeasurementSet):
        raise UserError(f"{target} gave {found!r}, expected a MeasurementSet or a Measurement")
    return found
