"""`medlat export`: what a run has made, unless it shows patients. What stands in each format: tests/exporting."""

import json
import shutil

import pytest

import medlat
from medlat.core.checkpoints import read_generator
from medlat.export import main
from medlat.generators.imported.convert import Pretrained


@pytest.fixture
def run(finished, tmp_path):
    """The folder of a run whose numbers may be changed."""
    return shutil.copytree(finished / "run", tmp_path / "run")


def change(run, **numbers):
    """Its numbers, "/" as "__"; None: left out."""
    found = json.loads((run / "metrics.json").read_text())
    found |= {name.replace("__", "/"): value for name, value in numbers.items()}
    (run / "metrics.json").write_text(json.dumps({name: value for name, value in found.items() if value is not None}))


def test_the_file_is_the_generator(run, tmp_path, capsys):
    change(run, copying__pixels_copies=0.0, copying__measurements_copies=0.0)
    file = tmp_path / "mine.safetensors"
    assert main([str(run), str(file)]) == 0
    assert f"generator=pretrained generator.weights={file}" in capsys.readouterr().out
    recipe, image, weights = read_generator(file)
    generator = medlat.load(run).generator
    assert recipe["_target_"].endswith("VAE")
    assert image == generator.image
    assert all(weights[name].equal(tensor) for name, tensor in generator.state_dict().items())
    assert Pretrained(str(file)).kind == "medlat"
    assert main([str(run), str(file)]) == 2, "nothing is written over"
    assert f"medlat: {file}: is there already" in capsys.readouterr().err


def test_a_generator_that_copies_is_not_handed_on_by_itself(run, tmp_path, capsys):
    shown = {"share": 0.31, "share_low": 0.25, "share_high": 0.38, "held_out": 0.0}
    change(run, copying__pixels_copies=1.0, **{f"copying__pixels_{key}": value for key, value in shown.items()})
    file = tmp_path / "mine.safetensors"
    assert main([str(run), str(file)]) == 2
    err = capsys.readouterr().err
    assert "copies its training data: 31% [25%, 38%] of its samples are one training slice" in err
    assert not file.exists()
    assert main([str(run), str(file), "--despite-copies"]) == 0
    assert file.exists()
    change(run, copying__pixels_copies=None)
    assert main([str(run), str(tmp_path / "other.safetensors")]) == 2
    assert "whether its generator copies patients was not measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "a.safetensors"], "nowhere: no run: "),
        (["RUN"], "found 1 paths, expected two: RUN FILE.safetensors"),
        (["RUN", "a.pt"], "a.pt: expected a name that ends with .safetensors"),
        (["RUN", "a.safetensors", "--despite-copy"], "no such option; did you mean '--despite-copies'?"),
        (["RUN", "none/a.safetensors", "--despite-copies"], "a.safetensors: no such folder"),
        (["RUN", "out", "--onx"], "--onx: no such option; did you mean '--onnx'?"),
        (["RUN", "out", "--onnx", "--bundle"], "--bundle --onnx: two formats; expected one"),
        (["RUN", "--bundle"], "found 1 paths, expected two: RUN DIR --bundle"),
        (["RUN", "run", "--onnx"], "run: is there already; expected a new name"),
    ],
)
def test_wrong_arguments(run, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main([str(run) if text == "RUN" else text for text in arguments]) == 2
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert main(["--help"]) == 0
    assert "medlat export RUN DIR --onnx" in capsys.readouterr().out


def test_a_folder_is_written_whole_or_not_at_all(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed")
    change(run, copying__pixels_copies=0.0, copying__measurements_copies=0.0)
    with monkeypatch.context() as patch:  # the last file cannot be written
        patch.setattr("medlat.exporting.onnx.README", "{nothing}")
        with pytest.raises(KeyError):
            main([str(run), str(tmp_path / "out"), "--onnx"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert main([str(run), str(tmp_path / "out"), "--onnx"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: written\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "decoder.onnx", "encoder.onnx"]
    change(run, copying__pixels_copies=None)
    assert main([str(run), str(tmp_path / "other"), "--onnx"]) == 2
    assert "whether its generator copies patients was not measured" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
