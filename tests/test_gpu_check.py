"""What `experiments/gpu/check.py` does on a machine with a GPU runs here at a size that says nothing."""

import importlib.util
from pathlib import Path

import pytest
import torch

CHECK = Path(__file__).parents[1] / "experiments" / "gpu" / "check.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_check", CHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="says so where there is none")
def test_without_a_gpu_it_says_so(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(CHECK)])
    script.main()
    assert capsys.readouterr().out == "no GPU: nothing is checked\n"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["precision", "compile", "several", "resume", "large"])
def test_every_part_runs(script, part):
    rows = script.check([part], tiny=True, checkout=None)
    assert {row["part"] for row in rows} == {part}
    assert [row["note"] for row in rows if "note" in row] == []
    if part == "resume":
        assert [row["value"] for row in rows] == [0.0, 0.0], "on a CPU, bit for bit"
    else:
        assert all(row["images_per_s"] > 0.0 for row in rows)
        assert len(rows) == {"precision": 4, "compile": 2, "several": 2, "large": 1}[part]


def test_the_parts_are_all_tried(script):
    assert sorted(script.PARTS) == ["compile", "large", "precision", "resume", "several"]
