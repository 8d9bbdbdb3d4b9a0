import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import medlat.config
from medlat.config import build, locate
from medlat.config.help import options
from medlat.config.locate import config_dir
from medlat.config.preflight import problems
from medlat.config.schema import Root

MODULES = sorted(path.stem for path in Path(next(iter(medlat.config.__path__))).glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_light(module: str) -> None:
    heavy = "{'torch', 'pytorch_lightning', 'monai', 'numpy', 'wandb'}"
    code = f"import sys, medlat.config.{module}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_checking_a_configuration_imports_nothing_heavy() -> None:
    code = """if True:
        import sys
        from medlat.config.compose_errors import explain
        from medlat.config.locate import config_dir
        from medlat.config.schema import Root
        overrides = ["+experiment=ct_vae_sefa", "data=ct_dicom", "seeed=3"]
        found = explain(ValueError(), overrides, [config_dir()], Root, {})
        assert "seeed: unknown key; did you mean 'seed'?" in found.problems, found
        print(sorted({'torch', 'pytorch_lightning', 'monai', 'wandb'} & set(sys.modules)))
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_conf_is_found_in_a_checkout_and_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path(config_dir(), "config.yaml").is_file()
    package = tmp_path / "medlat"
    (package / "config").mkdir(parents=True)
    (tmp_path / "conf").mkdir()
    monkeypatch.setattr(locate, "__file__", str(package / "config" / "locate.py"))
    assert config_dir() == str(tmp_path / "conf")
    (package / "conf").mkdir()
    assert config_dir() == str(package / "conf")


# All others, and these with their values, are composed and checked in test_experiments.
CHOICES = [*(f"data={name}" for name in options([config_dir()], "data")), "generator=pretrained"]
CHOICES += ["directions=conditional"]


@pytest.mark.parametrize("choice", CHOICES)
def test_an_option_that_asks_for_a_value_lacks_nothing_else(choice: str) -> None:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        found = problems(compose("config", [choice]), Root, build.PROVIDED)
    assert [line for line in found if ": has no value; give " not in line] == []
