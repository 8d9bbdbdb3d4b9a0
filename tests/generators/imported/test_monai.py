"""MONAI's autoencoders: the same images as MONAI's own calls give, from arguments, bundles and files of weights."""

import json

import pytest
import torch
from generators.imported.brought_files import ARGUMENTS, bundle, lightning, monai_network
from safetensors.torch import save_file

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec, decode_in_parts
from medlat.core.store import Artifact
from medlat.directions.coordinate import Coordinate
from medlat.directions.ica import ICA
from medlat.directions.jacobian import Jacobian
from medlat.directions.pca import PCA
from medlat.directions.posterior import PosteriorAxes
from medlat.directions.random import RandomDirections
from medlat.generators.imported.brought import check_model
from medlat.generators.imported.monai import MonaiGenerator
from medlat.steps import builders

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
CPU = torch.device("cpu")
SHAPES = {"AutoencoderKL": (2, 8, 8), "VQVAE": (2, 4, 4), "VarAutoEncoder": (3,)}
IMAGES = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0


def door(folder, name="AutoencoderKL", **more):
    torch.save(monai_network(name).state_dict(), folder / "w.pt")
    given = {"arguments": ARGUMENTS[name], "weights": str(folder / "w.pt"), "value_range": [0.0, 1.0]}
    return MonaiGenerator(name, **given | more)


def reloaded(made, folder):
    made.convert(SPEC, folder / "generator.safetensors", [IMAGES], CPU)
    return builders.load_generator(Artifact("generator", "0", folder), CPU, ())


def theirs(name, images):
    """Codes and reconstructions by MONAI's own calls, images in [0, 1]."""
    network = monai_network(name)
    with torch.no_grad():
        if name == "AutoencoderKL":
            return network.encode(images)[0], network.reconstruct(images)
        if name == "VQVAE":
            return network.encode(images), network(images)[0]
        mean = network.encode_forward(images)[0]
        return mean, network.decode_forward(mean, network.use_sigmoid)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_codes_and_images_are_those_of_monai(tmp_path, name):
    model = reloaded(door(tmp_path, name), tmp_path)
    codes, images = theirs(name, IMAGES / 2.0 + 0.5)
    with torch.no_grad():
        assert torch.allclose(model.encode(IMAGES), codes, atol=1e-5)
        if model.can("posterior"):
            assert torch.allclose(model.posterior(IMAGES)[0], codes, atol=1e-5)
    assert torch.allclose(decode_in_parts(model, codes, "z"), (images * 2.0 - 1.0).clamp(-1.0, 1.0), atol=1e-5)
    assert model.spaces["z"].shape == SHAPES[name]
    assert model.capabilities == {"encode"} | ({"posterior"} if name != "VQVAE" else set())


def test_the_posterior_of_an_autoencoder(tmp_path):
    model = reloaded(door(tmp_path), tmp_path)
    with torch.no_grad():
        sigma = monai_network("AutoencoderKL").encode(IMAGES / 2.0 + 0.5)[1]
        assert torch.allclose(model.posterior(IMAGES)[1], 2.0 * sigma.log(), atol=1e-4)


FINDERS = {
    "ica": lambda: ICA(count=4, images=24),
    "pca": lambda: PCA(count=4, samples=32),
    "jacobian": lambda: Jacobian(count=4, codes=2),
    "random": lambda: RandomDirections(count=4),
    "coordinate": lambda: Coordinate(count=4),
    "posterior_axes": lambda: PosteriorAxes(count=4, images=24),
}


@pytest.mark.parametrize("finder", FINDERS)
def test_directions_of_maps_of_features(tmp_path, finder):
    model, method = reloaded(door(tmp_path), tmp_path), FINDERS[finder]()
    given = {"images": iter([IMAGES])} if "images" in getattr(method, "needs", ()) else {}
    found = method.find(model, **given)
    assert found.vectors.shape == (4, 2, 8, 8)
    assert found.vectors.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 4, abs=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "lightning"])
