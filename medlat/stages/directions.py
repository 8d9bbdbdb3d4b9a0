"""Directions in the generator's latent space."""

from pathlib import Path

from omegaconf import DictConfig

from medlat import build
from medlat.stages.data import Made
from medlat.stages.generator import load_generator


def directions(config: DictConfig, section: DictConfig, made: Made, out: Path) -> None:
    """Reads the generator; leaves directions."""
    model = load_generator(made["generator"], build.hardware(config).device)
    build.finder(section).find(model).save(out / "directions.safetensors")
