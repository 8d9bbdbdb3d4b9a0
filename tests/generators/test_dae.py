from types import SimpleNamespace

import pytest
import torch
from torch.autograd import forward_ad

from medlat.classifiers.black_box import disagreement
from medlat.core.errors import UserError
from medlat.core.similarity import psnr
from medlat.core.spaces import ImageSpec, decode_in_parts, missing_parts
from medlat.generators.dae.module import ClassifierGuidedDiffusionAutoencoderModule, DiffusionAutoencoderModule
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.training import settings
from medlat.training.optimisation import Optimisation


def spec(height, width=None, channels=1):
    return ImageSpec(channels, height, width or height, 0.0, 255.0, "grey", 1.0)


def small(image, **arguments):
    arguments = {"latent_dim": 4, "widths": (16, 32), "encoder_capacity": 4} | arguments
    return DiffusionAutoencoder(image, **arguments)


@pytest.fixture
def exact(monkeypatch):
    """Without bf16, where images are compared closely."""
    monkeypatch.setattr(settings, "cpu_has_bf16", lambda: False)


@pytest.fixture
def wild():
    """A network whose velocity is far from constant, as a trained one's is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = small(spec(16)).eval()
        for weight in (p for name, p in model.velocity.named_parameters() if "conv2" in name or "head" in name):
            torch.nn.init.normal_(weight, std=0.1)
    return model.requires_grad_(False)


def drawn(n, side=16, seed=0):
    """Discs whose brightness and place vary: [n, 1, side, side] in [-1, 1], and the two factors [n, 2]."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.rand(n, 2, generator=generator)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centre = side * (0.3 + 0.4 * factors[:, 1, None, None])
    disc = torch.sigmoid(2.0 * (side / 4 - ((y - side / 2) ** 2 + (x - centre) ** 2).sqrt()))
    images = disc * (0.4 + 1.4 * factors[:, 0, None, None]) - 1.0
    return (images[:, None] + 0.05 * torch.randn(n, 1, side, side, generator=generator)).clamp(-1, 1), factors


@pytest.mark.parametrize(
    ("image", "arguments"),
    [
        (spec(28), {"widths": (16, 32, 32)}),
        (spec(64, channels=3), {"patch": 4}),
        (spec(32, 48), {"patch": 1, "depth": 2}),
        (spec(18), {"latent_dim": 7, "widths": (16,)}),
    ],
)
def test_shapes(image, arguments):
    model = small(image, steps=1, **arguments).eval()
    images = torch.randn(3, *image.shape).clamp(-1, 1)
    codes = model.encode(images)
    noise = model.invert(images, codes)
    assert codes.shape == model.sample(3).shape == (3, model.spaces["z"].size)
    assert noise.shape == (3, 2 * image.channels, image.height, image.width)
    assert model.decode(codes).shape == model.decode_with(codes, noise).shape == images.shape
    assert model.latent_affines("z")[0].shape[1] == model.spaces["z"].size
    assert model.decode(codes).abs().max() <= 1.0
    assert model.capabilities == {"encode", "invert", "sample_noise", "latent_affines"}
    assert missing_parts(model) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"widths": (16, 24)}, r"widths=\[16, 24\]: expected multiples of 16$"),
        ({"widths": ()}, "widths="),
        ({"patch": 3}, "patch=3: expected 1, 2 or 4$"),
        ({"steps": 0}, "steps=0"),
        ({"latent_dim": -1}, "latent_dim=-1"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(UserError, match=said):
        small(spec(16), **arguments)


def test_a_size_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"image_size=27: .*nearest: 28$"):
        small(spec(27))


def test_untrained_it_is_the_noise():
    model = small(spec(16)).eval()
    codes, noise = torch.randn(2, 4), 0.3 * torch.randn(2, 1, 16, 16)
    both = torch.cat([noise, noise], dim=1)
    assert torch.equal(model.decode_with(codes, both), noise.clamp(-1, 1)), "a velocity of 0 moves nothing"


