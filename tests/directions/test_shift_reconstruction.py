"""Shift-reconstruction: its parts in closed form, and what its training does on a generator of four quarters."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.directions.shift_reconstruction.accuracy import accuracy, best_of_few
from medlat.directions.shift_reconstruction.deformators import Linear, Orthonormal, Projective, Random, UnitNorm
from medlat.directions.shift_reconstruction.finder import ShiftReconstruction
from medlat.directions.shift_reconstruction.reconstructors import LeNet, ResNet18, _BatchNorm2d
from medlat.training.batchless import Steps
from medlat.training.loop import train
from medlat.training.optimisation import Optimisation
from medlat.training.settings import Hardware

IMAGE = ImageSpec(1, 16, 16, -1.0, 1.0, "1", 1.0)
CPU = Hardware(accelerator="cpu", precision="32-true")


class Blobs(LatentModel, nn.Module):
    """Each factor brightens one of four quarters; the axes of the latent space are turned against the factors."""

    def __init__(self, size=4):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("rotation", torch.linalg.qr(torch.randn(size, size, generator=generator))[0])
        self.image, self.spaces = IMAGE, {"z": LatentSpace("z", (size,))}

    def sample(self, n, space="z", generator=None):
        return torch.randn(n, self.spaces["z"].size, generator=generator)

    def decode(self, codes, space="z"):
        quarters = torch.tanh(0.3 * codes @ self.rotation.T).reshape(-1, 1, 2, 2)
        return quarters.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


def finder(deformator, images=4800, **changes):
    teller = LeNet
    how = Optimisation(learning_rate=5e-3, warmup=0.0, schedule="constant", gradient_clip=None, ema_decay=0.9)
    arguments = {"images": images, "batch_size": 32, "optimisation": how} | changes
    return ShiftReconstruction(deformator, teller, teller, **arguments)


def trained(found, folder, model=None):
    """The trained module, the directions and the numbers."""
    folder.mkdir(exist_ok=True)
    model = model or Blobs()
    module = found.module(model)
    train(module, Steps(found.schedule.steps), found.schedule, CPU, folder, lambda records: None)
    return module, *found.directions(model, module)


# --- deformators ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UnitNorm, Orthonormal, Random])
def test_columns_have_length_one_and_moves_the_length_of_the_step(kind):
    deformator = kind(5)
    assert deformator.columns().norm(dim=1).tolist() == pytest.approx([1.0] * 5, abs=1e-6)
    index, shift = torch.tensor([0, 4, 2]), torch.tensor([1.0, -6.0, 0.5])
    moves = deformator(index, shift)
    assert torch.allclose(moves, shift[:, None] * deformator.columns()[index])


def test_projective_moves_have_the_length_of_the_step_whatever_the_bias():
    deformator = Projective(3, 7)
    nn.init.normal_(deformator.bias)
    shift = torch.tensor([0.5, -6.0])
    assert deformator(torch.tensor([6, 0]), shift).norm(dim=1).tolist() == pytest.approx([0.5, 6.0], rel=1e-5)
    nn.init.zeros_(deformator.bias)
    assert torch.allclose(deformator(torch.tensor([6]), shift[1:]), -6.0 * deformator.columns()[6:7], atol=1e-6)


def test_linear_moves_are_linear():
    deformator = Linear(3, 4)
    assert torch.allclose(deformator(torch.tensor([2]), torch.tensor([3.0])), 3.0 * deformator.weight[2:3])


def test_orthonormal_and_random_are_orthonormal():
    for deformator in (Orthonormal(32), Random(32)):
        assert torch.allclose(deformator.columns() @ deformator.columns().T, torch.eye(32), atol=1e-5)
    assert not list(Random(4).parameters())


def test_more_directions_than_dimensions():
    assert Projective(3, 100).columns().shape == (100, 3)
    assert Random(3, 5).columns().norm(dim=1).tolist() == pytest.approx([1.0] * 5)
    with pytest.raises(UserError, match=r"count=100: an orthonormal .*expected 32 or null"):
        Orthonormal(32, 100)
    with pytest.raises(UserError, match=r"count=1: expected at least 2"):
        UnitNorm(3, 1)


# --- reconstructors and accuracy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LeNet, ResNet18])
@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructors_say_which_and_how_far(kind, channels):
    image = ImageSpec(channels, 32, 32, 0.0, 255.0, "RGB", 1.0)
    pair = torch.randn(2, 4, channels, 32, 32)
    logits, shift = kind(image, 7, width=8)(*pair)
    assert logits.shape == (4, 7)
    assert shift.shape == (4,)


@pytest.mark.parametrize("channels", [6, 16])
def test_batch_normalisation_of_few_channels_is_that_of_torch(channels):
    ours, theirs = _BatchNorm2d(channels), torch.nn.BatchNorm2d(channels)
    images = torch.randn(4, channels, 9, 9).to(memory_format=torch.channels_last)
    assert torch.allclose(ours(images), theirs(images), atol=1e-6)
    assert torch.allclose(ours.running_var, theirs.running_var)


def test_a_resnet_too_narrow():
    with pytest.raises(UserError, match=r"width=7: expected a whole number of at least 8"):
        ResNet18(ImageSpec(1, 32, 32, -1.0, 1.0, "HU", 1.0), 4, width=7)


def test_images_too_small():
    with pytest.raises(UserError, match=r"image_size=8: expected at least 16"):
        LeNet(ImageSpec(1, 8, 8, -1.0, 1.0, "HU", 1.0), 4)


def test_accuracy_of_perfect_useless_and_undecided_answers():
    index, shift = torch.arange(10), torch.ones(10)
    perfect = accuracy(torch.eye(10), index, shift, shift)
    assert (perfect.rca, perfect.corrected, perfect.of_few, perfect.shift_l1) == (1.0, 1.0, 1.0, 0.0)
    useless = accuracy(torch.eye(10).roll(1, 0), index, shift, -shift)
    assert useless.rca == 0.0
    assert useless.corrected == pytest.approx(-1.0 / 9.0)
    assert useless.shift_l1 == 2.0
    assert accuracy(torch.zeros(10, 10), index, shift, shift).rca == 0.0  # no answer is no answer


def test_corrected_for_chance_is_zero_for_guesses():
    logits = torch.randn(20000, 5, generator=torch.Generator().manual_seed(0))
    guessed = accuracy(logits, torch.arange(20000) % 5, torch.zeros(20000), torch.zeros(20000))
    assert guessed.corrected == pytest.approx(0.0, abs=0.02)
    assert np.isnan(guessed.of_few)  # 5 directions are fewer than 8


def test_of_eight_does_not_depend_on_how_many_there_are():
    generator = torch.Generator().manual_seed(0)
    found = []
    for k in (8, 32, 100):
        logits = torch.randn(4000, k, generator=generator)
        index = torch.arange(4000) % k
        logits[torch.arange(4000), index] += 2.0  # as sure of each, whatever K
        found.append(accuracy(logits, index, torch.zeros(4000), torch.zeros(4000)).of_few)
    assert found == pytest.approx([found[0]] * 3, abs=0.02)


def test_best_of_few_against_counting():
    # 2 of 5 others are better; of 2 drawn, none of the two is better in C(3, 2) / C(5, 2) of the draws.
    assert best_of_few(np.array([2, 0, 5]), 6, 3).tolist() == pytest.approx([0.3, 1.0, 0.0])


# --- training ------------------------------------------------------------------------------------------------------


def test_untrained_directions_are_at_chance():
    module = finder(Orthonormal).module(Blobs())
    own, held_out, _ = module.on_fresh_codes(64)
    for found in (own, held_out):
        assert found.rca == pytest.approx(0.25, abs=0.06)
        assert found.corrected == pytest.approx(0.0, abs=0.08)


@pytest.mark.parametrize("kind", [Orthonormal, pytest.param(UnitNorm, marks=pytest.mark.slow)])
def test_learnt_directions_are_told_apart(kind, tmp_path):
    """Which is all that the objective asks for: they need not be the factors (see experiments/schon2022)."""
    module, found, numbers = trained(finder(kind), tmp_path)
    assert numbers["rca"] > 0.95
    assert numbers["held_out_rca"] > 0.95
    assert numbers["shift_l1"] < 2.0
    assert found.scores.min() > 0.9
    if kind is Orthonormal:
        columns = module.result.deformator.columns()
        assert torch.allclose(columns @ columns.T, torch.eye(4), atol=1e-5)


class Textured(Blobs):
    """Factors of unequal strength under a texture that any move changes altogether: small moves are confused."""

    STRENGTHS = (1.0, 0.7, 0.5, 0.35)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.register_buffer("hash", 300.0 * torch.randn(4, 256, generator=generator))

    def decode(self, codes, space="z"):
        quarters = (0.1 * torch.tensor(self.STRENGTHS) * (codes @ self.rotation.T)).reshape(-1, 1, 2, 2)
        texture = torch.sin(codes.detach() @ self.hash).reshape(-1, 1, 16, 16)
        return quarters.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3) + 0.5 * texture


class Factors(Random):
    """The planted factors themselves."""

    def __init__(self, size):
        super().__init__(size)
        self.fixed.copy_(Blobs().rotation)


@pytest.mark.slow
def test_planted_factors_are_no_better_an_answer_than_any_basis(tmp_path):
    """Why training does not find them: nothing that it asks for is better there."""
    found = [trained(finder(kind), tmp_path / kind.__name__, Textured())[2] for kind in (Factors, Random)]
    for accuracy_of in ("rca", "held_out_rca"):
        factors, others = (numbers[accuracy_of] for numbers in found)
        assert 0.6 < others < 0.95, "moves are confused, but not all"
        assert factors < others + 0.05


class Doubled(UnitNorm):
    """Begins with the same direction twice, but for a hundredth."""

    def __init__(self, size):
        super().__init__(size)
        with torch.no_grad():
            self.weight[1] = self.weight[0] + 0.01 * self.weight[0].norm() * torch.eye(size)[0]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_directions_that_begin_alike_are_driven_apart(seed, tmp_path):
    first = finder(Doubled, seed=seed).module(Blobs()).network.deformator.columns()
    assert float(first[0] @ first[1]) > 0.99
    module, _, numbers = trained(finder(Doubled, seed=seed), tmp_path)
    columns = module.result.deformator.columns()
    assert abs(float(columns[0] @ columns[1])) < 0.9
    assert numbers["held_out_rca"] > 0.95


def test_nothing_learns_from_the_held_out_reconstructor():
    """The gradient of the directions is that of their own reconstructor, whatever the held-out one says."""
    gradients = []
    for seed in (0, 1):
        module = finder(UnitNorm).module(Blobs())
        torch.manual_seed(seed)
        for parameter in module.network.held_out.parameters():
            nn.init.normal_(parameter)
        module.log_dict = lambda *a, **k: None
        module._fabric = None
        codes, index, shift = module.draw("pairs", 0)
        image, moved = module.pairs(module.network, codes, index, shift)
        loss = module._errors(module.network.reconstructor(image, moved), index, shift)["loss"]
        held_out = module._errors(module.network.held_out(image, moved.detach()), index, shift)["loss"]
        (loss + held_out).backward()
        gradients.append(module.network.deformator.weight.grad)
    assert torch.equal(*gradients)


def test_the_generator_is_frozen_and_the_seed_decides(tmp_path):
    model = Blobs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, first, _ = trained(finder(UnitNorm, images=640), tmp_path / "a", model)
    _, second, _ = trained(finder(UnitNorm, images=640), tmp_path / "b", model)
    _, other, _ = trained(finder(UnitNorm, images=640, seed=1), tmp_path / "c", model)
    assert torch.equal(first.vectors, second.vectors)
    assert not torch.allclose(first.vectors, other.vectors)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_steps_go_on_where_they_were():
    data = Steps(5)
    assert [int(step) for step in data.train_dataloader()] == [0, 1, 2, 3, 4]
    data.start = 3
    assert [int(step) for step in data.train_dataloader()] == [3, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shift_min": 6.0}, r"shift_min=6: expected .*less than shift_scale=6"),
        ({"shift_weight": -1.0}, r"shift_weight=-1: expected a number of at least 0"),
        ({"batch_size": 0}, r"batch_size=0: expected a whole number"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(UserError, match=message):
        finder(UnitNorm, **changes)


def test_what_does_not_fit_the_generator_is_refused_before_training():
    with pytest.raises(UserError, match=r"count=9.*expected 4 or null"):
        finder(partial(Orthonormal, count=9)).check(Blobs())
    with pytest.raises(UserError, match=r"space=w: this generator has z"):
        finder(UnitNorm, space="w").check(Blobs())
