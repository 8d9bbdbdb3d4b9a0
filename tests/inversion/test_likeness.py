import pytest
import torch

from medlat.core.similarity import pyramid, pyramid_error


def test_equal_images_and_a_constant_difference():
    images = torch.randn(2, 1, 64, 64)
    assert pyramid_error(images, images).tolist() == [0.0, 0.0]
    shifted = images + torch.tensor([0.5, 1.0])[:, None, None, None]
    assert pyramid_error(shifted, images).tolist() == pytest.approx([0.25, 1.0], rel=1e-5), "the same at every level"


@pytest.mark.parametrize(("side", "levels"), [(64, 4), (32, 3), (16, 2), (8, 1), (12, 1)])
def test_what_averages_away_is_seen_at_the_finest_level_alone(side, levels):
    board = (torch.arange(side)[:, None] + torch.arange(side)) % 2 * 2.0 - 1.0
    error = pyramid_error(board.expand(1, 3, side, side), torch.zeros(1, 3, side, side))
    assert error.item() == pytest.approx(1.0 / levels)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 16, 24), (1, 8, 8)])
def test_the_squared_distance_of_pyramids_is_their_error(shape):
    a, b = torch.randn(2, 5, *shape)
    distances = (pyramid(a) - pyramid(b)).square().sum(1)
    assert torch.allclose(distances, pyramid_error(a, b), rtol=1e-4)
