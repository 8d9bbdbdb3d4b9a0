"""Directions of measurements: the ceiling of what directions without labels can reach."""

from collections.abc import Sequence

import numpy as np
import torch

from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, Seed
from medlat.core.spaces import Directions, LatentModel, chosen_space, decode_in_parts
from medlat.core.statistics import r2, ridge_with_intercept
from medlat.directions.finder import check_count
from medlat.directions.linear_models import cross_validated
from medlat.inversion.mapping import code_statistics
from medlat.measure.measurement import MeasurementSet

BATCH = 256
DEFINED = 0.5  # share of the images in which a measurement must exist


class Measured:
    """For each measurement of the images the direction that changes it and, as far as straight lines go, none of the
    others: a column of the pseudo-inverse of the linear model from codes to measurements. It knows what is looked for,
    which methods without labels do not: their ceiling. The score is R² of the measurement's model on codes left out.

    samples: codes whose images are measured. count: directions wanted. space: null for the generator's default. seed:
    of the codes. Measurements that read a known factor are taken; of images that have none, all.
    """

    name = "measured"
    needs = frozenset({"measurements"})

    def __init__(self, count: Count = 16, samples: Count = 4096, space: str | None = None, seed: Seed = 0) -> None:
        check_count(count)
        if samples < 50:
            raise ArgumentError("samples", "expected at least 50 codes", samples)
        self.count, self.samples, self.space, self.seed = count, samples, space, seed

    def check_measurements(self, names: Sequence[str]) -> None:
        """Raises UserError where nothing is measured."""
        if not names:
            raise ArgumentError(
                "", "it needs measurements, and nothing is measured; expected measure=NAME", self.name, of=self
            )

    def find(self, model: LatentModel, measurements: MeasurementSet) -> Directions:
        """Raises UserError where no measurement varies."""
        space = chosen_space(model, self.space)
        codes = model.sample(self.samples, space.name, generator_for(self.seed, "measured"))
        sigma = code_statistics(model, space.name, self.samples, generator_for("sigma"))[1].cpu()
        parts = codes.split(BATCH)
        values = np.concatenate(
            [measurements.of(decode_in_parts(model, part, space.name), model.image) for part in parts]
        )
        read = np.array([m.factor is not None for m in measurements.measurements])
        varies = np.array([len(np.unique(column[np.isfinite(column)])) > 1 for column in values.T])
        wanted = varies & (np.isfinite(values).mean(axis=0) >= DEFINED) & (read if read.any() else True)
        if not wanted.any():
            raise ArgumentError("", "no measurement varies over this generator's images", "measured", of=self)
        names = [f"measured {m.name}" for m, keep in zip(measurements.measurements, wanted, strict=True) if keep]
        x = (codes.cpu() / sigma).flatten(1).double().numpy()
        weights, scores = self._models(x, values[:, wanted])
        vectors = torch.from_numpy(np.linalg.pinv(weights).T).float().reshape(-1, *space.shape) * sigma
        order = np.argsort(-scores, kind="stable")[: self.count]
        chosen = Directions.ranked(vectors[order], torch.from_numpy(scores[order]), "measured", space, signed=True)
        return Directions(chosen.vectors, chosen.scores, [names[i] for i in order], "measured", space)

    def _models(self, x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standardised codes [N, D], measurements [N, M] -> weights [M, D] of standardised measurements, R² [M]."""
        weights, scores = [], []
        for column in values.T:
            seen = np.isfinite(column)
            spread = column[seen].std()
            y = (column[seen] - column[seen].mean()) / (spread if spread > 0.0 else 1.0)
            fitted = cross_validated(ridge_with_intercept, x[seen], y, np.flatnonzero(seen), r2)
            weights.append(fitted.weights)
            scores.append(fitted.quality)
        return np.stack(weights), np.array(scores)
