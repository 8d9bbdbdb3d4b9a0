"""Configuration -> objects. The only place that calls `hydra.utils.instantiate`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medlat.errors import ConfigErrors, UserError

if TYPE_CHECKING:
    from torch import nn

    from medlat.data.batches import Augment
    from medlat.data.source import SliceSource
    from medlat.directions.finder import Finder
    from medlat.evaluation.features import Features
    from medlat.generators.pretrained.convert import Pretrained
    from medlat.training.settings import Hardware, Schedule
    from medlat.training.loop import GeneratorModule
    from medlat.spaces import ImageSpec

SMALLEST_IMAGE = 16  # pixels
# What the program itself passes to constructors, by section: the configuration need not, and must not, hold it.
PROVIDED = {
    "generator.network": {"image"},
    "generator.module": {"network", "seed", "steps"},
    "generator.module.discriminator": {"image"},
    "evaluation.features.*": {"name"},
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
    import torch

    from medlat.randomness import derive_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "weights"))
        return build(config.generator.network, image=image)


def network_from(recipe: dict[str, Any], image: "ImageSpec") -> "nn.Module":
    """The network a checkpoint describes."""
    return build(OmegaConf.create(recipe), image=image)


def module(config: DictConfig, network: "nn.Module", steps: int) -> "GeneratorModule":
    """The LightningModule that trains the network."""
    return build(config.generator.module, network=network, seed=config.seed, steps=steps)


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


def schedule(config: DictConfig) -> "Schedule":
    """The length of the generator's training."""
    from medlat.training.settings import Schedule

    return Schedule(**plain(config.generator.training))


def hardware(config: DictConfig) -> "Hardware":
    """Where to compute."""
    from medlat.training.settings import Hardware

    return Hardware(**plain(config.trainer))


def finder(section: DictConfig) -> "Finder":
    """A direction method."""
    return build(section)


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
    """Build what is cheap to build, before any data are read. Raises ConfigErrors with all that the constructors
    refuse.
    """
    problems = []
    for attempt in _attempts(config):
        try:
            attempt()
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise ConfigErrors(list(dict.fromkeys(problems)))


def _attempts(config: DictConfig) -> list[Callable[[], Any]]:
    sections = [config.directions, *config.controls.values()]
    checks: list[Callable[[], Any]] = [partial(source, config), partial(window, config)]
    if is_pretrained(config):
        checks.append(partial(pretrained, config))
    else:
        sections += [s for s in _parts(config) if not s.get("_partial_")]
        checks += [partial(_module, config)]
    checks += [lambda: hardware(config).device, partial(augment, config), partial(features, config)]
    return [*checks, *(partial(build, section) for section in sections)]


def _parts(config: DictConfig) -> list[DictConfig]:
    """What the generator's module is built from."""
    return [s for s in config.generator.module.values() if isinstance(s, DictConfig) and "_target_" in s]


def _module(config: DictConfig) -> None:
    """The network and what trains it, without their numbers: sizes are checked, and what does not go together."""
    import torch

    from medlat.training.loop import check_hardware
    from medlat.spaces import ImageSpec

    side, how_long = config.data.image_size, schedule(config)
    if side < SMALLEST_IMAGE:
        raise UserError(
            f"data.image_size={side}: expected at least {SMALLEST_IMAGE}; what is smaller cannot be measured"
        )
    with torch.device("meta"):
        network = build(config.generator.network, image=ImageSpec(1, side, side, -1.0, 1.0, "HU", 1.0))
        check_hardware(module(config, network, how_long.steps), how_long, hardware(config))
