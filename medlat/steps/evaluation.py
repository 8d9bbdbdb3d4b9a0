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
from medlat.evaluation.chance import Chance, false_alarms
from medlat.evaluation.naming import Candidate, names
from medlat.evaluation.semantics import Effect, Quantity, groups_of, summary
from medlat.steps.base_codes import base_codes
from medlat.steps.measurements import load_measurements, read_numbers, write_numbers
from medlat.steps.methods import Method, chance_of
from medlat.steps.step import Context, Step


class Evaluation(Step):
    """Leaves the numbers of the generator and of every method, the tables of effects, ranges and names, the atlas of
    all directions, and how well those of one method are found again by another.
    """

    name = "evaluation"
    version = 3

    def __init__(self, found: Sequence[Method]) -> None:
        self.methods = found
        self.needs = ("measurements", "fidelity", *(m.step for m in found), *(f"semantics/{m.name}" for m in found))

    def settings(self, config: DictConfig) -> dict[str, Any]:
        order = [(method.name, method.role) for method in self.methods]
        return {"methods": order, "chance": chance_of(config, list(self.methods)), "seed": config.seed}

    def run(self, context: Context, out: Path) -> None:
        folders = {method.name: context.folder(f"semantics/{method.name}") for method in self.methods}
        rows = [Effect.from_row(row) for f in folders.values() for row in read_table(f / "semantics.csv", Effect)]
        found = {method.name: context.directions(method) for method in self.methods}
        candidates = [Candidate(**row) for f in folders.values() for row in read_table(f / "candidates.csv", Candidate)]
        quantities = load_measurements(context.folder("measurements")).quantities
        numbers = read_numbers(context.folder("fidelity") / "metrics.json")
        numbers |= read_numbers(context.folder("measurements") / "metrics.json")
        leave_atlas(rows, found, "factor" if "factor" in quantities else "measurement", out)
        numbers |= self._named(context, candidates, {d.space.name for d in found.values()}, out)
        for folder in folders.values():
            numbers |= read_numbers(folder / "metrics.json")
        for own in quantities.values():
            numbers |= summaries(folders, candidates, own, chance_of(context.config, list(self.methods)))
        write_table(out / "semantics.csv", [row.row() for row in rows])
        write_table(out / "editing.csv", [row for f in folders.values() for row in read_table(f / "editing.csv")])
        write_numbers(out / "metrics.json", numbers)

    def _named(
        self, context: Context, candidates: Sequence[Candidate], spaces: set[str], out: Path
    ) -> dict[str, float]:
        """Leaves names.csv: by known factors where there are any, else by measurements."""
        kind = "factor" if any(row.kind == "factor" for row in candidates) else "measurement"
        own = [row for row in candidates if row.kind == kind]
        bases = {space: base_codes(context, space) for space in sorted(spaces)}
        given: dict[str, Chance] = {s: base.chance[kind] for s, base in bases.items() if kind in base.chance}
        controls = [method.name for method in self.methods if method.role == "control"]
        named = names(own, {s: c.evidence for s, c in given.items()}, controls, {"deg": "°", "1": ""})
        write_table(out / "names.csv", [asdict(n) for n in named])
        numbers = {
            f"semantics/{m.name}/named": float(sum(n.is_named for n in named if n.method == m.name))
            for m in self.methods
        }
        for space, base in bases.items():
            numbers[f"base_codes/{space}/patients"] = float(base.people and len(np.unique(base.owners)))
        count = max(1, sum(row.method not in controls for row in own))
        for space, found in given.items():
            numbers[f"chance/{space}/{kind}_purity"] = found.share
            numbers[f"chance/{space}/false_alarms"] = false_alarms(found.evidence, count)
        return numbers


def leave_atlas(rows: list[Effect], found: Mapping[str, Directions], kind: str, out: Path) -> None:
    """Leaves atlas.csv and agreement.csv."""
    vectors = [(d.space.name, v.flatten().numpy()) for d in found.values() for v in d.vectors]
    map_ = atlas(vectors, rows, kind)
    write_table(out / "atlas.csv", [asdict(place) for place in map_.places])
    write_table(out / "agreement.csv", agreement(map_))
    np.savez(out / "atlas.npz", angles=map_.angles, effects=map_.effects, order=map_.order)


def summaries(
    folders: Mapping[str, Path], candidates: Sequence[Candidate], quantities: Sequence[Quantity], chance: str | None
) -> dict[str, float]:
    """Of every method by one kind of quantities: purity, what it is more than that of the control `chance`, and how
    many quantities it covers: that are clearly most of what some direction does.
    """
    kind, slopes, people = quantities[0].kind, {}, True
    for method, folder in folders.items():
        with np.load(folder / "slopes.npz") as arrays:
            slopes[method], people = arrays[kind], people and bool(arrays["people"])
    numbers: dict[str, float] = {}
    for method, own in slopes.items():
        beside = slopes[chance] if chance not in (None, method) else None
        if beside is not None and beside.shape[1] != own.shape[1]:  # of another space, from other codes
            beside = None
        found = summary(own, beside, groups_of(quantities), people)
        clear = {row.measurement for row in candidates if (row.method, row.kind) == (method, kind) and row.is_clear}
        numbers |= {f"semantics/{method}/{kind}_{name}": value for name, value in found.items()}
        numbers[f"semantics/{method}/{kind}_coverage"] = float(len(clear))
    return numbers
