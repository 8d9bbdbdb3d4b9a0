"""Networks in ONNX: the same numbers as torch, and what goes in and comes out."""

import json
import re
import sys

import pytest
import torch
from exporting.opened import SPEC, opened, shaken

from medlat.core.errors import UserError
from medlat.exporting.onnx import write_onnx
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.generators.vae.networks import VAE

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def asked(file, batch):
    session = onnxruntime.InferenceSession(str(file))
    (taken,) = session.get_inputs()
    return torch.from_numpy(session.run(None, {taken.name: batch.numpy()})[0])


def test_every_network_says_the_same(made, tmp_path):
    write_onnx(made, tmp_path)
    model, space = made.generator, made.space.name
    files = {path.stem for path in tmp_path.glob("*.onnx")}
    further = {"mapping": space == "w+", "classifier": made.classifier is not None}
    assert files == {"decoder", "encoder", *(name for name, there in further.items() if there)}
    for n in (1, 3, 8):
        codes = model.sample(n, space, torch.Generator().manual_seed(100 + n))
        with torch.no_grad():
            images = model.decode(codes, space)
            wanted = {"decoder": (codes, images), "encoder": (images, made.encoder(images))}
            if "mapping" in files:
                z = model.sample(n, "z")
                wanted["mapping"] = z, model.map_codes(z, "z", space)
            if made.classifier:
                wanted["classifier"] = images, made.classifier(images)
        assert images.std() > 0.01, "there is something to be equal to"
        for name, (batch, found) in wanted.items():
            assert torch.allclose(asked(tmp_path / f"{name}.onnx", batch), found, rtol=1e-4, atol=1e-4), (name, n)


def test_what_goes_in_and_comes_out(made, tmp_path):
    write_onnx(made, tmp_path)
    model = onnx.load(tmp_path / "decoder.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    shape = ", ".join(map(str, ("N", *made.space.shape)))
    assert told["input"].startswith(f"`codes` float32 [{shape}]: codes of the latent space {made.space.name}")
    assert told["output"].startswith("`images` float32 [N, 1, 32, 32] in [-1, 1]: slices (chest CT), -1 is -1000 and 1")
    assert json.loads(told["values_of_-1_and_1"]) == [-1000.0, 2000.0]
    assert json.loads(told["display_window"]) == [-1000.0, 500.0]
    assert (told["unit"], json.loads(told["spacing_mm"])) == ("HU", 12.5)
    page = (tmp_path / "README.md").read_text()
    assert told["input"] in page
    assert told["output"] in page
    assert "values = 1500 * (images + 1) + (-1000)  # HU" in page
    assert page.count("> Phantom data") == page.count("> Research only") == 1
    assert b"site-packages" not in (tmp_path / "decoder.onnx").read_bytes(), "no places of this machine"


class Turning(VAE):
    """Its images depend on how many there are, which a trace does not see."""

    def decode(self, codes, space="z"):
        images = super().decode(codes, space)
        return images if len(codes) < 5 else -images


class Decomposing(VAE):
    """With an operation that ONNX has not."""

    def decode(self, codes, space="z"):
        return super().decode(codes, space) * torch.linalg.eigvalsh(codes.T @ codes).sum()


@pytest.mark.parametrize(
    ("generator", "words"),
    [
        (Turning(SPEC, 6, 8), "decoder: what was exported gives other images for the same input"),
        (Decomposing(SPEC, 6, 8), "decoder: Decomposing cannot be written in this format (Exporting the operator"),
        (DiffusionAutoencoder(SPEC, 8, [16, 16], 1, 2, 8), "DiffusionAutoencoder, makes images by a solver"),
    ],
)
def test_a_generator_that_cannot_be_written_is_refused(tmp_path, generator, words):
    with pytest.raises(UserError, match=re.escape(words)):
        write_onnx(opened(shaken(generator)), tmp_path)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_package_that_is_missing_is_named(made, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=f"--onnx: {missing} not installed; pip install {missing}$"):
        write_onnx(made, tmp_path)
    assert list(tmp_path.iterdir()) == []
