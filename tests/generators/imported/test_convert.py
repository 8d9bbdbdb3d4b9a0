import importlib

import numpy as np
import pytest
import torch
from generators.imported.foreign_files import (
    W_DIM,
    images_of,
    random_state,
    rosinality_state,
    write_alias_free,
    write_nvidia,
    write_rosinality,
)
from safetensors.torch import save_file

from medlat.core.checkpoints import read_generator, save_generator
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.generators.imported.brought import check_model
from medlat.generators.imported.convert import Pretrained, read_foreign
from medlat.generators.imported.layout import recipe_of
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.generators.vae.networks import VAE

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 1.0)
RGB = ImageSpec(3, 16, 16, 0.0, 255.0, "RGB", 1.0)


@pytest.fixture
def state():
    return random_state()


@pytest.fixture
def z():
    return torch.randn(4, W_DIM, generator=torch.Generator().manual_seed(1))


def converted(path, spec, out, **options):
    """The network that the checkpoint of a file describes."""
    Pretrained(str(path), **options).convert(spec, out)
    recipe, image, weights = read_generator(out)
    assert image == spec
    classes = {"StyleGAN2": StyleGAN2, "VAE": VAE}
    network = classes[recipe.pop("_target_").split(".")[-1]](image, **recipe)
    network.load_state_dict(weights)
    return network.eval()


def unclamped(network, z):
    codes = network.broadcast(network.truncate(network.mapping(z)))
    return network.synthesis(network.synthesis.styles(codes), network.noise_maps(len(z), network.noise))


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(("noise", "psi"), [("off", 1.0), ("off", 0.7), ("fixed", 1.0)])
def test_images_of_nvidia_networks(tmp_path, state, z, protocol, noise, psi):
    path = write_nvidia(tmp_path / "network.pkl", state, protocol)
    network = converted(path, SPEC, tmp_path / "out.safetensors", truncation=psi, noise=noise)
    expected = images_of(state, z, psi, noise == "fixed")
    assert 0.3 < expected.abs().max() < 4.0
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), expected, atol=1e-4)
        assert torch.allclose(network.decode(z, "z"), expected.clamp(-1.0, 1.0), atol=1e-4)


def test_colours_and_narrow_maps(tmp_path, z):
    state = random_state(32, channels=3, base=100, most=9, seed=3)
    network = converted(
        write_nvidia(tmp_path / "n.pkl", state),
        ImageSpec(3, 32, 32, 0.0, 255.0, "RGB", 1.0),
        tmp_path / "o",
        noise="off",
    )
    assert [layer.weight.shape[1] for layer in network.synthesis.to_image] == [9, 9, 6, 3]
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), images_of(state, z), atol=1e-4)


def test_clamping_as_for_half_precision(tmp_path, state, z):
    path = write_nvidia(tmp_path / "n.pkl", state, clamp=1.5)
    network = converted(path, SPEC, tmp_path / "o", noise="off")
    expected = images_of(state, z, clamp=1.5)
    assert (expected - images_of(state, z)).abs().max() > 0.1
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
@pytest.mark.parametrize("clamp", [None, 1.5])
def test_architectures_of_nvidia(tmp_path, z, architecture, clamp):
    state = random_state(32, channels=3, architecture=architecture, seed=4)
    path, spec = write_nvidia(tmp_path / "n.pkl", state, clamp=clamp), ImageSpec(3, 32, 32, 0.0, 255.0, "RGB", 1.0)
    network = converted(path, spec, tmp_path / "o", noise="fixed")
    expected = images_of(state, z, 1.0, True, clamp or np.inf)
    assert expected.std() > 0.1
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), expected, atol=1e-4)
        # The space s has a style for each convolution and one image layer; w+ a code for each of them.
        w = network.broadcast(network.mapping(z))
        assert torch.equal(network.decode(network.map_codes(w, "w+", "s"), "s"), network.decode(w, "w+"))
    assert len(network.synthesis.modulated()) == 8 == network.spaces["w+"].shape[0]
    assert sum(len(affine) for affine in network.latent_affines("w")) == network.spaces["s"].size


@pytest.mark.parametrize("label", [0, 2])
def test_one_label_of_a_conditional_network(tmp_path, z, label):
    state = random_state(labels=3, seed=5)
    path = write_nvidia(tmp_path / "n.pkl", state)
    network = converted(path, SPEC, tmp_path / "o", noise="off", label=label, truncation=0.7)
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), images_of(state, z, 0.7, label=label), atol=1e-4)
    assert (images_of(state, z, label=0) - images_of(state, z, label=2)).abs().max() > 0.1
    assert network.latent_affines("z")[0].shape == (W_DIM, W_DIM)
    assert network.sample(5, "z").shape == (5, W_DIM)


