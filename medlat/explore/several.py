"""Several runs behind one address: the table of a sweep as the way in, and two runs side by side.

Each run has the page that it would have alone, below its number; it is opened when it is first asked for.
"""

import asyncio
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from medlat.core.errors import UserError
from medlat.core.files import read_json
from medlat.explore.app import HERE, Exploring, guarded, template
from medlat.explore.view import Explorer
from medlat.report.style import number
from medlat.study.collect import Run, collect, table, varying
from medlat.study.run_folder import ARTIFACTS

OPEN = 4  # runs that are kept open
SAME = ("images", "split")  # what two runs share whose held-out images are the same
SHOWN = 8  # columns of numbers that a table begins with


def sweep(folder: Path, open_run: Callable[[Path], Explorer], token: str, hosts: Sequence[str]) -> ASGIApp:
    """The table of the runs below a folder, and each of them. Raises UserError where there are none."""
    return Several(collect(folder), open_run, folder).application(token, hosts, "table")


def side_by_side(
    pair: Sequence[Path], open_run: Callable[[Path], Explorer], token: str, hosts: Sequence[str]
) -> ASGIApp:
    """Two runs. Raises UserError where one of them cannot be explored."""
    opened = [open_run(folder) for folder in pair]
    runs = [next(run for run in collect(folder) if run.folder == folder) for folder in pair]
    several = Several([replace(run, fault=None) for run in runs], open_run)
    for place, explorer in enumerate(opened):
        several.keep(place, explorer)
    return several.application(token, hosts, "pair")


class Several:
    """Runs by their place in the list, from 0. folder: of their sweep, where it is one."""

    def __init__(self, runs: Sequence[Run], open_run: Callable[[Path], Explorer], folder: Path | None = None) -> None:
        self.runs, self.open_run, self.folder = runs, open_run, folder
        self._open: OrderedDict[int, ASGIApp] = OrderedDict()
        self._opening = asyncio.Lock()

    def application(self, token: str, hosts: Sequence[str], way_in: str) -> ASGIApp:
        """way_in: what stands at the address itself: "table", or "pair" of the first two."""
        routes: list[Any] = [
            Route("/", self.table if way_in == "table" else self.pair),
            Route("/{first:int}-{second:int}/", self.pair),
            Mount("/{run:int}", app=self.run),
        ]
        return guarded(routes, token, hosts)

    def keep(self, place: int, explorer: Explorer) -> ASGIApp:
        """A run that is open, and what answers for it."""
        Thread(target=explorer.warm, daemon=True).start()
        self._open[place] = app = Router(Exploring(explorer).routes)
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return app

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All that is asked of one run."""
        place = self._place(scope["path_params"]["run"])
        async with self._opening:
            app = self._open.get(place)
            if app is None:
                app = self.keep(place, await run_in_threadpool(self.open_run, self.runs[place].folder))
            self._open.move_to_end(place)
        await app(scope, receive, send)

    async def table(self, request: Request) -> Response:
        """The runs with what they were given and their numbers."""
        assert self.folder is not None
        return self._page("sweep", request, title=self.folder.resolve().name, facts=facts(self.runs, self.folder))

    async def pair(self, request: Request) -> Response:
        """Two runs beside each other."""
        asked = [self._place(request.path_params.get(name, place)) for place, name in enumerate(("first", "second"))]
        pair, up = [self.runs[place] for place in asked], "../" if request.path_params else ""
        frames = [{"address": f"{up}{place}/", "title": self._name(self.runs[place], pair)} for place in asked]
        same = len({_hold_out(run.folder) for run in pair}) == 1
        return self._page("pair", request, frames=frames, same=same, facts={"same": same})

    def _page(self, name: str, request: Request, facts: Any, **more: Any) -> Response:
        return HTMLResponse(template(HERE / f"{name}.html.j2", request.state.nonce, facts, **more))

    def _place(self, place: int) -> int:
        if not 0 <= place < len(self.runs):
            raise UserError(f"run={place}: there is no such run; expected 0 to {len(self.runs) - 1}")
        if (fault := self.runs[place].fault) is not None:
            raise UserError(f"run={place}: not finished: {fault}")
        return place

    def _name(self, run: Run, beside: Sequence[Run]) -> str:
        """What tells a run from those beside it."""
        given = [f"{key}={run.settings.get(key, 'as it is')}" for key in varying(beside)]
        return " ".join([run.folder.resolve().name, *given])


def facts(runs: Sequence[Run], folder: Path) -> dict[str, Any]:
    """What the script of a sweep's page knows: the columns, which of them are settings and which are shown at first,
    and of each run its place, its cells (text, and what it is sorted by) or the fault that ended it.
    """
    keys, rows = varying(runs), iter(table(runs))
    found: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for place, run in enumerate(runs):
        name = run.folder.relative_to(folder).as_posix()  # two sweeps have a run 0 each
        own: dict[str, Any] = {"place": place, "run": name, "fault": run.fault}
        given = next(rows) if run.numbers is not None else dict(run.settings)
        names |= dict.fromkeys(run.numbers or ())
        found.append(own | {"cells": {key: _cell(given[key]) for key in (*keys, *(run.numbers or ())) if key in given}})
    return {"settings": keys, "numbers": list(names), "shown": _first(list(names)), "runs": found}


def _first(names: Sequence[str]) -> list[str]:
    """The numbers that a table begins with: what says first how a run went, with random directions beside it."""
    own = [name for name in names if not {"chance", "coordinate"} & set(name.split("/"))]
    telling = [name for name in own if name.endswith(("/named", "/psnr", "_purity", "/flip_rate", "/auc"))]
    return (telling or list(names))[:SHOWN]


def _cell(value: Any) -> list[Any]:
    if isinstance(value, float):
        return [number(value), value if math.isfinite(value) else None]
    return [str(value), None]


def _hold_out(folder: Path) -> tuple[str, ...]:
    """What determines which images a run holds out."""
    made: Mapping[str, Any] = read_json(folder / ARTIFACTS) or {}
    return tuple(json.dumps(made.get(name, {}).get("key")) for name in SAME)
