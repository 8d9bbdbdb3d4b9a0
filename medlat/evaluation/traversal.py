"""Traversals: the images decoded along directions from base codes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from medlat.core.spaces import Directions, LatentModel, decode_in_parts, device_of, stack_steps


@torch.inference_mode()
def traverse(
    model: LatentModel,
    directions: Directions,
    codes: Tensor,
    steps: list[float],
    sigma: Tensor,
    noise: Tensor | None = None,
) -> Iterator[Tensor]:
    """For each direction the images [N, S, C, H, W] in [-1, 1] of N base codes at S steps.

    sigma: [K], the length of a step along each.
    noise: [N, ...] that belongs to the codes' images and stays, where it is known.
    """
    device = device_of(model)
    kept = None if noise is None else noise.repeat_interleave(len(steps), dim=0)
    for vector, scale in zip(directions.vectors, sigma, strict=True):
        moved = stack_steps(codes.cpu(), (vector * scale)[None], steps)[:, 0]  # [N, S, *shape]
        images = decode_in_parts(model, moved.flatten(0, 1).to(device), directions.space.name, kept)
        yield images.unflatten(0, moved.shape[:2])
