"""GANSpace: principal components (Härkönen et al. 2020, arXiv 2004.02546)."""

from typing import Literal

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, Seed
from medlat.core.spaces import Directions, LatentModel, chosen_space, decode_in_parts
from medlat.directions.finder import check_count

BATCH = 256


class PCA:
    """Where codes, or the images of codes, vary most.

    "codes":  principal components of sampled codes, for a space that has a shape of its own, like `w` (section 2.2 of
              the paper for StyleGAN). The score is the variance.
    "images": principal components of images of sampled codes, and for each the direction in the latent space that goes
              with its coordinate by least squares (the paper's way for BigGAN, eq. 3, with the image as the feature).
              The score is the share of the component's variance that the direction explains, times that variance.

    count: directions wanted; at most the dimensions of the space. samples: codes drawn. of: what varies; null: codes
    where the prior is not the same in all directions, else images. space: null for the generator's default. seed: of
    the codes.
    """

    name = "pca"

    def __init__(
        self,
        count: Count = 16,
        samples: Count = 4096,
        of: Literal["codes", "images"] | None = None,
        space: str | None = None,
        seed: Seed = 0,
    ) -> None:
        check_count(count)
        if samples < 2:
            raise ArgumentError("samples", "expected at least 2 codes", samples)
        self.count, self.samples, self.of, self.space, self.seed = count, samples, of, space, seed

    def check(self, model: LatentModel) -> None:
        """Raises UserError for codes that are spread alike in all directions: their components are chance."""
        space = chosen_space(model, self.space)
        if self.of == "codes" and space.prior == "normal":
            raise ArgumentError(
                "of", f"codes of {space.name} are spread alike in all directions; expected images", "codes", of=self
            )

    def find(self, model: LatentModel) -> Directions:
        self.check(model)
        space = chosen_space(model, self.space)
        of = self.of or ("images" if space.prior == "normal" else "codes")
        codes = model.sample(self.samples, space.name, generator_for(self.seed, "pca"))
        flat = codes.flatten(1).double().cpu()
        count = min(self.count, space.size, self.samples - 1)
        if of == "codes":
            variances, axes = components(flat, count)
            return Directions.ranked(axes, variances, self.name, space)
        images = torch.cat([_small(decode_in_parts(model, part, space.name)) for part in codes.split(BATCH)])
        _, axes = components(images.double(), count)
        return self._regressed(flat - flat.mean(dim=0), (images - images.mean(dim=0)).double() @ axes.T, space)

    def _regressed(self, codes: Tensor, along: Tensor, space: object) -> Directions:
        """Centred codes [N, D] and coordinates of their images [N, K] -> the direction of each coordinate."""
        vectors = torch.linalg.lstsq(along, codes).solution  # [K, D]: codes from coordinates
        moved = codes @ torch.nn.functional.normalize(vectors, dim=1).T
        correlation = (moved * along).sum(0) / (moved.norm(dim=0) * along.norm(dim=0)).clamp_min(1e-12)
        return Directions.ranked(vectors, correlation.square() * along.var(dim=0), self.name, space)  # type: ignore[arg-type]


def components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Variances [count], descending, and unit axes [count, D] of rows [N, D]."""
    _, singular, axes = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    return singular[:count].square() / (len(rows) - 1), axes[:count]


def _small(images: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, F]: at most 32 pixels a side, which keeps what is large."""
    side = max(1, max(images.shape[2:]) // 32)
    return torch.nn.functional.avg_pool2d(images, side).flatten(1)
