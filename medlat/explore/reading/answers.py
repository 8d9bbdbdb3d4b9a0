"""The answers of a study's readers: a CSV file that grows by one line for each case that a reader has answered.

A line is on the disk, whole, before the next case is shown; what a crash left of one goes when the file is opened
again, and that case is shown again. One process has the file at a time.
"""

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from medlat.core.errors import UserError, did_you_mean
from medlat.core.files import read_json, write_json, writing
from medlat.core.tables import of_cell, to_cell
from medlat.core.terminal import printable

READER = re.compile(r"[A-Z0-9_-]{1,16}")
FIRST = ("reader", "case")  # columns, before one for each question


def truth_file(answers: Path) -> Path:
    """Where the truth about the cases of a file of answers stands."""
    return answers.with_suffix(".truth.json")


def reader_code(typed: Any) -> str:
    """A reader's code as it is kept, a1 as A1. Raises UserError where it is none."""
    code = typed.strip().upper() if isinstance(typed, str) else ""
    if not READER.fullmatch(code):
        raise UserError("reader: expected a number or a code of at most 16 letters and digits, without spaces; no name")
    return code


class Answers:
    """The file, open: `with Answers(...) as answers`. Raises UserError where another process has it, it cannot be
    written, or holds answers to another study.

    truth: of `cases.truth_of`, which is written beside it.
    """

    def __init__(self, path: Path, truth: Mapping[str, Any]) -> None:
        self.path, self.truth = path, truth
        self.done: dict[str, set[int]] = {}
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), fallback_to_soft=False)
        self._order = Lock()

    def __enter__(self) -> "Answers":
        if not self.path.parent.is_dir():
            raise UserError(f"--answers={self.path}: no such folder; expected one that is there")
        with writing("--answers", self.path.parent):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise UserError(
                    f"--answers={self.path}: another study writes there; expected a file of its own"
                ) from None
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)
        Path(self._lock.lock_file).unlink(missing_ok=True)  # before another can have it
        self._lock.release()

    def _open(self) -> None:
        truth, kept = truth_file(self.path), self.path.read_bytes() if self.path.exists() else None
        head = ",".join(FIRST).encode()
        unanswered = kept is not None and kept.count(b"\n") <= 1 and kept.startswith(head[: len(kept)])
        if truth.exists() and not unanswered and read_json(truth) != json.loads(json.dumps(self.truth)):
            raise UserError(
                f"--answers={self.path}: {truth.name} beside it tells the cases of another study; expected the run and "
                f"the questions that it was begun with, or another name"
            )
        if kept and not unanswered and not truth.exists():
            raise UserError(f"--answers={self.path}: {truth.name} is not beside it; expected it, or another name")
        write_json(truth, self.truth)
        whole = 0 if kept is None or unanswered else kept.rfind(b"\n") + 1
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self._file, whole)
        if not whole:
            self._append([*FIRST, *self.truth["questions"]])
            _sync_folder(self.path.parent)
        for row in read_answers(self.path, self.truth):
            self.done.setdefault(row["reader"], set()).add(int(row["case"]))

    def add(self, reader: str, case: int, said: Mapping[str, str]) -> None:
        """Keep what a reader said of a case: question -> answer. Of a case that the reader has answered already the
        first answer stays.

        Raises OSError where the disk refuses it; nothing of it is then kept.
        """
        with self._order:
            if case in self.done.get(reader, ()):
                return
            self._append([reader, str(case), *(said.get(name, "") for name in self.truth["questions"])])
            self.done.setdefault(reader, set()).add(case)

    def _append(self, cells: Sequence[str]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow([to_cell(printable(" ".join(each.split()))) for each in cells])
        line, size = buffer.getvalue().encode(), os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(28, os.strerror(28))
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise


def read_answers(path: Path, truth: Mapping[str, Any]) -> list[dict[str, str]]:
    """The lines of such a file, whole ones only: column -> text.

    truth: of `cases.truth_of`. Raises UserError where it is none, or says what that study does not know.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        found, *rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
        if found != [*FIRST, *truth["questions"]]:
            raise ValueError(f"its columns are {', '.join(found)}; expected {', '.join([*FIRST, *truth['questions']])}")
        read = [dict(zip(found, map(of_cell, row), strict=True)) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not the answers of a reader study ({error})") from error
    seen = set()
    for number, row in enumerate(read, 2):
        where, key = f"{path}: line {number}", (reader_code(row["reader"]), row["case"])
        if row["case"] not in truth["cases"]:
            raise UserError(
                f"{where}: case={row['case']}: the study has no such case; expected 0 to {len(truth['cases']) - 1}"
            )
        if key in seen:
            raise UserError(f"{where}: reader {key[0]} answers case {key[1]} twice; expected once")
        seen.add(key)
        for name, question in truth["questions"].items():
            if row[name] and question["choices"] and row[name] not in question["choices"]:
                raise UserError(
                    f"{where}: {name}={row[name]}: cannot be said{did_you_mean(row[name], question['choices'])}"
                )
    return read


def _sync_folder(folder: Path) -> None:
    """So that a new file's name outlasts a crash too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
