"""What is left of a direction when what merely goes with the prediction is taken out."""

from collections.abc import Sequence

import numpy as np
import torch

from medlat.core.errors import ArgumentError, did_you_mean
from medlat.core.spaces import Directions, LatentModel
from medlat.core.statistics import r2, ridge_with_intercept
from medlat.directions.finder import SupervisedFinder, Supervision, needs_of
from medlat.directions.linear_models import cross_validated


class Conditional:
    """The part of another method's directions that is orthogonal to those of measured confounders (conditional
    manipulation: Shen et al. 2020, arXiv 1907.10786, eq. 6, for several conditions at once).

    A confounder's direction is that of a ridge regression from the standardised codes to the measurement. The score is
    the length that is left of a unit direction: near 0, the prediction is hardly more than the confounder.

    base:        the method whose directions are freed. confounders: names of measurements.
    """

    name = "conditional"

    def __init__(self, base: SupervisedFinder, confounders: list[str]) -> None:
        if not confounders:
            raise ArgumentError("confounders", "expected at least one measurement", [])
        self.base, self.confounders = base, confounders
        self.needs = needs_of(base) | {"measurements"}
        self.space, self.origin, self.preferred = base.space, base.origin, getattr(base, "preferred", ())

    def check_measurements(self, names: Sequence[str]) -> None:
        """Raises ArgumentError where a confounder is not measured."""
        for name in self.confounders:
            if name not in names:
                raise ArgumentError("confounders", f"no measurement '{name}'{did_you_mean(name, names)}", of=self)

    def find(self, model: LatentModel, supervision: Supervision) -> Directions:
        found = self.base.find(model, supervision)
        sigma = supervision.sigma.flatten().double().cpu().numpy()
        ours = found.vectors[:1].flatten(1).double().numpy() / sigma
        ours /= np.linalg.norm(ours, axis=1, keepdims=True)
        theirs = np.stack([self._direction(supervision, name) for name in self.confounders])
        basis = np.linalg.svd(theirs.T, full_matrices=False)[0]  # [D, confounders], orthonormal
        free = ours - (ours @ basis) @ basis.T
        left = float(np.linalg.norm(free))
        if left < 1e-6:
            raise ArgumentError(
                "confounders", "nothing is left of the direction without them", self.confounders, of=self
            )
        return supervision.directions(free, torch.tensor([left]), self.name)

    def _direction(self, supervision: Supervision, name: str) -> np.ndarray:
        values = supervision.column(name)
        known = np.isfinite(values)
        if known.sum() < 2 or values[known].std() == 0.0:
            raise ArgumentError("confounders", f"'{name}' is the same, or not defined, in all images", of=self)
        x = supervision.standardised()[known]
        weights = cross_validated(ridge_with_intercept, x, values[known], supervision.groups[known], r2).weights
        return weights / np.linalg.norm(weights)
