"""The user's classifier beside the labels, and what asking it costs."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from composed import composed
from omegaconf import OmegaConf

from medlat.classifiers.asking import Answers, Asked
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.steps import own_classifier
from medlat.steps.labels import Label
from medlat.steps.own_classifier import compared, expected_images, foretell, stochastic

ROWS, GROUPS = np.arange(200), np.repeat(np.arange(40), 5)
TUMOUR = Label("kind", (ROWS % 2).astype(float), ["normal", "tumour"])
RIGHT = np.where(ROWS % 2 == 1, 0.9, 0.1)[:, None]
SPEC = ImageSpec(3, 32, 32, 0.0, 255.0, "RGB", 1.0)
PYTHON = (
    *("classifier=python", "classifier.function=toy_models:brightness", "classifier.task=binary"),
    "classifier.classes=[normal,tumour]",
)


def asked(classes, task="binary", target=None, positive=None):
    explain = {"target": target, "positive": positive}
    root = OmegaConf.create({"seed": 0, "explain": explain, "classifier": {"classes": classes, "task": task}})
    outputs = (classes[1],) if task == "binary" else tuple(classes)
    return root, SimpleNamespace(task=task, classes=classes, outputs=outputs)


def test_classes_in_another_order_are_matched_by_their_names():
    config, black_box = asked(["tumour", "normal"])
    task, truth, predictions = compared(config, black_box, TUMOUR, ROWS, 1.0 - RIGHT, GROUPS)
    assert task == "binary"
    assert truth.tolist() == (1 - ROWS % 2).tolist(), "normal is its second class"
    assert np.array_equal(predictions, 1.0 - RIGHT)


def test_names_in_the_wrong_order_are_seen_by_what_it_says():
    config, black_box = asked(["tumour", "normal"])
    message = (
        r"^classifier\.classes=\[tumour, normal\]: on 200 held-out images of 40 patients its AUC is 0\.00 .*"
        r"knowing nothing gives 0\.50\. Either these are not the names of its outputs in their order, or"
    )
    with pytest.raises(UserError, match=message):
        compared(config, black_box, TUMOUR, ROWS, RIGHT, GROUPS)
    config, black_box = asked(["a", "b"], positive=["normal"])
    label = TUMOUR.split_at(["normal"])
    with pytest.raises(UserError, match=r"^explain\.positive=\[normal\]: on 200 held-out"):
        compared(config, black_box, label, ROWS, RIGHT, GROUPS)


def test_classes_that_mean_the_explained_output():
    """With names that the data do not have, `explain.positive` says what the explained output is."""
    config, black_box = asked(["a", "b"])
    with pytest.raises(UserError, match=r"^classifier\.classes: the classifier says a, b, .* that mean 'b'$"):
        compared(config, black_box, TUMOUR, ROWS, RIGHT, GROUPS)
    config, black_box = asked(["a", "b"], positive=["tumour"])
    task, truth, predictions = compared(config, black_box, TUMOUR.split_at(["tumour"]), ROWS, RIGHT, GROUPS)
    assert (task, truth.tolist()) == ("binary", (ROWS % 2).tolist())
    assert np.array_equal(predictions, RIGHT)


def test_of_several_findings_the_explained_one_is_measured():
    config, black_box = asked(["effusion", "mass", "tumour"], "multilabel", target="tumour")
    every = np.hstack([1.0 - RIGHT, np.full_like(RIGHT, 0.5), RIGHT])
    task, truth, predictions = compared(config, black_box, TUMOUR, ROWS, every, GROUPS)
    assert (task, truth.tolist()) == ("binary", (ROWS % 2).tolist())
    assert predictions[:, 0] == pytest.approx(RIGHT[:, 0])


@pytest.mark.parametrize(
    ("values", "refused"), [([0.02, 0.5, 0.97], True), ([0.3, 0.5, 0.6], False), ([-2, 0.5, 0.97], False)]
)
def test_a_sigmoid_is_not_taken_twice(values, refused):
    """Of all held-out images it can be told; a network that has learnt nothing says something else."""
    config, black_box = asked(["normal", "tumour"], positive=["tumour"])
    config.classifier.output = "logits"
    predictions = torch.tensor(values).sigmoid()[torch.from_numpy(ROWS % 3)][:, None].numpy()
    groups, label = np.zeros(200), TUMOUR.split_at(["tumour"])
    if not refused:
        assert compared(config, black_box, label, ROWS, predictions, groups)[0] == "binary"
        return
    message = (
        r"^classifier\.output: logits, but for 200 held-out images .* from 0\.020 to 0\.970 alone, .*probabilities$"
    )
    with pytest.raises(UserError, match=message):
        compared(config, black_box, label, ROWS, predictions, groups)


def test_how_many_images_are_asked_for_at_most():
    overrides = ["explain.images=10", "explain.codes=100", "explain.control_directions=3", "explain.steps=[-1,0,1]"]
    config = composed("+experiment=histology_vae_linear", "scale=tiny", *PYTHON, *overrides, "evaluation.base_codes=5")
    series = 10 * (3 + 8)
    cout = 10 * 21
    found = series + cout + 2 * series  # linear, and two further directions
    found += 2 * 3 * (series + cout)  # random directions and axes
    assert expected_images(config) == found + 10 * 2 + 100 * 3 + 2 * 5 * config.scale.latent_dim


def test_what_is_said_before_asking(tmp_path, caplog, monkeypatch):
    """By the time that it has taken so far: 20 images in 2 s."""
    monkeypatch.setattr(own_classifier, "expected_images", lambda config: 9_000)
    config = composed("+experiment=histology_vae_linear", "scale=tiny", *PYTHON)
    box = own_classifier.own_classifier(config, SPEC, tmp_path)
    assert isinstance(box, Asked)
    box(torch.zeros(1, 3, 32, 32))
    assert len(list((tmp_path / "answers").glob("*.bin"))) == 1
    box.answers.asked, box.answers.seconds = 20, 2.0
    with caplog.at_level(logging.INFO):
        assert foretell(config, box) == {}
    assert (
        "classifier: 100 ms an image in batches of at most 64; the run asks for up to 9,000 more, 15 min" in caplog.text
    )
    assert box.answers.expected == 9_020
    box.black_box.repeats, box.black_box.differs = 8, 0.12
    assert foretell(config, box) == {"differs": 0.12, "repeats": 8.0}
    assert stochastic(0.12, 8) in caplog.text


def test_answers_are_of_one_program_and_its_settings(tmp_path):
    paths = set()
    for more in ((), ("classifier.range=[0,1]",), ("classifier.output=probabilities",)):
        config = composed("+experiment=histology_vae_linear", "scale=tiny", *PYTHON, *more)
        paths.add(own_classifier.own_classifier(config, SPEC, tmp_path).answers.path)
    assert len(paths) == 2, "the third is the first"
    assert Answers(1).path is None
