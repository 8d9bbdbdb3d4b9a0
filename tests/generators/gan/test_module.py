"""A step of a GAN's training: what is added up, when penalties come, what follows the weights."""

import logging
import re

import pytest
import torch
from generators.gan import tiny

from medlat.core.errors import UserError
from medlat.generators.gan.augmentation import CT, Adaptive
from medlat.generators.gan.collapse import COLLAPSED, relative_spread
from medlat.generators.gan.losses import gradient_penalty, path_lengths
from medlat.training.optimisation import Adam, Averaging
from medlat.training.settings import Hardware, cpu_errs_in_second_derivatives, cpu_has_bf16


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def images():
    return torch.rand(4, *tiny.SPEC.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the parts of a batch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accumulate", "batch"), [(2, 4), (4, 4), (2, 6)])
def test_the_gradients_of_parts_add_up_to_those_of_the_batch(store, tmp_path, accumulate, batch):
    whole = tiny.run(tiny.ToyGAN(2), store, tmp_path / "whole", batch=batch)
    parts = tiny.run(tiny.ToyGAN(2, accumulate), store, tmp_path / "parts", batch=batch)
    assert [len(turn) for turn in whole.gradients] == [4, 2, 4, 2], "the discriminator's, the generator's, twice"
    for one, several in zip(whole.gradients, parts.gradients, strict=True):
        assert one.keys() == several.keys()
        for name in one:
            assert torch.allclose(one[name], several[name], rtol=1e-4, atol=1e-6), name
    values = zip(tiny.curves(tmp_path / "whole"), tiny.curves(tmp_path / "parts"), strict=True)
    assert all(a[:2] == b[:2] and a[2] == pytest.approx(b[2], rel=1e-4) for a, b in values)


def test_every_part_draws_its_own_numbers(images):
    module = tiny.stylegan2(8, augmentation=None)
    first, second = (module.generate(4, module.random("fakes", 3, part)) for part in (0, 1))
    assert torch.equal(first, module.generate(4, module.random("fakes", 3, 0)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, module.generate(4, module.random("generator", 3, 0)))
    assert not torch.equal(first, module.generate(4, module.random("fakes", 4, 0)))


def test_bad_accumulate():
    with pytest.raises(UserError, match=r"accumulate=0"):
        tiny.stylegan2(1, accumulate=0)


def test_only_the_network_whose_turn_it_is_moves(images):
    module = tiny.stylegan2(8)
    module.network.requires_grad_(False)
    for _, loss in module._discriminator_terms(images, 0, 0):
        loss.backward()
    assert all(p.grad is None for p in module.network.parameters())
    assert all(p.grad is not None for p in module.discriminator.parameters())


# --- lazy penalties ---------------------------------------------------------------------------------------------------


def test_r1_comes_every_few_steps_and_makes_up_for_it(images):
    module = tiny.stylegan2(8, augmentation=None, r1=0.7, r1_every=3)
    terms = [list(module.discriminator_penalty(images, step, 0)) for step in range(7)]
    assert [len(found) for found in terms] == [1, 0, 0, 1, 0, 0, 1]
    assert terms[0][0][0] == "r1"
    expected = 0.5 * 0.7 * 3 * gradient_penalty(module.discriminator, images)
    assert terms[3][0][1].item() == pytest.approx(expected.item())
    assert list(tiny.stylegan2(8, r1=0.0).discriminator_penalty(images, 0, 0)) == []


def test_r1_is_of_the_augmented_images(images):
    module = tiny.stylegan2(8, augmentation=Adaptive(CT(), initial=0.8), r1=2.0, r1_every=1)
    found = dict(module.discriminator_penalty(images, 5, 1))["r1"].item()
    assert found == pytest.approx(gradient_penalty(lambda x: module.discriminate(x, "real", 5, 1), images).item())
    assert found != pytest.approx(gradient_penalty(module.discriminator, images).item(), rel=1e-3)


def lengths_of(module, n, step, part=0):
    """The path lengths that a step's penalty draws."""
    generator = module.random("path length", step, part)
    codes = module._codes(n, generator)
    made = module._synthesise(codes, generator)
    return path_lengths(made, codes, torch.randn(made.shape, generator=generator)).detach()


def test_path_length_by_hand():
    module = tiny.stylegan2(9, path_length=3.0, path_every=4, path_share=0.5)
    mean = 0.0
    for step in range(9):
        terms = list(module.generator_penalty(6, step, 0))
        assert len(terms) == (step % 4 == 0)
        if not terms:
            continue
        lengths = lengths_of(module, 3, step)  # half of the batch
        mean = 0.99 * mean + 0.01 * lengths.mean().item()
        assert module.path_mean.item() == pytest.approx(mean, rel=1e-5)
        name, loss = terms[0]
        assert name == "path_length"
        assert loss.item() == pytest.approx(3.0 * 4 * ((lengths - mean) ** 2).mean().item(), rel=1e-5)
    assert mean > 0.0


def test_the_share_is_at_least_one_image():
    module = tiny.stylegan2(8, path_share=0.01)
    assert len(lengths_of(module, 1, 0)) == 1
    assert dict(module.generator_penalty(4, 0, 0))["path_length"].isfinite()
    assert list(tiny.stylegan2(8, path_length=0.0).generator_penalty(4, 0, 0)) == []


def test_penalties_know_the_precision(images):
    """Values and second derivatives are those of full precision in fp16; in bf16, whose range is as wide, nearly so."""

    def gradients(precision):
        module = tiny.stylegan2(8)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32, cache_enabled=False):
            found = [*module.discriminator_penalty(images, 0, 0), *module.generator_penalty(4, 0, 0)]
        for _, loss in found:
            loss.backward()
        assert [loss.dtype for _, loss in found] == [torch.float32] * 2
        return [loss.detach() for _, loss in found] + [p.grad for p in module.parameters() if p.grad is not None]

    full, fp16, bf16 = map(gradients, (torch.float32, torch.float16, torch.bfloat16))
    assert len(full) > 20
    assert all(torch.equal(a, b) for a, b in zip(full, fp16, strict=True))
    difference = relative_difference(bf16, full)
    assert difference < 0.1
    assert (difference > 1e-4) == (not cpu_errs_in_second_derivatives())


def relative_difference(found, expected):
    """Of all tensors together."""
    a, b = (torch.cat([x.flatten() for x in tensors]) for tensors in (found, expected))
    return float((a - b).norm() / b.norm())


@pytest.mark.skipif(not cpu_has_bf16(), reason="the CPU has no bf16")
def test_a_training_differentiates_penalties_in_bf16(store, tmp_path):
    """The discriminator's gradients where R1 is the only loss."""

    class OnlyR1(tiny.StoppingStyleGAN2):
        def discriminator_loss(self, real, fake, generator):
            return 0.0 * (real.sum() + fake.sum())

        def on_before_optimizer_step(self, optimizer):
            if self.steps_done == 0:
                self.found = [p.grad.clone() for p in self.discriminator.parameters() if p.grad is not None]

    def gradients(precision):
        module = tiny.stylegan2(1, augmentation=None)
        module.__class__ = OnlyR1
        return tiny.run(module, store, tmp_path / precision, Hardware("cpu", precision)).found

    full, mixed = gradients("32-true"), gradients("bf16-mixed")
    assert sum(g.abs().max() > 0.0 for g in full) > 8
    difference = relative_difference(mixed, full)
    assert difference < 0.05
    assert (difference > 1e-4) == (not cpu_errs_in_second_derivatives())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("style_mixing", 1.5),
        ("path_share", 0.0),
        ("r1", -1.0),
        ("path_length", -1.0),
        ("r1_every", 0),
        ("path_every", 0),
    ],
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(UserError, match=rf"{name}={value:g}"):
        tiny.stylegan2(1, **{name: value})


