"""The record of a run: `metrics.jsonl` holds every value, `metrics.json` the final ones, and a mirror shows both."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TextIO

import numpy as np
from omegaconf import OmegaConf

from medlat.config.build import build
from medlat.core.files import NO_SPACE, REFUSED, write_json
from medlat.core.records import Record, to_line
from medlat.study.mirrors.mirror import Logger, Mirror

log = logging.getLogger(__name__)
P = ParamSpec("P")


def _mirrored(send: Callable[Concatenate["Tracker", Mirror, P], None]) -> Callable[Concatenate["Tracker", P], None]:
    """Where there is a mirror. What goes wrong with it is said, and costs the run nothing but its mirror."""

    @wraps(send)
    def wrapper(tracker: "Tracker", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if tracker.mirror is None:
            return
        try:
            send(tracker, tracker.mirror, *args, **kwargs)
        except Exception as error:
            tracker.mirror = None
            _spare(error)

    return wrapper


def _spare(error: Exception) -> None:
    """Say what the logger raised, unless it is about the disk, which the run itself needs."""
    if isinstance(error, OSError) and error.errno in NO_SPACE | REFUSED:
        raise error
    log.warning("the logger fails (%s); the run goes on without it", type(error).__name__)


class Tracker:
    """Writes the record of a run, and shows it in its mirror.

    folder: of the run. logger: what mirrors it; None: nothing. The others as of `Logger.start`.
    """

    def __init__(
        self,
        folder: Path,
        logger: Logger | None,
        config: Mapping[str, Any],
        name: str,
        job_type: str | None = None,
        group: str | None = None,
    ) -> None:
        self.folder = folder
        self.final: dict[str, float] = {}
        self._names: set[str] = set()
        self._file: TextIO = open(folder / "metrics.jsonl", "a")  # noqa: SIM115 (closed in `close`)
        self.mirror: Mirror | None = None
        if logger is not None:
            try:
                self.mirror = logger.start(folder, config, name, job_type, group)
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
    def _curves(self, mirror: Mirror, records: Sequence[Record]) -> None:
        mirror.curves(records)

    @_mirrored
    def images(self, mirror: Mirror, name: str, paths: Sequence[Path]) -> None:
        """Figures, PNG or GIF; they lie in the run folder anyway."""
        mirror.figures(name, paths)

    @_mirrored
    def image(self, mirror: Mirror, name: str, pixels: np.ndarray, step: int) -> None:
        """One picture [H, W] of grey values from 0 to 1, after so many images of training."""
        mirror.picture(name, pixels, step)

    @_mirrored
    def table(self, mirror: Mirror, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows, column -> value."""
        if rows:
            mirror.table(name, rows)

    @_mirrored
    def artifact(self, mirror: Mirror, name: str, kind: str, path: Path) -> None:
        """A file that the run made."""
        mirror.file(name, kind, path)

    def close(self, exit_code: int = 0) -> None:
        """Write metrics.json and end the mirror; after a failure as far as the disk lets it."""
        final = {name: value if math.isfinite(value) else None for name, value in sorted(self.final.items())}
        with contextlib.nullcontext() if exit_code == 0 else contextlib.suppress(OSError):
            self._file.close()
            write_json(self.folder / "metrics.json", final)
        self._finish({name: value for name, value in final.items() if value is not None}, exit_code)

    @_mirrored
    def _finish(self, mirror: Mirror, final: Mapping[str, float], exit_code: int) -> None:
        mirror.finish(final, exit_code)


def mirror_tables(folder: Path, section: Any, name: str, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Tables about a whole sweep, mirrored as a run of the sweep's group.

    section: the `logger` of one of its runs, read from a file: only what is medlat's own is built of that.
    """
    if not isinstance(section, Mapping) or not str(section.get("_target_")).startswith("medlat."):
        return
    try:
        logger: Logger = build(OmegaConf.create(dict(section)))
        mirror = logger.start(folder, {}, f"{name} (all runs)", "collect", folder.name)
        if mirror is not None:
            for title, rows in tables.items():
                if rows:
                    mirror.table(title, rows)
            mirror.finish({}, 0)
    except Exception as error:
        _spare(error)
