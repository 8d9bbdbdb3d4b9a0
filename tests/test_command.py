"""The command `medlat`: its list, its version, its commands, and where it finds the user's classes."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from medlat import __version__
from medlat.__main__ import COMMANDS, USAGE, command

ROOT = Path(__file__).parents[1]
TINY = ("+experiment=ct_vae_sefa", "scale=tiny", "dry_run=true", "store=store")


@pytest.fixture
def call(monkeypatch, tmp_path, capfd):
    """A command line in this process and a folder of its own -> (exit code, stdout, stderr)."""

    def called(*arguments: str) -> tuple[int, str, str]:
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["medlat", *arguments])
        code = command(arguments)
        return code, *capfd.readouterr()

    return called


@pytest.fixture
def script(tmp_path):
    """The console script as pip writes it, run in a folder of its own."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["medlat"].partition(":")
    path = tmp_path / "bin" / "medlat"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import {name}\nsys.exit({name}())\n")
    path.chmod(0o755)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        own = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{path.parent}:{os.environ['PATH']}"} | environment
        return subprocess.run(["medlat", *arguments], capture_output=True, text=True, cwd=tmp_path, env=own)

    return run


def test_alone_it_says_what_there_is(call, tmp_path):
    code, out, err = call()
    assert (code, out.strip(), err) == (0, USAGE, "")
    for name in COMMANDS:
        assert f"medlat {name} " in out
    assert set(re.findall(r"^  medlat (\w+) ", out, re.MULTILINE)) == set(COMMANDS), "nothing that does not exist"
    assert list(tmp_path.iterdir()) == [], "no run began"


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--version"]])
def test_the_version_is_its_own(call, arguments):
    assert call(*arguments) == (0, f"medlat {__version__}\n", "")


def test_the_old_form_is_the_new_one(call):
    code, old, _ = call(*TINY)
    assert code == 0
    assert "plan of ct_vae_sefa" in old
    assert call("run", *TINY)[:2] == (0, old)
    assert sys.argv == ["medlat", *TINY], "what environment.json calls the command"


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("colect", "colect: no such command; did you mean 'collect'?"),
        ("ct_vae_sef", "ct_vae_sef: no such command; did you mean '+experiment=ct_vae_sefa'?"),
        ("schon2022/finder", "schon2022/finder: no such command; did you mean '+experiment=schon2022/finders'?"),
        ("zzz", "zzz: no such command; choose from collect, explain, explore, export, run, study"),
    ],
)
def test_an_unknown_command(call, word, words):
    assert call(word, "DIR") == (2, "", f"medlat: {words}\n")


def test_help_and_collect(call, tmp_path):
    code, out, _ = call("--help")
    assert code == 0
    assert "Direction methods" in out
    assert call("run", "--help")[1] == out
    code, out, _ = call("collect")
    assert code == 2
    assert out.startswith("A sweep in one table: `medlat collect DIR")
    code, _, err = call("collect", str(tmp_path))
    assert code == 2
    assert "no run below it" in err


@pytest.mark.slow
def test_the_script_finds_classes_of_the_working_folder(script, tmp_path):
    (tmp_path / "my_finders.py").write_text(
        "from medlat.directions.sefa import SeFa\n\n\nclass Mine(SeFa):\n    pass\n"
    )
    own = (*TINY, "directions._target_=my_finders.Mine")
    as_script = script(*own)
    assert as_script.returncode == 0, as_script.stderr
    for module in ("medlat", "medlat.run"):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        line = [sys.executable, "-m", module, *own]
        as_module = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert as_module.returncode == 0, as_module.stderr
        assert as_module.stdout == as_script.stdout
    refused = script(*own, PYTHONSAFEPATH="1")
    assert refused.returncode == 2, "Python was told not to look there"


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("medlat +experiment=ct_vae_s", "+experiment=ct_vae_sefa"),
        ("medlat run +experiment=ct_vae_s", "+experiment=ct_vae_sefa"),
        ("medlat run directions=sef", "directions=sefa"),
    ],
)
def test_tab_completion(script, typed, found):
    assert "hydra_bash_completion medlat" in script("-sc", "install=bash").stdout
    assert script("-sc", "query=bash", COMP_LINE=typed, COMP_POINT=str(len(typed))).stdout.split() == [found]


def test_no_line_installs_another_project():
    """`medlat` on PyPI is not this one: what is installed is a checkout, or libraries by their own names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "medlat-framework"
    wrong = re.compile(r"pip install[^\n`]*[\s\"']medlat(?![\w./-])|[\"']medlat\[")
    places = [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "Makefile"]
    for folder, kind in (("medlat", "*.py"), ("conf", "*.yaml"), ("docs", "*.md"), ("experiments", "*.md")):
        places += (ROOT / folder).rglob(kind)
    assert [path for path in places if wrong.search(path.read_text(encoding="utf-8"))] == []
    assert wrong.search('pip install "medlat[onnx]"')
    assert wrong.search("pip install medlat")
