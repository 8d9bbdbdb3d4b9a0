"""A run's configuration, as the command line would make it."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from medlat.config.locate import config_dir


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return compose("config", list(overrides))
