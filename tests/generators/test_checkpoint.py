import json
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from medlat.core.checkpoints import read_generator, save_generator
from medlat.core.errors import UserError
from medlat.generators.imported.convert import kind_of
from medlat.steps import builders
from medlat.training.checkpoints import AtomicCheckpoints

RECIPE = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 6, "capacity": 8}


def test_the_same_images_after_reloading(tmp_path, vae):
    path = tmp_path / "generator.safetensors"
    save_generator(path, vae, RECIPE, vae.image)
    recipe, image, weights = read_generator(path)
    again = builders.network_from(recipe, image)
    again.load_state_dict(weights)
    codes = vae.sample(3)
    assert torch.equal(again.eval().decode(codes), vae.decode(codes))
    assert image == vae.image


class Bomb:
    """What a hostile file holds: it would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_pickle_is_refused_and_not_run(tmp_path, kind):
    path, trace = tmp_path / "generator.safetensors", tmp_path / "ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    else:
        torch.save({"x": Bomb(trace)}, path)
        assert zipfile.is_zipfile(path)
    with pytest.raises(UserError, match="holds a pickle"):
        read_generator(path)
    assert not trace.exists()


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 0x4B50])
def test_a_header_whose_length_looks_like_a_pickle_or_a_zip(tmp_path, vae, length):
    path = tmp_path / "generator.safetensors"
    for padding in range(max(0, length - 1000) // 4 * 4, length, 4):
        image = replace(vae.image, unit="HU" + "U" * padding)
        save_generator(path, torch.nn.Linear(1, 1), RECIPE, image)
        if int.from_bytes(path.read_bytes()[:8], "little") == length:
            break
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert read_generator(path)[1] == image
    assert kind_of(path) == "medlat"


def test_a_training_checkpoint_with_code_is_refused_and_not_run(tmp_path):
    path, trace = tmp_path / "step.ckpt", tmp_path / "ran"
    torch.save({"state_dict": Bomb(trace)}, path)
    with pytest.raises(UserError, match="could run code; refused"):
        AtomicCheckpoints().load_checkpoint(path)
    assert not trace.exists()


def test_damaged_files_are_named(tmp_path, vae):
    good = tmp_path / "generator.safetensors"
    save_generator(good, vae, RECIPE, vae.image)
    content = good.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\0" * 100):
        good.write_bytes(damaged)
        with pytest.raises(UserError, match=r"generator.safetensors: damaged checkpoint"):
            read_generator(good)
    path = tmp_path / "step.ckpt"
    AtomicCheckpoints().save_checkpoint({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"step.ckpt: damaged checkpoint"):
        AtomicCheckpoints().load_checkpoint(path)


def test_only_medlat_is_built_from_a_file(tmp_path, vae):
    path = tmp_path / "g.safetensors"
    save_generator(path, vae, {"_target_": "os.system", "command": "true"}, vae.image)
    with pytest.raises(UserError, match=r"names the class 'os\.system'"):
        read_generator(path)


def test_another_format_is_refused(tmp_path, vae):
    path = tmp_path / "g.safetensors"
    header = {"format": 99, "recipe": RECIPE, "image": vae.image.to_dict()}
    save_file({"x": torch.zeros(1)}, path, metadata={"medlat": json.dumps(header)})
    with pytest.raises(UserError, match="format 99, expected 1"):
        read_generator(path)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        "[]",
        {"recipe": [RECIPE]},
        {"image": {"high": 10**400}},
        {"image": {"high": float("nan")}},
        {"image": {"unit": "HU", "width": "32"}},
    ],
    ids=["nested", "list", "recipe", "endless", "nan", "text"],
)
def test_headers_that_medlat_does_not_write(tmp_path, vae, header):
    path = tmp_path / "g.safetensors"
    if isinstance(header, dict):
        image = vae.image.to_dict() | header.get("image", {})
        header = json.dumps({"format": 1, "recipe": RECIPE} | header | {"image": image})
    save_file({"x": torch.zeros(1)}, path, metadata={"medlat": header})
    with pytest.raises(UserError, match=r"g\.safetensors: damaged checkpoint \(.*; delete its folder") as caught:
        read_generator(path)
    assert "\n" not in str(caught.value)
