"""Are names right? Directions of which it is known what they do, through everything that gives a name.

    python experiments/calibration/planted.py [--store outputs/store] [--seeds 0 1 2 3] [--threads N]

A world's images are drawn with known factors (thorax, ten factors; tissue, six, one of them blur alone), independent
and uniform, independent and Gaussian, or correlated (0.6). In the place of a generator stands the world itself, which
moves one factor and leaves the rest, so that only the naming is tried: held-out people's codes, measurements, ceilings,
chance, halves, range. A run is a draw and a seed; each names four kinds of directions, as the page of one method. Adds
the run's rows to planted.csv beside this file.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from medlat.config import build
from medlat.config.locate import config_dir
from medlat.core.tables import read_table, write_table
from medlat.evaluation.naming import Candidate, names
from medlat.steps import builders
from medlat.steps.base_codes import base_codes
from medlat.steps.data import Division, Images
from medlat.steps.measurements import Measurements, load_measurements
from medlat.steps.regressor import Regressor
from medlat.steps.semantics import semantics, subject_of
from medlat.steps.step import Context, Step
from medlat.study.pipeline import plan

sys.path.insert(0, str(Path(__file__).parent))
from worlds import WORLDS, Known, Planted, planted_directions

RESULTS = Path(__file__).with_name("planted.csv")
DRAWS = {"uniform": ("uniform", 0.0), "gaussian": ("gaussian", 0.0), "correlated": ("uniform", 0.6)}
KINDS = ("single", "mixed", "equal", "nothing")
DATA = {"thorax": "data=ct_phantom data.image_size=64", "tissue": "data=histology_phantom data.image_size=64"}
PEOPLE, MOVED = 400, 24


class Untrained(Step):
    """In the place of the generator's step; leaves nothing."""

    name = "generator"
    needs = ("images",)

    def run(self, context: Context, out: Path) -> None: ...


class Told(Context):
    """A run's context whose generator is the world."""

    known: Known

    def generator(self, step: str = "generator") -> Known:  # type: ignore[override]
        return self.known


def context_of(world: str, draw: str, seed: int, asked: argparse.Namespace) -> Told:
    """All that naming needs, of one world."""
    margin, correlation = DRAWS[draw]
    told = {"world": world, "people": PEOPLE, "margin": margin, "correlation": correlation, "seed": seed}
    overrides = ["+experiment=ct_vae_sefa", *DATA[world].split(), f"evaluation.base_codes={MOVED}", f"seed={seed}"]
    overrides += [f"store={Path(asked.store).resolve()}", f"trainer.threads={asked.threads or 'null'}", "logger=none"]
    overrides += ["data.augment=null"]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("config", overrides=overrides)
    config.data.source = {"_target_": "worlds.Planted"} | told
    builders.hardware(config).limit_threads()
    made = plan(config).context
    context = Told(made.config, made.store, made.source)
    for step in (Images(), Division(), Untrained()):
        context.made(step)
    source = build.build(config.data.source)
    assert isinstance(source, Planted)
    context.known = Known(source, context.images, context.spec)
    for step in (Regressor(), Measurements()):
        context.made(step)
    return context


def named(context: Told, world: str, draw: str, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each direction."""
    subject, base = subject_of(context), base_codes(context, "z")
    readable = {q.name for q in load_measurements(context.folder("measurements")).quantities["factor"]}
    for kind in KINDS:
        directions, moved = planted_directions(context.known, kind, seed)
        out = folder / kind
        out.mkdir(parents=True, exist_ok=True)
        semantics(subject, directions, base, out)
        rows = [Candidate(**row) for row in read_table(out / "candidates.csv", Candidate)]
        for which in ("factor", "measurement"):
            own = [row for row in rows if row.kind == which]
            found = names(own, {"z": base.chance[which].evidence}, controls=())
            told = dict(zip(directions.names, moved, strict=True))
            for one in found:
                row = {"world": world, "draw": draw, "seed": seed, "planted": kind, "kind": which}
                factors = told[one.direction] if kind != "nothing" else []
                row |= {"moved": " ".join(factors), "readable": " ".join(f for f in factors if f in readable)}
                row |= {"named": one.measurement if one.is_named else ""}
                yield row | {k: v for k, v in asdict(one).items() if k not in ("method", "rank", "name")}


def verdict(row: dict[str, Any]) -> str:
    """Of a name: "right", of the factor that moves most; "other", of another that moves; "wrong"; or "unnamed"."""
    if not row["named"]:
        return "unnamed"
    moved = (row["moved"] or "").split()
    return "right" if row["named"] == moved[0] else "other" if row["named"] in moved else "wrong"


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A table of the names by factors, and of the runs in which a random direction has a name, of either kind."""
    yield "| world, what is planted | directions | right | the other factor | unnamed | wrong |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for world, kind in product(WORLDS, KINDS[:-1]):
        own = [r for r in rows if (r["world"], r["planted"], r["kind"]) == (world, kind, "factor")]
        found = Counter(map(verdict, own))
        counts = " | ".join(str(found[name]) for name in ("right", "other", "unnamed", "wrong"))
        yield f"| {world}, {kind} | {len(own)} | {counts} |"
    nothing = [row for row in rows if row["planted"] == "nothing"]
    runs = {(row["world"], row["draw"], row["seed"], row["kind"]) for row in nothing}
    false = {(row["world"], row["draw"], row["seed"], row["kind"]) for row in nothing if row["named"]}
    yield f"random directions: {len(false)} of {len(runs)} pages of 16 have a name"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", default="outputs/store")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--draws", nargs="+", choices=DRAWS, default=list(DRAWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    for seed, world, draw in product(asked.seeds, asked.worlds, asked.draws):
        began = time.monotonic()
        context = context_of(world, draw, seed, asked)
        rows = list(named(context, world, draw, seed, Path(asked.store) / "planted" / world / draw / str(seed)))
        old = read_table(RESULTS) if RESULTS.exists() else []
        run = (world, draw, seed)
        write_table(RESULTS, [r for r in old if (r["world"], r["draw"], r["seed"]) != run] + rows)
        print(*run, f"{time.monotonic() - began:.0f} s", flush=True)
    print(*summary(read_table(RESULTS)), sep="\n")


if __name__ == "__main__":
    main()
