"""The record of a run: `metrics.jsonl` holds every value, `metrics.json` the final ones, and W&B mirrors both.

No module but this one imports wandb. Nothing is sent anywhere unless `logger.mode=online`.
"""

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One logged value: name is "stage/metric", step counts training images, time is seconds since the epoch."""

    name: str
    step: int
    value: float
    time: float


class Tracker:
    """Writes the record of a run.

    folder: of the run; settings: the `logger` section (mode offline | online | disabled, project, entity).
    config: the resolved configuration, shown in W&B.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any], name: str) -> None:
        self.folder = folder
        self.final: dict[str, float] = {}
        self._names: set[str] = set()
        self._file: TextIO = open(folder / "metrics.jsonl", "a")  # noqa: SIM115 (closed in `close`)
        self._wandb = None if settings["mode"] == "disabled" else _start_wandb(folder, settings, config, name)

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
        if self._wandb is not None:
            by_step: dict[int, dict[str, float]] = {}
            for record in records:
                by_step.setdefault(record.step, {})[record.name] = record.value
            for step, values in by_step.items():
                self._wandb.log(values | {"images": step})

    def has(self, prefix: str) -> bool:
        """Whether a value whose name begins so was logged in this run."""
        return any(name.startswith(prefix) for name in self._names)

    def result(self, values: Mapping[str, float]) -> None:
        """Final values "stage/name" of the run; they go to metrics.json."""
        self.final.update({name: float(value) for name, value in values.items()})
        self.log(values)

    def images(self, name: str, paths: Sequence[Path]) -> None:
        """Figures as W&B images or videos; they lie in the run folder anyway."""
        if self._wandb is not None:
            import wandb

            kind = {".gif": lambda p: wandb.Video(p, format="gif"), ".png": lambda p: wandb.Image(p)}
            self._wandb.log({f"{name}/{path.stem}": kind[path.suffix](str(path)) for path in paths})

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """One picture [H, W] of grey values from 0 to 1 for W&B, after so many images of training."""
        if self._wandb is not None:
            import wandb

            self._wandb.log({name: wandb.Image((255.0 * pixels).astype(np.uint8)), "images": step})

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as a W&B table."""
        if self._wandb is not None and rows:
            import wandb

            columns = list(rows[0])
            self._wandb.log({name: wandb.Table(columns=columns, data=[[row[c] for c in columns] for row in rows])})

    def artifact(self, name: str, kind: str, path: Path) -> None:
        """A file as a W&B artifact."""
        if self._wandb is not None:
            import wandb

            artifact = wandb.Artifact(name.replace("/", "_"), type=kind)
            artifact.add_file(str(path))
            self._wandb.log_artifact(artifact)

    def close(self, exit_code: int = 0) -> None:
        """Write metrics.json and end the W&B run."""
        self._file.close()
        final = {name: value if math.isfinite(value) else None for name, value in sorted(self.final.items())}
        (self.folder / "metrics.json").write_text(json.dumps(final, indent=2) + "\n")
        if self._wandb is not None:
            self._wandb.summary.update({name: value for name, value in final.items() if value is not None})
            self._wandb.finish(exit_code=exit_code)


def to_line(record: Record) -> str:
    """One line of metrics.jsonl."""
    value = record.value if math.isfinite(record.value) else None
    return json.dumps({"name": record.name, "step": record.step, "value": value, "time": round(record.time, 3)}) + "\n"


def read_records(path: Path) -> list[Record]:
    """The records of a metrics.jsonl; a last line cut off by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        value = math.nan if entry["value"] is None else entry["value"]
        records.append(Record(entry["name"], entry["step"], value, entry["time"]))
    return records


def _start_wandb(folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any], name: str) -> Any:
    # W&B keeps data and caches below the run folder, and must not copy what was typed or printed: paths hold names.
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb"))
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))
    os.environ.setdefault("WANDB_CONFIG_DIR", str(folder / "wandb" / "config"))
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    quiet = wandb.Settings(
        console="off",
        x_disable_meta=True,
        x_disable_stats=True,
        disable_git=True,
        save_code=False,
        disable_code=True,
        silent=True,
    )
    return wandb.init(
        project=settings["project"],
        entity=settings["entity"],
        mode=settings["mode"],
        name=name,
        dir=str(folder),
        config=dict(config),
        settings=quiet,
    )
