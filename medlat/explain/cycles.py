"""Images put into the latent space and back: the axioms of counterfactuals (Monteiro et al. 2023, arXiv 2303.01274), as
distances from what they ask for.

Effectiveness, the third axiom, needs no cycle: it is what another classifier reads off the counterfactual.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from medlat.explain.counterfactuals import Traversal

Invert = Callable[[Tensor], tuple[Tensor, Tensor | None]]  # images [N, C, H, W] -> codes, and noise where it is kept
CYCLES = (1, 10)  # of Monteiro et al.


def mean_change(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of images [N, C, H, W], [N]."""
    return (a - b).abs().flatten(1).mean(dim=1)


def composition(
    real: Tensor, first: Tensor, again: Callable[[Tensor], Tensor] | None, cycles: Sequence[int] = CYCLES
) -> dict[int, Tensor]:
    """What changes where nothing is to change: d(x, f⁽ᵐ⁾(x)), f⁽ᵐ⁾ being m times inversion and decoding, d the mean
    absolute difference, [N] for each m; 0 where inversion is exact.

    real, first: [N, C, H, W], images and what their inversion gives back. again: does the same to any images; without
    it only the first cycle is known.
    """
    found, images = {1: mean_change(real, first)}, first
    for cycle in range(2, max(cycles) + 1 if again is not None else 2):
        assert again is not None
        images = again(images)
        found[cycle] = mean_change(real, images)
    return {cycle: found[cycle] for cycle in cycles if cycle in found}


def reversibility(traversal: Traversal, after: Tensor, steps: Tensor, real: Tensor, invert: Invert) -> Tensor:
    """How far from the image one comes by going to the counterfactual and back: d(x, f(x', -step)), [N], with x' the
    counterfactual, an image that is inverted anew; 0 where nothing is lost on the way.

    after, real: [N, C, H, W]; steps: [N] from the image to the counterfactual. invert: images -> codes of the
    traversal's space, and noise.
    """
    codes, noise = invert(after)
    return mean_change(real, replace(traversal, codes=codes, noise=noise).images(-steps))


def changes(traversal: Traversal, step: float = 1.0) -> Tensor:
    """What a direction changes in each image, [N, H·W]: one step up less one step down, channels added."""
    up, down = (traversal.images(torch.full((len(traversal.codes),), sign * step)) for sign in (1.0, -1.0))
    return (up - down).sum(dim=1).flatten(1)
