"""Tables as CSV."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.errors import UserError
from medlat.core.files import whole


def write_table(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV (UTF-8, floats in full precision). Text that a spreadsheet would take for a formula gets a `'` in
    front: names of classes come from files.
    """
    columns = list(dict.fromkeys(key for row in table for key in row))
    with whole(path) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writerow({column: to_cell(column) for column in columns})
        for row in table:
            writer.writerow({key: to_cell(value) for key, value in row.items()})


def read_table(path: Path, of: type | None = None) -> list[dict[str, Any]]:
    """The rows of such a file, column -> value: a column of whole numbers as int, of numbers as float, of True and
    False as bool, any other as str; empty cells as None. Raises UserError where it cannot be read.

    of: the dataclass whose instances the rows are: its fields that are floats are read as such, all others as text.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns, *rows = csv.reader(file)
        if of is not None:
            numbers = {field.name for field in fields(of) if field.type in (float, "float")}
            convert = [float if column in numbers else of_cell for column in columns]
            return [{c: to(cell) for c, to, cell in zip(columns, convert, row, strict=True)} for row in rows]
        values = [_values(cells) for cells in zip(*rows, strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a readable table ({error})") from error
    names = [of_cell(column) for column in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _values(cells: Sequence[str]) -> Sequence[Any]:
    """The values of a column's cells."""
    for kind in (int, float) if not any("_" in cell for cell in cells) else ():  # 1_000 is a number to Python alone
        with suppress(ValueError):
            return [kind(cell) if cell else None for cell in cells]
    if set(cells) <= {"True", "False", ""}:
        return [cell == "True" if cell else None for cell in cells]
    return [of_cell(cell) if cell else None for cell in cells]


def of_cell(cell: str) -> str:
    """Text without the `'` that `to_cell` put in front."""
    return cell[1:] if cell.startswith("'") and to_cell(cell[1:]) == cell else cell


def to_cell(value: Any) -> Any:
    """What stands in a CSV cell: text that a spreadsheet would take for a formula with a `'` in front; NumPy scalars as
    Python numbers, so that none reads `np.float64(...)`.
    """
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value.item() if isinstance(value, np.generic) else value
