"""Generators that a Python function or a TorchScript file brings: what they decode is known, also after reload."""

import json

import pytest
import torch
from generators.imported import own_generators
from generators.imported.brought_files import Halves, lightning
from safetensors.torch import save_file

from medlat.core.checkpoints import read_generator
from medlat.core.errors import UserError
from medlat.core.external import is_program
from medlat.core.spaces import ImageSpec, decode_in_parts
from medlat.core.store import Artifact
from medlat.directions.jacobian import Jacobian
from medlat.generators.imported.brought import check_model
from medlat.generators.imported.python import PythonGenerator
from medlat.generators.imported.torchscript import DOOR, TorchScriptGenerator
from medlat.steps import builders

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
CPU = torch.device("cpu")
MINE = "generators.imported.own_generators"
HALVES = {"function": f"{MINE}:halves", "value_range": [0.0, 1.0], "decode": "forward"}
CODES = torch.tensor([[0.0, 1.0], [2.0, -2.0], [3.0, 0.5]])
VALUES = torch.tensor([[0.0, 0.5], [1.0, -1.0], [1.0, 0.25]])  # of both halves, in [-1, 1]; what is beyond is cut off


def images_of(codes):
    """Two halves each, in [-1, 1]."""
    return (codes * 0.5).clamp(-1.0, 1.0).repeat_interleave(8, dim=1)[:, None, :, None].expand(-1, 1, 16, 16)


def reloaded(door, folder, images=(), allowed=(f"{MINE}:halves", f"{MINE}:own_vae", f"{MINE}:Volumes", DOOR)):
    door.convert(SPEC, folder / "generator.safetensors", images, CPU)
    return builders.load_generator(Artifact("generator", "0", folder), CPU, allowed)


@pytest.fixture(params=["python", "torchscript"])
def door(request, tmp_path):
    """The same generator through either door; of the encoder `encode` says the name."""

    def make(encode="encode", **more):
        if request.param == "python":
            return PythonGenerator(**HALVES, encode=encode, **more)
        torch.jit.script(Halves().eval()).save(str(tmp_path / "halves.pt"))
        return TorchScriptGenerator(str(tmp_path / "halves.pt"), value_range=[0.0, 1.0], encode=encode, **more)

    return make


def test_what_it_decodes_and_encodes(tmp_path, door):
    model = reloaded(door(code=[2], prior="normal"), tmp_path)
    assert torch.allclose(decode_in_parts(model, CODES, "z"), images_of(CODES), atol=1e-6)
    inside = CODES.clamp(-2.0, 2.0)
    assert torch.allclose(model.encode(images_of(inside), "z"), inside, atol=1e-5)
    assert model.capabilities == {"encode"}
    assert model.spaces["z"].prior == "normal"
    assert model.sample(5000, "z", torch.Generator().manual_seed(0)).std(dim=0).tolist() == pytest.approx(
        [1, 1], abs=0.05
    )


def test_codes_are_drawn_as_those_of_training_images(tmp_path, door, rng):
    codes = torch.from_numpy(rng.normal(size=(300, 2)) @ [[0.5, 0.3], [0.0, 0.2]] + [0.4, -0.2]).float()
    model = reloaded(door(), tmp_path, images_of(codes).split(64))
    assert model.spaces["z"].shape == (2,)  # as the encoder says
    assert model.spaces["z"].prior == "empirical"
    assert torch.allclose(model.code_mean, codes.mean(dim=0), atol=1e-4)
    assert torch.allclose(model.code_axes.T @ model.code_axes, torch.cov(codes.T), atol=1e-4)
    drawn = model.sample(20000, "z", torch.Generator().manual_seed(0))
    assert torch.allclose(torch.cov(drawn.T), torch.cov(codes.T), atol=0.01)
    assert torch.equal(drawn, model.sample(20000, "z", torch.Generator().manual_seed(0)))


def test_fewer_images_than_numbers_in_a_code(tmp_path):
    """The Gaussian then has their span: exactly their covariance, and no other direction."""
    model = reloaded(PythonGenerator(**HALVES), tmp_path, [images_of(torch.tensor([[1.0, 0.5], [-1.0, -0.5]]))])
    assert model.code_axes.shape == (2, 2)
    drawn = model.sample(1000, "z", torch.Generator().manual_seed(0))
    assert torch.allclose(drawn[:, 0], 2.0 * drawn[:, 1], atol=1e-5)
    assert drawn[:, 0].std().item() == pytest.approx(2.0**0.5, rel=0.1)


def test_directions_of_a_program(tmp_path, door):
    """A unit of either number moves 128 pixels by 0.5: both singular values are 0.5·√128."""
    model = reloaded(door(code=[2], prior="normal"), tmp_path)
    found = Jacobian(count=2, codes=1).find(model)
    assert found.scores[0].item() == pytest.approx(0.5 * 128**0.5, rel=1e-4)


