"""Codes and directions from one space to another, and what codes of a space are like."""

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.spaces import Directions, LatentModel

SMALLEST_DEVIATION = 1e-3  # of a coordinate, relative to the largest: what never varies still has a unit


@torch.no_grad()
def map_codes(model: LatentModel, codes: Tensor, source: str, target: str) -> Tensor:
    """Codes [N, *shape] of the space `source` -> the codes of `target` with the same images.

    Raises UserError where the generator knows no such way, as several codes, or none, may have that image.
    """
    assert codes.shape[1:] == model.spaces[source].shape, (codes.shape, source)
    if source == target:
        return codes
    reached = model.reached(source)
    if target not in reached:
        raise ArgumentError(
            "space",
            f"images are inverted into {source}, and this generator maps no code from there to {target}; "
            f"expected {' or '.join([source, *reached])}, or images inverted into {target}",
            target,
        )
    return model.map_codes(codes, source, target)


def map_directions(model: LatentModel, directions: Directions, space: str) -> tuple[Directions, Tensor]:
    """Directions as directions of the space that images are inverted into, or of one that codes can be mapped to; and
    how long [K] a step of length 1 is there.

    Raises UserError where the generator knows no way back from theirs.
    """
    own, reached = directions.space.name, model.reached(space)
    if own == space or own in reached:
        return directions, torch.ones(len(directions))
    mapped = model.map_directions(directions.vectors, own, space)
    if mapped is None:
        raise ArgumentError(
            "space",
            f"images are inverted into {space}, and a direction in {own} is none there; expected "
            f"{' or '.join([space, *reached])}",
            own,
        )
    lengths = mapped.flatten(1).norm(dim=1)
    vectors = mapped / lengths.reshape(-1, *[1] * (mapped.dim() - 1))
    return Directions(vectors, directions.scores, directions.names, directions.method, model.spaces[space]), lengths


def layer_space(model: LatentModel, space: str) -> str | None:
    """The space whose codes [L, D] are one for each of L layers, in which moves of `space` can be made in some layers
    alone; None where the generator has none.
    """
    zero = torch.zeros(1, *model.spaces[space].shape)  # its device does not matter: nothing is computed
    for name in (space, *model.reached(space)):
        shape = model.spaces[name].shape
        if len(shape) == 2 and shape[0] > 1 and (name == space or model.map_directions(zero, space, name) is not None):
            return name
    return None


@torch.no_grad()
def moved_in_layers(
    model: LatentModel, codes: Tensor, move: Tensor, space: str, layers: tuple[int, int]
) -> tuple[Tensor, str]:
    """Codes [N, *shape] of `space`, moved by [*shape] in the layers from the first to the last one, from 0 -> codes
    [N, L, D] of its layer space, and that space's name.

    Raises UserError where the generator has no such layers.
    """
    wide = layer_space(model, space)
    if wide is None:
        raise ArgumentError(
            "layers", f"this generator has no code for each of its layers behind {space}; expected none"
        )
    (first, last), count = layers, model.spaces[wide].shape[0]
    if not 0 <= first <= last < count:
        raise ArgumentError("layers", f"expected the first and the last of 0 to {count - 1}", list(layers))
    found = map_codes(model, codes, space, wide).clone()
    way = move[None] if wide == space else model.map_directions(move[None], space, wide)
    assert way is not None, "layer_space asked for it"
    found[:, first : last + 1] += way[0, first : last + 1].to(found.device)
    return found, wide


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
