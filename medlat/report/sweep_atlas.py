"""The atlas of a sweep: which directions its runs have in common, over methods, settings and seeds.

By angle only where runs share a generator, as the axes of two generators have nothing to do with each other; by what
directions do to images always.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.spaces import Directions
from medlat.core.tables import write_table
from medlat.evaluation.atlas import SAME_ANGLE, Atlas, atlas
from medlat.evaluation.semantics import Effect, read_semantics
from medlat.report.discovered import atlas_figure, read_rows
from medlat.report.style import in_order, save_figure, without_folders

Vector = tuple[str, np.ndarray]
LEFT = ("semantics.csv", "names.csv", "artifacts.json", "config.yaml")  # by a run that looked for directions


@dataclass(frozen=True)
class Searched:
    """A run that looked for directions. run: its folder, relative to the sweep's; setting: what it was given that
    others were not, seeds left out.
    """

    run: str
    setting: str
    folder: Path


@dataclass(frozen=True)
class Entry:
    """A direction of a run. vector: the name of its generator and space, and the unit vector [size]."""

    run: str
    setting: str
    method: str
    control: bool
    direction: str
    name: str
    measurement: str
    vector: Vector

    @property
    def group(self) -> str:
        """What seeds are compared within."""
        words = self.setting.split()
        return " ".join(words if self.method in words else [self.method, *words])


def leave_atlas(runs: Sequence[Searched], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write atlas.csv (a row per direction), agreement.csv (how well the directions of one group of runs are found
    again in another; a group with itself: over seeds) and the figure; returns both tables, none of them where fewer
    than two runs have directions.
    """
    searched = [run for run in runs if all((run.folder / name).exists() for name in LEFT)]
    if len(searched) < 2:
        return {}
    effects = [_effects(run) for run in searched]
    kind = "factor" if all(any(row.kind == "factor" for row in rows) for rows in effects) else "measurement"
    entries = [entry for run, rows in zip(searched, effects, strict=True) for entry in _entries(run, rows, kind)]
    found = atlas([entry.vector for entry in entries], [row for rows in effects for row in rows], kind)
    tables = {"atlas": directions_table(entries, found), "agreement": agreement_table(entries, found)}
    for name, rows in tables.items():
        write_table(folder / f"{name}.csv", rows)
    called = [" ".join(map(without_folders, entry.group.split())) for entry in entries]
    shown = [row | {"method": group} for row, group in zip(tables["atlas"], called, strict=True)]
    controls = in_order(group for group, entry in zip(called, entries, strict=True) if entry.control)
    save_figure(atlas_figure(found.effects, found.angles, found.order, shown, controls, "run"), folder, "atlas")
    return tables


def directions_table(entries: Sequence[Entry], found: Atlas) -> list[dict[str, Any]]:
    """Each direction with its cluster (0: the largest), in how many runs that occurs, the direction of another run that
    is most alike by effect and by angle (NaN where no other run has that generator), and how many directions of other
    runs are the same by angle.
    """
    runs = np.array([entry.run for entry in entries])
    clusters = np.array([place.cluster for place in found.places])
    table = []
    for i, (entry, place) in enumerate(zip(entries, found.places, strict=True)):
        others = runs != entry.run
        nearest = int(np.where(others, found.effects[i], -1.0).argmax())
        angles = found.angles[i, others & ~np.isnan(found.angles[i])]
        table.append(
            {
                "run": entry.run,
                "setting": entry.setting,
                "method": entry.method,
                "direction": entry.direction,
                "name": entry.name,
                "measurement": entry.measurement,
                "cluster": place.cluster,
                "in_runs": len(set(runs[clusters == place.cluster])),
                "nearest": f"{entries[nearest].run}: {entries[nearest].direction}",
                "effect_cosine": float(found.effects[i, nearest]),
                "angle_cosine": float(angles.max()) if len(angles) else float("nan"),
                "duplicates": int((angles >= SAME_ANGLE).sum()),
            }
        )
    return table


def agreement_table(entries: Sequence[Entry], found: Atlas) -> list[dict[str, Any]]:
    """For each ordered pair of groups, over all pairs of two different runs of them: the mean over the first's
    directions of the largest |cosine| with one of the second, by effect and by angle (NaN between generators).
    """
    groups = np.array([entry.group for entry in entries])
    runs = np.array([entry.run for entry in entries])
    members = {group: in_order(runs[groups == group]) for group in in_order(groups)}
    table = []
    for first, own in members.items():
        for second, others in members.items():
            pairs = [(a, b) for a in own for b in others if a != b]
            parts = [np.ix_((groups == first) & (runs == a), (groups == second) & (runs == b)) for a, b in pairs]
            if parts:
                row = {"directions_of": first, "found_in": second, "pairs": len(pairs)}
                by = {"by_effect": found.effects, "by_angle": found.angles}
                table.append(row | {name: _again([alike[part] for part in parts]) for name, alike in by.items()})
    return table


def _again(parts: Sequence[np.ndarray]) -> float:
    shared = [float(part.max(axis=1).mean()) for part in parts if not np.isnan(part).any()]
    return float(np.mean(shared)) if shared else float("nan")


def _effects(run: Searched) -> list[Effect]:
    """Of all directions of a run, the method called by run too."""
    rows = [Effect.from_row(row) for row in read_semantics(run.folder / "semantics.csv")]
    return [replace(row, method=f"{run.run} {row.method}") for row in rows]


def _entries(run: Searched, rows: Sequence[Effect], kind: str) -> list[Entry]:
    """The directions of a run in the order of its effects."""
    named = {(row["method"], row["direction"]): row for row in read_rows(run.folder / "names.csv")}
    vectors, controls = _vectors(run.folder)
    entries = []
    for method, direction in in_order((row.method, row.direction) for row in rows if row.kind == kind):
        own = method.removeprefix(f"{run.run} ")
        told = named[own, direction]
        unknown = (f"{run.run} {own} {direction}", np.ones(1))  # the store is elsewhere: no angle to anything
        vector = vectors.get((own, direction), unknown)
        is_control = own in controls
        entries.append(
            Entry(run.run, run.setting, own, is_control, direction, told["name"], told["measurement"], vector)
        )
    return entries


def _vectors(folder: Path) -> tuple[dict[tuple[str, str], Vector], list[str]]:
    """Of a run: the vectors of its directions, where its store still has them, and the names of its controls."""
    from omegaconf import OmegaConf

    made = json.loads((folder / "artifacts.json").read_text())
    store = Path(OmegaConf.load(folder / "config.yaml").store)
    found: dict[tuple[str, str], Vector] = {}
    methods = {name: told for name, told in made.items() if "role" in told}
    for told in methods.values():
        path = store / told["path"] / "directions.safetensors"
        if path.exists():
            directions = Directions.load(path)
            space = f"{made['generator']['key']} {directions.space.name}"
            for name, vector in zip(directions.names, directions.vectors, strict=True):
                found[directions.method, name] = (space, vector.flatten().numpy())
    return found, [told["method"] for told in methods.values() if told["role"] == "control"]
