"""Doors for models: generators and classifier networks from outside medlat, by configuration alone. Each is trained,
saved, loaded again and reused; what it cannot do is refused before data are read.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from medlat.classifiers.adapters import MedlatClassifier
from medlat.core.checkpoints import read_generator, save_generator
from medlat.core.errors import UserError
from medlat.core.spaces import Directions, ImageSpec, decode_in_parts
from medlat.core.store import Artifact
from medlat.generators.imported.convert import Pretrained
from medlat.steps import builders

OUTSIDE = Path(__file__).parent / "outside"
CPU = torch.device("cpu")
QUICK = (
    *("scale=tiny", "evaluation.base_codes=4", "evaluation.samples=8", "evaluation.regressor_steps=5", "report.gifs=0"),
    *("report.directions=1", "generator.training.images=640"),
)
PLAIN = (
    *("generator=vae", "generator.network._target_=my_models.PlainAutoencoder", "~generator.network.capacity"),
    *("~generator.network.stem_stride", "~generator.network.norm", "~generator.module.objective.beta"),
    "generator.module.objective._target_=medlat.generators.vae.objective.ReconstructionObjective",
)
MINE = (
    "classifier.network._target_=my_models.MyClassifier",
    "~classifier.network.layers",
    "~classifier.network.stem_stride",
)
EXPLAINED = (
    *("classifier.training.images=1280", "explain.images=6", "explain.shown=2", "explain.control_directions=2"),
    *("explain.codes=60", "inversion=encoder", "explain.permuted=0"),
)
DECODER = ("+experiment=ct_dcgan_sefa", "generator.network._target_=my_models.DecoderOnly")


@pytest.fixture(autouse=True)
def _outside(monkeypatch, tmp_path):
    """The user's modules stand in the working folder."""
    shutil.copy(OUTSIDE / "my_models.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def made(tmp_path: Path, step: str) -> Artifact:
    """An artifact of the run below tmp_path."""
    entry = json.loads((tmp_path / "run" / "artifacts.json").read_text())[step]
    path = tmp_path / "store" / entry["path"]
    return Artifact(path.parent.name, path.name, path)


def numbers_of(tmp_path: Path) -> dict[str, float]:
    return json.loads((tmp_path / "run" / "metrics.json").read_text())


def of_run(tmp_path: Path):
    """The generator of a run, as anybody loads it later: what its file may name stands in the run's own config.yaml."""
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    artifact = made(tmp_path, "generator")
    with pytest.raises(UserError, match=r"names the class 'my_models\.\w+'; only medlat"):
        builders.load_generator(artifact, CPU, ())
    return builders.load_generator(artifact, CPU, builders.named_classes(config))


def again_without_training(medlat, tmp_path, command) -> None:
    """The same command once more: nothing is made anew, and the numbers are the same."""
    before = numbers_of(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.safetensors")}
    code, _, err = medlat(*command, f"hydra.run.dir={tmp_path / 'again'}")
    assert code == 0, err
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.safetensors")} == times


@pytest.mark.slow
def test_a_plain_autoencoder_and_a_classifier_network_of_ones_own(medlat, tmp_path):
    others = ("+directions@compared.ica=ica", "+directions@compared.pca=pca", "compared.pca.samples=64")
    experiment = ("+experiment=histology_vae_linear", "classifier=resnet")
    command = (*experiment, *QUICK, *PLAIN, *MINE, *EXPLAINED, *others)
    code, _, err = medlat(*command)
    assert code == 0, err
    model = of_run(tmp_path)
    assert type(model).__name__ == "PlainAutoencoder"
    assert model.capabilities == {"encode"}
    numbers = numbers_of(tmp_path)
    assert 5.0 < numbers["reconstruction/psnr"] < 100.0
    assert "reconstruction/kl_total" not in numbers
    assert "reconstruction/active_units" not in numbers
    assert 0.0 <= numbers["classifier/auc"] <= 1.0
    found = Directions.load(made(tmp_path, "directions/ica").path / "directions.safetensors")
    assert found.vectors.shape[1:] == (8,)
    axes = Directions.load(made(tmp_path, "directions/coordinate").path / "directions.safetensors")
    assert torch.equal(axes.vectors.sum(dim=1), torch.ones(8))
    assert (axes.scores.diff() <= 0.0).all()
    recipe, _, _ = read_generator(
        made(tmp_path, "classifier").path / "classifier.safetensors", {"my_models.MyClassifier"}
    )
    assert recipe["_target_"] == "my_models.MyClassifier"


@pytest.mark.slow
def test_a_subclass_of_the_vae(medlat, tmp_path):
    command = ("+experiment=ct_vae_sefa", *QUICK, "generator.network._target_=my_models.MyVAE")
    code, _, err = medlat(*command)
    assert code == 0, err
    model = of_run(tmp_path)
    assert type(model).__name__ == "MyVAE"
    assert model.capabilities == {"encode", "posterior", "latent_affines"}
    assert numbers_of(tmp_path)["reconstruction/kl_total"] > 0.0
    codes = model.sample(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decode_in_parts(model, codes, "z"), decode_in_parts(of_run(tmp_path), codes, "z"))
    again_without_training(medlat, tmp_path, command)


@pytest.mark.slow
def test_a_decoder_without_an_encoder(medlat, tmp_path):
    command = (*DECODER, *QUICK, "directions=pca", "directions.samples=64")
    code, _, err = medlat(*command)
    assert code == 0, err
    model = of_run(tmp_path)
    assert type(model).__name__ == "DecoderOnly"
    assert model.capabilities == frozenset()
    assert not any(name.startswith("reconstruction/") for name in numbers_of(tmp_path))


REFUSED = [
    (("generator.network._target_=my_models.Nothing",), "no name 'Nothing' in my_models"),
    (("generator.network._target_=no_models.MyVAE",), "no package 'no_models' is installed"),
    (
        ("generator.network._target_=my_models.NoGenerator", *PLAIN[2:5]),
        "generator.network._target_=my_models.NoGenerator: it lacks the base class medlat.core.spaces.LatentModel",
    ),
    (
        ("generator.network._target_=my_models.NoDecode", *PLAIN[2:5]),
        "it lacks the method decode, another name for its attribute 'encode', which is a method's",
    ),
    (PLAIN[1:5], "VAEObjective needs a generator with a posterior, and PlainAutoencoder has none"),
    (
        (*PLAIN[1:], "directions=posterior_axes"),
        "directions=posterior_axes: PlainAutoencoder has no posterior; expected a method that needs none",
    ),
    (
        PLAIN[1:],
        "directions=sefa: PlainAutoencoder has no weights that codes enter through (latent_affines); expected a method",
    ),
    (
        (*DECODER[1:], "generator=dcgan", "directions=ica"),
        "directions=ica: DecoderOnly has no encoder of its own; expected",
    ),
    (
        ("generator.network._target_=my_models.DecoderOnly", *PLAIN[3:5]),
        "VAEModule trains encoder and decoder, and DecoderOnly has no encoder",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refused_before_data_are_read(medlat, tmp_path, arguments, message):
    code, _, err = medlat("+experiment=ct_vae_sefa", "scale=tiny", *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "store").exists()


def test_a_classifier_network_has_medlat_s_base_class(medlat, tmp_path):
    wrong = ("classifier.network._target_=torch.nn.Identity", "~classifier.network.width", *MINE[1:])
    code, _, err = medlat("+experiment=histology_vae_linear", "classifier=resnet", "scale=tiny", *wrong)
    assert code == 2
    expected = "expected a subclass of medlat.classifiers.networks.ClassifierNetwork"
    assert f"classifier.network._target_=torch.nn.Identity: {expected}" in err


def test_a_file_may_only_name_what_the_configuration_names(tmp_path):
    import my_models

    image = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
    path = tmp_path / "generator.safetensors"
    save_generator(path, my_models.DecoderOnly(image), {"_target_": "my_models.DecoderOnly"}, image)
    with pytest.raises(UserError, match=r"names the class 'my_models\.DecoderOnly'; only medlat.*expected medlat\.\*$"):
        read_generator(path)
    with pytest.raises(UserError, match=r"expected medlat\.\*, or my_models\.MyVAE$"):
        read_generator(path, {"my_models.MyVAE"})
    assert read_generator(path, {"my_models.DecoderOnly"})[0] == {"_target_": "my_models.DecoderOnly"}


def test_a_generator_from_a_file_whose_class_is_one_s_own(tmp_path):
    import my_models

    image = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
    network, path = my_models.DecoderOnly(image, capacity=4), tmp_path / "mine.safetensors"
    save_generator(path, network, {"_target_": "my_models.DecoderOnly", "capacity": 4}, image)
    with pytest.raises(UserError, match=r"names the class 'my_models\.DecoderOnly'; only medlat"):
        Pretrained(str(path)).convert(image, tmp_path / "refused.safetensors")
    config = OmegaConf.create({"generator": {"network": "my_models.DecoderOnly"}, "classifier": None})
    Pretrained(str(path), network="my_models.DecoderOnly").convert(image, tmp_path / "generator.safetensors")
    again = builders.load_generator(Artifact("generator", "0", tmp_path), CPU, builders.named_classes(config))
    codes = network.eval().sample(2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.decode(codes), network.decode(codes))


def test_a_classifier_from_a_file_whose_class_is_one_s_own(tmp_path):
    import my_models

    image = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
    made = {"task": "binary", "classes": ["no", "yes"]}
    network, path = my_models.MyClassifier(image, **made).eval(), tmp_path / "classifier.safetensors"
    save_generator(path, network, {"_target_": "my_models.MyClassifier"} | made, image)
    with pytest.raises(UserError, match=r"names the class 'my_models\.MyClassifier'; only medlat"):
        MedlatClassifier(path)
    again = MedlatClassifier(path, network="my_models.MyClassifier")
    images = torch.zeros(2, *image.shape)
    assert torch.equal(again.logits(images), network(images))


def test_what_a_configuration_names():
    text = """
    generator: {network: {_target_: my_models.MyVAE}, module: {_target_: os.system}}
    classifier: {network: {_target_: my_models.MyClassifier}}
    compared:
      mine: {network: {_target_: my_models.Other}, module: {_target_: os.system}}
      svm: {_target_: medlat.directions.linear.Linear}
    inversion: {encoder: {network: {_target_: medlat.inversion.network.CodeEncoder}}}
    """
    found = builders.named_classes(OmegaConf.create(text))
    own = {"my_models.MyVAE", "my_models.MyClassifier", "my_models.Other"}
    assert found == own | {"medlat.inversion.network.CodeEncoder"}
    of_files = OmegaConf.create("{generator: {network: a.B}, classifier: {path: x, network: a.C}, compared: {}}")
    assert builders.named_classes(of_files) == {"a.B", "a.C"}
