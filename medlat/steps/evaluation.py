"""The evaluation: the directions of all methods side by side, each beside what chance gives."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from medlat.core.spaces import Directions
from medlat.core.tables import read_table, write_table
from medlat.evaluation.atlas import agreement, atlas
from medlat.evaluation.naming import names
from medlat.evaluation.semantics import Effect, gain, summary
from medlat.steps.measurements import read_numbers, write_numbers
from medlat.steps.methods import Method, chance_of
from medlat.steps.step import Context, Step


class Evaluation(Step):
    """Leaves the numbers of the generator and of every method, the tables of effects, ranges and names, the atlas of
    all directions, and how well those of one method are found again by another.
    """

    name = "evaluation"

    def __init__(self, found: Sequence[Method]) -> None:
        self.methods = found
        self.needs = ("measurements", "fidelity", *(m.step for m in found), *(f"semantics/{m.name}" for m in found))

    def settings(self, config: DictConfig) -> dict[str, Any]:
        order = [method.name for method in self.methods]
        return {"methods": order, "chance": chance_of(config, list(self.methods)), "seed": config.seed}

    def run(self, context: Context, out: Path) -> None:
        seed, chance = context.config.seed, chance_of(context.config, list(self.methods))
        folders = [context.folder(f"semantics/{method.name}") for method in self.methods]
        rows = [Effect.from_row(row) for folder in folders for row in read_table(folder / "semantics.csv", Effect)]
        kinds = sorted({row.kind for row in rows})
        found = {method.name: context.directions(method) for method in self.methods}
        numbers = read_numbers(context.folder("fidelity") / "metrics.json")
        numbers |= read_numbers(context.folder("measurements") / "metrics.json")
        numbers |= names_and_atlas(rows, found, "factor" if "factor" in kinds else "measurement", chance, out)
        for folder in folders:
            numbers |= read_numbers(folder / "metrics.json")
        for kind in kinds:
            numbers |= summaries(rows, kind, chance, seed)
        write_table(out / "semantics.csv", [row.row() for row in rows])
        write_table(out / "editing.csv", [row for folder in folders for row in read_table(folder / "editing.csv")])
        write_numbers(out / "metrics.json", numbers)


def names_and_atlas(
    rows: list[Effect], found: Mapping[str, Directions], kind: str, chance: str | None, out: Path
) -> dict[str, float]:
    """Leaves names.csv, atlas.csv and agreement.csv; returns how many directions of each method have a name."""
    named = names(rows, kind, chance, {"deg": "°", "1": ""})
    write_table(out / "names.csv", [asdict(n) for n in named])
    vectors = [(d.space.name, v.flatten().numpy()) for d in found.values() for v in d.vectors]
    map_ = atlas(vectors, rows, kind)
    write_table(out / "atlas.csv", [asdict(place) for place in map_.places])
    write_table(out / "agreement.csv", agreement(map_))
    np.savez(out / "atlas.npz", angles=map_.angles, effects=map_.effects, order=map_.order)
    return {
        f"semantics/{method}/named": float(sum(n.is_named for n in named if n.method == method)) for method in found
    }


def summaries(rows: list[Effect], kind: str, chance: str | None, seed: int) -> dict[str, float]:
    """Purity, coverage and gain over chance of every method."""
    by_method = {m: [r for r in rows if r.method == m] for m in dict.fromkeys(r.method for r in rows)}
    numbers: dict[str, float] = {}
    for method, own in by_method.items():
        found = summary(own, kind, seed)
        if chance is not None and method != chance:
            found |= gain(own, by_method[chance], kind, seed)
        numbers |= {f"semantics/{method}/{kind}_{name}": value for name, value in found.items()}
    return numbers
