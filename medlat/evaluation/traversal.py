"""Traversals: the images decoded along directions from base codes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from medlat.core.spaces import Directions, LatentModel, decode_in_parts, stack_steps

EMPIRICAL_SAMPLES = 4096


def latent_sigma(model: LatentModel, directions: Directions, generator: torch.Generator) -> Tensor:
    """Standard deviation of the space's codes along each direction, [K]: the unit of a step.

    1 for a standard normal prior; measured on samples of an empirical one.
    """
    if directions.space.prior == "normal":
        return torch.ones(len(directions))
    codes = model.sample(EMPIRICAL_SAMPLES, directions.space.name, generator).flatten(1).cpu()
    return (codes @ directions.vectors.flatten(1).T).std(dim=0)


@torch.inference_mode()
def traverse(
    model: LatentModel,
    directions: Directions,
    codes: Tensor,
    steps: list[float],
    sigma: Tensor,
    noise: Tensor | None = None,
) -> Iterator[Tensor]:
    """For each direction the images [N, S, C, H, W] in [-1, 1] of N base codes at S steps (in σ of the space).

    noise: [N, ...] that belongs to the codes' images and stays, where it is known.
    """
    kept = None if noise is None else noise.repeat_interleave(len(steps), dim=0)
    for vector, scale in zip(directions.vectors, sigma, strict=True):
        moved = stack_steps(codes.cpu(), (vector * scale)[None], steps)[:, 0]  # [N, S, *shape]
        images = decode_in_parts(model, moved.flatten(0, 1).to(codes.device), directions.space.name, kept)
        yield images.unflatten(0, moved.shape[:2])
