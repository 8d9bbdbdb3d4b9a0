"""The axes of the latent space: what one gets for nothing."""

import torch
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.core.ranges import Count
from medlat.core.spaces import (
    PIXELS_AT_ONCE,
    Directions,
    LatentModel,
    LatentSpace,
    chosen_space,
    decode_in_parts,
)
from medlat.directions.finder import check_count

CODES = 32  # that an axis is tried from, where the generator does not show its weights
STEP = 0.5  # of a standard deviation, to either side
MOST = 128  # axes that are moved along one by one
PROBES = 16  # gradients at each code in place of that


class Coordinate:
    """The unit vectors of the space, ranked by how strongly each enters the network: the norm of its column of the
    first weights.

    Of a generator that does not show its weights (the capability `latent_affines`), by how much each changes the image
    instead: the root of the sum over pixels of the squared difference between a step up and one down, mean over
    sampled codes, for a unit of the code. As a control it has to work with every generator, and asks no more than
    `decode`; of a linear generator both are the same. Of a space of more than 128 numbers, as maps of features have,
    the same is estimated from gradients, for infinitely small steps: its error is about 3%.

    count: directions wanted; at most the dimensions of the space. space: null for the generator's default.
    """

    name = "coordinate"

    def __init__(self, count: Count = 16, space: str | None = None) -> None:
        check_count(count)
        self.count, self.space = count, space

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        if model.can("latent_affines"):
            weights = torch.cat([w.detach().float().cpu() for w in model.latent_affines(space.name)])
            strength = weights.norm(dim=0)
        else:
            strength = image_changes(model, space)
        best = torch.argsort(strength, descending=True, stable=True)[: self.count]
        return Directions.ranked(torch.eye(space.size)[best], strength[best], self.name, space)


def image_changes(model: LatentModel, space: LatentSpace) -> Tensor:
    """[D]: how much the image changes with a unit of each coordinate, by central differences over half a standard
    deviation to either side, root mean square over sampled codes.
    """
    codes = model.sample(CODES, space.name, generator_for("coordinate"))
    if space.size > MOST:
        return _by_gradients(model, space, codes)
    flat = codes.flatten(1)
    sigma = torch.ones_like(flat[0]) if space.prior == "normal" else flat.std(dim=0)
    steps = STEP * sigma.clamp_min(1e-3 * float(sigma.max()))
    squared = torch.zeros(space.size)
    for axis, step in enumerate(steps):
        ends = flat.repeat(2, 1)
        ends[:CODES, axis] += step
        ends[CODES:, axis] -= step
        up, down = decode_in_parts(model, ends.reshape(-1, *space.shape), space.name).chunk(2)
        squared[axis] = ((up - down) / (2.0 * step.cpu())).square().flatten(1).sum(1).mean()
    return squared.sqrt()


def _by_gradients(model: LatentModel, space: LatentSpace, codes: Tensor) -> Tensor:
    """The root of the diagonal of JᵀJ, mean over the codes: with random signs v, it is the mean of (Jᵀv)² (Bekas et al.
    2007, section 2), of which each draw errs by √2 of it at most.
    """
    draw, squared = generator_for("coordinate", "signs"), torch.zeros(space.size, dtype=torch.float64)
    size = max(1, PIXELS_AT_ONCE // (model.image.height * model.image.width))
    for part in (part for _ in range(PROBES) for part in codes.split(size)):
        moved = part.clone().requires_grad_()
        with torch.enable_grad():
            images = model.decode(moved, space.name)
            signs = torch.randint(2, images.shape, generator=draw).to(images) * 2.0 - 1.0
            slopes = torch.autograd.grad(images, moved, signs)[0]
        squared += slopes.flatten(1).double().square().sum(dim=0).cpu()
    return (squared / (CODES * PROBES)).sqrt().float()
