import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.directions.coordinate import Coordinate, image_changes
from medlat.directions.random import RandomDirections
from medlat.directions.sefa import SeFa


class Linear(LatentModel):
    """A generator whose image is A z: every direction method's answer is known."""

    def __init__(self, *weights):
        self.weights = [torch.as_tensor(w, dtype=torch.float32) for w in weights]
        size = self.weights[0].shape[1]
        self.spaces = {"z": LatentSpace("z", (size,)), "w": LatentSpace("w", (size,), "empirical")}
        self.image = ImageSpec(1, 1, len(self.weights[0]), -1.0, 1.0, "1", 1.0)

    def sample(self, n, space, generator=None):
        return torch.randn(n, self.spaces[space].size, generator=generator)

    def decode(self, codes, space):
        return (codes @ self.weights[0].T)[:, None, None]

    def latent_affines(self, space):
        return self.weights


FINDERS = [SeFa, RandomDirections, Coordinate]


@pytest.mark.parametrize("finder", FINDERS)
def test_directions_are_orthonormal_and_ranked(finder):
    found = finder(count=5).find(Linear(torch.randn(20, 7)))
    vectors = found.vectors
    assert vectors.shape == (5, 7)
    assert torch.allclose(vectors @ vectors.T, torch.eye(5), atol=1e-5)
    assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize("finder", FINDERS)
def test_no_more_than_the_space_has(finder):
    assert len(finder(count=99).find(Linear(torch.randn(20, 7)))) == 7


@pytest.mark.parametrize("finder", FINDERS)
def test_bad_input(finder):
    with pytest.raises(UserError, match=r"count=0"):
        finder(count=0)
    with pytest.raises(UserError, match=r"space=w\+: this generator has z, w"):
        finder(space="w+").find(Linear(torch.eye(2)))


def test_sefa_finds_the_axes_of_a_diagonal_matrix():
    found = SeFa(count=3).find(Linear(torch.diag(torch.tensor([1.0, 3.0, 2.0]))))
    assert torch.allclose(found.vectors.abs(), torch.eye(3)[[1, 2, 0]], atol=1e-6)
    assert found.scores.tolist() == pytest.approx([9.0, 4.0, 1.0])


def test_sefa_against_the_singular_value_decomposition():
    weights = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    _, values, rows = torch.linalg.svd(weights)
    found = SeFa(count=6).find(Linear(weights))
    assert torch.allclose((found.vectors * rows).sum(1).abs(), torch.ones(6), atol=1e-4)
    assert torch.allclose(found.scores, values**2, rtol=1e-4)


def test_sefa_takes_all_matrices_together():
    found = SeFa(count=1).find(Linear([[1.0, 0.0]], [[0.0, 2.0]]))
    assert torch.allclose(found.vectors, torch.tensor([[0.0, 1.0]]), atol=1e-6)
    assert found.scores.tolist() == pytest.approx([4.0])


def test_sefa_of_rows_of_length_one():
    """What one feature reads strongly counts no more than what two read weakly."""
    model = Linear([[10.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert SeFa(count=1).find(model).vectors.tolist() == [[1.0, 0.0]]
    found = SeFa(count=2, unit_rows=True).find(model)
    assert found.vectors.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert found.scores.tolist() == [2.0, 1.0]


def test_sefa_of_a_vae_moves_its_first_layer_most(vae):
    found = SeFa(count=6).find(vae)
    moved = (found.vectors @ vae.entry.weight.T).norm(dim=1)
    assert torch.allclose(moved**2, found.scores, rtol=1e-4)
    assert (moved.diff() <= 1e-6).all()


def test_random_is_decided_by_its_seed():
    model = Linear(torch.eye(5))
    a, b, c = (RandomDirections(5, seed).find(model).vectors for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)


def test_random_is_uniform():
    """Over many draws no axis is preferred: the mean square of each coordinate is 1/D."""
    model = Linear(torch.eye(4))
    draws = torch.cat([RandomDirections(1, seed).find(model).vectors for seed in range(400)])
    assert torch.allclose(draws.square().mean(0), torch.full((4,), 0.25), atol=0.05)


def test_coordinate_ranks_by_the_columns_of_the_weights():
    found = Coordinate(count=2).find(Linear([[1.0, 0.0, 5.0], [0.0, 3.0, 0.0]]))
    assert found.vectors.tolist() == [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert found.scores.tolist() == [5.0, 3.0]


def test_the_default_space_is_the_first():
    assert SeFa().find(Linear(torch.eye(2))).space.name == "z"
    assert SeFa(space="w").find(Linear(torch.eye(2))).space.prior == "empirical"


class Matrix(LatentModel):
    """Images are a matrix times the code; its weights are not shown."""

    def __init__(self, weights):
        self.weights, self.image = weights, ImageSpec(1, len(weights), 1, -1.0, 1.0, "1", 1.0)
        self.spaces = {"z": LatentSpace("z", (weights.shape[1],))}

    def sample(self, n, space="z", generator=None):
        return torch.randn(n, self.weights.shape[1], generator=generator)

    def decode(self, codes, space="z"):
        return (codes @ self.weights.T)[:, None, :, None]


def test_coordinate_of_many_numbers_is_an_estimate_of_the_same():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(64, 200, generator=generator) * torch.logspace(-1, 1, 200)
    model = Matrix(weights)
    changes = image_changes(model, model.spaces["z"])
    assert torch.allclose(changes, weights.norm(dim=0), rtol=0.15)
    few = Matrix(weights[:, :20])
    assert torch.allclose(image_changes(few, few.spaces["z"]), weights[:, :20].norm(dim=0), rtol=1e-3)
