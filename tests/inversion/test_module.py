"""Training of an encoder: what it learns, what it leaves, and that an interruption leaves no trace."""

import pytest
import torch
from generators.gan import tiny
from inversion.models import SPEC, Linear, stylegan2

from medlat.core.errors import UserError
from medlat.inversion.module import EncoderModule
from medlat.inversion.network import CodeEncoder
from medlat.training.optimisation import Optimisation
from medlat.training.settings import Hardware, cpu_has_bf16

STEPS = 7  # validated after 3 and 6
MIXED = pytest.param("bf16-mixed", marks=pytest.mark.skipif(not cpu_has_bf16(), reason="the CPU has no bf16"))


class Stopping(EncoderModule):
    """Stops before a training step, or in the first validation after so many steps."""

    stop_at: int | None = None
    stop_validation: int | None = None

    def training_step(self, images, batch_idx):
        if self.global_step == self.stop_at:
            raise tiny.Stopped
        return super().training_step(images, batch_idx)

    def validation_step(self, images, batch_idx):
        if self.global_step == self.stop_validation:
            raise tiny.Stopped
        super().validation_step(images, batch_idx)


def module(steps=STEPS, space="w+", model=None, learning_rate=2e-3, **arguments):
    model = model or stylegan2()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CodeEncoder(SPEC, list(model.spaces[space].shape), capacity=4, stem_stride=1)
    return Stopping(network, model, space, 5, steps, Optimisation(learning_rate), **arguments)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("precision", ["32-true", MIXED])
def test_an_interrupted_training_ends_as_if_it_never_had_been(store, tmp_path, precision):
    hardware = Hardware(accelerator="cpu", precision=precision)
    whole = tiny.run(module(), store, tmp_path / "whole", hardware)
    assert tiny.digest(whole) != tiny.digest(module())
    for number, where in enumerate([{"stop_at": 1}, {"stop_at": 4}, {"stop_validation": 3}, {"stop_validation": 6}]):
        folder, stopped = tmp_path / str(number), module()
        for name, value in where.items():
            setattr(stopped, name, value)
        with pytest.raises(tiny.Stopped):
            tiny.run(stopped, store, folder, hardware)
        again = tiny.run(module(), store, folder, hardware)
        assert tiny.digest(again) == tiny.digest(whole), where
        assert tiny.curves(folder) == tiny.curves(tmp_path / "whole"), where


def test_the_generator_is_neither_state_nor_trained(store, tmp_path):
    trained = module(2)
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    assert {name.split(".")[0] for name in trained.state_dict()} == {"network", "averaged"}
    assert {name.split(".")[0] for name, _ in trained.named_parameters()} == {"network", "averaged"}
    tiny.run(trained, store, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.model.state_dict().items())
    assert not any(p.requires_grad for p in trained.model.parameters())
    assert {n for n, _, _ in tiny.curves(tmp_path)} == {
        "train/code",
        "train/image",
        "train/loss",
        "validation/psnr",
        "validation/code",
    }


def test_the_encoder_is_calibrated_to_the_generator():
    made = module()
    samples = made.model.sample(2000, "w+", torch.Generator().manual_seed(1))
    for network in (made.network, made.result):
        assert torch.allclose(network.mean, samples.mean(0), atol=0.1 * float(samples.std()))
        assert torch.allclose(network.scale, samples.std(0), rtol=0.1)


def test_an_encoder_learns_the_codes_of_samples(store, tmp_path):
    trained = module(150, "z", Linear(), learning_rate=1e-2, sample_share=4.0)
    tiny.run(trained, store, tmp_path, every_s=1e9)
    codes = [value for name, _, value in tiny.curves(tmp_path) if name == "validation/code"]
    assert codes[-1] < 0.3, "of a variance of 1"
    model, encoder = trained.model, trained.result.eval()
    sampled = model.sample(64, "z", torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = encoder(model.decode(sampled))
    assert (found - sampled).square().mean() < 0.3


def test_a_training_that_diverges_is_named(store, tmp_path):
    broken = module(2)
    broken.network.head.bias.data.fill_(torch.nan)
    with pytest.raises(UserError, match=r"training diverged at step 0 of 2 \(code nan, .*learning_rate=0\.002"):
        tiny.run(broken, store, tmp_path)


@pytest.mark.parametrize("arguments", [{"code_weight": -1.0}, {"image_weight": 0.0}, {"sample_share": 0.0}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UserError, match=rf"{next(iter(arguments))}=[-0-9]+: expected"):
        module(**arguments)
