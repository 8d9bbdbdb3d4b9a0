"""The record of a run: `metrics.jsonl` holds every value, `metrics.json` the final ones, and W&B mirrors both.

No module but this one imports wandb. Nothing is sent anywhere unless `logger.mode=online`, and W&B's telemetry never.
"""

import contextlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TextIO

import numpy as np

from medlat.core.files import NO_SPACE, REFUSED, write_json
from medlat.core.records import Record, to_line

log = logging.getLogger(__name__)
P = ParamSpec("P")

ONLINE_WITHIN_S = 20.0  # that W&B may take to answer, before the run goes on without it
UPLOADED_WITHIN_S = 300.0  # at the end of a run, before the rest is left to `wandb sync`

# Of W&B itself: it measures its own work and sends that to a host of its own, whatever the mode of a run. It reads this
# when it is imported, and when it starts the process beside ours.
os.environ["WANDB_ERROR_REPORTING"] = "false"


def _mirrored(send: Callable[Concatenate["Tracker", P], None]) -> Callable[Concatenate["Tracker", P], None]:
    """Where there is a W&B run. What goes wrong with it is said, and costs the run nothing but its mirror."""

    @wraps(send)
    def wrapper(tracker: "Tracker", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if tracker._wandb is None:
            return
        try:
            send(tracker, *args, **kwargs)
        except Exception as error:
            tracker._wandb = None
            _spare(error)

    return wrapper


def _spare(error: Exception) -> None:
    """Say what W&B raised, unless it is about the disk, which the run itself needs."""
    if isinstance(error, OSError) and error.errno in NO_SPACE | REFUSED:
        raise error
    log.warning("W&B fails (%s); the run goes on without it", type(error).__name__)


class Tracker:
    """Writes the record of a run.

    folder: of the run; settings: the `logger` section (mode offline | online | disabled, project, entity).
    config: the resolved configuration, shown in W&B with dotted keys, by which runs can be sorted and filtered.
    job_type: what the run ends with, e.g. its last stage; group: the sweep that it belongs to.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        config: Mapping[str, Any],
        name: str,
        job_type: str | None = None,
        group: str | None = None,
    ) -> None:
        self.folder = folder
        self.final: dict[str, float] = {}
        self._names: set[str] = set()
        self._file: TextIO = open(folder / "metrics.jsonl", "a")  # noqa: SIM115 (closed in `close`)
        self._wandb: Any = None
        if settings["mode"] != "disabled":
            try:
                self._wandb = _start_wandb(folder, settings, config, name, job_type, group)
            except Exception as error:
                _spare(error)

    def log(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add values to the record at one step."""
        now = time.time()
        self.replay([Record(name, step, float(value), now) for name, value in values.items()])

    def replay(self, records: Sequence[Record]) -> None:
        """Add records as they are, e.g. the curves of a generator that was trained earlier."""
        for record in records:
            self._names.add(record.name)
            self._file.write(to_line(record))
        self._file.flush()
        self._curves(records)

    def has(self, prefix: str) -> bool:
        """Whether a value whose name begins so was logged in this run."""
        return any(name.startswith(prefix) for name in self._names)

    def result(self, values: Mapping[str, float]) -> None:
        """Final values "stage/name" of the run; they go to metrics.json."""
        self.final.update({name: float(value) for name, value in values.items()})
        self.log(values)

    @_mirrored
    def _curves(self, records: Sequence[Record]) -> None:
        by_step: dict[int, dict[str, float]] = {}
        for record in records:
            by_step.setdefault(record.step, {})[record.name] = record.value
        for step, values in by_step.items():
            self._wandb.log(values | {"images": step})

    @_mirrored
    def images(self, name: str, paths: Sequence[Path]) -> None:
        """Figures as W&B images or videos; they lie in the run folder anyway."""
        import wandb

        kind = {".gif": lambda p: wandb.Video(p, format="gif"), ".png": lambda p: wandb.Image(p)}
        self._wandb.log({f"{name}/{path.stem}": kind[path.suffix](str(path)) for path in paths})

    @_mirrored
    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """One picture [H, W] of grey values from 0 to 1 for W&B, after so many images of training."""
        import wandb

        self._wandb.log({name: wandb.Image((255.0 * pixels).astype(np.uint8)), "images": step})

    @_mirrored
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as a W&B table."""
        import wandb

        if rows:
            columns = list(rows[0])
            self._wandb.log({name: wandb.Table(columns=columns, data=[[row[c] for c in columns] for row in rows])})

    @_mirrored
    def artifact(self, name: str, kind: str, path: Path) -> None:
        """A file as a W&B artifact."""
        import wandb

        artifact = wandb.Artifact(re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:128], type=kind)  # all that W&B takes
        artifact.add_file(str(path))
        self._wandb.log_artifact(artifact)

    def close(self, exit_code: int = 0) -> None:
        """Write metrics.json and end the W&B run; after a failure as far as the disk lets it."""
        final = {name: value if math.isfinite(value) else None for name, value in sorted(self.final.items())}
        with contextlib.nullcontext() if exit_code == 0 else contextlib.suppress(OSError):
            self._file.close()
            write_json(self.folder / "metrics.json", final)
        self._finish(final, exit_code)

    @_mirrored
    def _finish(self, final: Mapping[str, float | None], exit_code: int) -> None:
        self._wandb.summary.update({name: value for name, value in final.items() if value is not None})
        self._wandb.finish(exit_code=exit_code)


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        flat |= flattened(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def mirror_tables(folder: Path, settings: Mapping[str, Any], name: str, tables: Mapping[str, Sequence[Any]]) -> None:
    """Tables about a whole sweep as a W&B run of the sweep's group."""
    if settings["mode"] == "disabled":
        return
    try:
        import wandb

        run = _start_wandb(folder, settings, {}, f"{name} (all runs)", "collect", folder.name)
        for title, rows in tables.items():
            columns = list(dict.fromkeys(column for row in rows for column in row))
            run.log({title: wandb.Table(columns=columns, data=[[_cell(row.get(c)) for c in columns] for row in rows])})
        run.finish()
    except Exception as error:
        _spare(error)


def _cell(value: Any) -> Any:
    return None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _start_wandb(
    folder: Path,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    name: str,
    job_type: str | None,
    group: str | None,
) -> Any:
    # W&B keeps data and caches below the run folder, and must not copy what was typed or printed: paths hold names.
    os.environ.update({f"WANDB_{kind}_DIR": str(folder / "wandb" / kind.lower()) for kind in ("CACHE", "CONFIG")})
    os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    quiet = wandb.Settings(
        console="off",
        x_disable_meta=True,
        x_disable_stats=True,
        disable_git=True,
        save_code=False,
        disable_code=True,
        host="",  # else the machine's name
        program="medlat",  # else what was typed, or the path of the script
        silent=True,
        init_timeout=ONLINE_WITHIN_S,
        finish_timeout=UPLOADED_WITHIN_S,
    )
    what: dict[str, Any] = {"project": settings["project"], "entity": settings["entity"], "name": name}
    what |= {"dir": str(folder), "config": flattened(config), "settings": quiet, "job_type": job_type, "group": group}
    if settings["mode"] == "online":
        if os.environ.get("WANDB_API_KEY") or _logged_in():
            with contextlib.suppress(wandb.errors.Error):
                return wandb.init(mode="online", **what)
        log.warning("W&B cannot be reached, or there is no key: offline; `wandb sync` uploads the run later")
    return wandb.init(mode="offline", **what)


def _logged_in() -> bool:
    """Whether `wandb login` has left a key; W&B would ask for one, and a job has nobody to answer."""
    import netrc

    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return any("wandb" in host for host in netrc.netrc().hosts)
    return False
