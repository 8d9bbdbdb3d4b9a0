"""Losses by hand; penalties in closed form, and their derivatives through the real networks against differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from medlat.core.spaces import ImageSpec
from medlat.generators.gan.losses import discriminator_logistic, generator_logistic, gradient_penalty, path_lengths
from medlat.generators.stylegan2.discriminator import Discriminator
from medlat.generators.stylegan2.networks import StyleGAN2

SMALL = ImageSpec(1, 8, 8, -1000.0, 2000.0, "HU", 50.0)
CHANNELS = {"channel_base": 16, "channel_max": 4}


def test_logistic_losses_by_hand():
    real, fake = torch.tensor([0.0, math.log(3.0)]), torch.tensor([0.0, -math.log(3.0)])
    half = (math.log(2.0) + math.log(4.0 / 3.0)) / 2.0  # -log σ(0), -log σ(log 3)
    assert discriminator_logistic(real, fake).item() == pytest.approx(2.0 * half)
    assert generator_logistic(fake).item() == pytest.approx((math.log(2.0) + math.log(4.0)) / 2.0)


def test_a_discriminator_that_knows_everything_loses_nothing():
    sure = torch.full((4,), 50.0)
    assert discriminator_logistic(sure, -sure).item() == pytest.approx(0.0, abs=1e-6)
    assert generator_logistic(-sure).item() == pytest.approx(50.0), "and still teaches the generator"


def test_penalty_of_a_linear_discriminator_is_its_squared_norm():
    weight = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    images = torch.randn(5, 1, 6, 6)
    penalty = gradient_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)) + 7.0, images)
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)
    penalty.backward()
    assert torch.allclose(weight.grad, 2.0 * weight, rtol=1e-5)


def test_penalty_is_the_mean_over_images():
    images = torch.arange(8.0).view(2, 1, 2, 2)
    penalty = gradient_penalty(lambda x: 1.5 * x.square().sum(dim=(1, 2, 3)), images)  # its gradient is 3x
    assert penalty.item() == pytest.approx(9.0 * (0 + 1 + 4 + 9 + 16 + 25 + 36 + 49) / 2.0)
    assert not images.requires_grad, "the caller's images are left as they are"


def test_path_lengths_of_a_linear_generator():
    rng = torch.Generator().manual_seed(0)
    jacobian = torch.randn(3, 4, 25, generator=rng, dtype=torch.float64).requires_grad_()  # of 3 codes of length 4
    codes = torch.randn(2, 3, 4, generator=rng, dtype=torch.float64).requires_grad_()
    noise = torch.randn(2, 1, 5, 5, generator=rng, dtype=torch.float64)
    images = torch.einsum("nld,ldp->np", codes, jacobian).view(2, 1, 5, 5)
    lengths = path_lengths(images, codes, noise)
    products = torch.einsum("ldp,np->nld", jacobian, noise.flatten(1)) / 5.0  # y has variance 1/(H·W)
    assert torch.allclose(lengths, products.square().sum(dim=2).mean(dim=1).sqrt())
    assert lengths.requires_grad


def test_mean_squared_path_length_is_the_jacobian_s_energy():
    """E|Jᵀy|² = |J|²/(H·W), whatever the code."""
    rng = torch.Generator().manual_seed(0)
    jacobian = torch.randn(1, 4, 64, generator=rng)
    codes = torch.randn(20_000, 1, 4, generator=rng).requires_grad_()
    images = torch.einsum("nld,ldp->np", codes, jacobian).view(-1, 1, 8, 8)
    lengths = path_lengths(images, codes, torch.randn(images.shape, generator=rng))
    assert lengths.square().mean().item() == pytest.approx(jacobian.square().sum().item() / 64.0, rel=0.02)


def test_a_generator_without_paths_has_no_nan():
    scale = torch.zeros(1, requires_grad=True)
    codes = torch.randn(2, 1, 16).requires_grad_()
    lengths = path_lengths((codes * scale).view(2, 1, 4, 4), codes, torch.randn(2, 1, 4, 4))
    assert torch.allclose(lengths, torch.zeros(2), atol=1e-7)
    lengths.sum().backward()
    assert scale.grad.tolist() == [0.0]


# --- through the networks, in float64 ---------------------------------------------------------------------------------


@pytest.fixture
def exact(monkeypatch):
    """The networks compute in float32 at least, and say so with `.float()`: float64 stays what it is."""
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else x.to(torch.float32))


@pytest.fixture
def discriminator(exact):
    torch.manual_seed(0)
    network = Discriminator(SMALL, **CHANNELS).double()
    return move_away_from_zero(network)


@pytest.fixture
def generator(exact):
    torch.manual_seed(0)
    network = StyleGAN2(SMALL, z_dim=3, w_dim=3, mapping_layers=2, mapping_lr_multiplier=0.5, **CHANNELS).double()
    return move_away_from_zero(network)


def move_away_from_zero(network):
    """Biases and noise strengths begin at 0, where nothing depends on them yet."""
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def images(n=2):
    return torch.randn(n, *SMALL.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def codes(generator, n=2):
    rng = torch.Generator().manual_seed(2)
    return torch.randn(n, generator.synthesis.codes, 3, generator=rng, dtype=torch.float64).requires_grad_()


def synthesise(generator, w):
    return generator.synthesis(generator.synthesis.styles(w), generator.noise_maps(len(w), "fixed"))


def with_parameters(network, names, function):
    """`function` of a call of the network, as a function of these parameters; and their values."""
    values = tuple(network.get_parameter(name).detach().clone().requires_grad_() for name in names)

    def value(*parameters):
        replaced = dict(zip(names, parameters, strict=True))
        return function(lambda *x: functional_call(network, replaced, x))

    return value, values


def test_second_derivatives_of_the_discriminator(discriminator):
    assert gradcheck(discriminator, (images().requires_grad_(),))
    assert gradgradcheck(discriminator, (images().requires_grad_(),))


def test_second_derivatives_of_the_generator(generator):
    assert gradcheck(lambda w: synthesise(generator, w), (codes(generator),))
    assert gradgradcheck(lambda w: synthesise(generator, w), (codes(generator),))


DISCRIMINATOR = ["from_image.weight", "blocks.0.conv1.bias", "blocks.0.skip.weight", "conv.bias", "output.weight"]


def test_gradient_of_r1_in_the_weights(discriminator):
    x = images()
    penalty, values = with_parameters(discriminator, DISCRIMINATOR, lambda judge: gradient_penalty(judge, x))
    assert penalty(*values).item() > 0.0
    assert gradcheck(penalty, values)
    found = torch.autograd.grad(penalty(*values), values)
    assert all(g.abs().max() > 1e-4 for n, g in zip(DISCRIMINATOR, found, strict=True) if n.endswith("weight"))


GENERATOR = [
    "mapping.layers.1.bias",
    "synthesis.constant",
    "synthesis.convs.1.affine.weight",
    "synthesis.convs.1.noise_strength",
    "synthesis.to_image.1.weight",
]


class PathLengths(torch.nn.Module):
    """The whole penalty of a generator, for given z and noise."""

    def __init__(self, generator):
        super().__init__()
        self.mapping, self.synthesis, self.network = generator.mapping, generator.synthesis, [generator]

    def forward(self, z, noise):
        w = self.network[0].broadcast(self.mapping(z))
        lengths = path_lengths(synthesise(self.network[0], w), w, noise)
        return (lengths - 0.3).square().mean()


def test_gradient_of_the_path_length_penalty_in_the_weights(generator):
    rng = torch.Generator().manual_seed(3)
    z, noise = (torch.randn(2, n, generator=rng, dtype=torch.float64) for n in (3, 64))
    whole = PathLengths(generator)
    penalty, values = with_parameters(whole, GENERATOR, lambda call: call(z, noise.view(2, 1, 8, 8)))
    assert penalty(*values).item() > 0.0
    assert gradcheck(penalty, values)
    assert all(g.abs().max() > 1e-5 for g in torch.autograd.grad(penalty(*values), values))
