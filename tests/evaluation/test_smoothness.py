import math

import pytest
import torch

from medlat.core.spaces import ImageSpec, LatentSpace
from medlat.evaluation.smoothness import lerp, path_length, slerp

SIDE = 4


class Pixels:
    name = "pixels"

    def __call__(self, images):
        return images.flatten(1).numpy()


class Linear:
    """decode = A z, z with deviations that differ; the prior of `z` is called normal, that of `w+` empirical."""

    image = ImageSpec(1, SIDE, SIDE, -1.0, 1.0, "1", 1.0)

    def __init__(self, deviation=(1.0, 2.0, 0.5)):
        self.deviation = torch.tensor(deviation)
        d = len(deviation)
        self.matrix = torch.randn(SIDE**2, d, generator=torch.Generator().manual_seed(0)) / d**0.5
        self.spaces = {"z": LatentSpace("z", (d,)), "w+": LatentSpace("w+", (2, d), "empirical")}

    def sample(self, n, space, generator=None):
        return torch.randn(n, *self.spaces[space].shape, generator=generator) * self.deviation

    def decode(self, codes, space):
        codes = codes.sum(dim=1) if space == "w+" else codes
        return (codes @ self.matrix.T).unflatten(1, (1, SIDE, SIDE))


class Circle(Linear):
    """Codes at right angles, of length r: start on the first axis, end on the second."""

    def __init__(self, radius):
        super().__init__((1.0, 1.0))
        self.radius, self.calls = radius, 0

    def sample(self, n, space, generator=None):
        self.calls += 1
        return torch.eye(2)[(self.calls - 1) % 2].expand(n, 2) * self.radius

    def decode(self, codes, space):
        return torch.nn.functional.pad(codes, (0, SIDE**2 - 2)).unflatten(1, (1, SIDE, SIDE))


def test_straight_paths_of_a_linear_model():
    """|A (b - a)|² has the mean 2 tr(A Σ Aᵀ); w+ has two codes that add up, so twice that."""
    model = Linear()
    expected = 2 * 2 * (model.matrix * model.deviation).square().sum()
    assert path_length(model, "w+", Pixels(), 20_000) == pytest.approx(float(expected), rel=0.03)


@pytest.mark.parametrize("radius", [1.0, 5.0])
def test_an_arc_of_a_right_angle(radius):
    """A quarter of a circle, walked evenly: the square of its length, (π r / 2)²."""
    found = path_length(Circle(radius), "z", Pixels(), 64)
    assert found == pytest.approx((math.pi * radius / 2) ** 2, rel=1e-3)


def test_arcs_of_a_linear_model():
    """Each path's squared speed |A dp/dt|², in closed form at the drawn t, against steps of ε."""
    model, n = Linear((1.0,) * 3), 500
    found = path_length(model, "z", Pixels(), n, epsilon=1e-3, seed=4)
    from medlat.core.randomness import generator_for

    generator = generator_for(4, "path length")
    a, b = (model.sample(n, "z", generator).double() for _ in range(2))
    t = torch.rand(n, generator=generator, dtype=torch.float64)[:, None]
    angle = torch.acos((a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1))[:, None]
    velocity = angle * (torch.cos(t * angle) * b - torch.cos((1 - t) * angle) * a) / torch.sin(angle)
    assert found == pytest.approx(float((velocity @ model.matrix.double().T).square().sum(1).mean()), rel=5e-3)


def test_epsilon_batch_and_seed():
    model = Linear()
    found = path_length(model, "z", Pixels(), 100, seed=1)
    assert path_length(model, "z", Pixels(), 100, epsilon=1e-2, seed=1) == pytest.approx(found, rel=0.02)
    assert path_length(model, "z", Pixels(), 100, batch=7, seed=1) == pytest.approx(found, rel=1e-3)
    assert path_length(model, "z", Pixels(), 100, seed=1) == found
    assert path_length(model, "z", Pixels(), 100, seed=2) != found


def test_a_useless_generator_has_no_length():
    class Constant(Linear):
        def decode(self, codes, space):
            return torch.zeros(len(codes), 1, SIDE, SIDE)

    assert path_length(Constant(), "z", Pixels(), 10) == 0.0


def test_paths_have_their_ends():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    for path in (lerp, slerp):
        assert torch.allclose(path(a, b, torch.zeros(5, dtype=torch.float64)), a)
        assert torch.allclose(path(a, b, torch.ones(5, dtype=torch.float64)), b)


def test_slerp_where_there_is_no_arc():
    """One dimension: every two codes are parallel or opposite."""
    a, b = torch.tensor([[1.0], [1.0], [2.0]]), torch.tensor([[3.0], [-1.0], [2.0]])
    assert slerp(a, b, torch.full((3,), 0.25)).flatten().tolist() == pytest.approx([1.5, 0.5, 2.0])
