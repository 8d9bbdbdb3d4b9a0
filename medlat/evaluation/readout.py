"""Known factors read from measurements, where a data set has factors: what lets coverage be checked against truth.

Measurements overlap (a larger heart changes the lung fraction and the mean HU too); a readout takes them apart. It is a
ridge regression on the measurements, their squares and products, fitted on real training images with known factors;
its penalty is the one with the smallest leave-one-out error.
"""

from dataclasses import dataclass

import numpy as np

PENALTIES = np.logspace(-2, 5, 15)


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
    def fit(cls, measured: np.ndarray, factors: dict[str, np.ndarray]) -> "Readout":
        """measured [N, M] (NaN allowed), factors: name -> [N]."""
        names = list(factors)
        targets = np.stack([factors[name] for name in names], axis=1)
        centre, scale = centre_and_scale(measured)
        weights = _ridge(_features((measured - centre) / scale), targets)
        return cls(names, centre, scale, weights, targets.std(axis=0))

    def predict(self, measured: np.ndarray) -> np.ndarray:
        """[..., M] -> [..., F]."""
        flat = measured.reshape(-1, measured.shape[-1])
        return (_features((flat - self.centre) / self.scale) @ self.weights).reshape(*measured.shape[:-1], -1)

    def r2(self, measured: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, float]:
        """Share of each factor's variance that is read, on images not fitted to."""
        predicted = self.predict(measured)
        scores = {}
        for i, name in enumerate(self.names):
            truth = factors[name]
            spread = np.square(truth - truth.mean()).sum()
            scores[name] = (
                float(1.0 - np.square(truth - predicted[:, i]).sum() / spread) if spread > 0 else float("nan")
            )
        return scores


def _ridge(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ridge weights [features, F]; the first feature is the constant 1 and is not penalised.

    Leave-one-out residuals are the residuals over 1 - leverage (Hastie, Tibshirani & Friedman 2009, section 7.10).
    """
    centre, mean = features.mean(axis=0), targets.mean(axis=0)
    left, singular, right = np.linalg.svd(features - centre, full_matrices=False)
    projected = left.T @ (targets - mean)
    weights = np.zeros((features.shape[1], targets.shape[1]))
    best = np.full(targets.shape[1], np.inf)
    for penalty in PENALTIES:
        kept = singular**2 / (singular**2 + penalty)
        leverage = (left**2 @ kept) + 1.0 / len(features)
        residual = (targets - mean - left @ (kept[:, None] * projected)) / np.maximum(1.0 - leverage, 1e-6)[:, None]
        error = np.square(residual).sum(axis=0)
        found = right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)
        weights = np.where(error < best, found, weights)
        best = np.minimum(error, best)
    weights[0] = mean - centre @ weights  # the constant's own weight is 0: it does not vary
    return weights


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
