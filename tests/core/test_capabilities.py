"""What a generator says it can do, and what is asked of it by name."""

import pytest
import torch
from directions.test_unsupervised import small_generators
from inversion.models import SPEC, Linear, stylegan2
from torch import nn

from medlat.core.errors import UserError
from medlat.core.spaces import LatentModel, LatentSpace, decode_in_parts, device_of, missing_parts
from medlat.directions.coordinate import Coordinate, image_changes
from medlat.directions.finder import encoded, need_capabilities, posteriors
from medlat.directions.ica import ICA
from medlat.directions.jacobian import Jacobian
from medlat.directions.pca import PCA
from medlat.directions.posterior import PosteriorAxes
from medlat.directions.random import RandomDirections
from medlat.directions.sefa import SeFa
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.inversion.encode import own_encoder


class Bare(LatentModel):
    """What every generator has, and nothing else: the image is A z."""

    def __init__(self, weight):
        self.weight = torch.as_tensor(weight)
        self.image, self.spaces = SPEC, {"z": LatentSpace("z", (self.weight.shape[1],))}

    def sample(self, n, space="z", generator=None):
        return torch.randn(n, *self.spaces[space].shape, generator=generator)

    def decode(self, codes, space="z"):
        return (codes @ self.weight.T)[:, None, None]


class Encodes(Bare):
    def encode(self, images, space):
        return images.flatten(1) @ torch.linalg.pinv(self.weight).T


class Posterior(Bare):
    def posterior(self, images, space):
        mean = images.flatten(1) @ torch.linalg.pinv(self.weight).T
        return mean, torch.full_like(mean, -2.0)


class Exact(Encodes):
    def invert(self, images, codes, space):
        return images - self.decode(codes, space)

    def decode_with(self, codes, noise, space):
        return self.decode(codes, space) + noise


class Affine(Bare):
    def latent_affines(self, space):
        return [self.weight]


WEIGHT = torch.tensor([[3.0, 0.0, 0.5], [0.0, 1.0, 0.0], [4.0, 0.0, 0.0], [0.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Bare(WEIGHT), set()),
        (Encodes(WEIGHT), {"encode"}),
        (Posterior(WEIGHT), {"encode", "posterior"}),
        (Exact(WEIGHT), {"encode", "invert"}),
        (Affine(WEIGHT), {"latent_affines"}),
        (Linear(), {"latent_affines"}),
        (stylegan2(), {"latent_affines", "map_codes"}),
        (stylegan2(encoder=True), {"latent_affines", "map_codes", "encode"}),
    ],
)
def test_a_class_can_do_what_it_overrides(model, expected):
    assert model.capabilities == expected
    assert all(model.can(name) for name in expected)
    assert missing_parts(model) == []


def test_medlat_s_own_generators():
    vae, dcgan, gan = small_generators()
    assert vae.capabilities == {"encode", "posterior", "latent_affines"}
    assert dcgan.capabilities == {"latent_affines"}
    assert DiffusionAutoencoder(vae.image, 4).capabilities == {"encode", "invert", "sample_noise", "latent_affines"}
    assert gan.capabilities == {"latent_affines", "map_codes"}


def test_codes_of_an_encoder_and_means_of_a_posterior():
    codes = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    images = Bare(WEIGHT).decode(codes)
    for model in (Encodes(WEIGHT), Posterior(WEIGHT)):
        found = encoded(model, images.split(3), "z")
        assert found.dtype == torch.float64
        assert torch.allclose(found, codes.double(), atol=1e-5)
        assert torch.allclose(own_encoder(model, "z")(images), codes, atol=1e-5)
    means, logs = zip(*posteriors(Posterior(WEIGHT), images.split(3), "z"), strict=True)
    assert torch.allclose(torch.cat(means), codes.double(), atol=1e-5)
    assert (torch.cat(logs) == -2.0).all()
    assert device_of(Bare(WEIGHT)) == torch.device("cpu")


