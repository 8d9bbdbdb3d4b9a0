"""How evenly images change along paths in a latent space.

Where a short step in the latent space changes the image a lot, at a border between two kinds of image or at one that
belongs to neither, the path between two codes is long; a smooth space has short paths.
"""

import torch
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.core.spaces import LatentModel
from medlat.evaluation.features import Features

PARALLEL = 1e-4  # sine of the angle below which two codes have no arc between them


def path_length(
    model: LatentModel, space: str, features: Features, n: int, epsilon: float = 1e-3, seed: int = 0, batch: int = 64
) -> float:
    """Path length over features, after the perceptual path length of Karras et al. 2019 (arXiv 1812.04948, eq. 2, 3):
    that one is over LPIPS, with ε = 1e-4 and arcs of codes brought to length 1.

    E |f(G(p(t + ε))) - f(G(p(t)))|² / ε² over n paths p between two codes of the prior, t uniform in [0, 1], with the
    squared Euclidean distance of features f in the place of LPIPS: in squared units of the features, and comparable
    only between values of the same extractor. Paths are arcs (slerp) where the prior is normal, straight (lerp)
    where it is empirical. `decode` must be a function of the code: fix any noise that it adds.

    epsilon: step along the path. Chosen on a VAE (64², 24 dimensions; features: pixels, and the factor regressor)
             against the same in float64 and against shorter steps: 1e-1 is 9% below the limit, 1e-2 within 0.6% of it,
             1e-3 and 3e-4 within 0.1%; what float32 rounding adds is below 0.01% down to 3e-4, 0.02% at 1e-4 and 0.2%
             at 1e-5. A decoder in bf16 is unfit: 15% too long at 1e-2, eight times at 1e-3.
    n:       256 paths leave some 6% from seed to seed there; that is the larger error.
    """
    assert n >= 1, n
    assert epsilon > 0.0, epsilon
    generator = generator_for(seed, "path length")
    start, end = (model.sample(n, space, generator).double() for _ in range(2))
    t = torch.rand(n, generator=generator, dtype=torch.float64).to(start.device)
    path = slerp if model.spaces[space].prior == "normal" else lerp
    pairs = zip(path(start, end, t).split(batch), path(start, end, t + epsilon).split(batch), strict=True)
    squares = [_squared_distances(model, space, features, *pair) for pair in pairs]
    return float(torch.cat(squares).mean() / epsilon**2)


@torch.inference_mode()
def _squared_distances(model: LatentModel, space: str, features: Features, near: Tensor, far: Tensor) -> Tensor:
    """Of the features of two lots of codes [B, *shape], [B] float64. One batch holds both: what rounding depends on the
    batch is then the same.
    """
    images = model.decode(torch.cat([near, far]).float(), space)
    rows = torch.from_numpy(features(images)).double()
    first, second = rows.chunk(2)
    return (second - first).square().sum(dim=1)


def lerp(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Straight paths: [N, *shape] twice, t [N] -> [N, *shape]."""
    return torch.lerp(start, end, t.reshape(-1, *[1] * (start.dim() - 1)))


def slerp(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Arcs about the origin (Shoemake 1985): [N, *shape] twice, t [N] -> [N, *shape].

    Lengths are kept, not brought to 1: codes stay as far from the origin as the prior has them. Straight where two
    codes are parallel or opposite, as all are in a space of one dimension.
    """
    a, b, part = start.flatten(1), end.flatten(1), t[:, None]
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1.0, 1.0)[:, None]
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1.0 - part) * angle) * a + torch.sin(part * angle) * b) / sine.clamp_min(PARALLEL)
    return torch.where(sine > PARALLEL, arc, torch.lerp(a, b, part)).reshape(start.shape)
