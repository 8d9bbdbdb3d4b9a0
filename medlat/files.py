"""Files that are there whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Text in UTF-8 in the place of what was there: a kill or a full disk leaves the one or the other."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """A plain value as JSON."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The value in a file; None where there is no file, or none that is whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
