"""Perfect, useless and degenerate predictions, closed forms, and another library's numbers."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error, multiclass_cohen_kappa

from medlat.classifiers.quality import below_chance, expected_calibration_error, quality, reliability
from medlat.core.errors import UserError
from medlat.core.statistics import auc, mean_auc, quadratic_kappa, r2

TRUTH = np.array([0, 1] * 20)
PATIENTS = np.arange(40) // 2
THREE = np.arange(30) % 3


def column(values):
    return np.asarray(values, dtype=np.float64)[:, None]


def test_against_another_library(rng):
    scores = 0.001 + 0.998 * rng.uniform(size=200).round(2)
    truth = (rng.uniform(size=200) < scores).astype(int)
    given, target = torch.tensor(scores), torch.tensor(truth)
    assert auc(truth == 1, scores) == pytest.approx(binary_auroc(given, target).item())
    assert expected_calibration_error(reliability(truth, scores)) == pytest.approx(
        binary_calibration_error(given, target, n_bins=10).item(), abs=1e-5
    )
    chosen, grade = rng.integers(4, size=(2, 100))
    theirs = multiclass_cohen_kappa(torch.tensor(chosen), torch.tensor(grade), 4, weights="quadratic")
    assert quadratic_kappa(grade, chosen, 4) == pytest.approx(theirs.item(), abs=1e-6)


def test_perfect():
    found = quality("binary", TRUTH, column(TRUTH), PATIENTS)
    ones = ("auc", "auc_low", "auc_high", "accuracy", "balanced_accuracy", "f1")
    assert {name: found.pop(name) for name in ones} == dict.fromkeys(ones, 1.0)
    assert found == {"brier": 0.0, "ece": 0.0, "log_loss": 0.0}


def test_useless():
    """A constant of the right frequency: calibrated, and no discrimination."""
    found = quality("binary", TRUTH, column(np.full(40, 0.5)), PATIENTS)
    assert (found["auc"], found["auc_low"], found["auc_high"]) == (0.5, 0.5, 0.5)
    assert (found["accuracy"], found["balanced_accuracy"], found["f1"]) == (0.5, 0.5, 0.0)
    assert (found["brier"], found["ece"]) == (0.25, 0.0)
    assert found["log_loss"] == pytest.approx(math.log(2))


def test_certain_and_wrong():
    found = quality("binary", TRUTH, column(1 - TRUTH), PATIENTS)
    assert (found["auc"], found["accuracy"], found["brier"], found["ece"]) == (0.0, 0.0, 1.0, 1.0)
    assert found["log_loss"] == pytest.approx(-math.log(1e-7)), "finite"


def test_one_class_only():
    found = quality("binary", np.ones(40), column(np.full(40, 0.75)), PATIENTS)
    assert set(found) == {"accuracy", "balanced_accuracy", "f1", "brier", "log_loss", "ece"}
    assert (found["accuracy"], found["brier"], found["ece"]) == (1.0, 0.0625, 0.25)


def test_multiclass():
    found = quality("multiclass", THREE, np.eye(3)[THREE], np.arange(30))
    assert (found["auc"], found["auc_low"], found["accuracy"], found["f1"], found["brier"]) == (1.0, 1.0, 1.0, 1.0, 0.0)
    found = quality("multiclass", THREE, np.full((30, 3), 1 / 3), np.arange(30))
    assert found["auc"] == 0.5
    assert found["accuracy"] == found["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx(0.5 / 3), "0.5 of the class chosen, 0 of the others"
    assert found["brier"] == pytest.approx(2 / 3)
    assert found["log_loss"] == pytest.approx(math.log(3))
    assert found["ece"] == pytest.approx(0.0)


def test_a_class_that_does_not_occur_counts_for_nothing():
    truth = np.array([0, 1, 0, 1])
    assert mean_auc(truth, np.eye(3)[truth]) == 1.0
    assert quality("multiclass", truth, np.eye(3)[truth], truth)["balanced_accuracy"] == 1.0


def test_ordinal():
    found = quality("ordinal", THREE, np.eye(3)[THREE], np.arange(30))
    assert (found["kappa"], found["kappa_low"], found["kappa_high"], found["mae"], found["auc"]) == (1, 1, 1, 0, 1)
    reversed_ = quality("ordinal", THREE, np.eye(3)[2 - THREE], np.arange(30))
    assert (reversed_["kappa"], reversed_["mae"]) == pytest.approx((-1.0, 4 / 3))
    middle = quality("ordinal", THREE, np.tile([0.0, 1.0, 0.0], (30, 1)), np.arange(30))
    assert (middle["kappa"], middle["mae"]) == (0.0, pytest.approx(2 / 3))
    assert math.isnan(quadratic_kappa(np.zeros(3, int), np.zeros(3, int), 2))


def test_regression(rng):
    truth = rng.normal(50.0, 10.0, 40)
    found = quality("regression", truth, column(truth), PATIENTS)
    assert found == {"r2": 1.0, "r2_low": 1.0, "r2_high": 1.0, "mae": 0.0}
    assert quality("regression", truth, column(np.full(40, truth.mean())), PATIENTS)["r2"] == pytest.approx(0.0)
    assert quality("regression", truth, column(truth + 3.0), PATIENTS)["mae"] == pytest.approx(3.0)
    assert quality("regression", np.full(40, 2.0), column(np.ones(40)), PATIENTS) == {"mae": 1.0}
    assert r2(np.array([1.0, 2.0]), np.array([1.0, 3.0])) == -1.0


def test_the_interval_draws_patients_not_images(rng):
    """40 copies of each patient's image say no more than one."""
    truth = np.arange(30) % 2
    scores = column(np.clip(truth * 0.2 + rng.uniform(size=30) * 0.8, 0, 1))
    one = quality("binary", truth, scores, np.arange(30), seed=1)
    many = quality("binary", np.repeat(truth, 40), np.repeat(scores, 40, axis=0), np.repeat(np.arange(30), 40), seed=1)
    assert one["auc_low"] < one["auc"] < one["auc_high"] < 1.0
    assert [many[n] for n in ("auc", "auc_low", "auc_high")] == pytest.approx(
        [one[n] for n in ("auc", "auc_low", "auc_high")]
    )
    split = quality("binary", np.repeat(truth, 40), np.repeat(scores, 40, axis=0), np.arange(1200), seed=1)
    assert split["auc_high"] - split["auc_low"] < 0.5 * (one["auc_high"] - one["auc_low"])


