"""A MONAI bundle: MONAI loads it and makes the same images where no medlat can be imported."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting.opened import SPEC, opened

from medlat.core.errors import UserError
from medlat.exporting.bundle import write_bundle
from medlat.generators.imported.torchscript import TorchScriptGenerator
from medlat.generators.vae.networks import VAE

SLOW = pytest.mark.slow
CARD = "# Model card: made\n\nA finding.\n\n- command: python -m medlat.run data.root=/home/anna/patients\n- seed: 0\n"
ALONE = """
import json, sys, numpy, torch
sys.modules["medlat"] = None  # an import of it fails
from monai.bundle import ConfigParser
root = sys.argv[1]
parser = ConfigParser()
parser.read_config(root + "/configs/inference.json")
parser.read_meta(root + "/configs/metadata.json")
parser["bundle_root"] = root
parser.get_parsed_content("run")
inputs = parser.get("_meta_")["network_data_format"]["inputs"]
codes, images = (parser.get_parsed_content(name) for name in ("codes", "images"))
encoder = parser.get_parsed_content("encoder")
numpy.savez(root + "/found.npz", codes=codes, images=images, encoded=encoder(images), inputs=json.dumps(inputs))
assert not any(name.startswith("medlat.") for name in sys.modules)
"""


@pytest.fixture
def run(made, tmp_path):
    """With a model card."""
    made.folder = tmp_path / "run"
    made.folder.mkdir()
    (made.folder / "model_card.md").write_text(CARD)
    return made


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "bundle"
    place.mkdir()
    return place


@pytest.mark.parametrize("made", ["vae", *(pytest.param(k, marks=SLOW) for k in ("dcgan", "stylegan2"))], indirect=True)
def test_monai_runs_it_alone(run, folder):
    write_bundle(run, folder)
    done = subprocess.run([sys.executable, "-c", ALONE, str(folder)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    model, space = run.generator, run.space.name
    with np.load(folder / "found.npz") as found:
        codes, images, encoded = (torch.from_numpy(found[name]) for name in ("codes", "images", "encoded"))
        told = json.loads(str(found["inputs"]))
    (codes_format,) = told.values()
    assert [4, codes_format["num_channels"], *codes_format["spatial_shape"]] == list(codes.shape)
    with torch.no_grad():
        assert (images - model.decode(codes, space)).abs().max() <= 1e-5
        assert torch.allclose(encoded, run.encoder(images), rtol=1e-5, atol=1e-5)
    assert images.std() > 0.01
    values = torch.from_numpy(np.load(folder / "samples.npy"))
    assert torch.allclose(values, run.image.to_physical(images), atol=1e-2)


def test_what_it_says_of_its_networks(run, folder):
    write_bundle(run, folder)
    told = json.loads((folder / "configs" / "metadata.json").read_text())
    of = told["network_data_format"]["outputs"]["images"]
    assert (of["num_channels"], of["spatial_shape"], of["value_range"]) == (1, [32, 32], [-1.0, 1.0])
    assert (of["type"], of["format"], of["modality"]) == ("image", "magnitude", "chest CT")
    assert told["intensity"]["values_of_-1_and_1"] == [-1000.0, 2000.0]
    assert told["encoder_data_format"]["inputs"] == {"images": of}
    assert ("classifier_data_format" in told) == (run.classifier is not None)
    if run.classifier is not None:
        says = told["classifier_data_format"]["outputs"]["predictions"]
        assert says["channel_def"] == {"0": "a", "1": "b", "2": "c"}
    assert told["description"].startswith("Networks of the run made. Phantom data: ")
    described = {key.removesuffix("_data_format") for key in told if key.endswith("_data_format")}
    assert {path.stem for path in (folder / "models").iterdir()} == described - {"network"} | {"model"}


def test_nothing_says_where_it_was_made(run, folder):
    write_bundle(run, folder)
    assert (folder / "docs" / "README.md").read_text() == "# Model card: made\n\nA finding.\n\n- seed: 0\n"
    place = str(Path(torch.__file__).parents[1]).encode()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert place not in content, path
        assert b".debug_pkl" not in content, path


def test_a_file_holds_no_other_network(folder, run):
    """Who gets the encoder alone cannot make images with it."""
    write_bundle(run, folder)
    held = {}
    for path in (folder / "models").iterdir():
        with zipfile.ZipFile(path) as archive:
            held[path.stem] = sum(i.file_size for i in archive.infolist() if "/constants/" in i.filename) // 4
    of_all = sum(tensor.numel() for tensor in run.generator.state_dict().values())
    own = [held[name] for name in ("model", "encoder")]
    assert min(own) > 100
    assert max(own) < 1.05 * of_all
    if isinstance(run.generator, VAE):
        assert sum(own) < 1.05 * of_all


def test_a_run_without_card_is_refused(made, folder):
    with pytest.raises(UserError, match=r"model_card\.md: not there; expected the model card"):
        write_bundle(made, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("made", ["vae"], indirect=True)
def test_a_program_that_was_brought_is_not_traced_again(run, folder, tmp_path):
    file = tmp_path / "decoder.ts"
    torch.jit.script(torch.nn.Sequential(torch.nn.Linear(6, 1024), torch.nn.Unflatten(1, (1, 32, 32)))).save(file)
    brought = opened(TorchScriptGenerator(str(file), code=[6], value_range=[0.0, 1.0]).model(SPEC))
    brought.folder = run.folder
    with pytest.raises(UserError, match=r"^decoder: TorchScriptNetwork cannot be written in this format"):
        write_bundle(brought, folder)
