"""Inversion by an encoder and a few steps of optimisation from there (Zhu et al. 2016, arXiv 1609.03552, section 3)."""

from torch import Tensor

from medlat.inversion.encode import Encode
from medlat.inversion.inverter import Encoder, chosen_space
from medlat.inversion.lbfgs import Slopes, minimise
from medlat.inversion.objective import Objective
from medlat.inversion.optimise import check_number, check_whole
from medlat.spaces import LatentModel

FIRST_STEP = 0.3  # length in σ, before anything is known of the curvature


class Hybrid:
    """The encoder's code, improved by L-BFGS on what `Optimise` minimises.

    From a good start there is no need to look around as Adam with noise does, and curvature pays: 100 evaluations come
    further than 500 of Adam. In float32: rounding to bf16 hides the small decreases that a line search lives on.

    space:        name of the latent space; null: `w+` where the generator has one, else its default.
    steps:        evaluations of the generator and its gradient.
    prior_weight: of the mean squared distance from the mean code, in σ².
    """

    needs_encoder = True
    tunes = False

    def __init__(self, space: str | None = None, steps: int = 100, prior_weight: float = 1e-4) -> None:
        check_whole("steps", steps)
        check_number("prior_weight", prior_weight, prior_weight >= 0.0, "of at least 0")
        self.space, self.steps, self.prior_weight = space, steps, prior_weight

    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        objective = Objective(model, chosen_space(model, self.space), images, self.prior_weight)
        start = objective.coordinates(Encode(self.space).invert(model, images, encoder))
        best = minimise(_flat(objective), start.flatten(1), self.steps, FIRST_STEP)
        return objective.codes(best.view_as(start))


def _flat(objective: Objective) -> Slopes:
    """The objective of coordinates in one row each."""

    def function(u: Tensor) -> tuple[Tensor, Tensor]:
        errors, slopes = objective.errors_and_slopes(u.unflatten(1, objective.mean.shape))
        return errors, slopes.flatten(1)

    return function
