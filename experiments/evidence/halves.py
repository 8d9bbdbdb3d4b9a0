"""Which methods find the same directions again in the other half of the patients?

    python experiments/evidence/halves.py --data ../shared/data --store outputs/store --threads 1

Some patients are held out, the others are cut in two halves; a generator is trained on each, with several seeds, and
every method finds its directions in each. Directions of two generators are compared by what they do to the same
held-out images: by the measurements that change, and by the pixels that change. They are matched one to one (Hungarian
method), and the mean |cosine| of the matched is compared with what it is where one of the two sets is mixed at random
(as many directions of the same span, matched in the same way), and where the measurements of one are permuted. Puts its
rows into halves.csv.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from trained import METHODS, Axes, axes_of, composed, parser, put, trained

RESULTS = Path(__file__).with_name("halves.csv")
DRAWN = 500
PAIRS = {  # (half, seed) of two generators -> whether they are such a pair
    "other half, other seed": lambda a, b: a[0] != b[0] and a[1] != b[1],
    "same half, other seed": lambda a, b: a[0] == b[0] and a[1] < b[1],
    "other half, same seed": lambda a, b: (a[0], b[0]) == (0, 1) and a[1] == b[1],  # the same weights to begin with
}
Key = tuple[int, int]


def main() -> None:
    asking = parser(__doc__, images=6_400)
    asking.add_argument("--seeds", type=int, default=2)
    asked = asking.parse_args()
    for name in asked.sets:
        began = time.monotonic()
        models: dict[Key, Axes] = {}
        found: dict[Key, dict[str, np.ndarray]] = {}
        for half, seed in product(range(2), range(asked.seeds)):
            context, directions = trained(composed(name, asked, seed), half)
            models[half, seed] = axes = axes_of(context)
            found[half, seed] = {method: axes.parts(own) for method, own in directions.items()}
            parts = {"train": context.split.train, "test": context.split.test}
            people = {p: len(np.unique(context.images.patient[rows])) for p, rows in parts.items()}
            print(name, half, seed, people, f"{time.monotonic() - began:.0f} s", flush=True)
        shared = {"set": name, "patients_of_a_half": people["train"], "held_out_patients": people["test"]}
        rows = [shared | row for kind in ("measurements", "pixels") for row in compared(models, found, kind)]
        put(RESULTS, rows, "set")


@dataclass(frozen=True)
class Pair:
    """What the axes of two generators do beside each other: effects [A, E] and [B, E], and their inner products with
    each other and with themselves.
    """

    keys: tuple[Key, Key]
    cross: np.ndarray
    own: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, effects: Mapping[Key, np.ndarray], keys: tuple[Key, Key], order: Any = slice(None)) -> "Pair":
        """order: of the second one's effects, instead of their own."""
        a, b = effects[keys[0]].astype(np.float64), effects[keys[1]][:, order].astype(np.float64)
        return cls(keys, a @ b.T, (a @ a.T, b @ b.T))

    def cosines(self, parts: Mapping[Key, np.ndarray], apart: bool) -> np.ndarray:
        """[K, L] of the effects of directions. apart: what the directions of one set have in common is taken out first:
        each set's effects, of length 1, become the nearest ones at right angles (Löwdin 1950).
        """
        frames = []
        for key, own in zip(self.keys, self.own, strict=True):
            x = parts[key] / np.sqrt(np.einsum("ka,ab,kb->k", parts[key], own, parts[key]))[:, None]
            if apart:
                values, vectors = np.linalg.eigh(x @ own @ x.T)
                root = np.where(values > 1e-9 * values.max(), 1.0 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
                x = (vectors * root) @ vectors.T @ x
            frames.append(x)
        return frames[0] @ self.cross @ frames[1].T


def matched(cosines: np.ndarray) -> np.ndarray:
    """|cosine| of the directions that are matched one to one, so that the sum is largest."""
    size = np.abs(cosines)
    return size[linear_sum_assignment(size, maximize=True)]


def turned(cosines: np.ndarray, gram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same where the first set is mixed at random: cosines [K, L] of as many directions of the same span. gram:
    [K, K], cosines within the first set.
    """
    mix = np.linalg.qr(rng.standard_normal((len(gram), len(gram))))[0]
    return mix @ cosines / np.sqrt(np.einsum("ka,ab,kb->k", mix, gram, mix))[:, None]


def compared(models: Mapping[Key, Axes], found: Mapping[Key, Mapping[str, np.ndarray]], kind: str) -> Iterator[dict]:
    """A row for each kind of pairs and method. kind: by which effects."""
    effects, rng = effects_of(models, kind), np.random.default_rng(0)
    apart = kind == "pixels"  # measurements are fewer than directions, which cannot all be at right angles
    for what, belongs in PAIRS.items():
        keys = [(a, b) for a, b in product(models, models) if a < b and belongs(a, b)]
        pairs = [Pair.of(effects, pair) for pair in keys]
        orders = [rng.permutation(next(iter(effects.values())).shape[1]) for _ in range(0 if apart else DRAWN)]
        shuffled = [[Pair.of(effects, pair, order) for pair in keys] for order in orders]
        for method in METHODS if pairs else ():
            own = {key: of[method] for key, of in found.items()}
            cosines = [pair.cosines(own, apart) for pair in pairs]
            within = [Pair.of(effects, (a, a)).cosines(own, apart) for a, _ in keys]
            mixed = [[matched(turned(*both, rng)) for both in zip(cosines, within, strict=True)] for _ in range(DRAWN)]
            row: dict[str, Any] = {"by": kind, "pairs_of": what, "method": method, "pairs": len(pairs)}
            row |= scores([matched(c) for c in cosines], mixed)
            best = np.mean([np.linalg.svd(c)[1].sum() / min(c.shape) for c in cosines])  # Procrustes
            row |= (
                {"ceiling": best, "normalised": (row["matched"] - row["chance"]) / (best - row["chance"])}
                if apart
                else {}
            )
            values = [np.mean([matched(pair.cosines(own, apart)).mean() for pair in draw]) for draw in shuffled]
            row |= (
                {"permuted": np.mean(values), "p_permuted": p_value(row["matched"], np.array(values))} if values else {}
            )
            yield row


def scores(real: Sequence[np.ndarray], mixed: Sequence[Sequence[np.ndarray]]) -> dict[str, Any]:
    """real: |cosines| of the matched of each pair; mixed: the same of each draw. A direction is found again where its
    |cosine| is above that of the best of a whole mixed set in 95% of the draws.
    """
    mean = np.mean([pair.mean() for pair in real])
    chance = np.array([np.mean([pair.mean() for pair in draw]) for draw in mixed])
    flat = [pair for draw in mixed for pair in draw]
    level = np.quantile([pair.max() for pair in flat], 0.95)
    return {
        "directions": np.mean([len(pair) for pair in real]),
        "matched": mean,
        "lowest_pair": min(pair.mean() for pair in real),
        "highest_pair": max(pair.mean() for pair in real),
        "chance": chance.mean(),
        "p": p_value(mean, chance),
        "level": level,
        "found_again": np.mean([(pair > level).sum() for pair in real]),
        "found_again_by_chance": np.mean([(pair > level).sum() for pair in flat]),
    }


def p_value(found: float, random: np.ndarray) -> float:
    """One-sided (Phipson & Smyth 2010)."""
    return float((1 + (random >= found).sum()) / (1 + len(random)))


def effects_of(models: Mapping[Key, Axes], kind: str) -> dict[Key, np.ndarray]:
    """[A, E] of each generator; of measurements those that all of them could measure."""
    if kind == "pixels":
        return {key: axes.seen for key, axes in models.items()}
    known = np.all([np.isfinite(axes.measured).all(axis=0) for axes in models.values()], axis=0)
    return {key: axes.measured[:, known] for key, axes in models.items()}


if __name__ == "__main__":
    main()
