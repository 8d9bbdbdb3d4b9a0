"""What the answers of a reader study come to: accuracy beside chance, ratings, and how far readers agree.

Intervals are over the people whose images were read and, where there are several, over the readers; of agreement over
the people alone. None is given for fewer than 20 people.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medlat.core.statistics import (
    FEWEST_GROUPS,
    Interval,
    bootstrap,
    cohen_kappa,
    crossed_mean,
    fleiss_kappa,
)
from medlat.explore.reading.plan import RATING

MISSING = -1  # of an answer's number
ALL = "all"


@dataclass(frozen=True)
class Result:
    """kind: of the cases, a direction by its name, or "all"; reader: whose answers, or "all". cases, people, readers,
    answers: how many there are.
    what: "accuracy", "rating", "Cohen's kappa" or "Fleiss' kappa"; "answers" or "text" where none is known to be right.
    low, high: its 95% interval. chance: accuracy that the same answers would have if they were dealt out to the cases
    at random, each reader's own. note: what to mind.
    """

    question: str
    kind: str
    shown: str
    control: bool
    reader: str
    cases: int
    people: int
    readers: int
    answers: int
    what: str
    value: float
    low: float
    high: float
    chance: float
    note: str

    def row(self) -> dict[str, Any]:
        return {name: "" if value != value else value for name, value in asdict(self).items()}


def results(truth: Mapping[str, Any], answers: Sequence[Mapping[str, str]]) -> list[Result]:
    """truth: of `cases.truth_of`. answers: of `answers.read_answers`."""
    readers = sorted({row["reader"] for row in answers})
    found = list[Result]()
    for name, question in truth["questions"].items():
        asked = _Asked(name, question["choices"], truth["cases"], readers, answers)
        found += [asked.scored(kind) for kind in asked.kinds()]
        if asked.has_truth:
            found += [asked.scored(None, reader) for reader in [ALL, *(asked.judges() if len(readers) > 1 else ())]]
        if len(readers) > 1 and question["choices"]:
            found.append(asked.agreement())
    return found


class _Asked:
    """One question: said [R, N], the number of each reader's answer to each case, and right [N] that of the truth."""

    def __init__(
        self,
        name: str,
        choices: Sequence[str],
        cases: Mapping[str, Mapping[str, Any]],
        readers: Sequence[str],
        answers: Sequence[Mapping[str, str]],
    ) -> None:
        self.name, self.choices, self.readers = name, choices, np.array(readers)
        said = {(row["reader"], row["case"]): row[name] for row in answers if row[name]}
        numbers = [number for number in cases if any((reader, number) in said for reader in readers)]
        self.cases = [cases[number] for number in numbers]
        self.is_text = not choices
        words = {word: i for i, word in enumerate(choices)}
        spoken = [[said.get((reader, number)) for number in numbers] for reader in readers]
        places = [[MISSING if w is None else words.get(w, 0) for w in row] for row in spoken]
        self.said = np.array(places, int).reshape(len(readers), len(numbers))
        self.right = np.array([words.get(case["truth"].get(name), MISSING) for case in self.cases], int)
        self.people = np.array([case["person"] for case in self.cases], dtype=str)
        self.labels = [(case["direction"] if case["kind"] == "direction" else case["kind"]) for case in self.cases]
        self.has_truth = bool((self.right != MISSING).any())

    def kinds(self) -> list[tuple[str, str, bool]]:
        """What it was asked of: label, how it is shown, whether it is a control; controls last."""
        found = {(label, c["shown"], c["control"]) for label, c in zip(self.labels, self.cases, strict=True)}
        return sorted(found, key=lambda each: (each[2], each))

    def judges(self) -> list[str]:
        """The readers who answered it of a case with a truth."""
        return self.readers[(self.said[:, self.right != MISSING] != MISSING).any(axis=1)].tolist()

    def scored(self, kind: tuple[str, str, bool] | None, reader: str = ALL) -> Result:
        """Accuracy where a truth is known, the mean where the answers are ratings, of one kind of case or (None) of all
        that have a truth; by one reader or by all.
        """
        every = [(label, case["shown"], case["control"]) for label, case in zip(self.labels, self.cases, strict=True)]
        of = self.right != MISSING if kind is None else np.array([each == kind for each in every])
        by = (self.readers == reader) | (reader == ALL)
        of = of & (self.said[by] != MISSING).any(axis=0)
        said, right, people = self.said[by][:, of], self.right[of], self.people[of]
        answered, chance, notes = said != MISSING, math.nan, list[str]()
        if self.name == RATING:
            what, values = "rating", np.where(answered, said + 1.0, np.nan)
        elif (right != MISSING).any():
            known = answered & (right != MISSING)
            what, values = "accuracy", np.where(known, said == right, np.nan)
            chance = float(self._by_chance()[by][:, of][known].mean())
        else:
            what, values = "text" if self.is_text else "answers", np.full(said.shape, np.nan)
            notes.append(
                "free text: to be read" if self.is_text else f"none is known to be right; {self._counted(said)}"
            )
        readers = answered.any(axis=1)
        interval = crossed_mean(values[readers], people)
        label, shown, control = kind or (ALL, "", False)
        return self._result(label, shown, control, reader, said[readers], people, what, interval, chance, notes)

    def _counted(self, said: np.ndarray) -> str:
        return ", ".join(f"{choice} {(said == i).sum()}" for i, choice in enumerate(self.choices))

    def _by_chance(self) -> np.ndarray:
        """[R, N]: how often each reader gives the answer that is right for a case, over all cases with a truth; it says
        nothing of a case without one.
        """
        rates = np.zeros((len(self.said), len(self.choices)))
        for rate, said in zip(rates, self.said[:, self.right != MISSING], strict=True):
            counts = np.bincount(said[said != MISSING], minlength=len(self.choices))
            rate[:] = counts / max(1, counts.sum())
        return rates[:, self.right]

    def agreement(self) -> Result:
        """Of the cases that all readers answered."""
        readers = (self.said != MISSING).any(axis=1)
        said = self.said[readers]
        both = (said != MISSING).all(axis=0)
        table, people = said[:, both].T, self.people[both]
        what = "Cohen's kappa" if len(said) == 2 else "Fleiss' kappa"
        if len(said) < 2 or not both.any():
            found = Interval(math.nan, math.nan, math.nan)
        else:
            found = bootstrap(lambda _, rows: kappa(rows), table[:, 0], table, people)
        notes = [] if found.value == found.value else ["not known: no case that all answered, or one answer throughout"]
        return self._result(ALL, "", False, ALL, said[:, both], people, what, found, math.nan, notes)

    def _result(
        self,
        kind: str,
        shown: str,
        control: bool,
        reader: str,
        said: np.ndarray,
        people: np.ndarray,
        what: str,
        value: Interval,
        chance: float,
        notes: list[str],
    ) -> Result:
        count = len(np.unique(people))
        if count < FEWEST_GROUPS and value.value == value.value:
            notes = [*notes, f"fewer than {FEWEST_GROUPS} people: no interval"]
        answers = int((said != MISSING).sum())
        return Result(
            self.name, kind, shown, control, reader, len(people), count, len(said), answers, what, *value, chance,
            "; ".join(notes),
        )  # fmt: skip


def kappa(said: np.ndarray) -> float:
    """[N, R]: Cohen's of two readers, Fleiss' of more."""
    return cohen_kappa(said[:, 0], said[:, 1]) if said.shape[1] == 2 else fleiss_kappa(said)