def test_all_labels_of_a_conditional_network(tmp_path):
    state = random_state(labels=3, seed=5)
    network = converted(write_nvidia(tmp_path / "n.pkl", state), SPEC, tmp_path / "o", noise="off", label="all")
    assert list(network.spaces) == ["w", "w+", "s"]
    draw = torch.Generator().manual_seed(7)
    z, labels = torch.randn(300, W_DIM, generator=draw), torch.randint(3, (300,), generator=draw)
    assert labels.bincount().min() > 70
    with torch.no_grad():
        found = network.decode(network.sample(300, "w", torch.Generator().manual_seed(7)))
        for label in range(3):
            chosen = labels == label
            expected = images_of(state, z[chosen], label=label).clamp(-1.0, 1.0)
            assert torch.allclose(found[chosen], expected, atol=1e-4)


def test_labels_are_asked_for_where_there_are_some(tmp_path, state):
    some = str(write_nvidia(tmp_path / "some.pkl", random_state(labels=3)))
    none = str(write_nvidia(tmp_path / "none.pkl", state))
    expected = r"this generator's images have one of 3 labels; expected its number, 0 to 2, or all"
    for label, said in [(None, "null"), (3, "3"), (-1, "-1")]:
        with pytest.raises(UserError, match=rf"label={said}: {expected}"):
            Pretrained(some, label=label).model(SPEC)
    with pytest.raises(UserError, match=r"label=1: this generator's images have no labels; expected null"):
        Pretrained(none, label=1).model(SPEC)
    with pytest.raises(UserError, match=r"label=normal: expected the number of a label, or all"):
        Pretrained(some, label="normal")
    said = Pretrained(some, label=1).convert(SPEC, tmp_path / "o")
    assert said == ["The generator's images have one of 3 labels: here all have label 1."]


def test_a_network_in_colour_for_grey_images(tmp_path, z):
    state = random_state(channels=3, seed=6)
    path = write_nvidia(tmp_path / "n.pkl", state)
    network = converted(path, SPEC, tmp_path / "o", noise="off")
    colour = images_of(state, z)
    assert (colour[:, 0] - colour[:, 1]).abs().max() > 0.1
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), colour.mean(dim=1, keepdim=True), atol=1e-4)
    assert Pretrained(str(path)).convert(SPEC, tmp_path / "o") == [
        "The generator makes images in colour: what is shown and measured is the mean of their channels."
    ]
    assert Pretrained(str(path)).convert(RGB, tmp_path / "o") == []


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("noise", "psi"), [("off", 1.0), ("fixed", 0.7)])
def test_images_of_rosinality_networks(tmp_path, state, z, legacy, noise, psi):
    path = write_rosinality(tmp_path / "550000.pt", rosinality_state(state), legacy, mean=state["mapping.w_avg"][None])
    network = converted(path, SPEC, tmp_path / "o", truncation=psi, noise=noise)
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), images_of(state, z, psi, noise == "fixed"), atol=1e-4)


