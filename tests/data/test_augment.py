import pytest
import torch

from medlat.core.errors import UserError
from medlat.data.augment import FlipsAndTurns, RandomAffine


def test_nothing_to_do_changes_nothing():
    images = torch.randn(3, 1, 16, 16)
    assert torch.allclose(RandomAffine(0.0, [1.0, 1.0])(images, 0), images, atol=1e-5)


def test_scale_enlarges():
    disc = ((torch.linspace(-1, 1, 64)[:, None] ** 2 + torch.linspace(-1, 1, 64) ** 2) < 0.25).float()[None, None]
    grown = RandomAffine(0.0, [1.2, 1.2])(disc, 0)
    assert grown.sum() / disc.sum() == pytest.approx(1.44, rel=0.03)


def test_rotation_by_a_known_angle():
    bar = torch.zeros(1, 1, 65, 65)
    bar[..., 32, 32:60] = 1.0
    turned = RandomAffine(40.0, [1.0, 1.0])(bar, 5)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    y, x = ((turned * (grid - 32)).sum() / turned.sum() for grid in (rows, columns))
    assert torch.hypot(x, y) == pytest.approx(13.5, abs=0.3)
    assert 1.0 < torch.rad2deg(torch.atan2(y, x)).abs() <= 40.0


def test_the_seed_decides():
    images = torch.randn(4, 1, 16, 16)
    augment = RandomAffine(10.0, [1.0, 1.1])
    assert torch.equal(augment(images, 1), augment(images, 1))
    assert not torch.equal(augment(images, 1), augment(images, 2))


def test_bad_scale():
    with pytest.raises(UserError, match="rising"):
        RandomAffine(1.0, [1.1, 1.0])


def test_shift_moves_by_at_most_its_share():
    disc = (
        ((torch.linspace(-1, 1, 64)[:, None] ** 2 + torch.linspace(-1, 1, 64) ** 2) < 0.1)
        .float()
        .expand(200, 1, 64, 64)
    )
    moved = RandomAffine(0.0, [1.0, 1.0], shift=0.1)(disc, 0)[:, 0]
    columns = (moved.sum(1) * torch.arange(64.0)).sum(1) / moved.sum((1, 2)) - 31.5
    assert 5.5 < columns.abs().max() < 6.45, "a tenth of 64 pixels"
    assert columns.mean().abs() < 0.8


def test_bad_shift():
    with pytest.raises(UserError, match=r"shift=0.5"):
        RandomAffine(shift=0.5)


def test_flips_and_turns_are_the_eight_symmetries_all_as_likely():
    image = torch.arange(9.0).reshape(1, 3, 3)
    made = FlipsAndTurns()(image.expand(4000, 1, 3, 3), 0)
    found, counts = made.flatten(1).unique(dim=0, return_counts=True)
    expected = [torch.rot90(flipped, k, (1, 2)) for flipped in (image, image.flip(2)) for k in range(4)]
    assert len(found) == 8
    assert {tuple(row.tolist()) for row in found} == {tuple(one.flatten().tolist()) for one in expected}
    assert 400 < counts.min() <= counts.max() < 600


def test_flips_and_turns_keep_channels_together_and_images_apart():
    images = torch.randn(16, 1, 8, 8) + torch.zeros(16, 3, 8, 8)
    made = FlipsAndTurns()(images, 1)
    assert torch.equal(made[:, 0], made[:, 2])
    assert torch.equal(made.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    assert torch.equal(FlipsAndTurns()(images, 1), made)
    assert not torch.equal(FlipsAndTurns()(images, 2), made)


def test_each_second_image_is_mirrored():
    images = torch.randn(1, 1, 16, 16).expand(2000, 1, 16, 16)
    made = RandomAffine(0.0, [1.0, 1.0], mirror=True)(images, 0)
    mirrored = (made - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    assert 900 < mirrored.sum() < 1100
    assert torch.allclose(made[~mirrored], images[~mirrored], atol=1e-4)
