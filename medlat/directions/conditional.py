"""What is left of a direction when what merely goes with the prediction is taken out."""

from collections.abc import Sequence

import numpy as np
import torch

from medlat.core.errors import UserError, did_you_mean
from medlat.core.spaces import Directions, LatentModel
from medlat.directions.finder import Evidence, SupervisedFinder
from medlat.directions.linear_models import cross_validated, r2, ridge


class Conditional:
    """The part of another method's directions that is orthogonal to those of measured confounders (conditional
    manipulation: Shen et al. 2020, arXiv 1907.10786, eq. 6, for several conditions at once).

    A confounder's direction is that of a ridge regression from the standardised codes to the measurement. The score is
    the length that is left of a unit direction: near 0, the prediction is hardly more than the confounder.

    base:        the method whose directions are freed. confounders: names of measurements.
    """

    def __init__(self, base: SupervisedFinder, confounders: list[str]) -> None:
        if not confounders:
            raise UserError("directions.confounders=[]: expected at least one measurement")
        self.base, self.confounders = base, confounders
        self.space, self.origin, self.preferred = base.space, base.origin, getattr(base, "preferred", ())

    def check_measurements(self, names: Sequence[str]) -> None:
        """Raises UserError where a confounder is not measured."""
        for name in self.confounders:
            if name not in names:
                raise UserError(f"confounders={self.confounders}: no measurement '{name}'{did_you_mean(name, names)}")

    def find(self, model: LatentModel, evidence: Evidence) -> Directions:
        found = self.base.find(model, evidence)
        sigma = evidence.sigma.flatten().double().cpu().numpy()
        ours = found.vectors[:1].flatten(1).double().numpy() / sigma
        ours /= np.linalg.norm(ours, axis=1, keepdims=True)
        theirs = np.stack([self._direction(evidence, name) for name in self.confounders])
        basis = np.linalg.svd(theirs.T, full_matrices=False)[0]  # [D, confounders], orthonormal
        free = ours - (ours @ basis) @ basis.T
        left = float(np.linalg.norm(free))
        if left < 1e-6:
            raise UserError(f"directions.confounders={self.confounders}: nothing is left of the direction without them")
        return evidence.directions(free, torch.tensor([left]), "conditional")

    def _direction(self, evidence: Evidence, name: str) -> np.ndarray:
        values = evidence.column(name)
        known = np.isfinite(values)
        if known.sum() < 2 or values[known].std() == 0.0:
            raise UserError(f"directions.confounders: '{name}' is the same, or not defined, in all images")
        x = evidence.standardised()[known]
        weights = cross_validated(ridge, x, values[known], evidence.groups[known], r2).weights
        return weights / np.linalg.norm(weights)
