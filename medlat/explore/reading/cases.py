"""The cases of a reader study: what is shown, and the truth of it, which no reader gets.

A case has a number that says nothing of it: all kinds are shuffled. Pictures are uncompressed and all of one size, so
that neither their bytes nor the time they take tell a smooth image from a sharp one.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medlat.classifiers.black_box import predict
from medlat.core.errors import UserError
from medlat.core.randomness import derive_seed
from medlat.evaluation.naming import UNNAMED
from medlat.explain.counterfactuals import TargetRange
from medlat.explore.reading.plan import CONTROLS, NOTHING, STEP, Cases, Plan, random_directions
from medlat.explore.view import Explorer, View
from medlat.steps import builders
from medlat.steps.directions import target_range
from medlat.steps.given import Known

FIRST_COUNT = 20  # cases of a kind in the plan that is written first
SERIES = 5  # pictures of a series, from the unmoved image to the moved one


@dataclass(frozen=True)
class Case:
    """start: the image, as `View` has it. person: whose it is, a number of this study; of a sample a name of its own.
    direction, step: how it is moved, where it is. truth: question -> the answer that is right, where there is one.
    pictures: PNG, in the order that they are shown in.
    """

    kind: str
    shown: str
    control: bool
    start: str
    person: str
    direction: str | None
    step: float | None
    truth: dict[str, str]
    pictures: tuple[bytes, ...] = ()

    def facts(self) -> dict[str, Any]:
        """All but the pictures."""
        return {name: value for name, value in asdict(self).items() if name != "pictures"}


def build_cases(plan: Plan, explorer: Explorer) -> list[Case]:
    """All cases of a plan, shuffled. Raises UserError where the run has fewer counterfactuals than are asked for."""
    return _Building(plan, explorer).cases()


def truth_of(plan: Plan, explorer: Explorer, cases: Sequence[Case]) -> dict[str, Any]:
    """What only the study's leader reads: the questions, and each case by its number."""
    artifact = explorer.run.artifacts["generator"]
    return {
        "title": plan.title,
        "seed": plan.seed,
        "run": str(explorer.run.config.name),
        "generator": artifact.key,
        "phantom": builders.is_phantom(explorer.run.config),
        "questions": {each.name: {"ask": each.ask, "choices": list(each.choices)} for each in plan.questions},
        "cases": {str(number): case.facts() for number, case in enumerate(cases)},
    }


def order_of(seed: int, count: int, reader: str) -> list[int]:
    """The cases of a plan with that seed in the order that a reader sees them in: another for each, always the same."""
    return np.random.default_rng(derive_seed(seed, "order", reader)).permutation(count).tolist()


def reaching(explorer: Explorer, numbers: Iterable[int]) -> Iterator[tuple[int, float]]:
    """Those of held-out images, by their numbers, whose prediction gets to the other side along the direction that the
    run explains with, and the step in σ at which it does.
    """
    asked, target = _asked(explorer), next(iter(explorer.targets.values()))
    for number in numbers:
        view = View(f"image {number}")
        now = float(predict(target, explorer.start(view).images, explorer.run.device)[0])
        found = explorer.reach(view, explorer.main, asked.high if now <= asked.threshold else asked.low)
        if found["reached"]:
            yield number, float(found["step"])


def _asked(explorer: Explorer) -> TargetRange:
    """The threshold and the predictions to reach, as the run's own explanation has them."""
    context, target = explorer.run.context, next(iter(explorer.targets.values()))
    with np.load(context.aside(Known(context)).path / "known.npz") as known:
        return target_range(context.config, target, torch.from_numpy(known["predictions"]))


def first_plan(explorer: Explorer) -> str:
    """The text of a STUDY.yaml that works for a run."""
    number = min(FIRST_COUNT, len(explorer.held_out))
    counterfactuals = reaching(explorer, range(len(explorer.held_out))) if explorer.targets and explorer.inverts else []
    changed = len(list(islice(counterfactuals, number)))
    moved = f'kind: direction, direction: "{explorer.main}", step: {STEP:g}'
    lines = [
        "# What readers are asked, and of which cases; docs/reading.md says what else can stand here.",
        "title: Reader study",
        "seed: 0 # of the choice of images, and of each reader's order",
        "questions:",
        "  real_or_synthetic: # of each case that is shown as an image",
        "  which_changed: # of each pair",
        "  what_changed: # of each pair and series; free text without choices: [..., nothing]",
        "  useful: # of each case",
        "cases:",
        f"  - {{kind: real, shown: image, count: {number}}}",
        f"  - {{kind: {'reconstruction' if explorer.inverts else 'sample'}, shown: image, count: {number}}}",
        f"  - {{{'kind: counterfactual' if changed else moved}, shown: pair, count: {changed or number}}}",
    ]
    if random_directions(explorer):
        lines.append(
            f"  - {{kind: random, shown: pair, count: {changed or number}}} # a control: moved as far, any way"
        )
    lines.append(f"  - {{kind: sham, shown: pair, count: {number}}} # a control: nothing was changed")
    return "\n".join(lines) + "\n"


