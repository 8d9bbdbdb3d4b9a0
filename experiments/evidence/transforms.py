"""Which known transforms of real images does each method cover, and does that hold for amounts of any distribution?

    python experiments/evidence/transforms.py --data ../shared/data --store outputs/store --threads 1

Every image is moved by known amounts (`sources.MOVES`), drawn independent and uniform, independent and Gaussian with
the same standard deviation, or uniform and correlated (rho 0.6). A VAE is trained on the moved images, every method
finds its directions, and the amounts are the factors by which directions are judged, as the factors of a phantom are: a
transform is covered where a direction exists whose normalised share of it is at least 0.5, with R² (the part of the
answer that is common to all held-out images) of at least 0.5. Puts its rows into transforms.csv.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from trained import Nobody, composed, parser, put

from medlat.core.statistics import nan_mean, r2, ridge_with_intercept
from medlat.evaluation.chance import LEVEL, evidence, family_wise
from medlat.evaluation.naming import MOVES, PURE, STRAIGHT
from medlat.evaluation.semantics import groups_of
from medlat.evaluation.shares import normalised, shares
from medlat.steps import builders
from medlat.steps.base_codes import base_codes, encoded
from medlat.steps.data import Division, Images
from medlat.steps.directions import FoundDirections
from medlat.steps.generator import Generator
from medlat.steps.measurements import Measurements, load_measurements, read_numbers
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
    """A context with a VAE of moved images, the directions of every method, and what is measured."""
    config = composed(name, asked, 0)
    margin, correlation = DRAWS[draw]
    source = {"_target_": "sources.Transformed", "source": config.data.source, "copies": COPIES[name]}
    config.data.source = OmegaConf.create(source | {"margin": margin, "correlation": correlation})
    config.data.group = config.data.augment = None  # what else would move them is not known
    builders.hardware(config).limit_threads()
    context = plan(config).context
    context.tracker = Nobody()
    for step in (Images(), Division(), Generator(config), *map(FoundDirections, context.methods), Measurements()):
        context.made(step)
    return context


def judged(context: Context) -> Iterator[dict[str, Any]]:
    """A row for every method and transform."""
    opened, parts, model = context.images, context.split, context.generator()
    space = next(iter(model.spaces))
    known, codes = (encoded(context, model, space, rows) for rows in (parts.train, parts.test))
    assert known is not None, "a generator without an encoder"
    assert codes is not None
    amounts = opened.factors()
    read = read_numbers(context.folder("measurements") / "metrics.json")
    held = {
        name: held_in_codes(known, values[parts.train], codes, values[parts.test]) for name, values in amounts.items()
    }
    for method in context.methods:
        directions = context.directions(method)
        vectors = directions.vectors.flatten(1).double().numpy()
        along = codes.flatten(1).double().numpy() @ np.linalg.pinv(vectors)
        best = covered(context, directions.vectors)
        for name, values in amounts.items():
            row: dict[str, Any] = {"method": method.name, "transform": name, "directions": len(directions)}
            row |= {"held_out_groups": len(np.unique(opened.patient[parts.test])), "held_out_images": len(parts.test)}
            row |= {"in_codes": held[name], "read_by_measurements": read[f"readout/r2_{name}"]}
            row["one_coordinate"] = np.square(np.corrcoef(values[parts.test], along.T)[0, 1:]).max()
            yield row | best.get(name, {"share": "", "normalised": "", "r2": "", "p": "", "covered": "", "named": ""})


def held_in_codes(known: Any, truth: np.ndarray, codes: Any, held_out: np.ndarray) -> float:
    """R² on held-out images of the amounts that a line reads from all of the codes."""
    x, y = (part.flatten(1).double().numpy() for part in (known, codes))
    weights = ridge_with_intercept(x, truth, 1.0)
    return r2(held_out, y @ weights[:-1] + weights[-1])


def covered(context: Context, directions: Any) -> dict[str, dict[str, Any]]:
    """Of every transform that measurements read: the direction that has the largest normalised share of it."""
    quantities = load_measurements(context.folder("measurements")).quantities.get("factor", [])
    if not quantities:
        return {}
    base = base_codes(context, next(iter(context.generator().spaces)))
    chance, groups = base.chance["factor"], groups_of(quantities)
    ceiling = np.array([quantity.ceiling for quantity in quantities])
    slopes = base.answers["factor"].along(directions.flatten(1).double().numpy())
    slopes = slopes * base.sigma(directions).numpy()[:, None, None]
    mean, square = (nan_mean(x.swapaxes(0, 1)) for x in (slopes, np.square(slopes)))
    share, common = shares(mean, groups), mean**2 / np.maximum(square, 1e-12)
    relative = normalised(share, ceiling, chance.share)
    p = [family_wise(e.max(), chance.evidence, len(slopes)) for e in evidence(slopes, groups, ceiling, chance.share)]
    found = {}
    for q, quantity in enumerate(quantities):
        k = int(np.nan_to_num(relative[:, q], nan=-1.0).argmax())
        clear = relative[k, q] >= PURE and common[k, q] >= STRAIGHT and abs(mean[k, q]) >= MOVES
        row = {"share": share[k, q], "normalised": relative[k, q], "r2": common[k, q], "p": p[k]}
        found[quantity.name] = row | {"covered": bool(clear), "named": bool(clear and p[k] <= LEVEL)}
    return found


if __name__ == "__main__":
    main()
