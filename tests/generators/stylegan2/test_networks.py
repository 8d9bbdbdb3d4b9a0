"""Sizes, spaces, truncation and noise of StyleGAN2, and the numbers of its parameters."""

import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec, LatentModel
from medlat.generators.stylegan2.discriminator import Discriminator
from medlat.generators.stylegan2.networks import StyleGAN2

SMALL = {"z_dim": 6, "w_dim": 5, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}


def image(height, width=None, channels=1):
    return ImageSpec(channels, height, width or height, -1000.0, 2000.0, "HU", 1.0)


def small(spec=None, **arguments):
    torch.manual_seed(0)
    network = StyleGAN2(spec or image(16), **{**SMALL, **arguments}).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
    return network


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("side", "channel_base", "generator", "discriminator"),
    [
        (1024, 32768, 30_370_060, 29_012_513),  # configuration F, as Karras et al.'s own code prints them
        (256, 16384, 24_767_458, 24_001_089),  # StyleGAN2-ADA's paper256: half the channels
    ],
)
def test_as_many_parameters_as_in_the_paper(side, channel_base, generator, discriminator):
    spec = image(side, channels=3)
    with torch.device("meta"):
        assert count(StyleGAN2(spec, channel_base=channel_base)) == generator
        assert count(Discriminator(spec, channel_base=channel_base)) == discriminator


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "base"), [((32, 32), None), ((16, 48), (2, 6)), ((40, 24), (5, 3))])
def test_shapes(channels, size, base):
    spec = image(*size, channels)
    network = small(spec, base=base)
    assert isinstance(network, LatentModel)
    images = network.decode(network.sample(3))
    assert images.shape == (3, channels, *size)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1.0
    discriminator = Discriminator(spec, channel_base=64, channel_max=8, base=base)
    assert discriminator(images).shape == (3,)


def test_every_space_decodes_to_the_same_images():
    network = small(truncation=0.7)
    network.w_mean += 0.3
    draws = {s: network.sample(4, s, torch.Generator().manual_seed(3)) for s in network.spaces}
    assert {s: tuple(c.shape[1:]) for s, c in draws.items()} == {s: x.shape for s, x in network.spaces.items()}
    images = {s: network.decode(c, s) for s, c in draws.items()}
    for space in ("w", "w+", "s"):
        torch.testing.assert_close(images[space], images["z"], rtol=0, atol=1e-6)


def test_layers_of_w_plus_act_on_what_comes_after_them():
    """Changing the last code changes only the last layer's colours; the first changes everything."""
    network = small(noise="off")
    codes = network.sample(1, "w+")
    last = codes.clone()
    last[:, -1] += 1.0
    with torch.no_grad():
        styles = [network.synthesis.styles(c) for c in (codes, last)]
    changed = [not torch.equal(a, b) for a, b in zip(*styles, strict=True)]
    assert changed == [False] * (len(changed) - 1) + [True]


def test_truncation_by_hand():
    network = small(truncation=0.25)
    network.w_mean.copy_(torch.arange(5.0))
    w = torch.ones(1, 5)
    assert network.truncate(w)[0].tolist() == pytest.approx([m + 0.25 * (1.0 - m) for m in range(5)])
    network.truncation = 0.0
    assert torch.equal(network.sample(2, "w")[0], network.w_mean), "all codes are the mean"


def test_the_mean_w_by_hand():
    network = small()
    network.track_mean(torch.tensor([[1.0] * 5, [3.0] * 5]), decay=0.9)
    assert network.w_mean.tolist() == pytest.approx([0.2] * 5)
    network.track_mean(torch.full((1, 5), 2.0), decay=0.9)
    assert network.w_mean.tolist() == pytest.approx([0.9 * 0.2 + 0.2] * 5)


def test_noise():
    network = small()
    codes = network.sample(2)
    fixed = network.decode(codes)
    assert torch.equal(fixed, network.decode(codes))
    network.noise = "off"
    off = network.decode(codes)
    assert not torch.allclose(fixed, off)
    network.noise = "random"
    assert not torch.equal(network.decode(codes), network.decode(codes))
    maps = network.noise_maps(2, "random", torch.Generator().manual_seed(0))
    again = network.noise_maps(2, "random", torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(maps, again, strict=True))