def test_rosinality_without_mean_and_noise(tmp_path, state):
    theirs = {name: tensor for name, tensor in rosinality_state(state).items() if not name.startswith("noises.")}
    path = write_rosinality(tmp_path / "n.pt", theirs)
    network = converted(path, SPEC, tmp_path / "one")
    with torch.no_grad():
        w = network.mapping(torch.randn(40000, W_DIM, generator=torch.Generator().manual_seed(5)))
    assert torch.allclose(network.w_mean, w.mean(dim=0), atol=float(5 * w.std(dim=0).max()) / np.sqrt(16384))
    assert network.synthesis.convs[2].noise.std() == pytest.approx(1.0, abs=0.3)
    converted(path, SPEC, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_kind_is_told_by_the_content(tmp_path, state):
    wrong = {"a.pt": write_nvidia, "b.pkl": lambda p, s: write_rosinality(p, rosinality_state(s))}
    for name, write in wrong.items():
        foreign = read_foreign(write(tmp_path / name, state))
        recipe, shape = recipe_of(foreign)
        assert shape == (1, 16, 16)
        assert recipe["w_dim"] == W_DIM
        assert foreign.weights["synthesis.constant"].shape == (16, 4, 4)


def test_frozen_layers_are_found_among_the_buffers(tmp_path, state, z, monkeypatch):
    from generators.imported import foreign_files

    hold = foreign_files.Layer.hold

    def frozen(self, path, tensor):
        hold(self, path, tensor)
        if self.class_name == "FullyConnectedLayer":
            self.state["_buffers"][path] = self.state["_parameters"].pop(path).data

    monkeypatch.setattr(foreign_files.Layer, "hold", frozen)
    network = converted(write_nvidia(tmp_path / "n.pkl", state), SPEC, tmp_path / "o", noise="off")
    with torch.no_grad():
        assert torch.allclose(unclamped(network, z), images_of(state, z), atol=1e-4)


@pytest.mark.parametrize("kind", ["vae", "stylegan2"])
def test_own_files_are_passed_on(tmp_path, kind):
    torch.manual_seed(0)
    if kind == "vae":
        recipe = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 3, "capacity": 4, "stem_stride": 2}
        network = VAE(SPEC, latent_dim=3, capacity=4, stem_stride=2).eval()
    else:
        recipe = {
            "_target_": "medlat.generators.stylegan2.networks.StyleGAN2",
            "z_dim": 8,
            "w_dim": 8,
            "channel_max": 8,
        }
        network = StyleGAN2(SPEC, z_dim=8, w_dim=8, channel_max=8).eval()
    path = tmp_path / "generator.safetensors"
    save_generator(path, network, recipe, SPEC)
    given = {"truncation": 0.5, "noise": "off"} if kind == "stylegan2" else {}
    again = converted(path, SPEC, tmp_path / "out", **given)
    assert {n: t.tolist() for n, t in again.state_dict().items()} == {
        n: t.tolist() for n, t in network.state_dict().items()
    }
    if kind == "stylegan2":
        assert (again.truncation, again.noise) == (0.5, "off")
    else:
        with pytest.raises(UserError, match=r"truncation: only a StyleGAN2 has it"):
            converted(path, SPEC, tmp_path / "refused", truncation=0.5)
    assert read_generator(path)[0] == recipe


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        (
            "dae.networks.DiffusionAutoencoder",
            {"latent_dim": 4, "widths": [16, 16], "steps": 2},
        ),  # encodes; has constants
        ("dcgan.networks.DCGAN", {"latent_dim": 4, "capacity": 4}),
        (
            "stylegan2.networks.StyleGAN2",
            {"z_dim": 8, "w_dim": 8, "channel_max": 8, "noise": "random", "encoder": True},
        ),
    ],
)
def test_every_family_can_be_tried_before_data_are_read(tmp_path, target, arguments):
    spec, target = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 1.0), f"medlat.generators.{target}"
    module, _, name = target.rpartition(".")
    network = getattr(importlib.import_module(module), name)(spec, **arguments).eval()
    save_generator(tmp_path / "g.safetensors", network, {"_target_": target} | arguments, spec)
    found = Pretrained(str(tmp_path / "g.safetensors"))
    model = found.model(spec)
    check_model(model, found.culprit)
    network.deterministic()
    codes = network.sample(2, next(iter(network.spaces)), torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.decode(codes), network.decode(codes))


def test_own_files_of_another_window(tmp_path, vae, spec):
    path = tmp_path / "g.safetensors"
    recipe = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 6, "capacity": 8}
    save_generator(path, vae, recipe, spec)
    other = ImageSpec(1, 32, 32, -500.0, 500.0, "HU", 12.5)
    with pytest.raises(UserError, match=r"\[-500, 500\] HU; set data\.intensity_range=\[-1000, 2000\]"):
        Pretrained(str(path)).convert(other, tmp_path / "o")
    nearer = ImageSpec(1, 32, 32, spec.low, spec.high, "HU", 1.0)  # another pixel spacing is no matter of the network
    assert converted(path, nearer, tmp_path / "o").image == nearer


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ImageSpec(1, 64, 64, 0.0, 1.0, "HU", 1.0), r"16x16 pixels, the data's 64x64; set data\.image_size=16"),
        (RGB, r"its images have 1 channel of 16x16 pixels, the data's have 3; expected a network of 3"),
    ],
)
def test_images_of_another_shape(tmp_path, state, spec, message):
    path = write_nvidia(tmp_path / "n.pkl", state)
    with pytest.raises(UserError, match=message):
        Pretrained(str(path)).convert(spec, tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c_dim": 10}, "MappingNetwork has no embed"),
        ({"architecture": "resnet"}, "SynthesisBlock has no skip"),
        ({"architecture": "dense"}, "its blocks are dense; expected skip, orig or resnet"),
        ({"architecture": [[]]}, "another kind of architecture"),
        ({"clamp": "256"}, "clamp 256"),
    ],
)
def test_variants_of_nvidia_are_refused(tmp_path, state, options, message):
    path = write_nvidia(tmp_path / "n.pkl", state, **options)
    with pytest.raises(UserError, match=rf"generator\.weights=.*n\.pkl: .*{message}"):
        read_foreign(path)


