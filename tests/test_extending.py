"""Every block of docs/extending.md is run: its files are written into a working folder, its commands are checked there,
and one run goes through all the doors and is opened again.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from blocks import ROOT, blocks, commands
from runs import CHEAP

BLOCKS = blocks(ROOT / "docs" / "extending.md")
FILES = {block.file: block.text for block in BLOCKS if block.file}
COMMANDS = [words for block in BLOCKS if block.language == "sh" for words in commands(block.text)]
PYTHON = next(block.text for block in BLOCKS if block.language == "python" and not block.file)
MODULES = [Path(file).stem for file in FILES if file.endswith(".py")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's working folder with all that the page writes, and arrays of MR."""
    for file, text in FILES.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    (tmp_path / "my_arrays").mkdir()
    rng = np.random.default_rng(0)
    for patient in range(12):
        np.save(tmp_path / "my_arrays" / f"{patient}.npy", rng.uniform(0.0, 2.0, (2, 32, 32)))
    (tmp_path / "my_task").mkdir()
    (tmp_path / "my_task" / "dataset.json").write_text('{"training": [{"image": "a.nii.gz", "patient": "p1"}]}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def test_there_are_blocks():
    assert len(COMMANDS) >= 8
    assert len(MODULES) == 5


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_is_a_run(folder, medlat, words):
    assert words[:3] == ["python", "-m", "medlat.run"]
    code, out, err = medlat(*words[3:], "scale=tiny", "dry_run=true")
    assert code == 0, err
    assert "to be made" in out


def test_one_run_through_all_doors(folder, medlat, capfd):
    """An own generator, finder, measurement and step; then the finished run in Python."""
    network, objective = (w for words in COMMANDS for w in words if "TwoLayers" in w or "objective={_target_" in w)
    more = ("directions=farthest", "measure=mine", "+steps.brightness._target_=my_steps.Brightness")
    where = (f"hydra.run.dir={folder / 'outputs' / 'my_run'}", "--config-dir", "my_conf")
    code, _, err = medlat("+experiment=ct_vae_sefa", "scale=tiny", network, objective, *more, *CHEAP, *where)
    assert code == 0, err
    exec(compile(PYTHON, "docs/extending.md", "exec"), {})
    mean, direction, shape = capfd.readouterr().out.split(maxsplit=2)
    assert -1000.0 < float(mean) < 2000.0
    assert direction == "farthest"
    assert "torch.Size([2, 3, 1, 32, 32])" in shape
