"""Tables as CSV."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.files import whole


def write_table(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV (UTF-8, floats in full precision). Text that a spreadsheet would take for a formula gets a `'` in
    front: names of classes come from files.
    """
    columns = list(dict.fromkeys(key for row in table for key in row))
    with whole(path) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writerow({column: _cell(column) for column in columns})
        for row in table:
            writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    """NumPy scalars as Python numbers, so that no CSV cell reads `np.float64(...)`."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value.item() if isinstance(value, np.generic) else value


def read_table(path: Path, of: type | None = None) -> list[dict[str, Any]]:
    """Rows of a CSV that `write_table` wrote. of: a dataclass; what it says is a float is one; else cells are text."""
    numeric = {f.name for f in fields(of) if f.type in (float, "float")} if of is not None else set()
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {key: float(cell) if key in numeric else cell for key, cell in row.items()} for row in csv.DictReader(file)
        ]
