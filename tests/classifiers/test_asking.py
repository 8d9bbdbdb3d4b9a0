"""A black box is asked once for each image."""

import logging

import numpy as np
import pytest
import torch

from medlat.classifiers import asking
from medlat.classifiers.asking import Answers, Asked


class Counting:
    """Two numbers of an image: its mean, and how many images it came with."""

    task, classes, outputs, differentiable = "multilabel", ["mean", "batch"], ("mean", "batch"), True

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        means = images.mean(dim=(1, 2, 3))
        return torch.stack([means, torch.full_like(means, float(len(images)))], dim=1)


def images(*levels):
    return torch.tensor(levels).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()


def test_an_image_is_asked_for_once():
    box = Counting()
    asked = Asked(box, Answers(2), batch=2)
    found = asked(images(0.1, 0.2, 0.3))
    assert found[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert box.batches == [2, 1]
    assert torch.equal(asked(images(0.2, 0.1, 0.3)), found[[1, 0, 2]])
    assert box.batches == [2, 1], "all are known"
    answers = asked.answers
    assert (answers.asked, answers.calls, answers.found) == (3, 2, 3)
    assert (asked.task, asked.outputs, asked.classes) == (box.task, box.outputs, box.classes)


def test_a_part_with_a_new_image_is_asked_for_as_a_whole_and_what_is_known_stays():
    box = Counting()
    asked = Asked(box, Answers(2), batch=3)
    asked(images(0.1))
    found = asked(images(0.1, 0.2, 0.3))
    assert box.batches == [1, 3]
    assert found[:, 1].tolist() == [1.0, 3.0, 3.0]


def test_gradients_pass_by():
    box = Counting()
    asked = Asked(box, Answers(2), batch=2)
    x = images(0.1, 0.2).requires_grad_()
    asked(x).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        assert not asked(x).requires_grad
    assert box.batches == [2, 2]


def test_answers_are_found_again_in_their_file(tmp_path):
    path, box = tmp_path / "answers" / "a.bin", Counting()
    found = Asked(box, Answers(2, path), batch=2)(images(0.1, 0.2, 0.3))
    again = Asked(box, Answers(2, path), batch=2)
    assert torch.equal(again(images(0.1, 0.2, 0.3)), found)
    assert box.batches == [2, 1]
    again(images(0.4))
    assert len(Answers(2, path).known) == 4


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda b: b[:-3], 2),  # not written to its end
        (lambda b: b[:17] + bytes([b[17] ^ 1]) + b[18:], 2),  # changed by a disk
        (lambda b: b"", 0),
        (lambda b: b"x" * 5, 0),
    ],
)
def test_a_damaged_file_of_answers_loses_what_is_damaged_alone(tmp_path, damage, left):
    path, box = tmp_path / "a.bin", Counting()
    asked = Asked(box, Answers(2, path), batch=1)
    found = asked(images(0.1, 0.2, 0.3))
    path.write_bytes(damage(path.read_bytes()))
    answers = Answers(2, path)
    assert len(answers.known) == left
    assert torch.equal(Asked(box, answers, batch=1)(images(0.1, 0.2, 0.3)), found)
    assert len(box.batches) == 3 + 3 - left
    assert len(Answers(2, path).known) == 3, "and what was asked again is kept"


def test_what_cannot_be_written_is_kept_in_memory(tmp_path, caplog):
    (tmp_path / "file").write_text("x")
    answers, box = Answers(2, tmp_path / "file" / "a.bin"), Counting()
    asked = Asked(box, answers, batch=2)
    with caplog.at_level(logging.WARNING):
        asked(images(0.1, 0.2))
    assert "answers of the classifier are not kept in" in caplog.text
    asked(images(0.1, 0.2))
    assert box.batches == [2]


def test_how_far_it_has_come_is_said_in_calls(monkeypatch, caplog):
    monkeypatch.setattr(asking, "EVERY_S", 0.0)
    asked = Asked(Counting(), Answers(2), batch=2)
    asked.answers.expected = 100
    with caplog.at_level(logging.INFO):
        asked(images(0.1, 0.2, 0.3))
    assert "asking the classifier: 2 images in 1 calls of at most 100" in caplog.text
    assert "3 images in 2 calls" in caplog.text
    assert np.isfinite(asked.answers.seconds)