# --- codes ------------------------------------------------------------------------------------------------------------


def test_without_mixing_all_layers_have_one_code():
    module = tiny.stylegan2(1, style_mixing=0.0)
    codes = module._codes(5, rng())
    assert codes.shape == (5, module.network.synthesis.codes, 4)
    assert torch.equal(codes, codes[:, :1].expand_as(codes))
    assert not torch.equal(codes[0], codes[1])


def test_mixed_codes_change_once_at_a_random_layer():
    module = tiny.stylegan2(1, style_mixing=1.0)
    layers = module.network.synthesis.codes
    cuts = []
    for seed in range(40):
        codes = module._codes(3, rng(seed))
        changes = (codes[:, 1:] != codes[:, :-1]).any(dim=2)
        assert (changes.sum(dim=1) == 1).all()
        places = changes.int().argmax(dim=1) + 1
        assert (places == places[0]).all(), "the batch shares the layer"
        cuts.append(int(places[0]))
    assert set(cuts) == set(range(1, layers)), "every layer but the first"


def test_mixing_happens_as_often_as_asked():
    module = tiny.stylegan2(1, style_mixing=0.25)
    codes = (module._codes(1, rng(seed)) for seed in range(400))
    mixed = sum(not torch.equal(c[:, 0], c[:, -1]) for c in codes)
    assert mixed / 400 == pytest.approx(0.25, abs=0.07), "three standard deviations"


def test_the_mean_w_by_hand(images):
    module = tiny.stylegan2(1, path_length=0.0)
    expected = torch.zeros(4)
    for seed in range(3):
        w = module._codes(4, rng(seed))[:, 0].detach().mean(dim=0)
        expected = 0.998 * expected + 0.002 * w
        assert torch.allclose(module.network.w_mean, expected, atol=1e-7)
    list(module._discriminator_terms(images, 0, 0))
    assert torch.allclose(module.network.w_mean, expected, atol=1e-7), "not in the discriminator's turn"
    list(module._generator_terms(images, 0, 0))
    assert not torch.allclose(module.network.w_mean, expected, atol=1e-7)


# --- what follows the weights -----------------------------------------------------------------------------------------


