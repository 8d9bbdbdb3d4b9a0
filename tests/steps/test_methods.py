"""What the direction methods of a run are called, and what they are."""

import pytest
from composed import composed

from medlat.core.errors import ConfigErrors, UserError
from medlat.directions.finder import name_of, needs_of
from medlat.steps.checks import check_values
from medlat.steps.methods import asked_of, chance_of, has_permuted, lacks_permuted, methods


def told(*overrides):
    return [(m.name, m.role, m.key) for m in methods(composed("scale=tiny", *overrides))]


RANDOM, AXES = ("random", "control", "controls.random"), ("coordinate", "control", "controls.coordinate")
SEFA = ("sefa", "main", "directions")


def test_the_main_method_first_then_what_it_is_compared_with_then_controls():
    found = told("+directions@compared.pca=pca")
    assert found == [SEFA, ("pca", "compared", "compared.pca"), RANDOM, AXES]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["+directions@compared.sefa=sefa", "compared.sefa.count=4"], ("sefa_2", "compared", "compared.sefa")),
        (["+directions@compared.random=random"], ("random_2", "compared", "compared.random")),
        (["+directions@compared.layers=sefa"], ("layers", "compared", "compared.layers")),
        (["+directions@controls.random_b=random", "controls.random_b.seed=5"],
         ("random_b", "control", "controls.random_b")),
    ],
)  # fmt: skip
def test_several_of_one_class_have_names_of_their_own(overrides, expected):
    found = told(*overrides)
    assert expected in found
    names = [name for name, _, _ in found]
    assert len(set(names)) == len(names)


def test_a_control_that_is_the_main_method_is_none():
    assert told("directions=random") == [("random", "main", "directions"), AXES]


def test_a_supervised_method_has_permuted_labels_beside_it():
    found = methods(composed("+experiment=histology_vae_linear", "scale=tiny"))
    assert [(m.name, m.role) for m in found][-1] == ("permuted", "control")
    assert [m.classifier for m in found] == ["classifier"] * (len(found) - 1) + ["permuted"]
    assert [m.name for m in methods(composed("+experiment=histology_vae_linear", "explain.permuted=0"))][-1] != (
        "permuted"
    )


def test_the_main_method_is_asked_of_each_classifier():
    """A supervised one finds directions of each, of any other the same are looked through."""
    beside = (
        "+classifier@compared.two=resnet",
        "+directions@compared.svm=svm",
        "+classifier@compared.permuted=densenet",
    )
    config = composed("+experiment=histology_vae_linear", *beside)
    assert [m.name for m in methods(config)] == ["linear", "svm", "random", "coordinate", "permuted"], "no classifiers"
    asked = {name: (m.step, m.classifier, m.role) for name, m in asked_of(config).items()}
    assert asked == {
        "main": ("directions/linear", "classifier", "main"),
        "two": ("directions/two", "classifier/two", "compared"),
        "permuted": ("directions/permuted_2", "classifier/permuted", "compared"),
    }
    config = composed("+experiment=histology_vae_linear", "directions=sefa", "+classifier@compared.two=resnet")
    assert {m.step for m in asked_of(config).values()} == {"directions/sefa"}
    assert asked_of(config)["two"].classifier == "classifier/two"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "random"),
        (["directions=random"], "random"),
        (["evaluation.chance=coordinate"], "coordinate"),
        (["evaluation.chance=null"], None),
        (["+directions@controls.luck=random", "controls.luck.seed=3", "evaluation.chance=luck"], "luck"),
    ],
)
def test_which_control_is_chance_is_said_in_the_configuration(overrides, name):
    config = composed("scale=tiny", *overrides)
    assert chance_of(config, methods(config)) == name


def test_a_chance_that_is_no_control():
    config = composed("scale=tiny", "evaluation.chance=randm")
    with pytest.raises(UserError, match=r"evaluation\.chance=randm: no control of that name; did you mean 'random'"):
        chance_of(config, methods(config))
    with pytest.raises(ConfigErrors, match=r"evaluation\.chance=randm"):
        check_values(config)


class Plain:
    def find(self, model):
        return None


class TakesMore:
    def find(self, model, images):
        return None


class NeedsNothingThatThereIs:
    needs = frozenset({"imagse"})
    find = Plain.find


class NeedsTraining:
    needs = frozenset({"training"})
    schedule = None


def test_needs_are_what_a_class_declares_and_not_what_it_keeps():
    finder = Plain()
    finder.images, finder.module, finder.origin = 64, "x", None
    assert needs_of(finder) == frozenset()
    assert name_of(finder) == "plain"
    assert name_of(NeedsNothingThatThereIs()) == "needs_nothing_that_there_is"


@pytest.mark.parametrize(
    ("finder", "words"),
    [
        (TakesMore, r"TakesMore.find\(model, images\): called as find\(model\), as its needs are none"),
        (NeedsNothingThatThereIs, "nothing is called 'imagse'; did you mean 'images'"),
        (NeedsTraining, "needs training, and has no module"),
        (object, r"object: has no find\(model\)"),
    ],
)
def test_what_a_finder_declares_and_takes_must_agree(finder, words):
    with pytest.raises(UserError, match=words):
        needs_of(finder())


ONNX = ("classifier=onnx", "classifier.path=c.onnx", "classifier.task=binary", "classifier.classes=[normal,tumour]")


@pytest.mark.parametrize(
    ("overrides", "has", "lacks"),
    [
        ((), True, False),
        (ONNX, False, True),
        (("explain.permuted=0",), False, False),
        (("directions=pca",), False, False),
        ((*ONNX, "explain.permuted=0"), False, False),
    ],
)
def test_permuted_labels_are_a_control_of_classifiers_that_can_be_trained_anew(overrides, has, lacks):
    config = composed("+experiment=histology_vae_linear", "scale=tiny", *overrides)
    assert (has_permuted(config), lacks_permuted(config)) == (has, lacks)
