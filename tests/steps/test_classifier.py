import math
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from medlat.classifiers.black_box import target_of
from medlat.core.errors import UserError
from medlat.steps import classifier
from medlat.steps.classifier import _biased, in_words, permuted, say_target
from medlat.steps.labels import Label, label_of


def config(**classifier):
    explain = {"label": None, "positive": None, "target": None}
    return OmegaConf.create({"seed": 0, "explain": explain, "classifier": {"bias": classifier or None}})


@pytest.fixture
def opened(rng):
    n = 4000
    columns = {"factor.size": rng.uniform(size=n), "label.sick": (rng.uniform(size=n) < 0.5).astype(float)}
    labels = {"sick": columns["label.sick"]}
    return SimpleNamespace(columns=columns, labels=lambda: labels, classes=lambda name: ["no", "yes"])


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95, 1.0])
def test_a_biased_choice_has_the_share_asked_for(opened, share):
    rows = np.arange(0, 4000, 2)
    chosen = _biased(config(column="factor.size", share=share), opened, label_of(config(), opened), rows)
    assert set(chosen) <= set(rows)
    high = opened.columns["factor.size"] > np.median(opened.columns["factor.size"][rows])
    agree = high[chosen] == (opened.columns["label.sick"][chosen] > 0.5)
    assert agree.mean() == pytest.approx(share, abs=0.03)


def test_of_several_labels_that_of_the_finding_is_taken():
    values = {"sick": np.zeros(4), "Pleural_Effusion": np.ones(4)}
    data = SimpleNamespace(labels=lambda: values, classes=lambda name: ["0", "1"])
    asked = config()
    with pytest.raises(
        UserError, match=r"explain.label: the data have several labels; choose from Pleural_Eff.*, sick"
    ):
        label_of(asked, data)
    asked.explain.target = "pleural effusion"
    assert label_of(asked, data).name == "Pleural_Effusion"
    asked.explain.label = "sick"
    assert label_of(asked, data).name == "sick"


def test_bad_biases(opened):
    label = label_of(config(), opened)
    with pytest.raises(UserError, match=r"classifier.bias.column=factor.siez: .*did you mean 'factor.size'"):
        _biased(config(column="factor.siez", share=0.9), opened, label, np.arange(10))
    with pytest.raises(UserError, match=r"classifier.bias.share=0.4: expected a share from 0.5 to 1"):
        _biased(config(column="factor.size", share=0.4), opened, label, np.arange(10))


@pytest.mark.parametrize(
    ("classes", "wanted", "task"),
    [
        (["a", "b"], None, "binary"),
        (["a", "b", "c"], None, "multiclass"),
        (["0", "1", "2"], None, "ordinal"),
        (["0", "1", "2"], "multiclass", "multiclass"),
        (["a", "b", "c"], "ordinal", "ordinal"),
        (None, None, "regression"),
        (["0", "1", "2"], "regression", "regression"),
    ],
)
def test_the_task_of_a_label(classes, wanted, task):
    assert Label("grade", np.zeros(3), classes).task(wanted) == task


@pytest.mark.parametrize(("classes", "wanted"), [(["a", "b", "c"], "binary"), (None, "multiclass"), (None, "ordinal")])
def test_a_task_that_does_not_fit(classes, wanted):
    with pytest.raises(UserError, match=f"classifier.task={wanted}: the label 'grade' has"):
        Label("grade", np.zeros(3), classes).task(wanted)


def test_which_label(opened):
    several = SimpleNamespace(labels=lambda: {"a": np.zeros(2), "b": np.ones(2)}, classes=lambda name: None)
    with pytest.raises(UserError, match="several labels; choose from a, b"):
        label_of(config(), several)
    assert label_of(config(), SimpleNamespace(labels=dict)) is None
    assert label_of(config(), opened).classes == ["no", "yes"]


GRADES = Label("grade", np.array([0.0, 1.0, 2.0, 3.0, 4.0, 2.0]), ["0", "1", "2", "3", "4"])
KINDS = Label("kind", np.array([2.0, 0.0, 1.0]), ["benign", "in situ", "invasive"])


@pytest.mark.parametrize(
    ("label", "positive", "values", "classes"),
    [
        (GRADES, ["2", "3", "4"], [0, 0, 1, 1, 1, 1], ["below 2", "2 or more"]),
        (GRADES, ["4", "3"], [0, 0, 0, 1, 1, 0], ["below 3", "3 or more"]),
        (GRADES, ["0", "4"], [1, 0, 0, 0, 1, 0], ["1 or 2 or 3", "0 or 4"]),
        (KINDS, ["invasive", "in situ"], [1, 0, 1], ["benign", "in situ or invasive"]),
    ],
)
def test_two_classes_of_many(label, positive, values, classes):
    found = label.split_at(positive)
    assert found.values.tolist() == values
    assert found.classes == classes
    assert found.task(None) == "binary"


