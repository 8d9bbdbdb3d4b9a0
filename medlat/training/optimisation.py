"""How weights move: optimiser, learning rate over time, averaging. Torch only; Lightning modules of all generators use
it.
"""

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Betas, Positive, ShareBelowOne


class Optimisation:
    """Adam with a warm-up, and an exponential moving average of the weights.

    learning_rate: of Adam. betas: of Adam.
    warmup:        share of the steps over which the learning rate rises from 0.
    schedule:      after the warm-up: "constant", or "cosine" down to 0.
    gradient_clip: largest norm of all gradients together; null: not clipped.
    ema_decay:     of the averaged weights, which are the result; it rises over the first steps as (1 + t)/(10 + t).
    """

    def __init__(
        self,
        learning_rate: Positive = 1e-3,
        betas: Betas | None = None,
        warmup: ShareBelowOne = 0.02,
        schedule: Literal["constant", "cosine"] = "cosine",
        gradient_clip: Positive | None = 1.0,
        ema_decay: ShareBelowOne = 0.998,
    ) -> None:
        _check(learning_rate > 0.0, "learning_rate", learning_rate, "a number above 0")
        _check(0.0 <= warmup < 1.0, "warmup", warmup, "a share from 0 to below 1")
        _check(0.0 <= ema_decay < 1.0, "ema_decay", ema_decay, "a number from 0 to below 1")
        _check(
            gradient_clip is None or gradient_clip > 0.0, "gradient_clip", gradient_clip, "a number above 0, or null"
        )
        self.betas = tuple(betas or (0.9, 0.999))
        _check(len(self.betas) == 2 and all(0.0 <= b < 1.0 for b in self.betas), "betas", betas, "two numbers below 1")
        self.learning_rate, self.warmup, self.schedule = learning_rate, warmup, schedule
        self.gradient_clip, self.ema_decay = gradient_clip, ema_decay

    def adam(self, network: nn.Module) -> torch.optim.Adam:
        """The optimiser of a network."""
        return torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=self.betas)  # type: ignore[arg-type]

    def rise(self, step: int, steps: int) -> float:
        """0 to 1 over the warm-up, 1 after it."""
        return min(1.0, (step + 1) / max(1.0, self.warmup * steps))

    def factor(self, step: int, steps: int) -> float:
        """Of the learning rate at a step."""
        fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps))) if self.schedule == "cosine" else 1.0
        return self.rise(step, steps) * fall

    def averaged(self, network: nn.Module) -> AveragedModel:
        """A copy of the network; `update_parameters` moves its weights to the network's, and copies its buffers."""
        return AveragedModel(network, multi_avg_fn=partial(_average, self.ema_decay), use_buffers=False)


def _average(most: float, averaged: Any, current: Any, count: Any) -> None:
    """Move averages to the current weights, by less and less; most: of the average that stays."""
    decay = min(most, (1.0 + float(count)) / (10.0 + float(count)))
    get_ema_multi_avg_fn(decay)(averaged, current, count)


class Adam:
    """Adam at a constant learning rate, one for each network of a GAN.

    learning_rate; betas: of the running means of gradient and squared gradient; epsilon: added to the root of the
    latter.
    """

    def __init__(self, learning_rate: Positive, betas: Betas | None = None, epsilon: Positive = 1e-8) -> None:
        _check(learning_rate > 0.0, "learning_rate", learning_rate, "a number above 0")
        _check(epsilon > 0.0, "epsilon", epsilon, "a number above 0")
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self.betas = tuple(map(float, betas or (0.9, 0.999)))
        good = len(self.betas) == 2 and all(0.0 <= b < 1.0 for b in self.betas)
        _check(good, "betas", betas, "two numbers below 1")

    def of(self, network: nn.Module) -> torch.optim.Adam:
        """The optimiser of a network."""
        parameters, betas = network.parameters(), self.betas
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=betas, eps=self.epsilon)  # type: ignore[arg-type]


class Averaging:
    """Exponential moving average of a generator's weights over the images shown (Karras et al. 2018 on; the ramp-up is
    that of StyleGAN2-ADA).

    half_life: images after which a weight counts half; ramp_up: the half-life is at most this share of the images
    shown so far (null: no ramp).
    """

    def __init__(self, half_life: Positive = 10_000, ramp_up: Positive | None = 0.05) -> None:
        _check(half_life > 0.0, "half_life", half_life, "a number of images above 0")
        _check(ramp_up is None or ramp_up > 0.0, "ramp_up", ramp_up, "a share above 0, or null")
        self.half_life, self.ramp_up = half_life, ramp_up

    def decay(self, shown: int, batch: int) -> float:
        """Of a step with `batch` images, after `shown` images."""
        half_life = self.half_life if self.ramp_up is None else min(self.half_life, self.ramp_up * shown)
        return 0.5 ** (batch / half_life) if half_life > 0.0 else 0.0

    @torch.no_grad()
    def update(self, averaged: nn.Module, network: nn.Module, decay: float) -> None:
        """averaged = decay·averaged + (1 - decay)·network for the parameters; buffers are copied."""
        ours: list[Tensor] = list(averaged.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1.0 - decay)
        for buffer, other in zip(averaged.buffers(), network.buffers(), strict=True):
            buffer.copy_(other)


def _check(good: bool, name: str, value: Any, expected: str) -> None:
    if not good:
        raise ArgumentError(name, f"expected {expected}", value)
