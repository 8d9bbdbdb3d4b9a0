"""The standard metrics of how codes and known factors go together: MIG, DCI and SAP.

Each takes the codes [N, K] that an encoder gives real images, and the true factors [N, F] of these images. The formulas
are those of Locatello et al. 2019 (arXiv 1811.12359): mutual information of codes in 20 bins of equal width; SAP of
continuous factors; DCI from importances. Factors here are continuous: they are binned like codes for MIG, and DCI's
predictors are random forests as in Eastwood & Williams 2018, not the boosted classifiers of Locatello et al.
"""

import numpy as np

BINS = 20
TREES = 30
TRAINED = 0.7  # share of the groups that the forests of DCI learn from


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942, eq. 6): the information of the best code on a factor
    less that of the second best, relative to the factor's entropy, on average. 1: each factor in one code.
    """
    from sklearn.metrics import mutual_info_score

    places, truths = _binned(codes), _binned(factors)
    gaps = []
    for truth in truths.T:
        entropy = mutual_info_score(truth, truth)
        if entropy > 0.0:
            information = sorted((mutual_info_score(place, truth) for place in places.T), reverse=True)
            gaps.append((information[0] - (information[1] if len(information) > 1 else 0.0)) / entropy)
    return float(np.mean(gaps)) if gaps else float("nan")


def sap(codes: np.ndarray, factors: np.ndarray) -> float:
    """Separated attribute predictability (Kumar et al. 2018, arXiv 1711.00848): R² of the best code's straight line for
    a factor less that of the second best, on average.
    """
    x, y = _standardised(codes), _standardised(factors)
    r2 = np.sort(np.square(x.T @ y / len(x)), axis=0)[::-1]  # [K, F], the best first
    varies = factors.std(axis=0) > 0.0
    if not varies.any():
        return float("nan")
    second = r2[1] if len(r2) > 1 else np.zeros(r2.shape[1])
    return float((r2[0] - second)[varies].mean())


def dci(
    codes: np.ndarray, factors: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018) from the importances of random
    forests that predict each factor: 1, 1, 1 where each code serves one factor, each factor needs one code, and the
    factors can be predicted. Informativeness is R² on groups [N] (patients; None: each image its own) that the forest
    did not see; NaN where there is one group.
    """
    from sklearn.ensemble import RandomForestRegressor

    varies = factors.std(axis=0) > 0.0
    owners = np.arange(len(factors)) if groups is None else groups
    names = np.random.default_rng(seed).permutation(np.unique(owners))
    if not varies.any() or len(names) < 2:
        return (float("nan"),) * 3
    fit = np.isin(owners, names[: min(round(TRAINED * len(names)), len(names) - 1)])
    x, importances, r2 = _standardised(codes), [], []
    for truth in _standardised(factors)[:, varies].T:
        forest = RandomForestRegressor(TREES, min_samples_leaf=3, random_state=seed)
        importances.append(forest.fit(x[fit], truth[fit]).feature_importances_)
        r2.append(forest.score(x[~fit], truth[~fit]))
    return *of_importances(np.stack(importances, axis=1)), float(np.mean(r2))


def of_importances(weights: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness of importances [K, F], as Eastwood & Williams define them: one less the entropy
    of a code over factors (of a factor over codes), weighted by its share of all importance.
    """
    total = max(weights.sum(), 1e-12)
    disentangled, complete = _certainty(weights), _certainty(weights.T)
    return (
        float((disentangled * weights.sum(axis=1)).sum() / total),
        float((complete * weights.sum(axis=0)).sum() / total),
    )


def all_metrics(
    codes: np.ndarray, factors: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, float]:
    """The five numbers by name."""
    names = ("dci_disentanglement", "dci_completeness", "dci_informativeness")
    found = dict(zip(names, dci(codes, factors, groups, seed), strict=True))
    return {"mig": mig(codes, factors), "sap": sap(codes, factors)} | found


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
