"""The building blocks of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) in plain torch: every one supports double
backward.

All filtering is with the kernel [1, 3, 3, 1] and zero padding, as in the paper's implementation. Where a convolution
changes the resolution, it runs at the lower one: a stride-2 transposed convolution, then the blur (a quarter of the
work of upsample-then-convolve); blur, then a stride-2 convolution.
"""

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = (0.125, 0.375, 0.375, 0.125)  # [1, 3, 3, 1] / 8
SQRT2 = math.sqrt(2.0)
HALF_LIMIT = 256.0


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Filter each channel with the normalised 4x4 kernel: [N, C, H, W] -> [N, C, H + 2·padding - 3, ...]."""
    # Neither torch.compile nor torch.jit can trace a function of its own; what they make is differentiated once only.
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return _filter(x, padding, gain) if traced else _Blur.apply(x, padding, gain)


def _filter(x: Tensor, padding: int, gain: float) -> Tensor:
    channels = int(x.shape[1])  # a number in traces too: ONNX takes no kernel of unknown shape
    kernel = (gain * _kernel(x.dtype, x.device)).expand(channels, 1, 4, 4).contiguous()
    return F.conv2d(x, kernel, padding=padding, groups=channels)


class _Blur(torch.autograd.Function):
    """The kernel is symmetric: the gradient is a blur as well, as often as one differentiates. Left to autograd, a
    second derivative computes the kernel's own as well, channel by channel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, padding: int, gain: float) -> Tensor:
        return _filter(x, padding, gain)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:
        _, ctx.padding, ctx.gain = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return blur(gradient, 3 - ctx.padding, ctx.gain), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return blur(tangent, ctx.padding, ctx.gain)


@cache
def _kernel(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once: on a GPU each new one would wait for the CPU."""
    with torch.inference_mode(False):
        taps = torch.tensor(TAPS, dtype=dtype, device=device)
        return torch.outer(taps, taps)


def upsample(x: Tensor) -> Tensor:
    """Twice the size by zero insertion and the blur with gain 4: [N, C, H, W] -> [N, C, 2H, 2W].

    That is bilinear interpolation of the zero-padded image.
    """
    large = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2.0, mode="bilinear", align_corners=False)
    return large[:, :, 2:-2, 2:-2]


def upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Zero insertion, 3x3 convolution, blur with gain 4: [N, I, H, W], weight [O, I, 3, 3] -> [N, O, 2H, 2W]."""
    return blur(F.conv_transpose2d(x, weight.transpose(0, 1).flip(2, 3), stride=2), padding=1, gain=4.0)


def downsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Blur and convolution of stride 2: [N, I, H, W], weight [O, I, k, k] with k = 1 or 3 -> [N, O, H/2, W/2].

    The stride is the convolution's also where that is 1x1: a depthwise convolution with a stride has a slow gradient.
    """
    return F.conv2d(blur(x, padding=1 + weight.shape[-1] // 2), weight, bias, stride=2)


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate: weights ~ N(0, 1) are scaled by 1/sqrt(in) when used (Karras
    et al. 2018, section 4.1).

    lr_multiplier: scales weights and bias when used; weights start 1/lr_multiplier larger. lrelu: leaky ReLU with gain
                   sqrt(2) follows.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: float = 0.0, lr_multiplier: float = 1.0, lrelu: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.gain, self.lr_multiplier, self.lrelu = lr_multiplier / math.sqrt(inputs), lr_multiplier, lrelu

    def scaled(self) -> Tensor:
        """The weights as they are used, [out, in]."""
        return self.weight * self.gain

    def forward(self, x: Tensor) -> Tensor:
        if not self.lrelu:
            return F.linear(x, self.scaled(), self.bias * self.lr_multiplier)
        # sqrt(2)·lrelu(a) = lrelu(sqrt(2)·a): the gain goes to the weights.
        y = F.linear(x, self.weight * (SQRT2 * self.gain), self.bias * (SQRT2 * self.lr_multiplier))
        return F.leaky_relu(y, 0.2)


class Conv(nn.Module):
    """Convolution of the discriminator with equalised learning rate.

    down: halve the resolution. lrelu: leaky ReLU with gain sqrt(2) follows. clamp: largest magnitude of the output
    (fp16). x: [N, I, H, W] -> [N, O, H', W'] times `gain`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        down: bool = False,
        bias: bool = True,
        lrelu: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain, self.down, self.lrelu, self.clamp = 1.0 / math.sqrt(inputs * kernel**2), down, lrelu, clamp

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        total = gain * (SQRT2 if self.lrelu else 1.0)
        weight = self.weight * (self.gain * total)
        bias = None if self.bias is None else self.bias * total
        if self.down:
            y = downsample_conv(x, weight, bias)
        elif weight.shape[-1] == 1:  # a product over pixels: the convolution is slow for the few channels of images
            y = F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)
        else:
            y = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        y = F.leaky_relu(y, 0.2) if self.lrelu else y
        return clamped(y, None if self.clamp is None else self.clamp * gain)


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, up: bool = False) -> tuple[Tensor, Tensor]:
    """Convolution with weights modulated by the style of each sample and demodulated (section 2.2, equations 1 to 3):
    the input is scaled instead of the weights, and the output by the second result, which the caller applies.

    x: [N, I, H, W], weight: [O, I, k, k], style: [N, I] -> [N, O, H', W'] and demodulation [N, O].
    """
    if in_half_precision(x):  # what demodulation takes back is kept out of half precision's narrow range
        style = style / style.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
    energy = at_least_float32(weight).square().sum(dim=(2, 3))  # [O, I]
    demodulation = (at_least_float32(style).square() @ energy.T + 1e-8).rsqrt()
    x = x * style.to(x.dtype)[:, :, None, None]
    y = upsample_conv(x, weight) if up else F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return y, demodulation


def modulated_linear(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    """Each pixel by weights that are modulated by the style of its sample: [N, I, H, W], weight [O, I], style [N, I] ->
    [N, O, H, W]. The outputs are few: modulating the weights is cheaper than the input.
    """
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # a view of channels_last
    y = pixels @ (weight * style[:, None]).transpose(1, 2).to(x.dtype)
    return y.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def in_half_precision(x: Tensor) -> bool:
    """Whether a convolution of x computes in fp16, whose largest number is 65504."""
    kind = x.device.type
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return x.dtype == torch.float16 or autocast


def clamped(x: Tensor, limit: float | None) -> Tensor:
    """Features within ±limit; in fp16 within ±256 in any case, as in StyleGAN2-ADA."""
    limit = HALF_LIMIT if limit is None and x.dtype == torch.float16 else limit
    return x if limit is None else x.clamp(-limit, limit)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision in float32, the rest as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def normalise(x: Tensor) -> Tensor:
    """Each row to a mean square of 1: [N, D] -> [N, D]."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Append one map with the standard deviation over groups of images, averaged over channels and pixels (Karras et
    al. 2018, section 3): [N, C, H, W] -> [N, C + 1, H, W]. The group is the largest divisor of N up to `group`.
    """
    n, _, height, width = x.shape
    size = max(g for g in range(1, min(group, n) + 1) if n % g == 0)
    y = at_least_float32(x).unflatten(0, (size, n // size))
    variance = (y - y.mean(dim=0)).square().mean(dim=0)  # Tensor.var over the first dimension is slow
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N / size]
    extra = deviation.repeat(size)[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([x, extra.to(x.dtype)], dim=1)
