"""Scores of images moved in a latent space whose every answer is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from toy_models import SPEC, Pixels, Quarters

from medlat.classifiers.black_box import Target, predict
from medlat.core.store import Store
from medlat.explain.counterfactuals import TargetRange, Traversal, counterfactuals
from medlat.explain.scorecard import SCORES
from medlat.measure.measurement import Measurement, MeasurementSet
from medlat.steps.explained import Explained, FeatureSpace, Subject
from medlat.steps.methods import Method
from medlat.steps.scoring import score
from medlat.steps.step import Context

STEPS = [-4.0, -2.0, 0.0, 2.0, 4.0]
MODEL, CPU = Pixels(), torch.device("cpu")
CODES = torch.tensor([[-1.0, 0.5, 0.0, 2.0], [1.0, -0.5, 1.0, 0.0], [-9.0, 0.0, 2.0, 1.0], [0.5, 0.0, -1.0, 1.0]])
ENCODED = {"_target_": "medlat.inversion.encode.Encode"}
FIRST = Quarters(1.0, 0.0, 0.0, 0.0)


def quarters(images) -> np.ndarray:
    return torch.nn.functional.avg_pool2d(images, 2).flatten(1).numpy() * 10.0


def left(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Codes of the first quarter, read off physical values; then the second's."""
    return images[:, :2, :2].mean(axis=(1, 2)) / 12.75 - 10.0


