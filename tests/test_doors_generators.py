"""Doors for generators that are trained already, by configuration alone: whole runs, and what is refused before data
are read.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from generators.imported.brought_files import KL, monai_network
from generators.imported.foreign_files import random_state, write_nvidia
from runs import CHEAP

import medlat as face

OUTSIDE = Path(__file__).parent / "outside"
SMALL = ("+experiment=ct_vae_sefa", "scale=tiny", "directions=random")
TRAINED = (
    *("generator=python", "generator.function=my_models:Trained", "generator.value_range=[0,1]"),
    *("generator.encode=features", "generator.decode=image"),
)
VECTOR = (
    *("generator=python", "generator.function=my_models:vector", "generator.value_range=[-1,1]", "generator.code=[6]"),
    *("generator.encode=null", "generator.decode=forward"),
)
EXPLAINED = (
    *("+experiment=histology_vae_linear", "scale=tiny", "classifier=resnet", "classifier.training.images=640"),
    *("explain.images=6", "explain.shown=2", "explain.control_directions=2", "explain.codes=60", "explain.permuted=0"),
    *("inversion=encoder", "inversion.encoder.training.images=320"),
)
SHORT = tuple(argument for argument in CHEAP if not argument.startswith("generator.training"))


@pytest.fixture(autouse=True)
def _outside(monkeypatch, tmp_path):
    """The user's modules stand in the working folder."""
    shutil.copy(OUTSIDE / "my_models.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def numbers(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
def test_a_network_of_somebody_s_with_maps_of_features(medlat, tmp_path):
    import my_models

    more = ("directions=ica", "directions.images=40", "+directions@compared.pca=pca", "compared.pca.samples=64")
    command = (*SMALL[:2], *TRAINED, *SHORT, *more)
    code, _, err = medlat(*command)
    assert code == 0, err
    run = face.load(tmp_path / "run")
    assert run.space.shape == (4, 8, 8)
    assert run.directions["ica"].vectors.shape[1:] == (4, 8, 8)
    images = torch.rand(3, 1, 32, 32) * 2.0 - 1.0
    network = my_models.Trained().eval()
    with torch.no_grad():
        codes = network.features(images / 2.0 + 0.5)[0]
        expected = network.image(codes) * 2.0 - 1.0
    assert torch.allclose(run.encode(images), codes, atol=1e-5)
    assert torch.allclose(run.decode(codes), expected, atol=1e-5)
    code, _, err = medlat(*command, f"hydra.run.dir={tmp_path / 'again'}")
    assert code == 0, err
    assert numbers(tmp_path / "again") == numbers(tmp_path / "run")


@pytest.mark.slow
def test_what_a_reader_must_know_of_a_network_is_said(medlat, tmp_path):
    write_nvidia(tmp_path / "n.pkl", random_state(32, channels=3, labels=2))
    mine = ("generator=pretrained", "generator.weights=n.pkl", "generator.label=all")
    code, out, err = medlat(*SMALL, *SHORT, *mine, "report.page=true")
    assert code == 0, err
    page = re.sub("<[^>]*>", "", (tmp_path / "run" / "report" / "index.html").read_text())
    for said in (
        "one of 2 labels: codes are drawn with each alike",
        "in colour: what is shown and measured is the mean",
    ):
        assert said in out + err
        assert said in page


@pytest.mark.slow
def test_a_program_without_an_encoder_gets_one(medlat, tmp_path):
    import my_models

    torch.jit.script(my_models.vector(channels=3)).save(str(tmp_path / "mine.pt"))
    mine = ("generator=torchscript", f"generator.path={tmp_path / 'mine.pt'}", "generator.code=[6]")
    code, _, err = medlat(*EXPLAINED, *SHORT, *mine, "generator.value_range=[-1,1]")
    assert code == 0, err
    (tmp_path / "mine.pt").unlink()  # the store has its bytes
    run = face.load(tmp_path / "run")
    codes = torch.randn(2, 6)
    with torch.no_grad():
        expected = my_models.vector(channels=3)(codes)
    assert torch.allclose(run.decode(codes), expected, atol=1e-5)
    assert run.encode(expected).shape == (2, 6)
    assert run.metrics["inversion/encode/psnr"] > 5.0


REFUSED = [
    ((*TRAINED, "generator.value_range=[1,0]"), "generator.value_range: [1, 0], expected [low, high]"),
    (
        (*TRAINED, "generator.encode=featurs"),
        "generator.encode: featurs: Trained has no such method; did you mean",
    ),
    (
        (*VECTOR, "data.image_size=64"),
        "generator.function=my_models:vector: decode gives [2, 1, 32, 32] of codes [2, 6], expected [2, 1, 64, 64]; "
        "set data.image_size=32",
    ),
    ((*TRAINED, "generator.weights=mine.pt"), "generator.weights=mine.pt: no such file"),
    ((*VECTOR, "directions=ica"), "directions=ica: PythonNetwork has no encoder of its own; expected"),
    (("generator=pretrained", "generator.weights=kl.pt"), "the weights of a MONAI AutoencoderKL; use generator=monai"),
    (
        ("generator=torchscript", "generator.path=kl.pt", "generator.value_range=[0,1]"),
        "use generator=monai",
    ),
    (
        ("generator=monai", "generator.network=VQVAE", "generator.weights=kl.pt", "generator.value_range=[0,1]"),
        "generator.arguments: VQVAE needs spatial_dims",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refused_before_data_are_read(medlat, tmp_path, arguments, message):
    torch.save(monai_network("AutoencoderKL").state_dict(), tmp_path / "kl.pt")
    code, _, err = medlat(*SMALL, *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "store").exists()


def test_a_program_is_tried_in_a_process_of_its_own(medlat, tmp_path):
    class Particular(torch.nn.Module):
        def forward(self, codes):
            assert codes.shape[1] > 6
            return codes

    torch.jit.script(Particular()).save(str(tmp_path / "particular.pt"))
    mine = (
        "generator=torchscript",
        "generator.path=particular.pt",
        "generator.code=[6]",
        "generator.value_range=[0,1]",
    )
    code, _, err = medlat(*SMALL, *mine)
    assert code == 2
    assert "generator.path=particular.pt: the network fails on codes [2, 6]" in err


def test_what_a_run_with_a_bundle_would_do(medlat, tmp_path):
    torch.save(monai_network("AutoencoderKL").state_dict(), tmp_path / "kl.pt")
    mine = (
        "generator=monai",
        "generator.network=AutoencoderKL",
        "generator.weights=kl.pt",
        "generator.value_range=[0,1]",
    )
    arguments = json.dumps(KL).replace('"', "")
    code, out, err = medlat(*SMALL, *mine, f"generator.arguments={arguments}", "dry_run=true")
    assert code == 0, err
    assert "generator: from AutoencoderKL of kl.pt" in out