def test_the_interval_is_one_of_the_seed_and_needs_twenty_patients(rng):
    scores = column(rng.uniform(size=40))
    first, again, other = (quality("binary", TRUTH, scores, PATIENTS, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["auc_low"] != other["auc_low"]
    assert "auc_low" not in quality("binary", TRUTH, scores, np.arange(40) % 19)


def test_names_as_groups():
    found = quality("binary", TRUTH, column(TRUTH), np.array([f"p{i}" for i in PATIENTS]))
    assert found["auc_low"] == 1.0


def test_reliability():
    rows = reliability(np.array([0, 1, 1, 1]), np.array([0.02, 0.04, 0.55, 1.0]))
    assert [(row["low"], row["high"], row["count"]) for row in rows] == [(0.0, 0.1, 2), (0.5, 0.6, 1), (0.9, 1.0, 1)]
    assert [row["predicted"] for row in rows] == pytest.approx([0.03, 0.55, 1.0])
    assert [row["observed"] for row in rows] == [0.5, 1.0, 1.0]
    assert expected_calibration_error(rows) == pytest.approx((2 * 0.47 + 0.45) / 4)


@pytest.mark.parametrize(
    ("task", "predictions", "truth", "message"),
    [
        ("binary", column([0.5, 0.5]), [0, 2], "has 2 classes, and the labels of the data run from 0 to 2"),
        ("multiclass", np.full((2, 3), 1 / 3), [-1, 2], "from 0 to 2"),
        ("binary", column([0.5, 0.5]), [0.5, 1.0], "expected whole numbers from 0 to 1"),
    ],
)
def test_labels_that_are_not_the_classes(task, predictions, truth, message):
    with pytest.raises(UserError, match=rf"^classes: .*{message}"):
        quality(task, np.array(truth), predictions, np.arange(2))


def test_below_chance_is_said_where_it_is_clear(rng):
    groups = np.repeat(np.arange(40), 5)
    truth = np.arange(200) % 2
    right = np.clip(np.where(truth == 1, 0.8, 0.2) + rng.normal(0.0, 0.2, 200), 0.0, 1.0)[:, None]
    assert below_chance("binary", truth, right, groups) is None
    said = below_chance("binary", truth, 1.0 - right, groups)
    assert said is not None
    assert said.startswith("on 200 held-out images of 40 patients its AUC is 0.0")
    assert said.endswith("and knowing nothing gives 0.50")
    assert below_chance("binary", truth, rng.uniform(size=(200, 1)), groups) is None, "useless is not below chance"
    assert below_chance("binary", truth, np.full((200, 1), 0.5), groups) is None
    assert below_chance("binary", truth, 1.0 - right, np.arange(200) % 10) is None, "ten patients have no interval"
    assert below_chance("regression", truth, 1.0 - right, groups) is None


def test_below_chance_among_the_classes_that_occur(rng):
    """Four classes, of which the data have three: it always says the next one, or nothing but the fourth."""
    groups, truth = np.repeat(np.arange(40), 6), np.arange(240) % 3
    shifted, fourth = np.eye(4)[(truth + 1) % 3], np.tile(np.eye(4)[3], (240, 1))
    said = below_chance("multiclass", truth, shifted, groups)
    assert said is not None
    assert "its balanced accuracy is 0.00 [0.00, 0.00], and knowing nothing gives 0.33" in said
    assert below_chance("multiclass", truth, fourth, groups) is None, "of the three it knows nothing"
    assert below_chance("multiclass", truth, np.eye(4)[truth], groups) is None
