"""Where a classifier looks, and which image it sees otherwise: as the report has it, and by trying all."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from test_explain_images import explaining  # noqa: F401 (a fixture)

import medlat
from medlat.core.errors import UserError
from medlat.explore.looking import otherwise, where
from medlat.explore.view import Explorer, View
from medlat.report.sprites import relevance_colours, saliency_sprite
from medlat.steps.explained import saliency
from medlat.steps.semantics import features


@pytest.fixture(scope="module")
def asked(explaining) -> Explorer:  # noqa: F811
    return Explorer(medlat.load(explaining / "run"))


def opened(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_maps_are_those_of_the_run_over_the_image_without_its_colours(asked):
    view = View("image 2", {"linear 00": 2.0})
    found = where(asked, view)
    assert [(row["of"], row["map"]) for row in found] == [
        (of, name) for name in ("Grad-CAM", "Grad-CAM++", "occlusion") for of in ("original", "reconstruction", "moved")
    ]
    assert {row["of"] for row in where(asked, View("sample 2"))} == {"reconstruction", "moved"}
    moved = asked.moved(view)
    maps = saliency(asked.target, moved, asked.run.context.config)
    expected = saliency_sprite(asked.pictures(moved), maps["occlusion"][0], asked.look)
    assert np.array_equal(opened(found[-1]["picture"]), np.asarray(Image.open(io.BytesIO(expected))))


def test_relevance_is_red_for_and_blue_against_and_clear_where_there_is_none():
    colours = relevance_colours(np.array([[0.0, 2.0], [-1.0, 0.0]]), 2)
    assert colours[..., 3].tolist() == [[0.0, 0.75], [0.375, 0.0]]
    (red, _, blue), (red_against, _, blue_against) = colours[0, 1, :3], colours[1, 0, :3]
    assert red > 2 * blue
    assert blue_against > 2 * red_against
    assert relevance_colours(np.zeros((2, 2)), 2)[..., 3].max() == 0.0


def test_the_nearest_that_is_seen_otherwise(asked, monkeypatch):
    run = asked.run
    real = run.context.images.fetch(asked.held_out, asked.image)
    predictions = run.predict(real)[:, 0].numpy()
    monkeypatch.setitem(vars(asked), "threshold", float(np.median(predictions)))
    own = 4
    seen = features(run.context)[1](real)
    apart = np.linalg.norm((seen - seen[own]) / np.where((std := seen.std(axis=0)) > 0, std, 1.0), axis=1)
    other = (predictions > asked.threshold) != (predictions[own] > asked.threshold)
    nearest = min(np.flatnonzero(other), key=lambda number: apart[number])
    found = otherwise(asked, View(f"image {own}"))
    assert found["start"] == f"image {nearest}"
    assert f"Of 20 held-out tiles {other.sum()} are on the other side" in found["said"]
    shown = asked.look.levels(asked.pictures(real[[nearest]]))
    assert np.array_equal(opened(found["picture"]), shown)
    monkeypatch.setitem(vars(asked), "threshold", 2.0)
    with pytest.raises(UserError, match="of 20 held-out tiles all are not above 2, as this one is"):
        otherwise(asked, View(f"image {own}"))
