"""What is computed of a view: against the Python face, and against what the run itself found."""

import itertools

import numpy as np
import pytest
import torch
from test_explain_images import explaining  # noqa: F401 (a fixture)

import medlat
from medlat.core.errors import UserError
from medlat.explore.view import Explorer, View


@pytest.fixture(scope="module")
def explorer(finished) -> Explorer:
    return Explorer(medlat.load(finished / "run"))


@pytest.fixture(scope="module")
def asked(explaining) -> Explorer:  # noqa: F811
    """Of a run with two classifiers."""
    return Explorer(medlat.load(explaining / "run"))


def test_a_move_along_one_direction_is_the_traversal(explorer):
    run = explorer.run
    image = run.context.images.fetch(run.context.split.test[[3]], run.image)
    code = run.encode(image)
    for name in ("sefa 02", "random 01", "coordinate 05"):
        moved = explorer.moved(View("image 3", {name: -1.3}))
        assert torch.allclose(moved, run.traverse(code, name, [-1.3])[:, 0], atol=1e-5), name
        assert torch.allclose(moved, run.move(code, {name: -1.3}), atol=1e-5), name


def test_several_directions_add_up(explorer):
    steps = {"sefa 02": 1.5, "sefa 00": -2.0, "random 01": 0.7}
    moved = explorer.moved(View("image 3", steps))
    run = explorer.run
    generator, found = run.invert(run.context.images.fetch(run.context.split.test[[3]], run.image))
    assert torch.allclose(moved, run.move(found.codes, steps, generator=generator), atol=1e-5)
    code = found.codes
    for name, step in steps.items():
        code = code + step * explorer.slider(name).move
    assert torch.allclose(moved, run.decode(code), atol=1e-5)
    back = explorer.moved(View("image 3", {}))
    assert torch.equal(back, explorer.start(View("image 3")).images)
    assert (moved - back).abs().max() > 0.01
    change = explorer.change(View("image 3", steps))
    assert np.allclose(change, explorer.pictures(moved) - explorer.pictures(back), atol=1e-3), "in HU"


def test_a_generator_without_codes_for_its_layers(explorer):
    assert explorer.layers == 0
    with pytest.raises(UserError, match="layers: this generator has no code for each of its layers"):
        explorer.moved(View("image 3", {"sefa 02": 1.5}, layers=(0, 1)))


def test_a_sample_is_that_of_its_seed(explorer):
    run, start = explorer.run, explorer.start(View("sample 7"))
    codes = run.generator.sample(1, run.space.name, torch.Generator().manual_seed(7))
    assert torch.allclose(start.images, run.decode(codes), atol=1e-6)
    assert start.real is None
    assert not torch.equal(start.images, explorer.start(View("sample 8")).images)


def test_sliders_say_what_the_run_found(explorer):
    rows = {row["direction"]: row for row in explorer.run.table("names")}
    assert set(explorer.sliders) == set(rows)
    editing = {(row["direction"], row["range"]) for row in explorer.run.table("editing_range")}
    for name, slider in explorer.sliders.items():
        assert slider.range == rows[name]["range"]
        assert (name, slider.range) in editing
        assert slider.reach >= min(slider.range, 8.0)
        assert slider.called == ("unnamed" if slider.role == "control" else rows[name]["name"])
    roles = [slider.role for slider in explorer.sliders.values()]
    assert [role for role, _ in itertools.groupby(roles)] == ["main", "control"]
    main = [slider for slider in explorer.sliders.values() if slider.role == "main"]
    assert [(not each.is_named, each.rank) for each in main] == sorted((not s.is_named, s.rank) for s in main)


def test_numbers_are_those_of_the_images(asked):
    view = View("image 2", {"linear 00": 1.0})
    run, moved, start = asked.run, asked.moved(view), asked.start(view)
    numbers = asked.numbers(view)
    assert [row["by"] for row in numbers["predictions"]] == ["classifier", "second"]
    row = numbers["predictions"][0]
    column = run.classifier.outputs.index(row["target"])
    for end, images in (("original", start.real), ("reconstruction", start.images), ("moved", moved)):
        assert row[end] == pytest.approx(float(run.predict(images)[0, column]), abs=1e-6)
    assert 0.0 < row["threshold"] < 1.0
    values = asked.measurements.of(torch.cat([start.images, moved]), run.image)
    for found, (before, after) in zip(numbers["measurements"], values.T, strict=True):
        assert found["moved"] == pytest.approx(after, nan_ok=True)
        assert found["change"] == pytest.approx(after - before, nan_ok=True)
    still = asked.numbers(View("image 2"))
    assert all(abs(row["change"]) < 1e-9 or np.isnan(row["change"]) for row in still["measurements"])


