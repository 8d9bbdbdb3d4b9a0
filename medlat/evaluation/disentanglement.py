"""The standard metrics of how latent coordinates and known factors go together: MIG, DCI and SAP.

Each takes coordinates [N, K] and factors [N, F] of the same N images; coordinates are those along directions.
"""

import numpy as np

BINS = 20  # as in Locatello et al. 2019 (arXiv 1811.12359)
TREES = 30
TRAINED = 0.7  # share of the images that the forests of DCI learn from


def mig(coordinates: np.ndarray, factors: np.ndarray) -> float:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942, eq. 6): the information of the best coordinate on a
    factor less that of the second best, relative to the factor's entropy, on average. 1: each factor in one coordinate.
    """
    from sklearn.metrics import mutual_info_score

    codes, truths = _binned(coordinates), _binned(factors)
    gaps = []
    for truth in truths.T:
        entropy = mutual_info_score(truth, truth)
        if entropy > 0.0:
            information = sorted((mutual_info_score(code, truth) for code in codes.T), reverse=True)
            gaps.append((information[0] - (information[1] if len(information) > 1 else 0.0)) / entropy)
    return float(np.mean(gaps)) if gaps else float("nan")


def sap(coordinates: np.ndarray, factors: np.ndarray) -> float:
    """Separated attribute predictability (Kumar et al. 2018, arXiv 1711.00848): R² of the best coordinate's straight
    line for a factor less that of the second best, on average.
    """
    x, y = _standardised(coordinates), _standardised(factors)
    r2 = np.sort(np.square(x.T @ y / len(x)), axis=0)[::-1]  # [K, F], the best first
    varies = factors.std(axis=0) > 0.0
    if not varies.any():
        return float("nan")
    second = r2[1] if len(r2) > 1 else np.zeros(r2.shape[1])
    return float((r2[0] - second)[varies].mean())


def dci(coordinates: np.ndarray, factors: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018) from the importances of random
    forests that predict each factor: 1, 1, 1 where each coordinate serves one factor, each factor needs one coordinate,
    and the factors can be predicted. Informativeness is R² on images that the forest did not see.
    """
    from sklearn.ensemble import RandomForestRegressor

    varies = factors.std(axis=0) > 0.0
    if not varies.any():
        return (float("nan"),) * 3
    order = np.random.default_rng(seed).permutation(len(factors))
    fit, left = np.split(order, [round(TRAINED * len(order))])
    x, importances, r2 = _standardised(coordinates), [], []
    for truth in _standardised(factors)[:, varies].T:
        forest = RandomForestRegressor(TREES, min_samples_leaf=3, random_state=seed)
        importances.append(forest.fit(x[fit], truth[fit]).feature_importances_)
        r2.append(forest.score(x[left], truth[left]))
    weights = np.stack(importances, axis=1)  # [K, F]
    of_codes, of_factors = weights.sum(axis=1), weights.sum(axis=0)
    disentangled = _certainty(weights)  # of each coordinate over factors
    complete = _certainty(weights.T)
    total = max(weights.sum(), 1e-12)
    return (
        float((disentangled * of_codes).sum() / total),
        float((complete * of_factors).sum() / total),
        float(np.mean(r2)),
    )


def all_metrics(coordinates: np.ndarray, factors: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The five numbers by name."""
    names = ("dci_disentanglement", "dci_completeness", "dci_informativeness")
    found = dict(zip(names, dci(coordinates, factors, seed), strict=True))
    return {"mig": mig(coordinates, factors), "sap": sap(coordinates, factors)} | found


def _certainty(weights: np.ndarray) -> np.ndarray:
    """1 less the entropy of each row, relative to the largest possible: [A, B] -> [A]."""
    if weights.shape[1] < 2:
        return np.ones(len(weights))
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return 1.0 + (share * np.log(np.maximum(share, 1e-12))).sum(axis=1) / np.log(weights.shape[1])


def _standardised(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)


def _binned(values: np.ndarray) -> np.ndarray:
    """[N, M] -> the number of the bin, bins of equal width from the smallest to the largest."""
    low, high = values.min(axis=0), values.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum((BINS * (values - low) / width).astype(int), BINS - 1)
