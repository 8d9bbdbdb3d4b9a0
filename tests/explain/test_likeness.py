"""Whether images are like those of a run: a rank among held-out images, which calls as many unlike as it says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlat.explain.likeness import LEVEL, Found, Likeness, layouts, textures
from medlat.explain.single import Counterfactual, Single, SingleExplained


def bones(count: int, seed: int, channels: int = 1, side: int = 32) -> torch.Tensor:
    """Images of one kind: a bright bar at nearly one place on dark ground, smooth, a little noisy."""
    draw = torch.Generator().manual_seed(seed)
    place = 14.0 + 2.0 * torch.randn(count, 1, 1, 1, generator=draw)
    rows = torch.arange(side).reshape(1, 1, side, 1)
    bar = torch.exp(-((rows - place) ** 2) / (18.0 + 3.0 * torch.randn(count, 1, 1, 1, generator=draw)))
    noise = 0.05 * torch.randn(count, channels, side, side, generator=draw)
    return (1.4 * bar.expand(-1, channels, -1, side) - 0.8 + noise).clamp(-1.0, 1.0)


@pytest.fixture(scope="module")
def likeness() -> Likeness:
    return Likeness.fit(bones(400, 0), bones(200, 1))


def test_as_many_of_the_same_kind_are_called_unlike_as_it_says(likeness):
    found = likeness(bones(600, 2))
    share = np.mean([one.is_unlike for one in found])
    assert 0.02 <= share <= 0.09, share
    assert np.mean([one.p for one in found]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("layout", lambda x: -x),
        ("layout", lambda x: x.roll(12, 2)),
        ("texture", lambda x: torch.zeros_like(x)),
        ("texture", lambda x: torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)),
        ("texture", lambda x: F.interpolate(F.avg_pool2d(x, 4), scale_factor=4, mode="bilinear")),
        ("texture", lambda x: 0.3 * x),
    ],
    ids=["inverted", "shifted", "blank", "noise", "blurred", "little contrast"],
)
def test_what_is_something_else_is_called_so(likeness, kind, change):
    found = likeness(change(bones(40, 3)))
    assert all(one.is_unlike for one in found)
    assert np.median([one.p for one in found]) <= 2 / 201, "most are farther than all 200, or all but one"
    assert np.mean([one.kind == kind for one in found]) > 0.5


def test_a_mirrored_image_of_a_symmetric_kind_is_like(likeness):
    assert np.mean([one.is_unlike for one in likeness(bones(200, 2).flip(3))]) < 0.1


def test_the_distance_is_one_at_what_95_percent_keep(likeness):
    assert likeness.distances(bones(200, 1)).shape == (200, 2)
    assert np.quantile(likeness.distances(bones(200, 1)), 0.95, axis=0) == pytest.approx([1.0, 1.0])
    assert np.median(likeness.distances(bones(200, 1)), axis=0) == pytest.approx([0.0, 0.0], abs=1e-9)
    again = Likeness.from_arrays(likeness.arrays())
    assert again(bones(5, 4)) == likeness(bones(5, 4))


def test_the_rank_is_a_p_value():
    assert Found(9.0, "layout", 19, 19).p == LEVEL
    assert Found(9.0, "layout", 19, 19).is_unlike
    few = Found(9.0, "texture", 18, 18)
    assert few.is_open
    assert not few.is_unlike
    assert not few.is_like
    assert few.told("tiles") == (
        "Farther from the run's training tiles than all 18 held-out tiles (p = 0.053): they are too few to say more."
    )
    assert Found(0.0, "layout", 0, 99).p == 1.0
    assert Found(0.0, "layout", 0, 99).is_like
    told = Found(3.0, "texture", 64, 64).told("tiles")
    assert told == (
        "Unlike anything this run has seen: farther from its training tiles than 64 of 64 held-out tiles (p = 0.015), "
        "in its texture."
    )


def test_features_in_closed_form():
    flat = torch.full((1, 3, 16, 16), 0.25)
    assert layouts(flat) == pytest.approx(np.full((1, 192), 0.25))
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]  # all of it at the finest scale
    energy = textures(board)[0]
    assert energy[0] == pytest.approx(0.0, abs=1e-6)
    assert energy[1:3] == pytest.approx(np.log(1e-6))
    assert energy[-2] == pytest.approx(0.0)
    few = Likeness.fit(bones(1, 0), bones(1, 1))
    assert few(bones(2, 2))[0].held_out == 1


LIKE, UNLIKE = Found(0.2, "layout", 30, 64), Found(4.0, "texture", 64, 64)


def explained(likeness=LIKE, worse=0.5, inverted=0.8, **changed) -> SingleExplained:
    moved = {"step": -1.5, "prediction": 0.1, "reached": True, "reach": 2.0, "others": {"second": (0.9, 0.2)}} | changed
    return SingleExplained(likeness, 30.0, worse, 0.9, inverted, 0.5, Counterfactual(**moved))


@pytest.mark.parametrize(
    ("single", "words"),
    [
        (explained(), []),
        (explained(UNLIKE), ["Unlike anything this run has seen"]),
        (explained(worse=0.01), ["worse than 99% of held-out images"]),
        (explained(inverted=0.3), ["on the other side of 0.5 (0.90 to 0.30)"]),
        (explained(inverted=0.6), ["inversion alone moves the prediction from 0.90 to 0.60"]),  # and the move 0.5
        (explained(inverted=0.65, prediction=0.0, others={}), []),
        (explained(reached=False), ["does not change as asked"]),
        (explained(step=-3.0), ["3σ away, and images stay near the data for 2σ"]),
        (explained(step=-3.0, reach=float("nan")), []),
        (explained(others={"second": (0.9, 0.7)}), ["the classifier 'second' is not convinced (0.90 to 0.70)"]),
        (explained(others={"second": (0.2, 0.1)}), ["the classifier 'second' is not convinced"]),
        (explained(others={}), []),
        (explained(UNLIKE, 0.0, reached=False), ["Unlike", "worse than 100%", "does not change"]),
        (Single(LIKE, 20.0, 0.02), ["worse than 98%"]),
    ],
)
def test_what_speaks_against_the_picture(single, words):
    doubts = single.doubts()
    assert len(doubts) == len(words)
    assert all(word in doubt for word, doubt in zip(words, doubts, strict=True))
