"""TensorBoard: an event file in the run's folder. Nothing is sent; `tensorboard --logdir outputs` shows all runs.

Events are written here, and not by a `SummaryWriter`, whose files bear the name of the machine.
"""

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medlat.core.errors import ArgumentError
from medlat.core.records import Record
from medlat.study.mirrors.mirror import columns_of, flattened


class TensorBoard:
    """Raises ArgumentError where TensorBoard is not installed."""

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise ArgumentError(
                "", 'TensorBoard is not installed; pip install -e ".[tensorboard]" in a clone, or expected logger=none'
            )

    def start(
        self, folder: Path, config: Mapping[str, Any], name: str, job_type: str | None, group: str | None
    ) -> "TensorBoardMirror":
        """The configuration is a table, of dotted keys."""
        mirror = TensorBoardMirror(folder / "tensorboard")
        about = {"name": name, "job_type": job_type, "group": group} | flattened(config)
        mirror.table("config", [{"key": key, "value": value} for key, value in about.items()])
        return mirror


class TensorBoardMirror:
    """folder: of the event file."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._event = Event
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}").open("wb")
        self._writer = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")

    def curves(self, records: Sequence[Record]) -> None:
        from torch.utils.tensorboard.summary import scalar

        for record in records:
            self._add(record.time, step=record.step, summary=scalar(record.name, record.value))

    def figures(self, name: str, paths: Sequence[Path]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        for path in paths:  # a GIF moves there too
            with Image.open(path) as file:
                width, height = file.size
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
            self._add(summary=Summary(value=[Summary.Value(tag=f"{name}/{path.stem}", image=image)]))

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        from torch.utils.tensorboard.summary import image

        self._add(step=step, summary=image(name, (255.0 * pixels).astype(np.uint8), dataformats="HW"))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        from torch.utils.tensorboard.summary import text

        columns = columns_of(rows)
        lines = [columns, ["---"] * len(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
        self._add(summary=text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines)))

    def file(self, name: str, kind: str, path: Path) -> None:
        """TensorBoard keeps no files."""

    def finish(self, final: Mapping[str, float], exit_code: int) -> None:
        """The final numbers are among the curves."""
        self._file.close()

    def _add(self, at: float | None = None, **what: Any) -> None:
        event = self._event(wall_time=time.time() if at is None else at, **what)
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def _cell(value: Any) -> str:
    """Of a table in Markdown."""
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
