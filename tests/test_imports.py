"""Imports go one way: the numerical parts know nothing of configuration, tracking or training frameworks."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = ("hydra", "omegaconf", "wandb", "pytorch_lightning", "lightning")
NUMERICAL = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for pattern in (
        "measure/*.py",
        "directions/*.py",
        "directions/*/[!m]*.py",
        "evaluation/*.py",
        "core/*.py",
        "data/ct/*.py",
        "data/histology/*.py",
        "data/pictures/*.py",
        "phantoms/*/*.py",
        "explain/*.py",
        "classifiers/[!m]*.py",
        "inversion/[!m]*.py",
        "data/source.py",
        "data/splits.py",
        "generators/*/networks.py",
        "generators/*/objective.py",
        "training/optimisation.py",
        "report/*.py",
    )
    for path in (ROOT / "medlat").glob(pattern)
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_that_wait_leave_the_cores_to_others(own):
    """Unless the user has said how they wait: `experiments/throughput/neighbours.py` has what it costs."""
    asked = "import medlat, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run([sys.executable, "-c", asked], env=kept | own, capture_output=True, text=True, check=True)
    spins = None if "OMP_WAIT_POLICY" in own else own.get("GOMP_SPINCOUNT", "100000")
    assert told.stdout.split() == [str(spins), str(own.get("OMP_WAIT_POLICY"))]


def test_there_are_modules_to_test():
    assert "medlat.directions.sefa" in NUMERICAL
    assert len(NUMERICAL) > 30


def test_numerical_modules_import_no_framework():
    """Each in a fresh interpreter would take minutes; one interpreter imports them one by one and says which brought a
    framework in.
    """
    script = f"""
import importlib, sys
for name in {NUMERICAL}:
    importlib.import_module(name)
    found = [f for f in {FRAMEWORKS} if f in sys.modules]
    if found:
        sys.exit(f"{{name}} imports {{found}}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("word", ["lightning", "torchvision", "pickle.load", "yaml.load("])
def test_words_that_do_not_occur(word):
    pattern = f"import {word}\n" if "." not in word else word
    assert [p for p in (ROOT / "medlat").rglob("*.py") if pattern in p.read_text()] == []


@pytest.mark.parametrize("script", sorted((ROOT / "experiments").glob("*/*.py")), ids=lambda path: path.name)
def test_what_the_studies_import_is_there(script):
    wanted = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.ImportFrom)]
    for node in wanted:
        if (node.module or "").partition(".")[0] == "medlat":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