def test_a_moved_code_keeps_the_noise_of_its_image():
    model = Exact(WEIGHT)
    images = torch.rand(5, 1, 1, 4, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    codes = own_encoder(model, "z")(images)
    noise = model.invert(images, codes, "z")
    assert float((model.decode(codes) - images).abs().max()) > 0.1, "the code alone leaves something out"
    assert torch.allclose(decode_in_parts(model, codes, "z", noise), images, atol=1e-6)
    moved = codes + torch.tensor([1.0, 0.0, 0.0])
    change = decode_in_parts(model, moved, "z", noise) - images
    assert torch.allclose(change, model.weight[:, 0].expand(5, 1, 1, 4), atol=1e-5), "what the code decides, no more"
    assert own_encoder(Bare(WEIGHT), "z") is None


def test_axes_of_a_linear_generator_are_the_same_with_and_without_its_weights():
    bare, affine = Coordinate(count=3).find(Bare(WEIGHT)), Coordinate(count=3).find(Affine(WEIGHT))
    assert torch.equal(bare.vectors, affine.vectors)
    assert bare.vectors.argmax(dim=1).tolist() == [0, 1, 2]
    assert affine.scores.tolist() == pytest.approx([5.0, 2.0**0.5, 1.25**0.5])
    assert torch.allclose(bare.scores, affine.scores, atol=1e-4)


def test_axes_of_an_empirical_space_count_for_a_unit_of_the_code():
    class Narrow(Bare):
        def __init__(self, weight):
            super().__init__(weight)
            self.spaces = {"w": LatentSpace("w", (3,), "empirical")}

        def sample(self, n, space="w", generator=None):
            return super().sample(n, space, generator) * torch.tensor([1.0, 0.1, 0.0])

    model = Narrow(WEIGHT)
    assert image_changes(model, model.spaces["w"]).tolist() == pytest.approx([5.0, 2.0**0.5, 1.25**0.5], abs=1e-2)


@pytest.mark.parametrize(
    ("method", "model", "message"),
    [
        (
            ICA(),
            Bare(WEIGHT),
            "ica: Bare has no encoder of its own; expected a method that needs none, e.g. pca or jacobian",
        ),
        (
            PosteriorAxes(),
            Encodes(WEIGHT),
            "posterior_axes: Encodes has no posterior; expected a method that needs none, e.g. pca or jacobian",
        ),
        (
            SeFa(),
            Posterior(WEIGHT),
            "sefa: Posterior has no weights that codes enter through (latent_affines); expected a method that needs "
            "none, e.g. pca or jacobian",
        ),
    ],
)
def test_what_a_method_needs_is_refused_by_name(method, model, message):
    with pytest.raises(UserError) as error:
        need_capabilities(method, model)
    assert str(error.value).lstrip("=") == message


def test_every_other_method_goes_with_every_generator():
    for method in (PCA(), Jacobian(), Coordinate(), RandomDirections()):
        need_capabilities(method, Bare(WEIGHT))


def test_noise_that_is_drawn_anew_is_fixed():
    for before, after in {"random": "fixed", "fixed": "fixed", "off": "off"}.items():
        model = stylegan2()
        model.noise = before
        model.deterministic()
        assert model.noise == after
    model = stylegan2()
    model.noise = "random"
    for conv in model.synthesis.convs:
        conv.noise_strength.fill_(1.0)
    codes = model.sample(2, "w", torch.Generator().manual_seed(0))
    assert not torch.equal(model.decode(codes), model.decode(codes))
    model.deterministic()
    assert torch.equal(model.decode(codes), model.decode(codes))
    Bare(WEIGHT).deterministic()  # nothing to do


def test_what_is_no_whole_generator():
    class Hidden(LatentModel, nn.Module):
        def __init__(self):
            super().__init__()
            self.posterior = nn.Linear(2, 2)

        def sample(self, n, space, generator=None):
            return torch.zeros(n, 2)

    assert missing_parts(nn.Identity()) == ["the base class medlat.core.spaces.LatentModel"]
    assert missing_parts(Hidden()) == [
        "the method decode",
        "the attribute image",
        "the attribute spaces",
        "another name for its attribute 'posterior', which is a method's",
    ]
