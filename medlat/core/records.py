"""Logged values, one JSON line each: the curves of a training, and `metrics.jsonl` of a run."""

import json
import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One logged value: name is "stage/metric", step counts training images, time is seconds since the epoch."""

    name: str
    step: int
    value: float
    time: float


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
