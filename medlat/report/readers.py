"""What a reader says of a run's directions: a name, a star, a note. One file beside the run, written whole by `medlat
explore`; the run's next report has it, told apart from what is measured.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medlat.core.errors import UserError
from medlat.core.files import write_json, writing

if TYPE_CHECKING:
    from medlat.report.page import Section

FILE = "explore.json"
LONGEST = {"name": 80, "note": 2000}  # letters
NOTHING = {"name": "", "star": False, "note": ""}


def read_kept(folder: Path) -> dict[str, dict[str, Any]]:
    """Direction -> its name, star and note, as far as there are any. Raises UserError where the file is damaged."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["directions"]
        return {str(direction): _checked(said) for direction, said in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UserError) as error:
        raise UserError(f"{path}: not what medlat explore writes; expected that file, or none") from error


def keep(folder: Path, direction: str, said: Any) -> dict[str, dict[str, Any]]:
    """Keep what is said of a direction, in the place of what was; returns what is kept of all.

    Raises UserError where it is no name, star and note, or the folder cannot be written.
    """
    kept = read_kept(folder) | {direction: _checked(said)}
    kept = {name: each for name, each in kept.items() if each != NOTHING}
    with writing("RUN", folder):
        write_json(folder / FILE, {"directions": kept})
    return kept


def readers_section(kept: Mapping[str, Mapping[str, Any]], names: Sequence[Mapping[str, Any]]) -> "list[Section]":
    """What readers said of directions, those with a star first; [] where nothing. names: of names.csv."""
    from medlat.report.page import Section, Table  # what draws is not imported where nothing is drawn

    rows = [
        [row["direction"], "★" if said["star"] else "", said["name"], said["note"], row["name"]]
        for row in names
        if (said := kept.get(row["direction"])) is not None
    ]
    if not rows:
        return []
    rows.sort(key=lambda row: not row[1])
    columns = ["direction", "", "a reader's name", "note", "by measurement"]
    text = "What somebody wrote who looked at pictures. Nothing here is measured, and no sentence above rests on it."
    return [Section("What do readers say?", text, tables=[Table("Readers' names and notes", columns, rows)])]


def _checked(said: Any) -> dict[str, Any]:
    if not isinstance(said, dict) or set(said) != set(NOTHING) or not isinstance(said["star"], bool):
        raise UserError("keep: expected name, star and note")
    for field, longest in LONGEST.items():
        if not isinstance(said[field], str) or len(said[field]) > longest:
            raise UserError(f"keep: {field}: expected text of at most {longest} letters")
    return {"name": said["name"].strip(), "star": said["star"], "note": said["note"].strip()}
