import math

import pytest
import torch
from toy_models import Pixels, Quarters

from medlat.classifiers import black_box
from medlat.classifiers.black_box import Target, disagreement, predict, predict_each, target_of, targets
from medlat.core.errors import UserError


class Grades:
    """Probabilities of three grades, the same for every image."""

    task, outputs, differentiable = "ordinal", ("none", "mild", "severe"), False

    def __call__(self, images):
        return torch.tensor([[0.2, 0.5, 0.3]]).expand(len(images), -1)


IMAGES = Pixels().decode(Pixels().sample(5, generator=torch.Generator().manual_seed(0)))


def test_what_is_explained_by_default():
    assert target_of(Quarters(1.0, 0.0, 0.0, 0.0), None).name == "bright"
    grade = target_of(Grades(), None)
    assert (grade.name, grade.column, grade.is_probability) == ("expected grade", None, False)
    assert grade(IMAGES).tolist() == pytest.approx([0.5 + 2 * 0.3] * 5)
    assert target_of(Grades(), "mild")(IMAGES).tolist() == pytest.approx([0.5] * 5)
    above = target_of(Grades(), "mild or more")
    assert (above.name, above.is_probability) == ("mild or more", True)
    assert above(IMAGES).tolist() == pytest.approx([0.8] * 5)
    with pytest.raises(UserError, match=r"target=none or more: the classifier predicts no such thing"):
        target_of(Grades(), "none or more")


class Tissue:
    """Of every image the probability 0.8 of the second class."""

    task, differentiable = "binary", False

    def __init__(self, *classes):
        self.classes, self.outputs = list(classes), classes[1:]

    def __call__(self, images):
        return torch.full((len(images), 1), 0.8)


@pytest.mark.parametrize(
    ("classes", "explained"),
    [
        (("adenocarcinoma", "normal"), "adenocarcinoma"),
        (("malignant", "normal, benign"), "malignant"),
        (("no nodule", "nodule"), "nodule"),
        (("nodule", "no nodule"), "nodule"),
        (("tumour", "non-tumour"), "tumour"),
        (("left", "right"), "right"),
        (("normal", "benign"), "benign"),
        (("a", "normal variant"), "normal variant"),
    ],
)
def test_of_two_classes_the_one_is_explained_that_something_is_said_with(classes, explained):
    found = target_of(Tissue(*classes), None)
    assert found.name == explained
    probability = 0.8 if explained == classes[1] else 0.2
    assert found(IMAGES).tolist() == pytest.approx([probability] * 5)


def test_either_of_two_classes_can_be_explained():
    both = Tissue("adenocarcinoma", "normal")
    assert targets(both) == ["adenocarcinoma", "normal"]
    first, second = (target_of(both, name) for name in targets(both))
    assert first.is_probability
    assert (first(IMAGES) + second(IMAGES)).tolist() == pytest.approx([1.0] * 5)
    assert first.linear(first(IMAGES)).tolist() == pytest.approx([-math.log(4.0)] * 5)
    with pytest.raises(UserError, match=r"target=norma: .*did you mean 'normal'"):
        target_of(both, "norma")


def test_of_several_classes_one_is_chosen_by_the_user():
    many = Grades()
    many.task = "multiclass"
    with pytest.raises(UserError, match=r"target=null: the classifier has several classes; choose from .*mild.*severe"):
        target_of(many, None)


def test_no_such_target():
    with pytest.raises(UserError, match=r"target=sever: .*did you mean 'severe'"):
        target_of(Grades(), "sever")


def test_logits_of_probabilities_are_bounded_and_of_values_are_values():
    target = Target(Quarters(1.0, 0.0, 0.0, 0.0))
    found = target.linear(torch.tensor([0.0, 0.5, 1.0]))
    assert found.tolist() == pytest.approx([-13.8155, 0.0, 13.8155], abs=0.05)
    assert target_of(Grades(), None).linear(torch.tensor([7.0])).tolist() == [7.0]


def test_predictions_of_many_images_have_no_gradient():
    target = Target(Quarters(3.0, 0.0, 0.0, 1.0))
    found = predict(target, IMAGES.requires_grad_(True), torch.device("cpu"))
    assert not found.requires_grad
    torch.testing.assert_close(found, target(IMAGES).detach())


def test_disagreement_by_hand():
    p, q = torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[0.5, 0.25, 0.25]])
    by_hand = 0.2 * math.log(0.4) + 0.5 * math.log(2.0) + 0.3 * math.log(1.2)
    assert disagreement(Grades(), q, p).item() == pytest.approx(by_hand, rel=1e-5)
    assert disagreement(Grades(), p, p).item() == 0.0
    binary = Quarters(1.0, 0.0, 0.0, 0.0)
    one, half = torch.tensor([[1.0]]), torch.tensor([[0.5]])
    assert disagreement(binary, half, one).item() == pytest.approx(math.log(2.0), abs=1e-4)
    assert 0.0 < disagreement(binary, one, half).item() < 7.0, "certain and wrong is bounded"
    several = Grades()
    several.task = "multilabel"
    by_hand = sum(a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b)) for a, b in zip(p[0], q[0], strict=True))
    assert disagreement(several, q, p).item() == pytest.approx(float(by_hand), rel=1e-5), "each finding for itself"
    binary.task = "regression"
    values = torch.tensor([[0.0], [2.0], [4.0]])
    assert disagreement(binary, values + 2.0, values).item() == pytest.approx(1.0), "in variances, 4 here"


def test_several_lots_are_asked_for_together(monkeypatch):
    """Of images of 4x4, at most 48 pixels at once: three images."""
    monkeypatch.setattr(black_box, "PIXELS_AT_ONCE", 48)
    asked, sizes = Quarters(3.0, 0.0, 0.0, 1.0), []

    def counted(images):
        sizes.append(len(images))
        return asked(images)

    lots = [IMAGES[:1], IMAGES[1:2], IMAGES[2:4], IMAGES[4:]]
    found = predict_each(counted, iter(lots), torch.device("cpu"))
    assert [len(each) for each in found] == [1, 1, 2, 1]
    torch.testing.assert_close(torch.cat(found), asked(IMAGES))
    assert sizes == [3, 1, 1], "four when the third lot is there, in two parts, and one that is left"
    assert predict_each(counted, [], torch.device("cpu")) == []
