"""DCGAN: shapes, first weights, the matrix that codes enter through, and its loss by hand."""

import math
from itertools import pairwise

import pytest
import torch
from generators.gan import tiny

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec, LatentModel
from medlat.generators.dcgan.networks import DCGAN, DCGANDiscriminator


def image(side, channels=1, width=None):
    return ImageSpec(channels, side, width or side, -1000.0, 2000.0, "HU", 400.0 / side)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (16, 3), (64, 1)])
def test_shapes(side, channels):
    spec = image(side, channels)
    generator, discriminator = DCGAN(spec, latent_dim=5, capacity=2), DCGANDiscriminator(spec, capacity=2)
    assert isinstance(generator, LatentModel)
    codes = generator.sample(3, "z", torch.Generator().manual_seed(0))
    assert codes.shape == (3, 5)
    images = generator.decode(codes)
    assert images.shape == (3, channels, side, side)
    assert images.abs().max() <= 1.0
    logits = discriminator(images)
    assert logits.shape == (3,)
    assert logits.dtype == torch.float32


def test_the_networks_of_the_paper():
    """128², z of 32, 128 channels: the numbers of weights, layer by layer."""
    spec = image(128)
    with torch.device("meta"):
        generator, discriminator = DCGAN(spec), DCGANDiscriminator(spec)
    widths = [128, 256, 512, 1024, 2048]
    between = sum(16 * a * b for a, b in pairwise(widths))
    norms = 2 * sum(widths)
    assert sum(p.numel() for p in generator.parameters()) == 16 * (32 * 2048 + 128 * 1) + between + norms
    assert sum(p.numel() for p in discriminator.parameters()) == 16 * (128 + 2048) + between + norms - 2 * 128


@pytest.mark.parametrize(("side", "nearest"), [(100, 128), (4, 8), (48, 32)])
@pytest.mark.parametrize("network", [DCGAN, DCGANDiscriminator])
def test_a_size_that_does_not_fit_is_named(network, side, nearest):
    with pytest.raises(UserError, match=rf"image_size={side}: .*nearest: {nearest}$"):
        network(image(side))


def test_rectangles_are_refused():
    with pytest.raises(UserError, match=r"image_size=32"):
        DCGAN(image(32, width=16))


def test_bad_arguments_are_named():
    for name in ("latent_dim", "capacity"):
        with pytest.raises(UserError, match=rf"{name}=0"):
            DCGAN(image(16), **{name: 0})
    with pytest.raises(UserError, match=r"capacity=0"):
        DCGANDiscriminator(image(16), capacity=0)


def test_first_weights():
    torch.manual_seed(0)
    network = DCGAN(image(16), latent_dim=32, capacity=32)
    for name, weight in network.named_parameters():
        if weight.dim() == 4:
            assert weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert weight.mean().item() == pytest.approx(0.0, abs=0.002), name
        elif name.endswith("weight"):
            assert weight.mean().item() == pytest.approx(1.0, abs=0.02), name
        else:
            assert weight.abs().max() == 0.0, name


def test_codes_enter_through_the_affine():
    network = DCGAN(image(16), latent_dim=5, capacity=2).eval()
    codes = network.sample(4)
    (matrix,) = network.latent_affines("z")
    first = network.entry(codes[:, :, None, None])
    assert torch.allclose(first.flatten(1), codes @ matrix.T, atol=1e-6)


def test_decode_is_differentiable_in_the_codes():
    network = DCGAN(image(16), latent_dim=5, capacity=2)
    codes = network.sample(2).requires_grad_()
    network.decode(codes).sum().backward()
    assert codes.grad.abs().sum() > 0


def test_soft_labels_by_hand():
    """Targets t: -t·log σ(real) - (1 - t)·log(1 - σ(real)) - log(1 - σ(fake))."""
    real, fake = torch.tensor([0.0, math.log(3.0)]), torch.tensor([math.log(3.0), 0.0])
    others = (math.log(4.0) + math.log(2.0)) / 2.0
    for t in (0.9, 1.0):
        expected = (math.log(2.0) + t * math.log(4.0 / 3.0) + (1.0 - t) * math.log(4.0)) / 2.0 + others
        loss = tiny.dcgan(1, real_labels=[t, t]).discriminator_loss(real, fake, torch.Generator())
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_labels_are_drawn_between_their_bounds():
    """The loss is linear in the targets: it shows their mean."""
    module, real = tiny.dcgan(1, real_labels=[0.6, 0.8]), torch.full((20_000,), 5.0)
    loss = module.discriminator_loss(real, torch.full((1,), -50.0), torch.Generator().manual_seed(0)).item()
    known = math.log1p(math.exp(5.0))
    assert known - loss == pytest.approx(5.0 * 0.7, abs=0.01)
    draws = [module.discriminator_loss(real[:1], real[:1], torch.Generator().manual_seed(s)).item() for s in range(50)]
    assert all(known + known - 5.0 * 0.8 <= d <= known + known - 5.0 * 0.6 for d in draws)
    assert len(set(draws)) > 40


@pytest.mark.parametrize("labels", [[0.0, 1.0], [0.9, 0.8], [0.9, 1.1]])
def test_bad_labels(labels):
    with pytest.raises(UserError, match=r"real_labels="):
        tiny.dcgan(1, real_labels=labels)


def test_the_last_weights_are_the_result(tmp_path):
    (tmp_path / "store").mkdir()
    module = tiny.run(tiny.dcgan(2), tiny.store(tmp_path / "store"), tmp_path / "run")
    assert module.result is module.network
    assert module.network.layers[0].num_batches_tracked == 4, "two turns of two steps"
    assert not module.discriminator.layers[2].running_mean.eq(0.0).any()
