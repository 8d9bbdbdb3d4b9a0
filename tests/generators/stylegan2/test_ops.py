"""The building blocks against their definitions: zero insertion, a direct FIR filter, grouped convolutions."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from medlat.generators.stylegan2 import ops

KERNEL = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64.0


def fir(x, before, after, gain=1.0):
    """Zero padding and a direct sum over the taps, one by one."""
    x = F.pad(x, (before, after, before, after))
    height, width = x.shape[2] - 3, x.shape[3] - 3
    total = torch.zeros(*x.shape[:2], height, width, dtype=x.dtype)
    for i in range(4):
        for j in range(4):
            total += gain * KERNEL[i, j] * x[:, :, i : i + height, j : j + width]
    return total


def with_zeros(x):
    """A zero behind every pixel, in both directions."""
    large = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)
    large[:, :, ::2, ::2] = x
    return large


@pytest.mark.parametrize("size", [(4, 4), (5, 8), (1, 3)])
@pytest.mark.parametrize("padding", [1, 2])
def test_blur(size, padding):
    x = torch.randn(2, 3, *size)
    if min(size) + 2 * padding < 4:
        return
    torch.testing.assert_close(ops.blur(x, padding, gain=2.0), fir(x, padding, padding, 2.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 4), (5, 8), (1, 3)])
def test_upsampling_is_zero_insertion_and_a_filter(size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(ops.upsample(x), fir(with_zeros(x), 2, 1, gain=4.0), rtol=0, atol=1e-5)


def test_upsampling_of_one_pixel_by_hand():
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 0, 0] = 16.0
    taps = torch.tensor([3.0, 3.0, 1.0, 0.0])  # the first tap falls outside the image
    assert torch.allclose(ops.upsample(x)[0, 0], torch.outer(taps, taps))


@pytest.mark.parametrize("size", [(4, 4), (5, 8)])
def test_upsampling_convolution(size):
    """Against zero insertion, 3x3 convolution (as a transposed one: its kernel turned), then the filter."""
    x, weight = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(5, 3, 3, 3, dtype=torch.float64)
    full = F.conv2d(F.pad(with_zeros(x), (2, 1, 2, 1)), weight)  # [.., 2H + 1, 2W + 1]
    torch.testing.assert_close(ops.upsample_conv(x, weight), fir(full, 1, 1, gain=4.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 4), (6, 8)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_downsampling_convolution(size, kernel):
    x, weight = torch.randn(2, 3, *size), torch.randn(5, 3, kernel, kernel)
    padding = 1 + kernel // 2
    expected = F.conv2d(fir(x, padding, padding), weight)[:, :, ::2, ::2]
    found = ops.downsample_conv(x, weight)
    assert found.shape == (2, 5, size[0] // 2, size[1] // 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_is_a_grouped_one(up):
    """Karras et al. 2020, equations 1 to 3: w'_ijk = s_i w_ijk, w''_ijk = w'_ijk / sqrt(sum w'² + ε), per sample."""
    n, inputs, outputs, size = 3, 4, 5, 6
    x, weight, style = torch.randn(n, inputs, size, size), torch.randn(outputs, inputs, 3, 3), torch.randn(n, inputs)
    kernels = weight[None] * style[:, None, :, None, None]
    kernels = kernels * (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    if up:
        expected = torch.cat([ops.upsample_conv(x[i : i + 1], kernels[i]) for i in range(n)])
    else:
        grouped = F.conv2d(x.reshape(1, -1, size, size), kernels.flatten(0, 1), padding=1, groups=n)
        expected = grouped.reshape(n, outputs, size, size)
    found, demodulation = ops.modulated_conv(x, weight, style, up)
    torch.testing.assert_close(found * demodulation[:, :, None, None], expected, rtol=1e-4, atol=1e-5)


def test_modulated_linear_is_a_grouped_convolution_of_single_pixels():
    n, inputs, outputs = 3, 4, 2
    x, weight, style = torch.randn(n, inputs, 6, 8), torch.randn(outputs, inputs), torch.randn(n, inputs)
    kernels = (weight[None] * style[:, None]).flatten(0, 1)[:, :, None, None]
    expected = F.conv2d(x.reshape(1, -1, 6, 8), kernels, groups=n).reshape(n, outputs, 6, 8)
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        found = ops.modulated_linear(images, weight, style)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_modulated_convolution_in_half_precision_keeps_large_styles():
    x, weight = torch.ones(1, 2, 4, 4, dtype=torch.float16), torch.ones(1, 2, 1, 1, dtype=torch.float16)
    found, demodulation = ops.modulated_conv(x, weight, torch.full((1, 2), 1e6))
    assert torch.isfinite(found).all()
    assert (found.float() * demodulation).mean().item() == pytest.approx(math.sqrt(2.0), rel=1e-2)


def test_equalised_linear_by_hand():
    layer = ops.Linear(4, 1, bias=3.0, lr_multiplier=0.5)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    assert layer(torch.ones(1, 4)).item() == pytest.approx(4 * 2.0 * 0.5 / 2.0 + 3.0)
    assert layer.bias.item() == 6.0, "larger by 1 / lr_multiplier, used smaller"


def test_leaky_relu_has_gain_sqrt2():
    layer = ops.Linear(1, 1, lrelu=True)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(0.5)
    for x in (1.0, -2.0):
        y = x + 0.5
        assert layer(torch.tensor([[x]])).item() == pytest.approx(math.sqrt(2.0) * (y if y > 0 else 0.2 * y))


def test_convolution_of_the_discriminator_by_hand():
    conv = ops.Conv(4, 1, 1, clamp=3.0)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    x = torch.ones(1, 4, 2, 2)
    assert conv(x).flatten().tolist() == pytest.approx([4 * 0.5 * math.sqrt(2.0)] * 4)
    assert conv(2.0 * x).flatten().tolist() == [3.0] * 4, "clamped"
    assert conv(x, gain=0.5).flatten().tolist() == pytest.approx([2 * 0.5 * math.sqrt(2.0)] * 4)


def test_normalise():
    z = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert ops.normalise(z).square().mean(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_minibatch_deviation_by_hand():
    """Two groups of two images: 0 and 2 in the first (deviation 1), twice the same in the second."""
    x = torch.tensor([0.0, 5.0, 2.0, 5.0])[:, None, None, None].expand(-1, 3, 2, 2)
    found = ops.minibatch_deviation(x, group=2)
    assert found.shape == (4, 4, 2, 2)
    assert found[:, 3, 0, 0].tolist() == pytest.approx([1.0, 1e-4, 1.0, 1e-4], abs=1e-5)
    assert ops.minibatch_deviation(x[:3], group=2)[:, 3].abs().max() < 1e-3, "3 images are no groups of 2"


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, w: ops.blur(x, 1),
        lambda x, w: ops.upsample(x),
        lambda x, w: ops.upsample_conv(x, w),
        lambda x, w: ops.downsample_conv(x, w),
        lambda x, w: ops.modulated_conv(x, w, x.mean(dim=(2, 3)) + 2.0)[0],
        lambda x, w: ops.modulated_linear(x, w[:, :, 0, 0], x.mean(dim=(2, 3)) + 2.0),
        lambda x, w: functional_call(ops.Conv(2, 2, 1, bias=False), {"weight": w[:, :, :1, :1]}, x),
        lambda x, w: ops.minibatch_deviation(x, 2),
    ],
    ids=[
        "blur",
        "upsample",
        "upsample_conv",
        "downsample_conv",
        "modulated_conv",
        "modulated_linear",
        "pixelwise",
        "minibatch_deviation",
    ],
)
def test_second_derivatives(operation):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a, b: operation(a, b), (x, weight), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_in_channels_last_whatever_the_images_are(channels):
    assert ops.Conv(channels, 8, 1)(torch.ones(2, channels, 4, 4)).is_contiguous(memory_format=torch.channels_last)


def test_torch_compile_traces_the_blur_whole():
    torch.compile(ops.blur, fullgraph=True, backend="eager")(torch.ones(1, 2, 4, 4, requires_grad=True), 1)


@pytest.mark.parametrize("padding", [1, 2])
def test_the_blur_is_linear_to_every_way_of_differentiating(padding):
    """Reverse and forward mode, vectorised: the Jacobian is what the blur does to each unit image."""
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)

    def filtered(images):
        return ops.blur(images, padding, 3.0)

    units = torch.eye(32, dtype=torch.float64).unflatten(1, (1, 2, 4, 4))
    expected = torch.stack([filtered(unit) for unit in units], dim=-1).unflatten(-1, (1, 2, 4, 4))
    torch.testing.assert_close(torch.func.jacrev(filtered)(x), expected)
    torch.testing.assert_close(torch.func.jacfwd(filtered)(x), expected)
