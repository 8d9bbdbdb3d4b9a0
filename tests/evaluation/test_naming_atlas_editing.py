"""Names, the atlas and the editing range on numbers whose answer is known."""

import numpy as np
import pytest
import torch

from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.directions.jacobian import Jacobian
from medlat.directions.pca import PCA
from medlat.directions.random import RandomDirections
from medlat.directions.sefa import SeFa
from medlat.evaluation.atlas import agreement, atlas
from medlat.evaluation.editing import Nearness, common_range, editing_range, shown_steps
from medlat.evaluation.naming import UNNAMED, evidence, names
from medlat.evaluation.semantics import Effect, Quantity, effects
from medlat.evaluation.traversal import traverse


def row(method, direction, measurement, standardised, share, r2=1.0, sure=0.9, unit="deg"):
    ends = sorted((standardised * sure, standardised * (2.0 - sure)))
    return Effect(method, direction, "factor", measurement, unit, standardised, *ends, standardised, share, r2)


def control(shares):
    return [row("random", f"random {i:02d}", "x", 0.5, share) for i, share in enumerate(shares)]


def test_a_direction_better_than_chance_has_a_name():
    rows = [row("sefa", "sefa 00", "rotation", -3.14159, 0.81), row("sefa", "sefa 00", "x", 0.1, 0.19)]
    found = names(rows + control([0.2, 0.3, 0.4]), "factor", "random", {"deg": "°"})
    assert found[0].name == "rotation \u22123.1°/σ, purity 0.81"
    assert found[0].evidence == pytest.approx(0.81 * 0.9)
    assert found[0].level == pytest.approx(np.percentile(np.array([0.2, 0.3, 0.4]) * 0.9, 95))


@pytest.mark.parametrize(
    "strongest",
    [
        row("sefa", "sefa 00", "x", 1.0, 0.35),  # no purer than chance
        row("sefa", "sefa 00", "x", 1.0, 0.9, r2=0.2),  # not along a line
        row("sefa", "sefa 00", "x", 1.0, 0.9, sure=-0.1),  # not significant
        row("sefa", "sefa 00", "x", 0.05, 0.9),  # a share of nothing
    ],
)
def test_without_evidence_there_is_no_name(strongest):
    found = names([strongest, *control([0.2, 0.3, 0.4])], "factor", "random")
    assert found[0].name == UNNAMED


def test_controls_have_no_names_and_nothing_has_without_them():
    assert all(n.name == UNNAMED for n in names(control([0.2, 0.9]), "factor", "random"))
    assert names([row("sefa", "sefa 00", "x", 1.0, 0.99)], "factor", "random")[0].name == UNNAMED


def test_a_direction_along_which_nothing_changes_is_there_without_a_name():
    still = row("sefa", "sefa 01", "x", 0.0, float("nan"))
    found = names([row("sefa", "sefa 00", "x", 1.0, 0.9), still, *control([0.2])], "factor", "random")
    assert [(n.direction, n.rank, n.is_named) for n in found[:2]] == [("sefa 00", 1, True), ("sefa 01", 2, False)]
    assert found[1].evidence == 0.0


def test_directions_are_ranked_by_evidence():
    rows = [row("pca", f"pca {i:02d}", "x", 1.0, share) for i, share in enumerate([0.3, 0.9, 0.6])]
    found = names(rows + control([0.1]), "factor", "random")
    assert [n.direction for n in found if n.method == "pca"] == ["pca 01", "pca 02", "pca 00"]
    assert [n.rank for n in found if n.method == "pca"] == [1, 2, 3]
    assert evidence(rows[0]) == pytest.approx(0.27)


def test_the_same_direction_of_two_methods_is_found():
    rows = [
        row("a", "a 00", "x", 1.0, 1.0),
        row("a", "a 01", "y", 1.0, 1.0),
        row("b", "b 00", "y", -2.0, 1.0),
        row("b", "b 01", "z", 1.0, 1.0),
    ]
    axes = np.eye(3)
    vectors = [("z", axes[0]), ("z", axes[1]), ("z", -axes[1]), ("z", axes[2])]
    found = atlas(vectors, rows, "factor")
    second, third = found.places[1], found.places[2]
    assert (second.nearest_by_angle, second.angle_cosine) == ("b 00", pytest.approx(1.0))
    assert (third.nearest_by_effect, third.effect_cosine) == ("a 01", pytest.approx(1.0))
    assert second.cluster == third.cluster == 0  # the only cluster of two is the largest
    assert len({place.cluster for place in found.places}) == 3
    assert [place.duplicates for place in found.places] == [0, 1, 1, 0]
    table = {(t["method"], t["found_in"]): t for t in agreement(found)}
    assert table["a", "b"]["by_angle"] == pytest.approx(0.5)
    assert table["a", "b"]["by_effect"] == pytest.approx(0.5)


