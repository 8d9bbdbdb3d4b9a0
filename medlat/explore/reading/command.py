"""What the answers of a reader study come to: `medlat study ANSWERS.csv`.

ANSWERS.csv is what `medlat explore RUN --study STUDY.yaml` keeps, with ANSWERS.truth.json beside it. For each question
and kind of case: accuracy beside chance, or the mean rating, with its 95% interval over people and readers; and how far
readers agree. Prints a table and leaves it as ANSWERS.table.csv. It may be asked while readers still read.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medlat.core.arguments import command, parsed
from medlat.core.errors import UserError
from medlat.core.files import read_json, writing
from medlat.core.tables import write_table
from medlat.core.terminal import printable
from medlat.explore.reading.answers import read_answers, truth_file
from medlat.explore.reading.results import Result, results

TRUTH = ("title", "seed", "run", "generator", "phantom", "questions", "cases")  # keys of the file


def main(arguments: Sequence[str]) -> int:
    """Count the answers; returns the exit code."""
    return command(arguments, __doc__, _study)


def _study(arguments: Sequence[str]) -> None:
    places, _ = parsed(arguments, ())
    if len(places) != 1:
        raise UserError(f"medlat study: found {len(places)} files, expected one: ANSWERS.csv")
    path = Path(places[0])
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the answers of a reader study, a CSV")
    truth = read_json(truth_file(path))
    if not isinstance(truth, dict) or set(truth) != set(TRUTH):
        raise UserError(
            f"{truth_file(path)}: not there, or no truth of a study; the server writes it beside the answers"
        )
    answers = read_answers(path, truth)
    if not answers:
        raise UserError(f"{path}: nobody has answered yet")
    found = results(truth, answers)
    table = path.with_suffix(".table.csv")
    with writing("medlat study", path.parent):
        write_table(table, [each.row() for each in found])
    print(printable(told(truth, answers, found)))
    print(f"{table}: written")


def told(truth: dict[str, Any], answers: Sequence[dict[str, str]], found: Sequence[Result]) -> str:
    """The table as text, below how far each reader is."""
    read = [row["reader"] for row in answers]
    progress = ", ".join(f"{reader} {read.count(reader)}" for reader in sorted(set(read)))
    head = ("question", "cases of", "shown", "reader", "n cases", "people", "readers", "answers", "what", "value",
            "95% interval", "chance", "")  # fmt: skip
    rows = [head, *(_cells(each) for each in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    phantom = ["Phantom data: computed images stand in for patients."] if truth["phantom"] else []
    first = f"{truth['title']}: {len(truth['cases'])} cases; answered by reader {progress}"
    return "\n".join([first, *phantom, "", *lines])


def _cells(each: Result) -> tuple[str, ...]:
    kind = f"{each.kind} (control)" if each.control else each.kind
    interval = f"[{each.low:.2f}, {each.high:.2f}]" if each.low == each.low else ""
    value, chance = (f"{number:.2f}" if number == number else "" for number in (each.value, each.chance))
    counts = (str(n) for n in (each.cases, each.people, each.readers, each.answers))
    return (each.question, kind, each.shown, each.reader, *counts, each.what, value, interval, chance, each.note)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
