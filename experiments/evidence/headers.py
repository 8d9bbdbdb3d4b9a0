"""Do measurements, and do directions, go with what is written in the headers of real CT?

    python experiments/evidence/headers.py --data ../shared/data --store outputs/store --threads 1

The tags of TCGA-LUAD (`sources.TAGS`) were seen by no method. A row for every measurement and tag over all patients in
headers.csv, and one for every method and generator of `halves.py` in headers_directions.csv: the coordinates of
patients that the generator was not trained on, along each direction, against every tag. Spearman's correlation over
patients, each the mean of its slices; family-wise 5% by the largest of all correlations where the tags are permuted
over patients, all tags of a patient together (max-T; Westfall & Young 1993).
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from sources import TAGS
from trained import METHODS, composed, parser, trained

from medlat.core.spaces import Directions
from medlat.core.statistics import auc
from medlat.core.tables import write_table
from medlat.evaluation.semantics import per_person
from medlat.steps import builders
from medlat.steps.base_codes import encoded
from medlat.steps.step import Context

DRAWN = 2000
LEVEL = 0.05
POWER = 0.8416  # standard deviations: 80% of a Gaussian lie below


class Found(NamedTuple):
    """r, p: [P, T] Spearman's correlations and their family-wise p-values. n: [P, T] patients that have both. smallest:
    |r| that is significant where all patients have both; needed: the true r that is found so in 80% of such studies.
    """

    r: np.ndarray
    p: np.ndarray
    n: np.ndarray
    smallest: float
    needed: float


def main() -> None:
    asking = parser(__doc__, images=6_400)
    asking.add_argument("--seeds", type=int, default=2)
    asked = asking.parse_args()
    context, _ = trained(composed("lungs", asked, 0), 0)
    write_table(Path(__file__).with_name("headers.csv"), list(measured(context)))
    write_table(Path(__file__).with_name("headers_directions.csv"), list(directed(asked)))


def measured(context: Context) -> Iterator[dict[str, Any]]:
    """Every measurement against every tag, over all patients."""
    opened, spec = context.images, context.spec
    measurements = builders.measurements(context.config)
    values = measurements.measure(opened.physical(np.arange(len(opened)), spec), spec.spacing_mm)
    values, tags = (per_person(x, opened.patient) for x in (values, tags_of(context)))
    found = max_t(values, tags)
    for (i, name), (j, tag) in product(enumerate(measurements.names), enumerate(TAGS)):
        row = {
            "measurement": name,
            "tag": tag,
            "patients": found.n[i, j],
            "spearman": found.r[i, j],
            "p": found.p[i, j],
        }
        seen = np.isfinite(values[:, i]) & np.isfinite(tags[:, j])
        truth = tags[seen, j]
        row["auc"] = auc(truth > 0.5, values[seen, i]) if set(truth) == {0.0, 1.0} else ""
        yield row | {"smallest": found.smallest, "needed_for_80%": found.needed}


def directed(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What goes most with a tag, of each method and generator."""
    for half, seed in product(range(2), range(asked.seeds)):
        context, directions = trained(composed("lungs", asked, seed), half)
        rows = np.concatenate([context.split.validation, context.split.test])
        tags = per_person(tags_of(context)[rows], context.images.patient[rows])
        for method in METHODS:
            along = per_person(coordinates(context, directions[method], rows), context.images.patient[rows])
            found = max_t(along, tags)
            i, j = np.unravel_index(np.argmin(found.p - 1e-6 * np.abs(found.r)), found.p.shape)
            row = {"method": method, "half": half, "seed": seed, "patients": len(tags), "directions": len(found.r)}
            row |= {"smallest": found.smallest, "needed_for_80%": found.needed, "significant": (found.p <= LEVEL).sum()}
            row |= {"tags": " ".join(tag for t, tag in enumerate(TAGS) if (found.p[:, t] <= LEVEL).any())}
            yield row | {
                "best": directions[method].names[i],
                "best_tag": TAGS[j],
                "r": found.r[i, j],
                "p": found.p[i, j],
            }


def tags_of(context: Context) -> np.ndarray:
    return np.stack([context.images.columns[f"tag.{name}"] for name in TAGS], axis=1)


def coordinates(context: Context, directions: Directions, rows: np.ndarray) -> np.ndarray:
    """[N, K] of images along directions, which need not be at right angles."""
    codes = encoded(context, context.generator(), directions.space.name, rows)
    assert codes is not None, "a generator without an encoder"
    return codes.flatten(1).double().numpy() @ np.linalg.pinv(directions.vectors.flatten(1).double().numpy())


def max_t(x: np.ndarray, y: np.ndarray) -> Found:
    """x: [N, P], y: [N, T] of N patients, NaN where there is nothing. A correlation counts by r times the root of
    n - 1, as fewer patients make larger ones by chance.
    """
    x, y, rng = ranks(x), ranks(y), np.random.default_rng(0)
    r, n = correlations(x, y)
    largest = np.empty(DRAWN)
    for draw in range(DRAWN):
        by_chance, pairs = correlations(x, y[rng.permutation(len(y))])
        largest[draw] = np.abs(by_chance * np.sqrt(pairs - 1.0)).max()
    strength = np.abs(r * np.sqrt(n - 1.0))
    p = (1.0 + (largest[:, None, None] >= strength).sum(axis=0)) / (1.0 + DRAWN)
    smallest = float(np.quantile(largest, 1.0 - LEVEL) / np.sqrt(len(x) - 1.0))
    return Found(r, p, n, smallest, float(np.tanh(np.arctanh(min(smallest, 0.999)) + POWER / np.sqrt(len(x) - 3.0))))


def ranks(values: np.ndarray) -> np.ndarray:
    """Of each column among the rows that have a value; NaN stays."""
    return rankdata(values, axis=0, nan_policy="omit")


def correlations(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's of columns [N, P] and [N, T] over the rows that have both, and how many those are; 0 where one of them
    does not vary.
    """
    seen_x, seen_y = (np.isfinite(v).astype(np.float64) for v in (x, y))
    x, y = np.nan_to_num(x), np.nan_to_num(y)
    n = np.maximum(seen_x.T @ seen_y, 2.0)
    sum_x, sum_y = x.T @ seen_y, seen_x.T @ y
    var_x, var_y = np.square(x).T @ seen_y - sum_x**2 / n, seen_x.T @ np.square(y) - sum_y**2 / n
    scale = np.sqrt(np.maximum(var_x * var_y, 0.0))
    return np.where(scale > 1e-9, (x.T @ y - sum_x * sum_y / n) / np.where(scale > 1e-9, scale, 1.0), 0.0), n


if __name__ == "__main__":
    main()
