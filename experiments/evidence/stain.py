"""What does a classifier of H&E tiles see beyond the stain?

    python experiments/evidence/stain.py --data ../shared/data --store outputs/store --threads 1

Three classifiers, of tiles as they are, of tiles whose stains were changed while it learnt, and of tiles that were all
stained alike; each is asked of the same held-out tiles as they are, stained alike, in grey, and with the stain of
another tile, of the same class or of the other one (Macenko et al. 2009). Puts its rows into stain.csv: the AUC for the
class of the tissue, below 0.5 where a classifier goes by the stain of the other class.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sources import STAIN, Stain, restained, stain_of
from trained import Nobody, composed, parser

from medlat.core.statistics import auc, bootstrap
from medlat.core.tables import write_table
from medlat.steps.classifier import Classifier, load_target
from medlat.steps.data import Division, Images
from medlat.steps.step import Context
from medlat.study.pipeline import plan

RESULTS = Path(__file__).with_name("stain.csv")
LEARNT_FROM = {
    "tiles as they are": "",
    "stains changed by up to 20%": "classifier.module.stain=0.2",
    "tiles stained alike": "data.source._target_=sources.OneStain",
}
ASKED_OF = ("as they are", "stained alike", "in grey", "another's stain, same class", "another's stain, other class")


def main() -> None:
    asking = parser(__doc__, images=38_400)
    asking.add_argument("--seeds", type=int, default=3)
    asked = asking.parse_args()
    rows: list[dict[str, Any]] = []
    tiles = None
    for learnt_from, overrides in LEARNT_FROM.items():
        for seed in range(asked.seeds):
            further = f"classifier=densenet classifier.training.images={asked.images} {overrides}"
            context = trained(composed("tiles", asked, seed, further))
            tiles = tiles or held_out(context)  # the first context's, as they are, for all
            rows += [{"learnt_from": learnt_from, "seed": seed} | row for row in answers(context, *tiles)]
            print(*rows[-len(ASKED_OF) :], sep="\n", flush=True)
    write_table(RESULTS, rows)


def trained(config: Any) -> Context:
    """A context with the classifier of one seed."""
    context = plan(config).context
    context.tracker = Nobody()
    for step in (Images(), Division(), Classifier()):
        context.made(step)
    return context


def held_out(context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB [N, H, W, 3] from 0 to 255 of the held-out tiles with two stains, whether they are of the second class, [N],
    and their groups, [N].
    """
    rows = context.split.test
    images = context.images.physical(rows, context.spec)
    kept = np.array([stain_of(image) is not None for image in images])
    print(f"{kept.sum()} of {len(rows)} held-out tiles have two stains", flush=True)
    (label,) = context.images.labels().values()
    return images[kept], label[rows][kept] == 1.0, context.images.patient[rows][kept]


def answers(context: Context, images: np.ndarray, label: np.ndarray, groups: np.ndarray) -> Iterator[dict[str, Any]]:
    """A row for each way in which the tiles are shown."""
    target = load_target(context.config, context.artifacts["classifier"], context.spec)
    for way in ASKED_OF:
        shown = torch.from_numpy(np.moveaxis(as_shown(images, label, groups, way), -1, 1) / 127.5 - 1.0).float()
        with torch.no_grad():
            told = torch.cat([target(part.to(context.device)).cpu() for part in shown.split(64)]).double().numpy()
        row = {"asked_of": way, "tiles": len(told), "groups": len(np.unique(groups))}
        row |= dict(zip(("auc", "low", "high"), bootstrap(auc, label, told, groups), strict=True))
        yield row | {"right": float(((told > 0.5) == label).mean())}


def as_shown(images: np.ndarray, label: np.ndarray, groups: np.ndarray, way: str) -> np.ndarray:
    """The tiles [N, H, W, 3] from 0 to 255 in one of the ways."""
    if way == "as they are":
        return images
    if way == "in grey":
        return np.repeat(images.mean(axis=-1, keepdims=True), 3, axis=-1)
    if way == "stained alike":
        return np.stack([restained(image, STAIN) for image in images])
    rng = np.random.default_rng(0)
    found = [stain_of(image) for image in images]
    same = way == "another's stain, same class"
    fit = [((label == own) == same) & (groups != group) for own, group in zip(label, groups, strict=True)]
    others = [rng.choice(np.flatnonzero(tile)) for tile in fit]
    return np.stack([restained(image, known(found[other])) for image, other in zip(images, others, strict=True)])


def known(stain: Stain | None) -> Stain:
    assert stain is not None  # tiles with one stain were left out
    return stain


if __name__ == "__main__":
    main()
