"""Training, validation and test slices, never sharing a patient."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from medlat.core.errors import ArgumentError, UserError

By = Literal["patient", "slab", "given"]


@dataclass(frozen=True)
class Split:
    """Indices of slices: `train`, `validation` (may be empty) and `test` (held out until the evaluation); and `copies`,
    which are left out because the same pixels stand in a later part.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    copies: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.int64))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({name: getattr(self, name).tolist() for name in self.__dataclass_fields__}))

    @classmethod
    def load(cls, path: Path) -> "Split":
        """Raises UserError where the file is damaged."""
        try:
            parts = json.loads(path.read_text())
            known = [name for name in cls.__dataclass_fields__ if name in parts]  # `copies` came later
            return cls(**{name: np.array(parts[name], dtype=np.int64) for name in known})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged split ({error}); delete its folder and run again") from error


def split(
    patient: np.ndarray,
    position: np.ndarray,
    test: float,
    validation: float,
    seed: int,
    by: By = "patient",
    given: np.ndarray | None = None,
    studies: int = 1,
) -> Split:
    """Divide slices.

    patient:  [N] a number per patient; position: [N] along the patient axis.
    test, validation: shares of the patients, in [0, 1); at least one patient is held out for the test, and one for
              validation where there are four or more.
    by:       "patient", or "slab": of each patient the slices in the middle test, a gap on either side is left out, the
              rest train. For a single patient; its slices resemble each other, so the result flatters. "given": the
              parts that the data were published in.
    given:    [N] 0 training, 1 validation, 2 test, where the data have such parts: `check_undivided` looks whether they
              divide a patient.
    studies:  examinations that the data are of, as far as they say so; for a message.
    Raises UserError where there are too few patients or slices.
    """
    if by == "given":
        return _as_given(given)
    for name, share in (("test", test), ("validation", validation)):
        if not 0.0 <= share < 1.0:
            raise ArgumentError(name, "expected a share from 0 to below 1", share)
    if test == 0.0 or test + validation >= 1.0:
        raise ArgumentError("test", f"with validation={validation} nothing is left to train or to test on", test)
    has_places = any(np.ptp(position[patient == one]) > 0 for one in np.unique(patient))
    if by == "slab":
        if not has_places:
            raise ArgumentError("by", "no image says where it lies in its patient; expected patient", "slab")
        return _by_slab(patient, position, test)
    numbers = np.unique(patient)
    if len(numbers) < 2:
        shared = (
            f": {studies} studies share one patient's identity; data.group=study tells them apart"
            if studies > 1
            else ""
        )
        slab = ", or set it to slab to hold out a slab of this one (flatters the result)" if has_places else ""
        raise ArgumentError(
            "by",
            f"the data hold one patient only{shared}. Results count on held-out patients: add patients, say by "
            f"data.group who they are{slab}",
            "patient",
        )
    order = np.random.default_rng(seed).permutation(numbers)
    n_test = max(1, round(test * len(order)))
    n_validation = max(1, round(validation * len(order))) if len(order) >= 4 and validation > 0 else 0
    groups = np.split(order, [n_test, n_test + n_validation])
    tested, validated, trained = (np.flatnonzero(np.isin(patient, group)) for group in groups)
    return Split(trained, validated, tested)


def _as_given(given: np.ndarray | None) -> Split:
    if given is None:
        raise ArgumentError("by", "these data are not published in parts; expected patient", "given")
    parts = [np.flatnonzero(given == number) for number in range(3)]
    if min(len(parts[0]), len(parts[2])) == 0:
        raise ArgumentError(
            "by",
            f"the given parts hold {len(parts[0])} training and {len(parts[2])} test images; expected some of each",
            "given",
        )
    return Split(*parts)


def check_undivided(patient: np.ndarray, parts: Split) -> None:
    """Raises UserError where a patient stands in two parts of a split or more, as in one that was given.

    patient: [N], as of `split`.
    """
    everybody = np.arange(patient.max() + 1)
    of_part = np.stack([np.isin(everybody, patient[part]) for part in (parts.train, parts.validation, parts.test)])
    if (divided := int((of_part.sum(axis=0) > 1).sum())) > 0:
        raise ArgumentError(
            "by",
            f"{divided} group{'s' * (divided > 1)} (patients) stand in more than one part, so that held-out images "
            f"resemble training ones; mend the split, or set it to patient",
            "given",
        )


def _by_slab(patient: np.ndarray, position: np.ndarray, test: float) -> Split:
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for number in np.unique(patient):
        rows = np.flatnonzero(patient == number)
        rows = rows[np.argsort(position[rows], kind="stable")]
        n_test, gap = max(1, round(test * len(rows))), max(1, round(0.05 * len(rows)))
        first = (len(rows) - n_test) // 2
        parts["test"].append(rows[first : first + n_test])
        parts["train"] += [rows[: max(0, first - gap)], rows[first + n_test + gap :]]
    train, held_out = (np.sort(np.concatenate(parts[name])) for name in ("train", "test"))
    if len(train) == 0:
        raise ArgumentError("by", "too few slices to hold out a slab", "slab")
    return Split(train, np.array([], dtype=np.int64), held_out)
