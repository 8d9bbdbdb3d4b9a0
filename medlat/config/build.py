"""Configuration -> objects. The only place that calls `hydra.utils.instantiate`."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medlat.core.errors import UserError

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
    "measure.*": {"modality"},
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


def plain(section: DictConfig) -> dict[str, Any]:
    """A section as plain containers, interpolations resolved."""
    return OmegaConf.to_container(section, resolve=True)  # type: ignore[return-value]
