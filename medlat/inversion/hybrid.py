"""Inversion by an encoder and a few steps of optimisation from there (Zhu et al. 2016, arXiv 1609.03552, section 3)."""

from torch import Tensor

from medlat.inversion.encode import Encode
from medlat.inversion.inverter import Encoder
from medlat.inversion.optimise import Optimise
from medlat.spaces import LatentModel


class Hybrid:
    """The encoder's code, improved as `Optimise` does, without noise: there is no need to look around.

    space:         name of the latent space; null: `w+` where the generator has one, else its default.
    steps:         of Adam.
    learning_rate: of Adam, in standard deviations of each coordinate; it falls from the first step on.
    prior_weight:  of the mean squared distance from the mean code, in σ².
    """

    needs_encoder = True
    tunes = False

    def __init__(
        self, space: str | None = None, steps: int = 50, learning_rate: float = 0.1, prior_weight: float = 1e-4
    ) -> None:
        self.space = space
        self.encode = Encode(space)
        self.optimise = Optimise(space, steps, learning_rate, fall=1.0, noise=0.0, prior_weight=prior_weight)

    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        return self.optimise.descend(model, images, self.encode.invert(model, images, encoder))