@pytest.mark.parametrize(
    ("label", "positive", "said"),
    [
        (GRADES, ["5"], "no class '5'"),
        (KINDS, ["invasiv"], "did you mean 'invasive'"),
        (GRADES, [], "expected some, not all, of 0, 1, 2, 3, 4$"),
        (GRADES, ["0", "1", "2", "3", "4"], "expected some, not all"),
        (Label("age", np.ones(3), None), ["5"], "has no classes; expected null$"),
    ],
)
def test_classes_that_are_none(label, positive, said):
    with pytest.raises(UserError, match=f"^explain.positive: .*{said}"):
        label.split_at(positive)


def test_classes_as_numbers_in_the_configuration(opened):
    asked = config()
    asked.explain.positive = [2, 3, 4]
    several = SimpleNamespace(labels=lambda: {"grade": GRADES.values}, classes=lambda name: GRADES.classes)
    assert label_of(asked, several).values.tolist() == [0, 0, 1, 1, 1, 1]


GROUPS = np.repeat(np.arange(40), 25)


def test_permuted_labels_of_patients_stay_a_patients():
    """Where all images of a patient have one label, they have one after it, too."""
    sick = (np.arange(40) % 4 == 0)[GROUPS].astype(float)
    found = permuted(sick, GROUPS, 0).reshape(40, 25)
    assert (found == found[:, :1]).all()
    assert found[:, 0].sum() == 10
    assert not np.array_equal(found.ravel(), permuted(sick, GROUPS, 1))
    np.testing.assert_array_equal(found.ravel(), permuted(sick, GROUPS, 0))


def test_permuted_labels_of_images_keep_how_many_a_patient_has(rng):
    """Each patient gets another's share of positives, and their order within it tells nothing, say of the level."""
    positive = np.tile(np.arange(25) >= 20, 40).astype(float) * (GROUPS < 20)
    order = rng.permutation(1000)
    found = np.empty(1000)
    found[order] = permuted(positive[order], GROUPS[order], 3)  # images in any order
    counts = found.reshape(40, 25).sum(axis=1)
    assert sorted(counts) == [0.0] * 20 + [5.0] * 20
    assert found.reshape(40, 25)[:, 20:].sum() == pytest.approx(20, abs=12)  # by chance a fifth of 100


def test_permuted_labels_know_nothing_of_the_true_ones():
    labels = (np.arange(40) % 2)[GROUPS].astype(float)
    found = [np.corrcoef(labels, permuted(labels, GROUPS, seed))[0, 1] for seed in range(400)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.03)
    assert np.std(found) == pytest.approx(39**-0.5, rel=0.15)  # of 40 patients, not of 1,000 images


def test_permuted_labels_of_unequal_groups_are_the_same_labels(rng):
    groups, values = rng.integers(0, 7, 100), rng.integers(0, 3, 100)
    assert sorted(permuted(values, groups, 0)) == sorted(values)


def test_numbers_are_told_in_words():
    numbers = {"auc": 0.8594, "auc_low": 0.8352, "auc_high": 0.8811, "f1": 0.5, "f1_low": math.nan, "f1_high": math.nan}
    assert in_words(numbers) == "auc 0.86 [0.84, 0.88], f1 0.50"


@pytest.mark.parametrize(
    ("task", "classes", "asked", "told"),
    [
        ("binary", ["tumour", "normal"], None, "the probability of tumour (explain.target=normal explains another)"),
        ("multiclass", ["a", "b", "c"], "b", "the probability of b (explain.target=a or c explains another)"),
        ("regression", ["age"], None, "age"),
    ],
)
def test_which_class_is_explained_is_said(monkeypatch, caplog, task, classes, asked, told):
    outputs = tuple(classes[1:] if task == "binary" else classes)
    target = target_of(SimpleNamespace(task=task, classes=classes, outputs=outputs), asked)
    monkeypatch.setattr(classifier, "load_target", lambda *_: target)
    with caplog.at_level("INFO"):
        say_target(SimpleNamespace(config=None, artifacts={"classifier": None}, spec=None))
    assert caplog.messages == [f"explained: {told}"]