def test_average_after_a_step(store, tmp_path):
    start = tiny.stylegan2(1).network.synthesis.constant.detach()
    halfway = tiny.run(tiny.stylegan2(1, averaging=Averaging(tiny.BATCH, None)), store, tmp_path / "a")
    assert torch.allclose(halfway.result.synthesis.constant, (start + halfway.network.synthesis.constant) / 2.0)
    assert torch.equal(halfway.result.w_mean, halfway.network.w_mean)
    copied = tiny.run(tiny.stylegan2(1, averaging=Averaging(tiny.BATCH, 0.05)), store, tmp_path / "b")
    assert torch.equal(copied.result.synthesis.constant, copied.network.synthesis.constant)
    plain = tiny.stylegan2(1, averaging=None)
    assert plain.result is plain.network


def test_augmentation_follows_the_discriminator(store, tmp_path):
    """r_t = 1 at all times: p rises by 2 steps · 4 images / 80 after every second step, up to 0.8."""
    module = tiny.stylegan2(12)
    torch.nn.init.constant_(module.discriminator.output.bias, 100.0)
    tiny.run(module, store, tmp_path)
    found = [value for name, _, value in tiny.curves(tmp_path) if name == "train/augment_p"]
    expected = [0.3 + 0.1 * (step // 2) for step in range(1, 11)]
    assert found == pytest.approx([*expected, 0.8, 0.8])
    assert module.signs.tolist() == [0.0, 0.0]


def test_latest_losses_are_recorded_at_every_step(store, tmp_path):
    tiny.run(tiny.stylegan2(6), store, tmp_path)
    found = {name: [v for n, _, v in tiny.curves(tmp_path) if n == name] for name in ("train/r1", "train/path_length")}
    r1, path = found["train/r1"], found["train/path_length"]
    assert len(r1) == len(path) == 6
    assert r1[0] == r1[1] != r1[2] == r1[3] != r1[4] == r1[5], "computed at steps 0, 2 and 4"
    assert path[0] == path[1] == path[2] != path[3] == path[4] == path[5]


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_divergence_is_said(store, tmp_path):
    module = tiny.stylegan2(6)
    module.generator_adam = Adam(1e30, [0.0, 0.99])
    with pytest.raises(UserError, match=r"diverged at step [12] of 6 \(.*learning_rate=1e\+30"):
        tiny.run(module, store, tmp_path)


def test_divergence_leaves_good_checkpoints(store, tmp_path):
    module = tiny.stylegan2(6)
    module.diverge = (3, 0)
    with pytest.raises(UserError, match=r"diverged at step 4 of 6 \(discriminator nan, .*; the last good checkpoint"):
        tiny.run(module, store, tmp_path)
    kept = sorted((tmp_path / "progress").iterdir())
    assert [path.name for path in kept] == ["000000004.ckpt", "000000006.ckpt"], "of 2 and of 3 steps"
    for path in kept:
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in state.values())
    assert tiny.run(tiny.stylegan2(6), store, tmp_path), "and goes on from there"


@pytest.mark.parametrize("broken", ["network.synthesis.constant", "network.w_mean", "averaged.mapping.layers.0.bias"])
def test_broken_weights_are_not_saved(store, tmp_path, broken):
    """The update after the last finite losses is what breaks weights."""

    class Breaking(tiny.StoppingStyleGAN2):
        def training_step(self, images, batch_idx):
            super().training_step(images, batch_idx)
            if self.steps_done == 2:
                self.state_dict()[broken][0] = float("inf")

    module = tiny.stylegan2(6)
    module.__class__ = Breaking
    with pytest.raises(UserError, match=r"diverged at step 2 of 6 \(weights nan\)"):
        tiny.run(module, store, tmp_path)
    assert [path.name for path in (tmp_path / "progress").iterdir()] == ["000000002.ckpt"]


def test_relative_spread_in_closed_form():
    images = torch.randn(400, 1, 16, 16, generator=rng())
    same = images[:1].expand(50, -1, -1, -1)
    assert relative_spread(same, images) == 0.0
    assert relative_spread(images, images) == 1.0
    assert relative_spread(0.25 * images + 3.0, images) == pytest.approx(0.25, rel=1e-3)
    assert relative_spread(images[:200], images[200:]) == pytest.approx(1.0, abs=0.02)
    assert relative_spread(images, same) > 1e4, "no division by zero"


@pytest.mark.parametrize("constant", [True, False])
def test_a_collapsed_generator_is_noticed(store, tmp_path, caplog, constant):
    module = tiny.stylegan2(2, averaging=None)
    if constant:
        module.generator_adam = Adam(1e-12)
        for parameter in module.network.parameters():
            torch.nn.init.zeros_(parameter)
    with caplog.at_level(logging.WARNING, "medlat"):
        tiny.run(module, store, tmp_path)
    (spread,) = (value for name, step, value in tiny.curves(tmp_path) if (name, step) == ("validation/spread", 8))
    assert (spread < COLLAPSED) == constant
    assert bool(re.search("the generator is collapsing: its images differ by 0.00", caplog.text)) == constant