def test_a_stylegan3_is_refused_with_the_line_that_would_bring_it(tmp_path):
    path = write_alias_free(tmp_path / "n.pkl")
    message = (
        r"n\.pkl: holds an alias-free StyleGAN3 network, .* on the PYTHONPATH, use generator=python generator\.func"
    )
    with pytest.raises(UserError, match=message):
        Pretrained(str(path)).model(SPEC)


def change(state, name, value):
    return {key: tensor for key, tensor in (state | {name: value}).items() if tensor is not None}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("synthesis.b8.conv0.weight", torch.zeros(16, 16, 5, 5), r"convs\.1\.weight is \(16, 16, 5, 5\), expected"),
        ("synthesis.b8.conv0.bias", None, "SynthesisLayer has no bias"),
        ("synthesis.b8.torgb.affine.weight", torch.zeros(16, 5), "to_image"),
        (
            "synthesis.b8.torgb.weight",
            torch.zeros(1, 7, 1, 1),
            r"to_image\.1\.weight is \(1, 7, 1, 1\), expected \(1, 16, 1, 1\)",
        ),
        ("synthesis.b4.const", torch.full((16, 4, 4), torch.nan), "not finite"),
        ("mapping.w_avg", None, "MappingNetwork has no w_avg"),
    ],
)
def test_other_layouts_are_refused(tmp_path, state, name, value, message):
    path = write_nvidia(tmp_path / "n.pkl", change(state, name, value))
    with pytest.raises(UserError, match=rf"n\.pkl: .*{message}"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("convs.0.conv.weight", None, r"convs\.\d"),
        ("convs.0.conv.blur.kernel", torch.ones(4, 4), "another kernel"),
        ("style.2.weight", None, r"style\.\d"),
        ("input.input", None, "input.input is missing"),
    ],
)
def test_other_layouts_of_rosinality_are_refused(tmp_path, state, name, value, message):
    path = write_rosinality(tmp_path / "n.pt", change(rosinality_state(state), name, value))
    with pytest.raises(UserError, match=rf"n\.pt: .*{message}"):
        read_foreign(path)


def test_widths_without_a_rule_are_refused(tmp_path):
    wide = random_state(base=10**6, most=16)
    narrow = random_state(base=10**6, most=4)
    mixed = wide | {name: tensor for name, tensor in narrow.items() if ".b4." in name}
    mixed["synthesis.b8.conv0.weight"] = torch.zeros(16, 4, 3, 3)
    mixed |= {f"synthesis.b8.conv0.affine.{x}": narrow[f"synthesis.b8.conv0.affine.{x}"] for x in ("weight", "bias")}
    with pytest.raises(UserError, match="have 4, 16, 16 channels"):
        read_foreign(write_nvidia(tmp_path / "n.pkl", mixed))


def test_what_the_constructor_refuses(tmp_path, state):
    good = str(write_nvidia(tmp_path / "n.pkl", state))
    (tmp_path / "notes.txt").write_text("not weights, but long enough to hold a head")
    (tmp_path / "empty.pkl").touch()
    for arguments, message in [
        ((str(tmp_path / "none.pkl"),), r"generator\.weights=.*none\.pkl: no such file; expected medlat's"),
        ((str(tmp_path),), "not a file"),
        ((str(tmp_path / "notes.txt"),), r"notes\.txt: text; expected a file of weights"),
        ((str(tmp_path / "empty.pkl"),), r"empty\.pkl: an empty file; download"),
        ((good, 1.5), r"truncation=1\.5: expected a number from 0 to 1"),
        ((good, 1.0, "randm"), r"noise=randm: no such noise; did you mean 'random'\?"),
    ]:
        with pytest.raises(UserError, match=message):
            Pretrained(*arguments)


def test_the_fingerprint_depends_on_every_byte(tmp_path, state):
    path = write_nvidia(tmp_path / "n.pkl", state)
    first = Pretrained(str(path)).fingerprints()["weights"]
    assert len(first) == 16
    assert Pretrained(str(path.rename(tmp_path / "moved"))).fingerprints()["weights"] == first
    content = bytearray((tmp_path / "moved").read_bytes())
    content[-500] ^= 1
    path.write_bytes(content)
    assert Pretrained(str(path)).fingerprints()["weights"] != first


def test_other_safetensors_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(
        UserError,
        match=r"x\.safetensors: weights in safetensors, without a recipe of their network; use generator=python",
    ):
        read_foreign(path)
    save_generator(path, VAE(SPEC, 3, 4, stem_stride=2), {"_target_": "medlat.core.store.Store", "root": "x"}, SPEC)
    with pytest.raises(UserError, match=r"'medlat\.core\.store\.Store' is not a generator"):
        Pretrained(str(path)).convert(SPEC, tmp_path / "o")
    assert not (tmp_path / "o").exists()
