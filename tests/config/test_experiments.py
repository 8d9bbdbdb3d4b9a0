"""Every experiment and every option of every group is composed, checked and built."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from medlat import build
from medlat.config.locate import config_dir
from medlat.config.preflight import problems
from medlat.config.schema import Root

CONF = Path(config_dir())
EXPERIMENTS = sorted(
    p.relative_to(CONF / "experiment").with_suffix("").as_posix() for p in (CONF / "experiment").rglob("*.yaml")
)
OPTIONS = [
    f"{group}={path.stem}"
    for group in ("data", "generator", "directions", "evaluation", "report", "scale", "trainer", "logger")
    for path in sorted((CONF / group).glob("*.yaml"))
    if not path.stem.endswith("_base")
]


def composed(*overrides: str):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def check(config, tmp_path) -> None:
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = str(tmp_path)
    assert problems(config, Root, build.PROVIDED) == []
    build.check_values(config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["tiny", "laptop"])
def test_experiment(experiment, scale, tmp_path):
    check(composed(f"+experiment={experiment}", f"scale={scale}"), tmp_path)


@pytest.mark.parametrize("option", OPTIONS)
def test_option(option, tmp_path):
    check(composed(option, *(["scale=tiny"] if not option.startswith("scale") else [])), tmp_path)


def test_there_is_something_to_test():
    assert "ct_vae_sefa" in EXPERIMENTS
    assert {"data=ct_dicom", "generator=vae_resnet", "directions=random", "scale=paper"} <= set(OPTIONS)


def test_the_lightning_module_of_every_generator_is_built():
    import pytorch_lightning as pl

    from medlat.spaces import ImageSpec, LatentModel

    for option in (o for o in OPTIONS if o.startswith("generator=")):
        config = composed(option, "scale=tiny")
        network = build.network(config, ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5))
        assert isinstance(network, LatentModel)
        assert isinstance(build.module(config, network, steps=10), pl.LightningModule)


def test_weights_begin_with_the_seed():
    from medlat.spaces import ImageSpec

    spec = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)
    first = [build.network(composed("scale=tiny", f"seed={s}"), spec).entry.weight for s in (0, 0, 1)]
    assert first[0].equal(first[1])
    assert not first[0].equal(first[2])