def test_weights_of_other_files(tmp_path, form):
    state, prefix = monai_network("AutoencoderKL", seed=3).state_dict(), ""
    path = tmp_path / "w.safetensors"
    if form == "lightning":
        prefix = "autoencoder."
        path = lightning(tmp_path, {prefix + name: value for name, value in state.items()} | {"d.w": torch.ones(1)})
    else:
        save_file(state, path)
    model = door(tmp_path, weights=str(path), prefix=prefix).model(SPEC)
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())


def test_a_bundle(tmp_path):
    folder = bundle(tmp_path / "bundle")
    (folder / "configs" / "train.yaml").write_text("network: {_target_: VQVAE}\n")
    made = MonaiGenerator(bundle=str(folder))
    assert made.value_range == (0.0, 1.0)
    assert made.files["weights"] == folder / "models" / "model.pt"
    model = reloaded(made, tmp_path)
    codes, _ = theirs("AutoencoderKL", IMAGES / 2.0 + 0.5)
    with torch.no_grad():
        assert torch.allclose(model.encode(IMAGES), codes, atol=1e-5)


EXPRESSIONS = {"channels": "$[4 * i for i in (1, 2)]", "latent_channels": "@latent", "norm_num_groups": "%latent"}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_of_a_bundle_are_refused_by_name(tmp_path, name):
    folder = bundle(tmp_path / "bundle", **{name: EXPRESSIONS[name]})
    with pytest.raises(UserError) as caught:
        MonaiGenerator(bundle=str(folder))
    said = f"{name} is the expression '{EXPRESSIONS[name]}', which is not evaluated; give its value in arguments"
    assert said in str(caught.value)
    value = ARGUMENTS["AutoencoderKL"][name]
    model = MonaiGenerator(bundle=str(folder), arguments={name: value}).model(SPEC)
    assert model.spaces["z"].shape == (2, 8, 8)


def test_several_networks_in_a_bundle(tmp_path):
    folder = bundle(tmp_path / "bundle")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text()) | {"other": [{"_target_": "VQVAE"} | ARGUMENTS["VQVAE"]]}
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"autoencoder_def: AutoencoderKL, other\[0\]: VQVAE; expected one"):
        MonaiGenerator(bundle=str(folder))
    assert MonaiGenerator("AutoencoderKL", bundle=str(folder)).model(SPEC).kind == "AutoencoderKL"
    config.pop("other")
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"autoencoder_def: AutoencoderKL; expected network=AutoencoderKL"):
        MonaiGenerator("VQVAE", bundle=str(folder))


def tried(make, *given, **more):
    made = make(*given, **more)
    check_model(made.model(SPEC), made.culprit)


REFUSED = [
    ({"arguments": ARGUMENTS["AutoencoderKL"] | {"chanels": [8]}}, r"arguments\.chanels: .*did you mean 'channels'"),
    ({"arguments": {}}, "AutoencoderKL needs spatial_dims, too"),
    ({"arguments": ARGUMENTS["AutoencoderKL"] | {"spatial_dims": 3}}, "a network of volumes; expected 2"),
    ({"arguments": ARGUMENTS["AutoencoderKL"] | {"in_channels": 3}}, "images of 3 channels, the data's have 1"),
    ({"arguments": ARGUMENTS["AutoencoderKL"] | {"channels": [9, 9]}}, "AutoencoderKL refuses them"),
    ({"arguments": ARGUMENTS["AutoencoderKL"] | {"with_encoder_nonlocal_attn": True}}, "einops|are missing"),
    (
        {"arguments": ARGUMENTS["AutoencoderKL"] | {"latent_channels": 5}},
        r"weights=.*is \[8, 2, 3, 3\], expected \[8, 5",
    ),
    ({"code": [3, 8, 8]}, "decode raises RuntimeError"),
    ({"value_range": None}, "value_range: null; expected"),
    ({"weights": None}, "weights: null; expected the file"),
    ({"bundle": "/nowhere"}, "bundle=/nowhere: no such file or folder"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        tried(door, tmp_path, **changes)
    with pytest.raises(UserError, match="no such network; did you mean 'VQVAE'"):
        MonaiGenerator("VQVA", value_range=[0, 1], weights="x")
    with pytest.raises(UserError, match="network: null, and there is no bundle; expected AutoencoderKL"):
        MonaiGenerator()
