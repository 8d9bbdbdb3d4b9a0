"""The notebooks of the docs: no outputs are kept, and every cell runs, in order, as somebody would run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import ROOT, commands

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[str]:
    """The code of each cell, in order."""
    return [
        "".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"
    ]


def run_command(text: str) -> None:
    """What a notebook does with `!medlat ...`; a command that fails fails the test."""
    ((name, *words),) = commands(text)
    assert name == "medlat"
    done = subprocess.run([sys.executable, "-m", "medlat", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


def run(notebook: Path, capfd) -> dict:
    """The names that its cells leave; what they printed stands under "said"."""
    known: dict = {"__name__": "__main__"}
    for cell in cells(notebook):
        if cell.startswith("!"):
            run_command(cell[1:])
        else:
            exec(compile(cell, notebook.name, "exec"), known)
    return known | {"said": capfd.readouterr().out}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_kept(notebook):
    read = json.loads(notebook.read_text())
    code = [cell for cell in read["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    for cell in cells(notebook):  # each is a command, which may go on over lines, or Python
        assert cell.startswith("!medlat ") or compile(cell, notebook.name, "exec")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the notebook is open. Figures need no screen; commands log nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return tmp_path


@pytest.mark.slow
def test_own_data(folder, capfd):
    (notebook,) = (path for path in NOTEBOOKS if path.stem == "own_data")
    known = run(notebook, capfd)
    assert len(known["files"]) == 96
    assert "generator              to be made" in known["said"]
    assert known["run"].directions.roles["pca"] == "main"
    assert known["moved"].shape == (2, 5, 1, 32, 32)
    assert known["prepared"].images.shape == (1, 1, 32, 32)
    assert (folder / "outputs" / "my_ct" / "report" / "index.html").is_file()
    assert (folder / "explained" / "index.html").is_file()


@pytest.mark.slow
def test_own_classifier(folder, capfd):
    (notebook,) = (path for path in NOTEBOOKS if path.stem == "own_classifier")
    known = run(notebook, capfd)
    assert known["fitted"].score(known["tiles"].mean(axis=(1, 2)), known["tumour"]) > 0.65
    flips = {row["method"]: row["value"] for row in known["run"].table("scorecard") if row["score"] == "flips_in_range"}
    assert {"linear", "random"} <= set(flips)
    assert all(0.0 <= share <= 1.0 for share in flips.values())
    assert 0.0 <= known["found"]["prediction"] <= 1.0
    assert (folder / "explained" / "01.png").is_file()
