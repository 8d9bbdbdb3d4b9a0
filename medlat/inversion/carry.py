"""Codes from one space to another, and what codes of a space are like."""

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.spaces import Directions, LatentModel
from medlat.generators.stylegan2.networks import StyleGAN2

FORWARD = ("z", "w", "w+", "s")  # the way a code takes through StyleGAN2
SMALLEST_DEVIATION = 1e-3  # of a coordinate, relative to the largest: what never varies still has a unit


@torch.no_grad()
def carry(model: LatentModel, codes: Tensor, source: str, target: str) -> Tensor:
    """Codes [N, *shape] of the space `source` -> the codes of `target` with the same images.

    Of StyleGAN2, forward alone: z (truncated as `decode` does) -> w -> w+ -> s. Raises UserError for any other way, as
    several codes, or none, may have that image.
    """
    assert codes.shape[1:] == model.spaces[source].shape, (codes.shape, source)
    if source == target:
        return codes
    reached = _reached(model, source)
    if target not in reached:
        raise ArgumentError(
            "space",
            f"images are inverted into {source}, and this generator carries no code from there to {target}; "
            f"expected {' or '.join([source, *reached])}, or images inverted into {target}",
            target,
        )
    assert isinstance(model, StyleGAN2)
    for step in FORWARD[FORWARD.index(source) + 1 : FORWARD.index(target) + 1]:
        codes = _STEPS[step](model, codes)
    return codes


def lift(model: LatentModel, directions: Directions, space: str) -> Directions:
    """Directions as directions of the space that images are inverted into, or of one that codes can be carried to.

    Of StyleGAN2, a direction in w is one in w+ that moves all layers alike. Raises UserError for any other way back.
    """
    own = directions.space.name
    if own == space or own in _reached(model, space):
        return directions
    if (own, space) != ("w", "w+"):
        raise ArgumentError(
            "space",
            f"images are inverted into {space}, and a direction in {own} is none there; expected "
            f"{' or '.join([space, *_reached(model, space)])}",
            own,
        )
    assert isinstance(model, StyleGAN2)
    wide = model.broadcast(directions.vectors)
    vectors = wide / wide.flatten(1).norm(dim=1)[:, None, None]
    return Directions(vectors, directions.scores, directions.names, directions.method, model.spaces[space])


def _reached(model: LatentModel, source: str) -> tuple[str, ...]:
    """The spaces that codes of this one can be carried to."""
    return FORWARD[FORWARD.index(source) + 1 :] if isinstance(model, StyleGAN2) else ()


_STEPS = {
    "w": lambda model, codes: model.truncate(model.mapping(codes)),
    "w+": lambda model, codes: model.broadcast(codes),
    "s": lambda model, codes: torch.cat(model.synthesis.styles(codes), dim=1),
}


@torch.no_grad()
def code_statistics(model: LatentModel, space: str, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the codes that the generator knows, both [*space.shape], on its device.

    Of a standard normal prior they are known; of another, estimated from n samples, and a coordinate that hardly
    varies has a thousandth of the largest deviation.
    """
    if model.spaces[space].prior == "normal":
        mean = torch.zeros_like(model.sample(1, space, generator)[0])
        return mean, torch.ones_like(mean)
    codes = model.sample(n, space, generator)
    deviation, mean = torch.std_mean(codes, dim=0)
    return mean, deviation.clamp_min(SMALLEST_DEVIATION * float(deviation.max()))
