"""Linear maps of images that can be derived to any order and are exact inside autocast."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def linear_map(images: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
    """there(images), where `back` is the transpose of the linear map `there`: each is the other's derivative.

    torch's own derivative of grid_sample cannot be derived again in some releases. Inside autocast, both ways compute
    in the precision of the images.
    """
    return _LinearMap.apply(images, there, back)


class _LinearMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, there: Callable, back: Callable) -> Tensor:
        ctx.there, ctx.back = there, back
        with torch.autocast(images.device.type, enabled=False):
            return there(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _LinearMap.apply(gradients[0], ctx.back, ctx.there), None, None
