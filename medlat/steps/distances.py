"""How far samples are from held-out patients, by every measure that the data allow, each beside its floor."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor

from medlat.core.spaces import ImageSpec, LatentModel
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.evaluation import distance
from medlat.evaluation.features import Features
from medlat.evaluation.readout import centre_and_scale
from medlat.evaluation.smoothness import path_length

NEIGHBOURS = 3  # of the manifolds that precision and recall are taken over
PAIRS = 1000  # for the diversity
PATHS = 256
PRESENT = 0.9  # share of images that a measurement must be defined in


@dataclass
class Distance:
    """A row of distances.csv. floor: the same between two halves of the real images; NaN where there is no such thing.
    better: "lower", "higher", or "floor" where the floor is what to reach.
    """

    name: str
    key: str
    value: float
    floor: float
    unit: str = ""
    better: str = "lower"
    images: int = 0
    warning: str = ""


@dataclass
class Compared:
    """Samples and two halves of the held-out images (by patient), the same number n of each.

    samples, reference, other: [n, C, H, W] in [-1, 1]; measured: their measurements [n, M] each, in that order.
    """

    samples: Tensor
    reference: Tensor
    other: Tensor
    measured: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def n(self) -> int:
        return len(self.samples)


def compare(
    opened: ImageStore, parts: Split, spec: ImageSpec, samples: Tensor, sampled: np.ndarray, measured: np.ndarray
) -> Compared | None:
    """samples [N, C, H, W], their measurements `sampled` [N, M], those of held-out slices `measured` [T, M]; None where
    there are too few.
    """
    first, second = halves(opened.patient[parts.test])
    n = min(len(first), len(second), len(samples))
    if n < 2:
        return None
    _, scale = centre_and_scale(measured)
    one, two = (opened.fetch(parts.test[half[:n]], spec) for half in (first, second))
    rows = (sampled[:n], measured[first[:n]], measured[second[:n]])
    return Compared(samples[:n], one, two, tuple(x / scale for x in rows))


def halves(patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the slices of every other patient, and of the others; of one patient, every other slice."""
    numbers = np.unique(patient)
    chosen = np.isin(patient, numbers[::2]) if len(numbers) > 1 else np.arange(len(patient)) % 2 == 0
    rng = np.random.default_rng(0)
    return rng.permutation(np.flatnonzero(chosen)), rng.permutation(np.flatnonzero(~chosen))


def all_distances(compared: Compared, model: LatentModel, extractors: Sequence[Features], seed: int) -> list[Distance]:
    """Every row, with the number of images that it is over."""
    rows = [*_patches(compared), *_over_measurements(compared), _diversity(compared, seed)]
    for features in extractors:
        rows += _over_features(compared, features, seed)
        rows.append(_smoothness(model, features, seed))
    for row in rows:
        row.images = row.images or compared.n
    return rows


def table(rows: Sequence[Distance]) -> list[dict]:
    return [asdict(row) for row in rows]


def numbers(rows: Sequence[Distance]) -> dict[str, float]:
    """Values and floors, as they stand in metrics.json."""
    found = {f"distance/{row.key}": float(row.value) for row in rows}
    return found | {f"distance/{row.key}_floor": float(row.floor) for row in rows if not np.isnan(row.floor)}


def _patches(c: Compared) -> Iterator[Distance]:
    found, floor = (distance.patch_distance(x, c.reference) for x in (c.samples, c.other))
    for side, value in found.items():
        yield Distance(f"patch distance, {side}²", f"patch_distance_{side}", value, floor[side], "×10⁻³")


def _over_measurements(c: Compared) -> Iterator[Distance]:
    sampled, reference, other = c.measured
    known = np.isfinite(np.concatenate([reference, other])).mean(axis=0) > PRESENT
    if not len(known):
        return
    value, floor = (distance.frechet(x[:, known], reference[:, known]) for x in (sampled, other))
    lacking = int((~np.isfinite(sampled[:, known])).any(axis=1).sum())
    said = f"{lacking} of {c.n} samples lack a measurement that nearly all real images have, and are left out of theirs"
    few = said if (c.n - lacking) / c.n < PRESENT else ""
    yield Distance("Fréchet over measurements", "fd_measurements", value, floor, warning=few)


def _diversity(c: Compared, seed: int) -> Distance:
    value, real = (distance.diversity(x, PAIRS, seed) for x in (c.samples, c.reference))
    return Distance("MS-SSIM between images", "ms_ssim_pairs", value, real, better="floor")


def _over_features(c: Compared, features: Features, seed: int) -> Iterator[Distance]:
    samples, reference, other = (features(x) for x in (c.samples, c.reference, c.other))
    name, of = features.name, f"({features.name})"
    few = distance.enough(c.n, reference.shape[1]) or ""
    fid = [distance.frechet(x, reference) for x in (samples, other)]
    yield Distance(f"FID {of}", f"fid_{name}", fid[0], fid[1], warning=few)
    kid = [distance.kernel_distance(x, reference, seed=seed)[0] for x in (samples, other)]
    yield Distance(f"KID {of}", f"kid_{name}", kid[0], kid[1])
    shared = [distance.precision_recall(reference, x, NEIGHBOURS) for x in (samples, other)]
    for i, what in enumerate(("precision", "recall")):
        yield Distance(f"{what} {of}", f"{what}_{name}", shared[0][i], shared[1][i], better="higher")


def _smoothness(model: LatentModel, features: Features, seed: int) -> Distance:
    space = next(iter(model.spaces))
    value = path_length(model, space, features, PATHS, seed=seed)
    name = f"path length in {space} ({features.name})"
    return Distance(name, f"path_length_{features.name}", value, float("nan"), images=PATHS)