def test_the_solver_s_error_falls_with_the_square_of_its_steps(wild, exact):
    slow = wild.velocity.frequencies < 10.0
    wild.velocity.of_time[0].weight[:, ~slow.repeat(2)] = 0.0  # what a random network does with the fast ones is noise
    codes = wild.encode(drawn(4)[0])
    decoded = {}
    for steps in (8, 16, 32, 512):
        wild.steps = steps
        decoded[steps] = wild.decode(codes)
    errors = [float((decoded[steps] - decoded[512]).square().mean().sqrt()) for steps in (8, 16, 32)]
    assert errors[0] > 1e-4, "there is something to integrate"
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] / errors[2] > 12.0, "16 for steps short enough"


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_the_solver_undoes_what_it_did(wild, exact, steps):
    images, wild.steps = drawn(4)[0], steps
    codes = wild.encode(images)
    noise = wild.invert(images, codes)
    assert (noise[:, :1] - images).abs().max() > 0.1, "it did something"
    assert torch.allclose(wild.decode_with(codes, noise), images, atol=1e-4)
    assert (wild.decode_with(codes + 1.0, noise) - images).abs().max() > 0.05, "and with another code another thing"


def test_each_image_has_its_own_noise_and_code(wild, exact):
    images = drawn(3)[0]
    codes = wild.encode(images)
    together = decode_in_parts(wild, codes, "z", wild.invert(images, codes))
    apart = torch.cat(
        [decode_in_parts(wild, wild.encode(i[None]), "z", wild.invert(i[None], wild.encode(i[None]))) for i in images]
    )
    assert torch.allclose(together, apart, atol=1e-5)
    assert torch.equal(wild.decode(codes), wild.decode(codes)), "a function of the code alone"


def test_codes_are_white_and_samples_have_their_covariance():
    model = small(spec(16), latent_dim=3)
    images = drawn(64)[0]
    for _ in range(1000):
        model.encode(images)
    model.eval()
    with torch.no_grad():
        codes = model.encode(images)
        samples = model.sample(20_000, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(codes.mean(0), torch.zeros(3), atol=0.05)
    assert torch.allclose(torch.cov(codes.T, correction=0), torch.eye(3), atol=0.05)
    assert torch.allclose(torch.cov(samples.T), torch.cov(codes.T), atol=0.08)


def test_what_varies_less_than_the_noise_of_training_is_left_out():
    model = small(spec(16), latent_dim=3, spread=0.1).eval()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    model.encoder.correlation.copy_(turn * torch.tensor([2.0, 1.0, 1e-4]) @ turn.T)
    assert model.dimensions == 2
    samples = model.sample(20_000, generator=torch.Generator().manual_seed(1))
    assert (samples @ turn).std(0).tolist() == pytest.approx([1.0, 1.0, 0.0], rel=0.05, abs=1e-5)
    features = model._features(samples)
    assert (features @ turn).std(0).tolist() == pytest.approx([2.0**0.5, 1.0, 0.0], rel=0.05, abs=1e-5)
    weight = model.velocity.of_code.weight
    assert torch.allclose(samples @ model.latent_affines("z")[0].T, features @ weight.T, atol=1e-4)
    assert (model.encode(drawn(8)[0]) @ turn)[:, 2].abs().max() < 1e-5
    dead = turn[:, 2].expand(2, -1)
    assert torch.allclose(model.decode(3.0 * dead), model.decode(0.0 * dead), atol=1e-5), "it decides nothing"


def test_a_training_that_has_ended_knows_the_codes_of_all_images():
    model = small(spec(16), latent_dim=3)
    module = DiffusionAutoencoderModule(model, seed=0, steps=1, optimisation=Optimisation(1e-3))
    images = drawn(96)[0]
    module.settle(images.split(40))
    codes = module.result.eval().encode(images)
    assert module.result.dimensions == 3
    assert torch.allclose(codes.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(torch.cov(codes.T, correction=0), torch.eye(3), atol=1e-3), "white, not about so"


def test_the_common_noise_is_as_strong_as_images_own(exact):
    model = small(spec(16)).eval()  # untrained: its velocity is 0, and so each image is its own noise
    images, before = drawn(96)[0], model.noise.clone()
    model.settle(images.split(40))
    wanted = images[[0, 32, 40, 72, 80]].square().mean().sqrt()
    assert float(model.noise.square().mean().sqrt()) == pytest.approx(float(wanted), rel=1e-5)
    assert torch.allclose(model.noise / before, (model.noise / before).mean(), rtol=1e-5), "only its strength changes"
    x, probe = model.sample_noise(4000, torch.Generator().manual_seed(0)).chunk(2, dim=1)
    assert torch.equal(x, probe), "as the solver begins"
    assert float(x.square().mean()) == pytest.approx(1.0, rel=0.01)
    assert float(x.mean(0).abs().max()) < 0.1, "another for each sample"


def test_codes_can_be_differentiated(wild):
    codes = torch.zeros(2, 4, requires_grad=True)
    wild.decode(codes).mean().backward()
    assert float(codes.grad.abs().min()) > 0.0


def test_a_derivative_taken_forward_is_that_of_a_small_step(wild, exact):
    model = wild.to(memory_format=torch.channels_last)
    code, move = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0))
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(model.decode(forward_ad.make_dual(code, move))).tangent
    step = (model.decode(code + 1e-2 * move) - model.decode(code - 1e-2 * move)) / 2e-2
    inside = model.decode(code).abs() < 0.98  # beyond, images are cut
    assert inside.float().mean() > 0.2
    assert (slope - step)[inside].abs().max() < 0.02 * step[inside].abs().max()


