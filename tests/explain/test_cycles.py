"""Images put back and forth through a latent space whose every answer is known."""

import pytest
import torch
from toy_models import Pixels, Quarters

from medlat.classifiers.black_box import Target
from medlat.core.statistics import spearman_of_rows
from medlat.explain.counterfactuals import Traversal
from medlat.explain.cycles import changes, composition, mean_change, reversibility

MODEL = Pixels()
CODES = torch.tensor([[1.0, -2.0, 3.0, 0.0], [0.0, 4.0, -1.0, 2.0]])


def exact(images: torch.Tensor) -> tuple[torch.Tensor, None]:
    return torch.nn.functional.avg_pool2d(images, 2).flatten(1) * 10.0, None


def dimmed(images: torch.Tensor) -> tuple[torch.Tensor, None]:
    """An inversion that loses a tenth of all brightness."""
    return 0.9 * exact(images)[0], None


def along_first() -> Traversal:
    move = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand_as(CODES)
    return Traversal(MODEL, "z", CODES, move, Target(Quarters(1.0, 0.0, 0.0, 0.0)), torch.device("cpu"))


def test_composition_of_exact_inversion_is_nothing_and_losses_add_up():
    real = MODEL.decode(CODES)
    assert all(not change.any() for change in composition(real, real, lambda x: MODEL.decode(exact(x)[0])).values())
    found = composition(real, MODEL.decode(dimmed(real)[0]), lambda x: MODEL.decode(dimmed(x)[0]))
    brightness = real.abs().mean(dim=(1, 2, 3))
    assert list(found) == [1, 10]
    torch.testing.assert_close(found[1], 0.1 * brightness)
    torch.testing.assert_close(found[10], (1.0 - 0.9**10) * brightness)


def test_composition_where_an_inversion_is_an_optimisation_is_of_the_first_cycle_alone():
    real = MODEL.decode(CODES)
    assert list(composition(real, real, None)) == [1]


def test_reversibility_of_exact_inversion_is_nothing_and_of_a_lossy_one_what_it_loses():
    """There and back by a step of 2 the first quarter is dimmed with the step: 0.9 (x + 2) - 2, the others to 0.9 x."""
    way, steps, real = along_first(), torch.tensor([2.0, -2.0]), MODEL.decode(CODES)
    after = way.images(steps)
    torch.testing.assert_close(reversibility(way, after, steps, real, exact), torch.zeros(2))
    back = 0.9 * CODES
    back[:, 0] = 0.9 * (CODES[:, 0] + steps) - steps
    expected = 0.1 * (back - CODES).abs().mean(dim=1)
    torch.testing.assert_close(reversibility(way, after, steps, real, dimmed), expected)


def test_changes_of_one_direction_are_alike_and_of_another_are_not():
    way = along_first()
    own = changes(way)
    assert own.shape == (2, 16)
    assert own.sum(dim=1).tolist() == pytest.approx([4 * 0.2] * 2), "two steps of 0.1 in four pixels"
    other = changes(Traversal(MODEL, "z", CODES, way.moves.flip(1), way.target, way.device))
    assert spearman_of_rows(own.numpy(), own.numpy()).tolist() == pytest.approx([1.0, 1.0])
    assert spearman_of_rows(own.numpy(), other.numpy()).tolist() == pytest.approx([-1.0 / 3.0] * 2)


def test_mean_change_is_of_each_image():
    assert mean_change(torch.zeros(2, 1, 2, 2), torch.tensor([0.5, -0.25]).reshape(2, 1, 1, 1)).tolist() == [0.5, 0.25]
