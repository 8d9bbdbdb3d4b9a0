"""What the record of a run is mirrored to, beside its own files: a tool that people look at curves and figures with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medlat.core.records import Record


class Mirror(Protocol):
    """Of one run. What any of it raises costs the run nothing but its mirror."""

    def curves(self, records: Sequence[Record]) -> None:
        """Logged values."""

    def figures(self, name: str, paths: Sequence[Path]) -> None:
        """Files of figures, PNG or GIF; they lie in the run folder anyway."""

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """One picture [H, W] of grey values from 0 to 1, after so many images of training."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """At least one row: column -> value, None where there is none. Rows may lack columns."""

    def file(self, name: str, kind: str, path: Path) -> None:
        """A file that the run made."""

    def finish(self, final: Mapping[str, float], exit_code: int) -> None:
        """The final numbers that are finite. exit_code: 0, or 1 after a failure."""


class Logger(Protocol):
    """The `logger` section of a configuration."""

    def start(
        self, folder: Path, config: Mapping[str, Any], name: str, job_type: str | None, group: str | None
    ) -> Mirror | None:
        """The mirror of a run; None where the user wants none.

        folder: of the run. config: resolved, as it may be shown. job_type: what the run ends with, e.g. its last stage;
        group: the sweep that it belongs to.
        """


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        flat |= flattened(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All columns, in the order in which they first occur."""
    return list(dict.fromkeys(column for row in rows for column in row))
