"""SeFa: closed-form factorisation (Shen & Zhou, CVPR 2021, arXiv 2007.06600)."""

import torch

from medlat.directions.finder import check_count, chosen_space
from medlat.spaces import Directions, LatentModel


class SeFa:
    """Directions along which the first weights A that codes pass through change their output most.

    The solutions of max |A n|² over unit n (eq. 4) are the eigenvectors of AᵀA; where codes enter through several
    matrices, A is all of them, one above the other. The score is the eigenvalue.

    count: directions wanted; at most the dimensions of the space.
    space: name of the latent space; null: the generator's default.
    """

    def __init__(self, count: int = 16, space: str | None = None) -> None:
        check_count(count)
        self.count, self.space = count, space

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        gram = torch.zeros(space.size, space.size, dtype=torch.float64)
        for weight in model.latent_affines(space.name):
            rows = weight.detach().double().cpu()
            gram += rows.T @ rows
        values, vectors = torch.linalg.eigh(gram)  # ascending
        best = vectors.T.flip(0)[: self.count]
        return Directions.ranked(best, values.flip(0)[: self.count], "sefa", space)