def trained(images_at, steps=200, batch=32, **guided):
    """The result of a training on images_at(step), [batch, 1, 16, 16], and its losses. guided: classifier, weight."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = small(spec(16), steps=4)
    kind = ClassifierGuidedDiffusionAutoencoderModule if guided else DiffusionAutoencoderModule
    module = kind(model, seed=0, steps=steps, optimisation=Optimisation(3e-3, ema_decay=0.98), **guided)
    logged = []
    module.log = lambda *_, **__: None
    module.log_dict = lambda values, **_: logged.append(float(values["train/loss"]))
    module._trainer = SimpleNamespace(global_step=0, global_rank=0)
    adam = module.configure_optimizers()["optimizer"]
    for step in range(steps):
        module._trainer.global_step = step
        adam.zero_grad()
        module.training_step(images_at(step), step).backward()
        adam.step()
        module.averaged.update_parameters(model)
    return module.result.eval().requires_grad_(False), logged


class SeesADot:
    """Whether a dot of 2 x 2 pixels in the corner is bright."""

    task, outputs, differentiable = "binary", ("dot",), True

    def __call__(self, images):
        return torch.sigmoid(10.0 * (images[:, :, :2, :2].mean((2, 3)) + 0.8))


def dotted(n, seed):
    """Noisy discs, and in the corner of each second one a dot: fainter than what else varies."""
    images = drawn(n, seed=seed)[0]
    images[::2, :, :2, :2] += 0.4
    return images


def test_what_it_learns():
    model, losses = trained(lambda step: drawn(32, seed=step)[0])
    assert losses[-1] < 0.5 * losses[0]
    images, factors = drawn(64, seed=10**6)
    codes = model.encode(images)
    alone, exactly = model.decode(codes), decode_in_parts(model, codes, "z", model.invert(images, codes))
    assert float(psnr(exactly, images).mean()) > 35.0
    assert float(psnr(exactly, images).mean() - psnr(alone, images).mean()) > 20.0, "the noise says the rest"
    brightness = torch.stack([alone.mean((1, 2, 3)), images.mean((1, 2, 3))])
    assert float(torch.corrcoef(brightness)[0, 1]) > 0.95, "the code decides what all noise leaves open"
    design = torch.cat([codes, torch.ones(64, 1)], dim=1)
    residual = factors - design @ torch.linalg.lstsq(design, factors).solution
    r2 = 1.0 - residual.var(0) / factors.var(0)
    assert float(r2[0]) > 0.8, "the code holds the brightness"


def test_asked_to_it_keeps_what_a_classifier_sees():
    images, seen = dotted(64, 10**6), SeesADot()
    agreement = []
    for guided in ({}, {"classifier": seen, "weight": 0.3}):
        model, _ = trained(lambda step: dotted(32, step), 120, **guided)
        agreement.append(float(disagreement(seen, seen(model.decode(model.encode(images))), seen(images))))
    assert agreement[1] < 0.5 * agreement[0]
    assert agreement[0] > 0.1, "there is something to keep"


def test_asked_of_rendered_images_it_keeps_what_a_classifier_sees_with_any_noise():
    images, seen = dotted(64, 10**6), SeesADot()
    fresh = torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(3)).repeat(1, 2, 1, 1)
    agreement = []
    for weight in (0.0, 1.0):
        arguments = {"classifier": seen, "weight": 0.0, "rendered_weight": weight, "rendered_from": 0.5}
        model, _ = trained(lambda step: dotted(32, step), 120, **arguments)
        strength = model.noise.square().mean().sqrt()
        found = model.decode_with(model.encode(images), strength * fresh)
        agreement.append(float(disagreement(seen, seen(found), seen(images))))
    assert agreement[1] < 0.7 * agreement[0]
    assert float(strength) < 0.99, "it was weighed when images were first rendered"
