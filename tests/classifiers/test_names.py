from types import SimpleNamespace

import numpy as np
import pytest

from medlat.classifiers.names import canonical, truth_of
from medlat.core.errors import UserError

BINARY = (["normal", "tumour"], "tumour")
SEVERAL = (["benign", "in situ", "invasive"], "invasive")
FINDINGS = (["Effusion", "Mass", "Nodule"], "Mass")


def truth(task, theirs, label, values, classes):
    names, target = theirs
    black_box = SimpleNamespace(task=task, classes=names)
    return truth_of(black_box, target, label, np.array(values, float), classes).tolist()


@pytest.mark.parametrize(
    ("task", "theirs", "label", "values", "classes", "expected"),
    [
        ("binary", BINARY, "kind", [0, 1], ["normal", "tumour"], [0, 1]),
        ("binary", BINARY, "kind", [0, 1], ["tumour", "normal"], [1, 0]),  # by name, not by position
        ("binary", BINARY, "kind", [0, 1], ["Tumour ", "NORMAL"], [1, 0]),
        ("binary", BINARY, "kind", [0, 1], ["none", "tumour"], [0, 1]),  # one name tells the other
        ("binary", BINARY, "kind", [0, 1], ["tumour", "none"], [1, 0]),
        ("binary", BINARY, "Tumour", [0, 1], ["0", "1"], [0, 1]),  # the label's name is the class's
        ("binary", BINARY, "normal", [0, 1], ["no", "yes"], [1, 0]),
        ("multiclass", SEVERAL, "kind", [0, 1, 2], ["in_situ", "invasive", "benign"], [1, 2, 0]),
        ("multiclass", SEVERAL, "kind", [1, 0], ["benign", "invasive"], [2, 0]),  # it knows more than the data have
        ("ordinal", (["0", "1", "2"], "2"), "grade", [0, 2], ["2.0", "1", "0"], [2, 0]),
        ("multilabel", FINDINGS, "kind", [0, 1, 2], ["no finding", "mass", "nodule"], [0, 1, 0]),
        ("multilabel", FINDINGS, "mass", [0, 1, 1], ["0", "1"], [0, 1, 1]),
        ("regression", (["age"], "age"), "age", [0.5, 70.0], None, [0.5, 70.0]),
        ("regression", (["grade"], "grade"), "kl", [0, 1], ["2", "4"], [2.0, 4.0]),  # the values, not their places
    ],
)
def test_labels_in_the_classifiers_terms(task, theirs, label, values, classes, expected):
    assert truth(task, theirs, label, values, classes) == expected


@pytest.mark.parametrize(
    ("task", "theirs", "label", "classes", "said"),
    [
        ("binary", BINARY, "label", ["0", "1"], "says normal, tumour, and the label 'label' of the data 0, 1: there is "
         "no 0, 1 among .* or explain.positive=.* that mean 'tumour'$"),
        ("binary", BINARY, "kind", ["normal", "a", "b"], "there is no a, b among"),
        ("multiclass", SEVERAL, "kind", ["benign", "invasiv"], "there is no invasiv among"),
        ("multilabel", FINDINGS, "nodule", ["0", "1"], "that mean 'Mass'$"),
        ("multilabel", FINDINGS, "kind", ["nodule", "none"], "there is no none among"),
        ("binary", BINARY, "age", None, "'age' of the data is a quantity; expected a label with such classes"),
    ],
)  # fmt: skip
def test_names_that_do_not_go_together(task, theirs, label, classes, said):
    with pytest.raises(UserError, match=f"^classes: .*{said}"):
        truth(task, theirs, label, [0, 1], classes)


def test_values_of_classes_that_are_no_numbers():
    with pytest.raises(UserError, match=r"^task=regression: the classes of the label 'kind' are no numbers: a, b$"):
        truth("regression", (["age"], "age"), "kind", [0, 1], ["a", "b"])


def test_names_as_they_are_compared():
    assert [canonical(x) for x in (" In_Situ", 2, "2.50", "nan", "0")] == ["in situ", "2", "2.5", "nan", "0"]


def test_classes_that_are_called_otherwise_are_said(caplog):
    box = SimpleNamespace(task="binary", classes=["normal", "tumour"])
    with caplog.at_level("INFO"):
        truth_of(box, "tumour", "label", np.array([0, 1]), ["adenocarcinoma", "normal"])
    assert caplog.messages == ["the classifier's class 'tumour' for 'adenocarcinoma' of the data"]
    caplog.clear()
    with caplog.at_level("INFO"):
        truth_of(box, "tumour", "label", np.array([0, 1]), ["Normal", "tumour"])
    assert caplog.messages == []
