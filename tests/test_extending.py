"""Every block of docs/extending.md is run: its files are written into a working folder, its commands are checked there,
and one run goes through all the doors and is opened again.
"""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import CHEAP

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {file: text for _, file, text in BLOCKS if file}
COMMANDS = [line for kind, _, text in BLOCKS if kind == "sh" for line in text.splitlines()]
PYTHON = next(text for kind, file, text in BLOCKS if kind == "python" and not file)
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


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_a_run(folder, medlat, command):
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "medlat.run"]
    code, out, err = medlat(*words[3:], "scale=tiny", "dry_run=true")
    assert code == 0, err
    assert "to be made" in out


def test_one_run_through_all_doors(folder, medlat, capfd):
    """An own generator, finder, measurement and step; then the finished run in Python."""
    network, objective = (w for w in shlex.split(next(c for c in COMMANDS if "TwoLayers" in c)) if "_target_" in w)
    more = ("directions=farthest", "measure=mine", "+steps.brightness._target_=my_steps.Brightness")
    where = (f"hydra.run.dir={folder / 'outputs' / 'my_run'}", "--config-dir", "my_conf")
    code, _, err = medlat("+experiment=ct_vae_sefa", "scale=tiny", network, objective, *more, *CHEAP, *where)
    assert code == 0, err
    exec(compile(PYTHON, "docs/extending.md", "exec"), {})
    mean, direction, shape = capfd.readouterr().out.split(maxsplit=2)
    assert -1000.0 < float(mean) < 2000.0
    assert direction == "farthest"
    assert "torch.Size([2, 3, 1, 32, 32])" in shape
