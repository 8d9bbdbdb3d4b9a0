"""Which known transforms of real images does each method find, and does that hold for amounts of any distribution?

    python experiments/evidence/transforms.py --data ../shared/data --store outputs/store --threads 1

Every image is moved by known amounts (`sources.MOVES`), drawn independent and uniform, independent and Gaussian with
the same standard deviation, or uniform and correlated (rho 0.6). A VAE is trained on the moved images and every method
finds its directions. What the best single direction's coordinate of held-out images says of an amount (r²) stands
beside what all of the codes say (R² of a line), and beside the best of as many orthonormal directions at random. Puts
its rows into transforms.csv.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from halves import DRAWN, p_value
from omegaconf import OmegaConf
from trained import Nobody, composed, parser, put

from medlat.config.build import plain
from medlat.core.statistics import r2, ridge_with_intercept
from medlat.steps import builders
from medlat.steps.base_codes import encoded
from medlat.steps.data import Division, Images
from medlat.steps.directions import FoundDirections
from medlat.steps.generator import Generator
from medlat.steps.step import Context
from medlat.study.pipeline import plan

RESULTS = Path(__file__).with_name("transforms.csv")
DRAWS = {"uniform": ("uniform", 0.0), "gaussian": ("gaussian", 0.0), "correlated": ("uniform", 0.6)}
COPIES = {"lungs": 12, "tiles": 1, "knees": 1}


def main() -> None:
    asking = parser(__doc__, images=6_400)
    asking.add_argument("--draws", nargs="+", choices=DRAWS, default=list(DRAWS))
    asked = asking.parse_args()
    for name, draw in product(asked.sets, asked.draws):
        began = time.monotonic()
        rows = [{"run": f"{name} {draw}", "set": name, "draw": draw} | row for row in judged(moved(name, draw, asked))]
        put(RESULTS, rows, "run")
        print(name, draw, f"{time.monotonic() - began:.0f} s", flush=True)


def moved(name: str, draw: str, asked: argparse.Namespace) -> Context:
    """A context with a VAE of moved images and the directions of every method."""
    config = composed(name, asked, 0)
    margin, correlation = DRAWS[draw]
    inner = plain(config.data.source)  # with the column of groups, which `data.group` names
    source = {"_target_": "sources.Transformed", "source": inner, "copies": COPIES[name]}
    config.data.source = OmegaConf.create(source | {"margin": margin, "correlation": correlation})
    config.data.group = config.data.augment = None  # what else would move them is not known
    builders.hardware(config).limit_threads()
    context = plan(config).context
    context.tracker = Nobody()
    for step in (Images(), Division(), Generator(config), *map(FoundDirections, context.methods)):
        context.made(step)
    return context


def judged(context: Context) -> Iterator[dict[str, Any]]:
    """A row for every method and transform."""
    opened, parts = context.images, context.split
    known, codes = (codes_of(context, rows) for rows in (parts.train, parts.test))
    rng = np.random.default_rng(0)
    held_out = {"groups": len(np.unique(opened.patient[parts.test])), "images": len(codes)}
    for method in context.methods:
        directions = context.directions(method)
        along = codes @ np.linalg.pinv(directions.vectors.flatten(1).double().numpy())
        frames = [np.linalg.qr(rng.standard_normal((codes.shape[1], len(directions))))[0] for _ in range(DRAWN)]
        random = [codes @ frame for frame in frames]
        for name, values in opened.factors().items():
            truth = values[parts.test]
            best = squared(along, truth).max()
            chance = np.array([squared(coordinates, truth).max() for coordinates in random])
            row: dict[str, Any] = {"method": method.name, "transform": name, "directions": len(directions)} | held_out
            row |= {"all_codes": linear(known, values[parts.train], codes, truth), "one_direction": best}
            yield row | {"chance": chance.mean(), "p": p_value(best, chance)}


def codes_of(context: Context, rows: np.ndarray) -> np.ndarray:
    """[N, D] of images."""
    model = context.generator()
    found = encoded(context, model, next(iter(model.spaces)), rows)
    assert found is not None, "a generator without an encoder"
    return found.flatten(1).double().numpy()


def squared(columns: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """r² of each column [N, K] with the truth [N]."""
    return np.square(np.corrcoef(truth, columns.T)[0, 1:])


def linear(known: np.ndarray, truth: np.ndarray, codes: np.ndarray, held_out: np.ndarray) -> float:
    """R² on held-out images of what a line reads from all of the codes."""
    weights = ridge_with_intercept(known, truth, 1.0)
    return r2(held_out, codes @ weights[:-1] + weights[-1])


if __name__ == "__main__":
    main()