def test_clamped_features():
    network = small(clamp=0.01, noise="off")
    assert network.decode(network.sample(2)).abs().max() <= 3 * 0.01 * 4, "three resolutions, upsampled with gain 4 / 4"


def test_affines_are_the_derivative_of_the_styles():
    network = small()
    w = network.sample(1, "w")[0]
    jacobian = torch.autograd.functional.jacobian(
        lambda v: torch.cat(network.synthesis.styles(network.broadcast(v[None])), 1)[0], w
    )
    torch.testing.assert_close(torch.cat(network.latent_affines("w")), jacobian)
    codes = network.sample(1, "w+")[0]
    wide = torch.autograd.functional.jacobian(lambda v: torch.cat(network.synthesis.styles(v[None]), 1)[0], codes)
    torch.testing.assert_close(torch.cat(network.latent_affines("w+")), wide.flatten(1))


@pytest.mark.parametrize("space", ["w", "z", "w+", "s"])
def test_affines_fit_their_space(space):
    network = small()
    assert all(a.shape[1] == network.spaces[space].size for a in network.latent_affines(space))
    assert sum(len(a) for a in network.latent_affines(space)) > 0


def test_affines_of_styles_are_the_kernels():
    """Output of the first modulated convolution per style channel, for an input of ones at the middle pixel."""
    network = small(noise="off")
    affine, layer = network.latent_affines("s")[0], network.synthesis.convs[0]
    inputs = layer.weight.shape[1]
    assert torch.equal(affine[:, inputs:], torch.zeros_like(affine[:, inputs:])), "only its own style"
    assert affine[:, :inputs].square().sum().item() == pytest.approx(layer.weight.square().sum().item(), rel=1e-5)


def test_decode_is_differentiable_in_the_codes_of_every_space():
    network = small()
    for space in network.spaces:
        codes = network.sample(2, space).requires_grad_()
        network.decode(codes, space).sum().backward()
        assert codes.grad.abs().sum() > 0


def test_the_mapping_normalises_its_input():
    network = small()
    z = network.sample(3, "z")
    torch.testing.assert_close(network.mapping(z), network.mapping(7.0 * z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "base", "nearest"), [((100, 100), None, "128"), ((64, 32), None, "64"), ((30, 44), (2, 3), "32x48")]
)
def test_a_size_that_does_not_fit_is_named(size, base, nearest):
    for network in (StyleGAN2, Discriminator):
        with pytest.raises(UserError, match=rf"image_size={size[0]}: .*nearest: {nearest}$"):
            network(image(*size), base=base)


@pytest.mark.parametrize(
    "arguments", [{"z_dim": 0}, {"mapping_layers": 0}, {"truncation": 1.5}, {"channel_base": 3}, {"base": (0, 4)}]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UserError, match=f"{next(iter(arguments))}="):
        StyleGAN2(image(16), **arguments)


def test_the_discriminator_does_not_mind_which_format_images_come_in():
    torch.manual_seed(0)
    discriminator = Discriminator(image(16), channel_base=64, channel_max=8)
    images = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(
        discriminator(images), discriminator(images.contiguous(memory_format=torch.channels_last))
    )


def test_the_discriminator_sees_whether_images_differ():
    torch.manual_seed(0)
    discriminator = Discriminator(image(16), channel_base=64, channel_max=8, group=2)
    one = torch.randn(1, 1, 16, 16)
    same, mixed = one.repeat(2, 1, 1, 1), torch.cat([one, torch.randn(1, 1, 16, 16)])
    assert (discriminator(same)[0] - discriminator(mixed)[0]).abs() > 1e-4


def test_a_thousand_pixels():
    network = StyleGAN2(image(1024), z_dim=4, w_dim=4, mapping_layers=1, channel_base=1024, channel_max=4)
    assert network.decode(network.sample(1)).shape == (1, 1, 1024, 1024)
    assert len(network.synthesis.convs) == 17
    assert network.spaces["w+"].shape == (18, 4), "18 codes at 1024², as in the paper"