def test_the_store_knows_weights_that_a_function_loads_itself(tmp_path):
    """Another gain is another generator, the same one the same; of a function that takes the image it is not known."""
    keys = [
        PythonGenerator(**HALVES, arguments={"gain": gain}).fingerprints().get("weights") for gain in (0.25, 0.5, 0.25)
    ]
    assert keys[0] == keys[2] != keys[1]
    assert len(keys[0]) == 16
    assert PythonGenerator(f"{MINE}:own_vae").fingerprints() == {}


def test_a_wrong_value_range_is_seen_on_real_images(tmp_path):
    """Of images in [0, 1] taken for [-1, 1] the dark half is lost."""
    images = images_of(torch.tensor([[-1.9, 1.5], [-1.0, -1.5], [1.0, -1.8]]))
    door = PythonGenerator(**HALVES | {"function": f"{MINE}:Clipped", "value_range": [-1.0, 1.0]})
    with pytest.raises(
        UserError, match=r"value_range: \[-1\.0, 1\.0\]: 3 training images come back with .* \[0\.0, 1\.0\]"
    ):
        door.convert(SPEC, tmp_path / "g.safetensors", [images], CPU)
    right = PythonGenerator(**HALVES | {"function": f"{MINE}:Clipped"})
    right.convert(SPEC, tmp_path / "g.safetensors", [images], CPU)


def test_one_that_only_decodes(tmp_path):
    model = reloaded(PythonGenerator(**HALVES, encode=None, code=[2]), tmp_path)
    assert model.capabilities == frozenset()
    assert model.spaces["z"].prior == "normal"


def test_a_latent_model_stays_what_it_is(tmp_path):
    door = PythonGenerator(f"{MINE}:own_vae", {"latent_dim": 4})
    model = reloaded(door, tmp_path)
    assert type(model).__name__ == "VAE"
    assert model.capabilities == {"encode", "posterior", "latent_affines"}
    codes = torch.ones(2, 4)
    own = own_generators.own_vae(SPEC, 4).eval()
    assert torch.allclose(model.decode(codes, "z"), own.decode(codes), atol=1e-6)
    with pytest.raises(UserError, match="value_range: it is a LatentModel, which says so itself"):
        PythonGenerator(f"{MINE}:own_vae", value_range=[0, 1]).model(SPEC)


def test_layers_that_ask_for_memory_as_it_lies(tmp_path):
    door = PythonGenerator(f"{MINE}:Volumes", code=[3, 18, 18], value_range=[0, 1], encode=None)
    assert reloaded(door, tmp_path).decode(torch.zeros(2, 3, 18, 18)).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("form", ["pt", "safetensors", "lightning", "nested"])
def test_weights(tmp_path, form):
    state, prefix = {"gain": torch.tensor(0.125)}, ""
    path = tmp_path / f"w.{form}"
    if form == "safetensors":
        save_file(state, path)
    elif form == "lightning":
        prefix = "model."
        path = lightning(tmp_path, {"model.gain": state["gain"], "loss.weight": torch.ones(2)})
    else:
        prefix = {"pt": "", "nested": "ema.net."}[form]
        torch.save(state if form == "pt" else {"ema": {"net": state}, "step": 3}, path)
    model = reloaded(PythonGenerator(**HALVES, weights=str(path), prefix=prefix), tmp_path, [images_of(CODES)])
    assert model.network.gain.item() == 0.125
    assert torch.allclose(model.decode(CODES)[0, 0, :, 0], torch.tensor([0.0, 0.25]).repeat_interleave(8))


WRONG_WEIGHTS = [
    ({"model.gain": torch.ones(())}, "", r"1 of 1 are missing \(gain\).*; did you mean prefix=model\.\?"),
    ({"gain": torch.ones(())}, "net.", r"no name in it begins with 'net\.'; there are gain\."),
    ({"gain": torch.ones(3)}, "", r"gain is \[3\], expected \[\]"),
    ({"gain": torch.ones(()), "more": torch.ones(1)}, "", r"1 belong to no layer \(more\)"),
    ([1, 2], "", "a file of torch.save that holds no tensors by name"),
]


@pytest.mark.parametrize(("content", "prefix", "message"), WRONG_WEIGHTS)
def test_weights_of_another_network(tmp_path, content, prefix, message):
    torch.save(content, tmp_path / "w.pt")
    door = PythonGenerator(**HALVES, weights=str(tmp_path / "w.pt"), prefix=prefix)
    with pytest.raises(UserError, match=rf"weights=.*w\.pt: .*{message}"):
        door.model(SPEC)


def test_the_fingerprint_knows_the_files(tmp_path, door):
    first = door().fingerprints()
    assert door().fingerprints() == first
    torch.save({"gain": torch.ones(())}, tmp_path / "w.pt")
    found = PythonGenerator(**HALVES, weights=str(tmp_path / "w.pt")).fingerprints()
    assert len(found["weights"]) == 16
    torch.save({"gain": torch.zeros(())}, tmp_path / "w.pt")
    assert PythonGenerator(**HALVES, weights=str(tmp_path / "w.pt")).fingerprints() != found


def tried(make, **given):
    door = make(**given)
    check_model(door.model(SPEC), door.culprit)


