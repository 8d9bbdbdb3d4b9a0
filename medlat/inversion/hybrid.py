"""Inversion by an encoder and a few steps of optimisation from there (Zhu et al. 2016, arXiv 1609.03552, section 3)."""

import torch
from torch import Tensor

from medlat.core.ranges import Count, NotNegative, Number
from medlat.core.spaces import LatentModel, chosen_space
from medlat.inversion.encode import Encode
from medlat.inversion.inverter import Encoder
from medlat.inversion.lbfgs import Slopes, minimise
from medlat.inversion.objective import Objective
from medlat.inversion.optimise import check_number, check_whole

FIRST_STEP = 0.3  # length in σ, before anything is known of the curvature
DAMPING = 0.1  # of the mean curvature, added to all: what is flat on average need not be flat here
FLATTEST = 1e-12  # curvature: of a generator that does not listen to its code
LARGEST = 1024  # dimensions of a space whose curvature is looked at
MEMORY = 2**27  # numbers in a Jacobian that may be kept


class Hybrid:
    """The encoder's code, improved by L-BFGS on what `Optimise` minimises.

    From a good start there is no need to look around as Adam with noise does, and curvature pays. Much of it is the
    generator's, whatever the image: it is looked at first, on sampled codes, and L-BFGS moves in coordinates in which
    the mean error curves alike in all directions; in very large spaces in σ. In float32: rounding to bf16 hides the
    small decreases that a line search lives on.

    space:        name of the latent space; null: `w+` where the generator has one, else its default.
    steps:        evaluations of the generator and its gradient.
    probes:       decodings that tell how errors curve, about; 0: none.
    prior_weight: of the mean squared distance from the mean code, in σ².
    """

    needs_encoder = True
    tunes = False
    keeps_noise = False
    one_pass = False

    def __init__(
        self,
        space: str | None = None,
        steps: Count = 75,
        probes: Number = 512,
        prior_weight: NotNegative = 1e-4,
    ) -> None:
        check_whole("steps", steps)
        check_number("probes", probes, probes >= 0, "of at least 0")
        check_number("prior_weight", prior_weight, prior_weight >= 0.0, "of at least 0")
        self.space, self.steps, self.probes, self.prior_weight = space, steps, probes, prior_weight

    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        objective = Objective(model, chosen_space(model, self.space, for_images=True), images, self.prior_weight)
        start = objective.coordinates(Encode(self.space).invert(model, images, encoder))
        known = self._knows_curvature(objective)
        unit = self._evenly(objective) if known else torch.eye(objective.space.size, device=start.device)
        function, stay = _slopes(objective, start, unit), torch.zeros_like(start).flatten(1)
        moved = minimise(function, stay, self.steps, None if known else FIRST_STEP)
        return objective.codes(start + (moved @ unit.T).view_as(start))

    def _knows_curvature(self, objective: Objective) -> bool:
        size, pixels = objective.space.size, objective.images[0].numel()
        return self.probes > 0 and size <= LARGEST and size * pixels <= MEMORY

    def _evenly(self, objective: Objective) -> Tensor:
        """[D, D]: its columns are steps along which the error has a curvature of 1, on average."""
        values, vectors = torch.linalg.eigh(objective.curvature(max(1, self.probes // objective.space.size)))
        return vectors * (values + DAMPING * values.mean()).clamp_min(FLATTEST).rsqrt()


def _slopes(objective: Objective, start: Tensor, steps: Tensor) -> Slopes:
    """The objective of how far each image goes along steps [D, D] from its start [N, *shape]."""

    def function(moved: Tensor) -> tuple[Tensor, Tensor]:
        errors, slopes = objective.errors_and_slopes(start + (moved @ steps.T).view_as(start))
        return errors, slopes.flatten(1) @ steps

    return function
