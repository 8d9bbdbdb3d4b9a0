"""Known factors read from measurements, where a data set has factors: what lets coverage be checked against truth.

Measurements overlap (a larger heart changes the lung fraction and the mean HU too); a readout takes them apart. It is a
ridge regression on the measurements, their squares and products, fitted on real training images with known factors;
its penalty is the one with the smallest error on patients left out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlat.core.statistics import r2_of_each, ridge

PENALTIES = np.logspace(-1, 5, 13)
FOLDS = 5


@dataclass
class Readout:
    """Predicts factors from measurements.

    names: of the F factors; centre, scale: [M] of the measurements; weights: [features, F]; std: [F] of the factors.
    """

    names: list[str]
    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, measured: np.ndarray, factors: dict[str, np.ndarray], patient: np.ndarray) -> "Readout":
        """measured [N, M] (NaN allowed), factors: name -> [N], patient [N]: whose image it is."""
        names = list(factors)
        targets = np.stack([factors[name] for name in names], axis=1)
        centre, scale = centre_and_scale(measured)
        features = _features((measured - centre) / scale)
        penalties = np.outer(PENALTIES, np.ones(features.shape[1]))
        penalties[:, 0] = 1e-9  # of the constant
        errors = np.zeros((len(PENALTIES), len(names)))
        folds = np.unique(patient, return_inverse=True)[1] % FOLDS
        for fold in np.unique(folds):
            out = folds == fold
            if out.all():
                continue
            for i, penalty in enumerate(penalties):
                left = targets[out] - features[out] @ ridge(features[~out], targets[~out], penalty)
                errors[i] += np.square(left).sum(axis=0)
        weights = np.stack(
            [ridge(features, targets[:, [j]], penalties[errors[:, j].argmin()])[:, 0] for j in range(len(names))],
            axis=1,
        )
        return cls(names, centre, scale, weights, targets.std(axis=0))

    def save(self, path: Path) -> None:
        """As a NumPy archive without pickles."""
        np.savez(path, names=self.names, centre=self.centre, scale=self.scale, weights=self.weights, std=self.std)

    @classmethod
    def load(cls, path: Path) -> "Readout":
        with np.load(path) as arrays:
            return cls(arrays["names"].tolist(), *(arrays[name] for name in ("centre", "scale", "weights", "std")))

    def keep(self, names: list[str]) -> "Readout":
        """The readout of some of the factors."""
        columns = [self.names.index(name) for name in names]
        return Readout(names, self.centre, self.scale, self.weights[:, columns], self.std[columns])

    def predict(self, measured: np.ndarray) -> np.ndarray:
        """[..., M] -> [..., F]."""
        flat = measured.reshape(-1, measured.shape[-1])
        return (_features((flat - self.centre) / self.scale) @ self.weights).reshape(*measured.shape[:-1], -1)

    def r2(self, measured: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, float]:
        """Share of each factor's variance that is read, on images not fitted to."""
        return r2_of_each({name: factors[name] for name in self.names}, self.predict(measured))


def centre_and_scale(measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and standard deviation of what is finite in each column of [N, M]; 0 and 1 where nothing is, or nothing
    varies.
    """
    columns = [column[np.isfinite(column)] for column in measured.T]
    centre = np.array([np.median(c) if len(c) else 0.0 for c in columns])
    scale = np.array([c.std() if len(c) else 0.0 for c in columns])
    return centre, np.where(scale > 0.0, scale, 1.0)


def _features(z: np.ndarray) -> np.ndarray:
    """1, z, z², products, and what is missing: [N, M] -> [N, 1 + 2M + M(M+1)/2]. Clipped: a generated image may lie
    outside the data.
    """
    missing = ~np.isfinite(z)
    z = np.where(missing, 0.0, z).clip(-4.0, 4.0)
    first, second = np.triu_indices(z.shape[1])
    return np.concatenate([np.ones((len(z), 1)), z, z[:, first] * z[:, second], missing.astype(float)], axis=1)