def test_the_distance_is_that_of_the_editing_ranges(explorer):
    assert explorer.numbers(View("image 1"))["distance"] is None, "nothing is said before it is known"
    explorer.warm()
    still = explorer.numbers(View("image 1"))["distance"]
    assert still["moved"] == still["reconstruction"] <= still["limit"]
    assert not still["left"]
    assert still["limit"] == max(1.0, 1.25 * still["reconstruction"])
    far = {name: 60.0 for name, slider in explorer.sliders.items() if slider.role == "main"}
    gone = explorer.numbers(View("image 1", far))["distance"]
    assert gone["moved"] > gone["limit"]
    assert gone["left"]


def test_it_moves_until_the_prediction_is_as_asked(asked):
    view = View("image 0", {"random 03": 0.5})
    predictions = [asked.numbers(View("image 0", {"random 03": 0.5, asked.main: s})) for s in (-2.0, 2.0)]
    ends = sorted(found["predictions"][0]["moved"] for found in predictions)
    middle = sum(ends) / 2.0
    found = asked.reach(view, asked.main, middle)
    assert asked.main == "linear 00"
    assert found["reached"]
    there = View("image 0", {"random 03": 0.5, asked.main: found["step"]})
    assert asked.numbers(there)["predictions"][0]["moved"] == pytest.approx(found["prediction"], abs=1e-5)
    assert found["prediction"] == pytest.approx(middle, abs=0.01)
    assert abs(found["step"]) <= 2.0 + 0.05, "between two steps that were looked at"
    never = asked.reach(view, asked.main, 2.0)
    assert not never["reached"], "no probability is 2"
    most = [asked.reach(view, asked.main, value)["prediction"] for value in (2.0, -1.0)]
    assert most[0] == pytest.approx(never["prediction"])
    assert most[0] > most[1]


def test_without_a_classifier_nothing_is_predicted(explorer):
    assert explorer.numbers(View())["predictions"] == []
    with pytest.raises(UserError, match="explains no classifier"):
        explorer.reach(View(), "sefa 00", 0.5)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ([], "found list; expected start, steps, window, layers"),
        ({"path": "/etc/passwd"}, "found path"),
        ({"start": "image ../../etc/passwd"}, "expected 'image N'"),
        ({"start": "image -1"}, "expected 'image N'"),
        ({"start": 3}, "expected 'image N'"),
        ({"steps": {"sefa 00": "1"}}, "expected a number from -100 to 100"),
        ({"steps": {"sefa 00": float("nan")}}, "expected a number from -100 to 100"),
        ({"steps": {"sefa 00": True}}, "expected a number from -100 to 100"),
        ({"steps": [1]}, "expected a number for each direction"),
        ({"window": 3}, "window=3"),
        ({"layers": 3}, "layers=3: expected the first and the last one"),
        ({"layers": [0, 1.5]}, "expected the first and the last one"),
    ],
)
def test_what_is_no_view(plain, words):
    with pytest.raises(UserError, match=words):
        View.of(plain)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (View("image 999"), "there is no such held-out slice; expected 0 to"),
        (View("upload 3"), "kept in memory alone, and is gone"),
        (View(steps={"sefa 0": 1.0}), "the run has no 'sefa 0'; did you mean 'sefa 0"),
    ],
)
def test_what_there_is_not(explorer, view, words):
    with pytest.raises(UserError, match=words):
        explorer.moved(view)


def test_steps_of_0_are_none():
    assert View.of({"steps": {"sefa 00": 0, "sefa 01": 2}}) == View("image 0", {"sefa 01": 2.0})


def test_little_is_remembered_and_the_rest_found_anew(finished, monkeypatch):
    monkeypatch.setattr("medlat.explore.view.REMEMBERED", 2)
    monkeypatch.setattr("medlat.explore.view.DECODED", 2)
    explorer = Explorer(medlat.load(finished / "run"))
    views = [View(f"sample {seed}", {"sefa 00": 1.0}) for seed in range(4)]
    images = [explorer.moved(view) for view in views]
    assert list(explorer._starts) == ["sample 2", "sample 3"]
    assert len(explorer._moved) == 2
    assert all(torch.equal(explorer.moved(view), image) for view, image in zip(views, images, strict=True))
    assert not torch.equal(images[0], images[1])