def right(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    return images[:, :2, 2:].mean(axis=(1, 2)) / 12.75 - 10.0


def subject(**changed) -> Subject:
    """Four images of `Pixels`, a classifier of the first quarter and a second that is the same."""
    config = OmegaConf.create({"seed": 0, "explain": {"steps": STEPS}, "inversion": {"method": ENCODED}})
    rng, target = np.random.default_rng(0), Target(FIRST)
    reference = rng.normal(size=(200, 4))
    predictions = torch.from_numpy(1.0 / (1.0 + np.exp(-reference[:, 0]))).float()
    space = FeatureSpace("quarters", quarters, np.ones(4), reference, reference[:, 0] > 0, unit=2.0)
    real = MODEL.decode(CODES)
    measured = MeasurementSet([Measurement("left", "", function=left), Measurement("right", "", function=right)])
    given = {
        "context": Context(config, Store(Path("nowhere")), None), "spec": SPEC, "measurements": measured, "device": CPU,
        "model": MODEL, "untuned": MODEL, "target": target, "asked": TargetRange(0.5, 0.1, 0.9), "real": real,
        "noise": None, "predictions": predict(target, real, CPU), "label": None, "rows": np.arange(4),
        "groups": np.arange(4), "centre": np.zeros(2), "scale": np.ones(2), "reference": reference[:, :2],
        "reference_predictions": predictions, "others": {"second": target}, "features": space,
        "invert": lambda images: (torch.from_numpy(quarters(images)), None),
    }  # fmt: skip
    return Subject(**given | changed)


def explained(of: Subject, *moves: list[float]) -> Explained:
    traversals = [Traversal(MODEL, "z", CODES, torch.tensor(m).expand_as(CODES), of.target, CPU) for m in moves]
    predictions = [way.predictions_at(STEPS) for way in traversals]
    found = [counterfactuals(w, STEPS, p, of.asked) for w, p in zip(traversals, predictions, strict=True)]
    return Explained(traversals, predictions, found, [f"m {i:02d}" for i in range(len(moves))], 0.1)


def control() -> Method:
    section = OmegaConf.create({"_target_": "medlat.directions.random.RandomDirections", "count": 2})
    return Method("random", "control", "controls.random", section)


def by_key(rows) -> dict:
    return {row.score: row for row in rows}


def test_scores_of_a_direction_that_moves_what_the_classifier_sees():
    """Logits are x + step: three of four flip, at steps of 1, 1 and 0.5, of which a range of 2 leaves all; 0.9 or 0.1
    is reached by the same three at 2.197 + |x|.
    """
    of = subject()
    rows, flips = score(of, control(), explained(of, [1.0, 0.0, 0.0, 0.0]), {"m 00": 2.0}, "random")
    found = by_key(rows)
    assert found["flips_in_range"].value == 0.75
    assert found["flip_area"].value == pytest.approx((0.5 + 0.5 + 0.0 + 0.75) / 4)
    assert [row.flips for row in flips][::10] == [0.0, 0.75, 0.75]
    assert found["flip_rate"].value == found["reach_rate"].value == 0.75
    assert found["composition_1"].value == pytest.approx(0.0, abs=1e-4)
    assert found["composition_10"].value == pytest.approx(0.0, abs=1e-3)
    assert found["reversibility"].value == pytest.approx(0.0, abs=1e-3)
    assert found["agreement/second"].value == found["alignment/second"].value == 1.0, "the same classifier"
    assert found["effectiveness/second"].value == pytest.approx(0.0, abs=2e-3)
    far = [float(np.log(9.0)) + x for x in (1.0, 1.0, 0.5)]
    assert found["feature_distance"].value == pytest.approx(np.mean(far) / 2.0, abs=0.01), "in units of 2"
    assert found["proximity"].value == pytest.approx(np.mean(far) / 4 * 12.75, abs=0.05), "a quarter of the image"
    assert found["sparsity"].value == 0.75
    assert found["cout"].value > 0.5, "a quarter of the pixels decides"
    assert found["identity"].value == pytest.approx(0.0, abs=1e-4), "the right quarter stays"
    real = np.corrcoef(of.reference[:, 0] > 0, of.reference[:, 1] > 0)[0, 1]
    assert found["correlation_difference"].value == pytest.approx(abs(real), abs=1e-6), "only the left goes along"
    assert found["correlation_difference"].images == found["cout"].images == 3
    assert not {"diversity", "randomisation"} & found.keys(), "of one direction"


def test_a_useless_direction_has_counterfactuals_of_nothing():
    of = subject()
    found = by_key(score(of, control(), explained(of, [0.0, 1.0, 0.0, 0.0]), {"m 00": 2.0}, "random")[0])
    assert found["flips_in_range"].value == found["flip_area"].value == found["reach_rate"].value == 0.0
    for key in ("cout", "realism", "minimality", "reversibility", "effectiveness/second", "correlation_difference"):
        assert np.isnan(found[key].value), key
        assert found[key].images == 0


def test_several_counterfactuals_along_orthogonal_directions_differ_and_along_one_they_do_not():
    of = subject(target=Target(Quarters(1.0, 1.0, 0.0, 0.0)))
    both = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    found = by_key(score(of, control(), explained(of, *both), {}, "random")[0])
    one, two = explained(of, *both).found
    reached = (one.reached & two.reached).numpy()
    steps = np.hypot(one.step.numpy(), two.step.numpy())[reached]
    assert found["diversity"].value == pytest.approx(steps.mean() / 2.0, rel=1e-4)
    assert found["diversity"].images == reached.sum() > 0
    assert found["randomisation"].value == pytest.approx(1.0 / 3.0), "two quarters have nothing in common but the rest"
    same = by_key(score(of, control(), explained(of, both[0], both[0]), {}, "random")[0])
    assert "diversity" not in same
    assert same["randomisation"].value == pytest.approx(1.0)
    assert not {"flips_in_range", "flip_area"} & found.keys(), "no range is known"


def test_what_a_run_cannot_have_is_not_there():
    class Value(Quarters):
        task = "regression"

    of = subject(others={}, invert=None, target=Target(Value(1.0, 0.0, 0.0, 0.0)))
    found = by_key(score(of, control(), explained(of, [1.0, 0.0, 0.0, 0.0]), {"m 00": 2.0}, "random")[0])
    lacking = {"cout", "agreement", "drift", "effectiveness", "alignment", "composition_10", "reversibility"}
    assert {row.key for row in SCORES} - found.keys() == lacking | {"diversity", "randomisation"}
    assert all(row.absent for row in SCORES if row.key in lacking)
    nothing = replace(
        of, measurements=MeasurementSet([]), reference=np.zeros((200, 0)), centre=np.zeros(0), scale=np.ones(0)
    )
    nothing.context.forget()
    found = by_key(score(nothing, control(), explained(nothing, [1.0, 0.0, 0.0, 0.0]), {"m 00": 2.0}, "random")[0])
    assert "correlation_difference" not in found
    assert np.isnan(found["identity"].value)