class _Building:
    def __init__(self, plan: Plan, explorer: Explorer) -> None:
        self.plan, self.explorer = plan, explorer
        self.rng = np.random.default_rng(derive_seed(plan.seed, "cases"))
        self.look = explorer.window(View(window=plan.window))
        self.people = np.unique(explorer.run.context.images.patient[explorer.held_out], return_inverse=True)[1]
        self.images = self._spread()
        self.taken = self.sampled = 0

    def _spread(self) -> list[int]:
        """The held-out images, shuffled, one of each person before a second of any."""
        order = self.rng.permutation(len(self.people))
        seen = dict[int, int]()
        turn = []
        for person in self.people[order].tolist():
            turn.append(seen.get(person, 0))
            seen[person] = turn[-1] + 1
        return order[np.argsort(turn, kind="stable")].tolist()

    def cases(self) -> list[Case]:
        groups = enumerate(self.plan.cases)
        found = [case for i, each in groups if each.kind != "random" for case in self._group(each, i)]
        moved = [case for case in found if case.step is not None]
        for each in self.plan.cases:
            if each.kind == "random":
                alike = [case for case in moved if case.shown == each.shown] or moved
                steps = [abs(case.step or 0.0) for case in alike] or [STEP]
                found += self._random(each, [each.step] if each.step is not None else self.rng.permutation(steps))
        sides = self._sides(found)
        with self.explorer.lock:
            shown = [self._with_pictures(case, side) for case, side in zip(found, sides, strict=True)]
        return [shown[number] for number in self.rng.permutation(len(shown))]

    def _sides(self, cases: Sequence[Case]) -> list[bool]:
        """Whether the moved image of each case stands left: of each kind as often as not."""
        sides, seen = [], dict[tuple[str, str, str | None], bool]()
        for case in cases:
            key = (case.kind, case.shown, None if case.kind == "random" else case.direction)
            seen[key] = not seen[key] if key in seen else bool(self.rng.integers(2))
            sides.append(seen[key])
        return sides

    def _group(self, cases: Cases, place: int) -> list[Case]:
        if cases.kind == "counterfactual":
            return self._counterfactuals(cases, place)
        made = []
        for start in self._starts(cases):
            name, step = (cases.direction, cases.step) if cases.kind == "direction" else (None, None)
            made.append(self._case(cases, start, name, step))
        return made

    def _random(self, cases: Cases, steps: Sequence[float] | np.ndarray) -> list[Case]:
        names = random_directions(self.explorer)
        made = []
        for i, start in enumerate(self._starts(cases)):
            sign = 1.0 if self.rng.integers(2) else -1.0
            made.append(self._case(cases, start, names[i % len(names)], sign * float(steps[i % len(steps)])))
        return made

    def _counterfactuals(self, cases: Cases, place: int) -> list[Case]:
        """Of the first images that reach the other side along the direction that the run explains with."""
        main, numbers = self.explorer.main, self._next(len(self.images))
        found = list(islice(reaching(self.explorer, numbers), cases.count))
        if len(found) < cases.count:
            raise UserError(
                f"cases.{place}.count={cases.count}: {len(found)} of {len(self.images)} held-out "
                f"{self.explorer.look.nouns} reach the other side along {main}; expected at most so many"
            )
        return [self._case(cases, f"image {number}", main, round(step, 3)) for number, step in found]

    def _starts(self, cases: Cases) -> list[str]:
        if cases.kind == "sample" or not (self.explorer.inverts or cases.kind == "real"):
            self.sampled += cases.count
            return [f"sample {number}" for number in range(self.sampled - cases.count, self.sampled)]
        return [f"image {number}" for number in self._next(cases.count)]

    def _next(self, count: int) -> Iterator[int]:
        """The next images, from the first again after the last."""
        for _ in range(count):
            yield self.images[self.taken % len(self.images)]
            self.taken += 1

    def _case(self, cases: Cases, start: str, direction: str | None, step: float | None) -> Case:
        what, _, number = start.partition(" ")
        person = str(int(self.people[int(number)])) if what == "image" else start
        truth = {}
        if cases.shown == "image":
            truth["real_or_synthetic"] = "real" if cases.kind == "real" else "synthetic"
        if changed := self._what_changed(cases, direction):
            truth["what_changed"] = changed
        return Case(cases.kind, cases.shown, cases.kind in CONTROLS, start, person, direction, step, truth)

    def _what_changed(self, cases: Cases, direction: str | None) -> str | None:
        choices = next((each.choices for each in self.plan.questions if each.name == "what_changed"), ())
        if cases.shown == "image" or not choices:
            return None
        named = UNNAMED if direction is None else self.explorer.slider(direction).called
        called = cases.called or (NOTHING if cases.kind == "sham" else named)
        return called if called in choices else None

    def _with_pictures(self, case: Case, left: bool) -> Case:
        first, last = self._ends(case)
        if case.shown == "image":
            return replace(case, pictures=(self._picture(last),))
        if case.shown == "series":
            return replace(case, pictures=tuple(map(self._picture, self._series(case))))
        truth = "neither" if case.kind == "sham" else "left" if left else "right"
        both = (last, first) if left else (first, last)
        return replace(case, truth=case.truth | {"which_changed": truth}, pictures=tuple(map(self._picture, both)))

    def _ends(self, case: Case) -> tuple[Tensor, Tensor]:
        """The image as it was, and as it was changed, [1, C, H, W] each."""
        explorer = self.explorer
        if case.kind == "real":
            rows = explorer.held_out[[int(case.start.split()[1])]]
            real = explorer.run.context.images.fetch(rows, explorer.image)
            return real, real
        start = explorer.start(View(case.start))
        if case.kind == "reconstruction" and start.real is not None:
            return start.real, start.images
        return start.images, self._moved(case, case.step) if case.step is not None else start.images

    def _series(self, case: Case) -> list[Tensor]:
        steps = np.linspace(0.0, case.step or 0.0, SERIES).tolist()
        return [self._moved(case, step) for step in steps]

    def _moved(self, case: Case, step: float) -> Tensor:
        steps = {case.direction: step} if case.direction and step else {}
        return self.explorer.moved(View(case.start, steps)) if steps else self.explorer.start(View(case.start)).images

    def _picture(self, images: Tensor) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.look.levels(self.explorer.pictures(images))).save(buffer, "PNG", compress_level=0)
        return buffer.getvalue()