REFUSED = [
    ({"function": "no_such_package:f"}, "no module 'no_such_package'"),
    ({"function": f"{MINE}:halve"}, "no function 'halve'; did you mean"),
    ({"function": f"{MINE}.halves"}, 'expected "package.module:function"'),
    ({"function": f"{MINE}:fails"}, "it raises KeyError"),
    ({"function": f"{MINE}:no_network"}, "it returns a int; expected a torch.nn.Module"),
    ({"function": f"{MINE}:NoSample"}, "NoSample lacks the method sample, the method decode"),
    ({"function": f"{MINE}:drawn_anew"}, "it gives other weights at each call; expected weights=FILE"),
    ({"arguments": {"gains": 2.0}}, "it raises TypeError"),
    ({"value_range": None}, r"value_range: null; expected the range of its images, e\.g\. \[0, 1\]"),
    ({"value_range": [1.0, 0.0]}, "expected \\[low, high\\] with low below high"),
    ({"encode": "encod"}, "encode: encod: Halves has no such method; did you mean 'encode'"),
    ({"decode": "sample"}, "decode: sample: Halves has no such method"),
    (
        {"decode": "sample", "value_range": None},
        "2 problems in what is said of the generator:\n  value_range: null.*\n  decode: sample",
    ),
    ({"encode": None}, "code: null, and there is no encoder to ask"),
    ({"code": [2, 2]}, r"code: \[2, 2\], expected \[D\], or \[channels, height, width\]"),
    ({"code": [3]}, r"decode raises|decode gives"),
    ({"encode": None, "code": [2], "prior": "fitted"}, "prior: fitted, and there is no encoder"),
    ({"encode": "sampled"}, "encode gives other codes for the same each time"),
    ({"function": f"{MINE}:Cut"}, "its images have no gradient in the codes"),
    (
        {"function": f"{MINE}:Grown"},
        r"decode gives \[2, 1, 32, 32\] .*expected \[2, 1, 16, 16\]; set data\.image_size=32",
    ),
    ({"weights": "/nowhere.pt"}, "weights=/nowhere.pt: no such file"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_python_generators_are_refused_for(changes, message):
    with pytest.raises(UserError, match=message):
        tried(PythonGenerator, **HALVES | changes)


def test_what_programs_are_refused_for(tmp_path):
    torch.jit.script(Halves()).save(str(tmp_path / "halves.pt"))
    good = {"path": str(tmp_path / "halves.pt"), "value_range": [0.0, 1.0]}
    torch.save({"gain": torch.ones(())}, tmp_path / "w.pt")
    refused = [
        ({"path": str(tmp_path / "w.pt")}, r"path=.*w\.pt: a state dict, .*use generator=python"),
        ({"path": str(tmp_path / "halve.pt")}, r"no such file; did you mean '.*halves\.pt'"),
        ({}, "code: null, and there is no encoder to ask"),
        ({"code": [2], "decode": "decode"}, "the program has no method 'decode'"),
        ({"code": [3]}, r"path=.*halves\.pt: the network fails on codes \[2, 3\]"),
        ({"code": [2], "encode": "sampled"}, "encode gives other codes"),
        ({"code": [2], "encoder": str(tmp_path / "w.pt")}, r"encoder=.*w\.pt: a state dict"),
    ]
    for changes, message in refused:
        with pytest.raises(UserError, match=message):
            tried(TorchScriptGenerator, **good | changes)


def test_two_programs(tmp_path):
    torch.jit.script(Halves()).save(str(tmp_path / "decoder.pt"))

    class Encoder(Halves):
        def forward(self, images):
            return (images.reshape(-1, 2, 128).mean(dim=2) - 0.5) / self.gain

    torch.jit.script(Encoder()).save(str(tmp_path / "encoder.pt"))
    files = {"path": str(tmp_path / "decoder.pt"), "encoder": str(tmp_path / "encoder.pt")}
    door = TorchScriptGenerator(**files, value_range=[0.0, 1.0])
    model = reloaded(door, tmp_path, [images_of(CODES)])
    for path in files.values():  # the store has them
        (tmp_path / path).unlink()
    again = builders.load_generator(Artifact("generator", "0", tmp_path), CPU, (DOOR,))
    assert torch.allclose(again.encode(images_of(CODES[:2]), "z"), CODES[:2], atol=1e-5)
    assert torch.equal(again.decode(CODES), model.decode(CODES))
    assert not is_program(door)
    assert door.runs


def test_a_file_runs_no_code_that_the_configuration_does_not_name(tmp_path, door):
    found = door()
    found.convert(SPEC, tmp_path / "generator.safetensors", [images_of(CODES)], CPU)
    with pytest.raises(UserError, match=r"only medlat\.\* and classes that the configuration names too"):
        read_generator(tmp_path / "generator.safetensors")


def test_nor_deeper_in_its_recipe(tmp_path):
    recipe = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": {"_target_": "os.system", "command": "x"}}
    header = {"format": 1, "recipe": recipe, "image": SPEC.to_dict()}
    save_file({"x": torch.zeros(1)}, tmp_path / "g.safetensors", metadata={"medlat": json.dumps(header)})
    with pytest.raises(UserError, match=r"names the class 'os\.system'"):
        read_generator(tmp_path / "g.safetensors")