def test_directions_of_two_spaces_have_no_angle():
    rows = [row("a", "a 00", "x", 1.0, 1.0), row("b", "b 00", "x", 1.0, 1.0)]
    found = atlas([("z", np.array([1.0, 0.0])), ("w", np.array([1.0, 0.0, 0.0]))], rows, "factor")
    assert found.places[0].nearest_by_angle == ""
    assert np.isnan(found.places[0].angle_cosine)
    assert found.places[0].effect_cosine == pytest.approx(1.0)
    assert np.isnan(agreement(found)[0]["by_angle"])


def test_how_far_a_direction_may_be_followed():
    near = np.array([[0.9, 0.5, 0.2, 0.5, 1.2]])
    assert editing_range([-4, -2, 0, 2, 4], near) == 2
    assert editing_range([-4, -2, 0, 2, 4], np.zeros((3, 5))) == 4
    assert editing_range([-4, -2, 0, 2, 4], np.array([[2.0, 2.6, 2.0, 2.0, 2.0]])) == 0
    assert editing_range([-4, -2, 0, 2, 4], np.array([[2.6, 2.4, 2.0, 2.0, 2.0]])) == 2


def test_what_is_shown_of_a_method():
    assert common_range([3.0, 3.0, 3.0, 8.0, 0.0]) == 3.0
    assert common_range([0.0, 8.0, 8.0, 8.0]) == 6.0
    assert shown_steps(3.0, 3) == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    assert shown_steps(2.625, 3) == [-2.25, -1.5, -0.75, 0.0, 0.75, 1.5, 2.25]
    assert shown_steps(0.0, 2) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert shown_steps(0.0, 8)[-1] == 2.0  # no step is shorter than a quarter


def test_distances_are_relative_to_held_out_images():
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(500, 3)), rng.normal(size=(200, 3))
    near = Nearness(train, held_out)
    assert np.percentile(near(held_out), 95) == pytest.approx(1.0)
    assert near(train).max() == 0.0
    assert near(np.full((2, 4, 3), 100.0)).shape == (2, 4)
    assert near(np.full((1, 3), 100.0))[0] > 50.0
    scaled = Nearness(train * [1.0, 1000.0, 1.0], held_out * [1.0, 1000.0, 1.0])
    assert np.allclose(scaled(held_out * [1.0, 1000.0, 1.0]), near(held_out))


class Flat(LatentModel):
    """A generator without structure: every direction of its latent space does as much as any other, to all at once."""

    def __init__(self, size=8):
        generator = torch.Generator().manual_seed(2)
        self.pictures = torch.linalg.qr(torch.randn(64, size, generator=generator))[0].T
        self.mixtures = torch.randn(64, 6, generator=generator)  # what is measured are mixtures of all pixels
        self.image = ImageSpec(1, 8, 8, -1.0, 1.0, "1", 1.0)
        self.spaces = {"z": LatentSpace("z", (size,))}

    def sample(self, n, space="z", generator=None):
        return torch.randn(n, self.spaces["z"].size, generator=generator)

    def decode(self, codes, space="z"):
        return (codes @ self.pictures).reshape(-1, 1, 8, 8)

    def latent_affines(self, space="z"):
        return [self.pictures.T]


class Structured(Flat):
    """The same with one measurement for each of six axes, which are of different strength."""

    def __init__(self):
        super().__init__()
        self.strength = torch.linspace(2.0, 0.5, 8)
        self.mixtures = self.pictures[:6].T

    def decode(self, codes, space="z"):
        return super().decode(codes * self.strength)

    def latent_affines(self, space="z"):
        return [self.pictures.T @ torch.diag(self.strength)]


def named(model):
    """How many of the directions of three methods and of chance have a name."""
    methods = [SeFa(count=8), PCA(count=8, samples=512), Jacobian(count=8), RandomDirections(count=8)]
    codes, steps = model.sample(24, generator=torch.Generator().manual_seed(0)), [-2.0, -1.0, 0.0, 1.0, 2.0]
    real = model.decode(model.sample(500)).flatten(1) @ model.mixtures
    quantities = [Quantity(f"m{i}", "", "measurement", float(real[:, i].std())) for i in range(6)]
    rows = []
    for found in (method.find(model) for method in methods):
        for name, images in zip(found.names, traverse(model, found, codes, steps, torch.ones(len(found))), strict=True):
            values = (images.flatten(2) @ model.mixtures).double().numpy()
            values = values + np.random.default_rng(0).normal(0.0, 0.01, values.shape)
            rows += effects(values, steps, quantities, found.method, name)
    return [n for n in names(rows, "measurement", "random") if n.is_named]


def test_a_generator_without_structure_has_no_names():
    found = named(Flat())
    assert len(found) <= 2, found  # of 24, at the 95% level of chance


def test_one_with_structure_has():
    found = named(Structured())
    for method in ("sefa", "pca", "jacobian"):
        assert sum(n.method == method for n in found) >= 5
    assert all(n.method != "random" for n in found)
