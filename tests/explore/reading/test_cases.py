"""Cases: their truth, their pictures, their order."""

import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from medlat.classifiers.black_box import target_of
from medlat.core.errors import UserError
from medlat.explain.counterfactuals import TargetRange
from medlat.explore.reading.cases import build_cases, order_of, reaching, truth_of
from medlat.explore.reading.plan import read_plan
from medlat.explore.view import Explorer, View


def levels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)))


def shown(explorer, images) -> np.ndarray:
    return explorer.window(View(window="lung")).levels(explorer.pictures(images))


def test_pictures_are_what_the_truth_says(cases, explorer):
    for case in cases:
        start, found = explorer.start(View(case.start)), [levels(picture) for picture in case.pictures]
        steps = {} if case.step is None else {case.direction: case.step}
        last = shown(explorer, explorer.moved(View(case.start, steps)))
        first = shown(explorer, start.images)
        if case.kind == "real":
            assert np.array_equal(found[0], shown(explorer, start.real))
            assert not np.array_equal(found[0], first), "the generator does not give it back exactly"
        elif case.shown == "image":
            assert np.array_equal(found[0], last)
        elif case.shown == "series":
            assert len(found) == 5
            assert np.array_equal(found[0], first)
            assert np.array_equal(found[-1], last)
        else:
            changed = {"left": 0, "right": 1, "neither": 0}[case.truth["which_changed"]]
            assert np.array_equal(found[changed], last)
            assert np.array_equal(found[1 - changed], first)
        still = case.kind in ("real", "sample", "reconstruction", "sham")
        assert all(np.array_equal(found[0], other) for other in found[1:]) == still


def test_truths(cases):
    kinds = [(case.kind, case.direction if case.kind == "direction" else None) for case in cases]
    truths = Counter((*kind, *sorted(case.truth.items())) for kind, case in zip(kinds, cases, strict=True))
    origin = "real_or_synthetic"
    assert truths["real", None, (origin, "real")] == 6
    assert truths["sample", None, (origin, "synthetic")] == 2
    assert truths["reconstruction", None, (origin, "synthetic")] == 6
    for side in ("left", "right"):  # each as often as the other
        assert truths["direction", "sefa 02", ("what_changed", "rotation"), ("which_changed", side)] == 3
        assert truths["random", None, ("which_changed", side)] == 3
    assert truths["direction", "sefa 00"] == 4, "it has no name, so that nobody knows what is right"
    assert truths["sham", None, ("what_changed", "nothing"), ("which_changed", "neither")] == 6
    assert truths["sham", None, ("what_changed", "nothing")] == 4
    assert sum(truths.values()) == len(cases)
    assert {case.kind for case in cases if case.control} == {"random", "sham"}


def test_random_moves_go_as_far_as_the_others(cases):
    random = [case for case in cases if case.kind == "random"]
    assert {abs(case.step) for case in random} == {1.5}, "those that are shown alike, as pairs"
    assert len({case.step for case in random}) == 2, "to either side"
    assert {case.direction.split()[0] for case in random} == {"random"}
    assert len({case.direction for case in random}) == 6


def test_people_are_spread(cases, explorer):
    people = explorer.run.context.images.patient[explorer.held_out]
    real = [case for case in cases if case.kind == "real"]
    assert len({case.start for case in real}) == 6, "no image twice in a group"
    assert len({case.person for case in real}) == 5, "of five people, one of each before a second of any"
    of = {case.start: case.person for case in cases if case.start.startswith("image")}
    numbers = {start: people[int(start.split()[1])] for start in of}
    assert len({(of[start], numbers[start]) for start in of}) == len(set(numbers.values()))


def test_a_study_is_made_again_alike(cases, plan, explorer):
    again = build_cases(plan, explorer)
    assert truth_of(plan, explorer, again) == truth_of(plan, explorer, cases)
    assert [case.pictures for case in again] == [case.pictures for case in cases]


def test_every_reader_has_an_order_of_their_own(plan, cases):
    orders = [order_of(plan.seed, len(cases), reader) for reader in ("A", "B", "A")]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(cases)))
    kinds = [[cases[number].kind for number in order] for order in orders]
    assert kinds[0] != sorted(kinds[0])
    assert [case.kind for case in cases] != sorted(case.kind for case in cases)


class Bright:
    """A classifier that takes bright images for ill."""

    task, classes, outputs, differentiable = "binary", ("well", "ill"), ("ill",), False

    def __call__(self, images):
        return (20.0 * (images.mean(dim=(1, 2, 3)) - self.middle)).sigmoid()[:, None]


def test_counterfactuals_are_moved_to_the_other_side(explorer, tmp_path, monkeypatch):
    fresh, bright = Explorer(explorer.run), Bright()
    starts = [fresh.start(View(f"image {number}")).images for number in range(len(fresh.held_out))]
    bright.middle = float(torch.cat(starts).mean())
    target = target_of(bright, None)
    fresh.__dict__["targets"] = {"classifier": target}
    asked = TargetRange(0.5, 0.45, 0.55)
    monkeypatch.setattr("medlat.explore.reading.cases._asked", lambda _: asked)
    reached = dict(reaching(fresh, range(len(fresh.held_out))))
    assert len(reached) >= 4
    path = tmp_path / "study.yaml"
    path.write_text("questions: {which_changed: }\ncases: [{kind: counterfactual, shown: pair, count: 4}]")
    made = build_cases(read_plan(path, fresh), fresh)
    assert len({case.start for case in made}) == 4
    for case in made:
        step, first = reached[int(case.start.split()[1])], target(fresh.start(View(case.start)).images).item()
        moved = target(fresh.moved(View(case.start, {fresh.main: step}))).item()
        assert moved >= asked.high if first <= 0.5 else moved <= asked.low
        assert (case.direction, case.step) == (fresh.main, round(step, 3))
    path.write_text(path.read_text().replace("4", str(len(fresh.held_out))))
    monkeypatch.setattr("medlat.explore.reading.cases._asked", lambda _: TargetRange(0.5, 1e-9, 1 - 1e-9))
    with pytest.raises(
        UserError, match=r"cases\.0\.count=20: \d+ of 20 held-out slices reach the other side along sefa"
    ):
        build_cases(read_plan(path, fresh), fresh)
