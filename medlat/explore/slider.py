"""The directions of a run that move codes of one space, each as a slider."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.spaces import Directions
from medlat.evaluation.naming import UNNAMED
from medlat.study.finished import Run

SHORTEST, LONGEST = 3.0, 8.0  # σ to either side that a slider goes, unless the data support more
BEYOND = 1.5  # so many times as far as the data support, where that is between the two


@dataclass(frozen=True)
class Slider:
    """A direction, and what the run found of it.

    name: in the tables, e.g. "sefa 00". role: of its method. called: its name, or "unnamed"; why: what a name lacks;
    rank: by evidence within its method. range: σ that images stay near the data, None where that is not known;
    reach: σ that the slider goes to. move: [*shape], what a step of 1 σ adds to a code.
    """

    name: str
    method: str
    role: str
    called: str
    why: str
    rank: int
    range: float | None
    reach: float
    move: Tensor

    @property
    def is_named(self) -> bool:
        return self.called != UNNAMED

    def facts(self) -> dict[str, Any]:
        shown = ("name", "method", "role", "called", "why", "rank", "range", "reach")
        return {name: getattr(self, name) for name in shown} | {"named": self.is_named}


def sliders_of(run: Run) -> tuple[str, dict[str, Slider], list[str]]:
    """The space in which the main method's directions move codes, the directions of all methods that do so there, by
    their names, and the methods that do not. By name and evidence: main method, compared ones, controls.

    Raises UserError where the run has no directions, or those of the main method are of no use in its space.
    """
    found, left_out = dict[str, Slider](), list[str]()
    rows = {row["direction"]: row for row in run.table("names")}
    space = run.way(run.directions["main"].names[0]).space.name
    for method, directions in run.directions.items():
        own = []
        try:
            for name in directions.names:
                way = run.way(name)
                if way.space.name != space:
                    raise ArgumentError("space", f"expected {space}", way.space.name)
                own.append(_slider(name, method, run.directions.roles[method], rows.get(name, {}), way))
        except ArgumentError:  # of a space to which codes of this one are not mapped
            left_out.append(method)
            continue
        found |= {each.name: each for each in sorted(own, key=lambda each: (not each.is_named, each.rank))}
    return space, found, left_out


def _slider(name: str, method: str, role: str, row: Mapping[str, Any], way: Directions) -> Slider:
    """row: of names.csv."""
    supported, control = row.get("range"), role == "control"
    reach = min(max(SHORTEST, BEYOND * (supported or 0.0)), max(LONGEST, supported or 0.0))
    return Slider(
        name,
        method,
        role,
        UNNAMED if control else str(row.get("name") or UNNAMED),
        "a control, which knows nothing" if control else str(row.get("why") or ""),
        int(row.get("rank") or 0),
        supported,
        float(reach),
        (way.vectors[0] * way.scores[0]).cpu(),
    )
