"""Jacobian SVD, principal components and posterior axes, on generators whose answer is known, and on real ones."""

import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.randomness import generator_for
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.directions.ica import ICA
from medlat.directions.jacobian import Jacobian
from medlat.directions.pca import PCA, components
from medlat.directions.posterior import PosteriorAxes
from medlat.directions.sefa import SeFa
from medlat.generators.dcgan.networks import DCGAN
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.generators.vae.networks import VAE

IMAGE = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 5.0)


class Planted(LatentModel):
    """A generator with orthogonal factors, each of another strength, turned by a rotation that is to be found."""

    def __init__(self, size=6, curved=True):
        generator = torch.Generator().manual_seed(1)
        self.rotation = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
        self.pictures = torch.linalg.qr(torch.randn(64, size, generator=generator))[0].T
        self.strength = torch.linspace(0.3, 0.1, size)
        self.curved = curved
        self.image = ImageSpec(1, 8, 8, -1.0, 1.0, "1", 1.0)
        self.spaces = {"z": LatentSpace("z", (size,))}

    def sample(self, n, space="z", generator=None):
        return torch.randn(n, self.spaces["z"].size, generator=generator)

    def decode(self, codes, space="z"):
        factors = (codes @ self.rotation.T) * self.strength
        factors = torch.sin(factors) if self.curved else factors
        return (factors @ self.pictures).reshape(-1, 1, 8, 8)

    def latent_affines(self, space="z"):
        return [self.pictures.T @ torch.diag(self.strength) @ self.rotation]


def small_generators():
    torch.manual_seed(0)
    gan = StyleGAN2(IMAGE, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)
    return [VAE(IMAGE, latent_dim=8, capacity=4).eval(), DCGAN(IMAGE, latent_dim=8, capacity=4).eval(), gan.eval()]


def alike(found, expected):
    """Cosine of each direction with the expected one, whatever its sign."""
    return (torch.nn.functional.normalize(found, dim=1) * torch.nn.functional.normalize(expected, dim=1)).sum(1).abs()


@pytest.mark.parametrize("finder", [SeFa, PCA, Jacobian])
def test_planted_factors_come_back(finder):
    model = Planted()
    found = finder(count=6).find(model)
    assert (alike(found.vectors, model.rotation) > (0.97 if finder is PCA else 0.999)).all()


@pytest.mark.parametrize("model", small_generators(), ids=lambda model: type(model).__name__)
def test_jacobian_svd_is_the_exact_one(model):
    space = next(iter(model.spaces))
    finder = Jacobian(count=8, codes=1, seed=3)
    found = finder.find(model)
    code = model.sample(1, space, generator_for(3, "jacobian"))
    exact = torch.autograd.functional.jacobian(lambda z: model.decode(z, space).flatten(), code)[:, 0]
    _, values, vectors = torch.linalg.svd(exact.double(), full_matrices=False)
    assert torch.allclose(found.scores.double(), values, rtol=1e-4, atol=1e-4 * float(values[0]))
    assert (alike(found.vectors[:4].double(), vectors[:4]) > 1.0 - 1e-4).all()


def test_randomised_jacobian_svd_agrees_with_the_exact_one(monkeypatch):
    torch.manual_seed(0)
    model = VAE(IMAGE, latent_dim=24, capacity=4).eval()
    exact = Jacobian(count=4, codes=4).find(model)
    monkeypatch.setattr("medlat.directions.jacobian.EXACT", 0)
    found = Jacobian(count=4, codes=4, oversampling=8, iterations=12).find(model)
    assert torch.allclose(found.scores, exact.scores, rtol=1e-3)
    assert (alike(found.vectors[:2], exact.vectors[:2]) > 0.999).all()


def test_principal_components_are_those_of_scikit_learn():
    from sklearn import decomposition

    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).double() @ torch.randn(7, 7).double()
    variances, axes = components(rows, 5)
    expected = decomposition.PCA(5).fit(rows.numpy())
    assert variances.tolist() == pytest.approx(expected.explained_variance_.tolist(), rel=1e-6)
    assert (alike(axes, torch.from_numpy(expected.components_)) > 1.0 - 1e-6).all()


def test_principal_components_of_codes_and_of_images():
    gan = small_generators()[2]
    found = PCA(count=3, samples=64).find(gan)
    codes = gan.sample(64, "w", generator_for(0, "pca"))
    assert found.scores.tolist() == pytest.approx(components(codes.double(), 3)[0].tolist(), rel=1e-4)
    assert PCA(count=3, samples=64, space="z").find(gan).vectors.shape == (3, 8)
    with pytest.raises(UserError, match=r"of=codes: codes of z are spread alike"):
        PCA(of="codes", space="z").check(gan)


def test_posterior_axes_are_ranked_by_what_the_encoder_tells():
    class Encodes(Planted):
        def posterior(self, images, space):
            mean = torch.tensor([0.0, 2.0, 1.0]).expand(len(images), 3)
            return mean, torch.zeros(len(images), 3)

    found = PosteriorAxes(count=2).find(Encodes(3), [torch.zeros(4, 1, 32, 32), torch.zeros(1, 1, 32, 32)])
    assert found.scores.tolist() == pytest.approx([2.0, 0.5])
    assert torch.equal(found.vectors, torch.eye(3)[[1, 2]])


def test_posterior_axes_need_a_posterior():
    with pytest.raises(UserError, match=r"posterior_axes: DCGAN has no posterior; expected a method that needs none"):
        PosteriorAxes().check(small_generators()[1])


def test_layers_of_a_stylegan_move_their_own_codes_alone():
    gan = small_generators()[2]
    found = SeFa(count=2, space="w+", layers=[0, 1]).find(gan)
    moved = found.vectors.square().sum(dim=(0, 2))  # of each layer's code
    assert moved[:2].tolist() == pytest.approx([1.0, 1.0])  # conv 0, and the first ToImage, which takes code 1
    assert moved[2:].tolist() == [0.0] * (len(moved) - 2)
    same = SeFa(count=2, space="w", layers=[0, 1]).find(gan)
    assert (alike(found.vectors[:, 0], same.vectors) > 1.0 - 1e-5).all()
    count = len(gan.latent_affines("w+"))
    with pytest.raises(UserError, match=rf"layers=\[0, {count}\].*{count} matrices.*\[0, {count - 1}\]"):
        SeFa(space="w+", layers=[0, count]).check(gan)
    with pytest.raises(UserError, match=r"layers=\[2, 1\]"):
        SeFa(layers=[2, 1])


@pytest.mark.parametrize(
    ("image_layers", "unit_rows", "kept"),
    [
        ("last", True, lambda image: image[-1:]),  # github.com/genforce/sefa, utils.factorize_weight
        ("first", False, lambda image: image[:1]),  # rosinality's closed_form_factorization: "to_rgbs" is left out
        ("none", False, lambda image: []),
        ("all", True, lambda image: image),
    ],
)
def test_sefa_as_its_codes_have_it(image_layers, unit_rows, kept):
    """Singular vectors of the affine layers' weights, one above the other."""
    gan = small_generators()[2]
    convs = [layer.affine.weight for layer in gan.synthesis.convs]
    rows = torch.cat([*convs, *kept([layer.affine.weight for layer in gan.synthesis.to_image])]).detach()
    expected = torch.linalg.svd(rows / rows.norm(dim=1, keepdim=True) if unit_rows else rows)[2][:3]
    found = SeFa(count=3, space="w", image_layers=image_layers, unit_rows=unit_rows).find(gan)
    assert torch.allclose((found.vectors * expected).sum(dim=1).abs(), torch.ones(3), atol=1e-3)


def test_layers_are_counted_among_those_that_count():
    gan = small_generators()[2]
    weights = SeFa(space="w", image_layers="last").weights(gan)
    assert len(weights) == gan.synthesis.codes
    assert torch.equal(SeFa(space="w", image_layers="none", layers=[1, 1]).weights(gan)[0], weights[1])
    with pytest.raises(UserError, match=r"image_layers=lst: no such choice; did you mean 'last'\?"):
        SeFa(image_layers="lst")


@pytest.mark.parametrize("finder", [SeFa, PCA, Jacobian])
@pytest.mark.parametrize("model", small_generators(), ids=lambda model: type(model).__name__)
def test_every_method_on_every_generator(finder, model):
    found = finder(count=3).find(model)
    assert found.vectors.shape == (3, 8)
    assert found.vectors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


class Mixed(LatentModel):
    """A linear generator with an encoder: codes mix independent factors, and `images` are the factors' mixtures."""

    def __init__(self):
        generator = torch.Generator().manual_seed(4)
        self.mixing = torch.randn(5, 3, generator=generator)  # 3 factors in a space of 5
        self.spaces, self.image = {"z": LatentSpace("z", (5,))}, IMAGE
        factors = torch.rand(2000, 3, generator=generator) - 0.5  # uniform, as the phantom's are
        self.codes = factors @ self.mixing.T + 0.01 * torch.randn(2000, 5, generator=generator)

    def sample(self, n, space, generator=None):
        return torch.randn(n, 5, generator=generator)

    def encode(self, images, space):
        return images


def test_independent_components_are_the_factors_that_principal_components_are_not():
    model = Mixed()
    found = ICA(seed=1).find(model, model.codes.split(500))
    assert len(found) == 3  # what is left of the variance is noise
    cosines = (found.vectors @ torch.nn.functional.normalize(model.mixing, dim=0)).abs()
    assert (cosines.max(dim=0).values > 0.99).all(), cosines
    assert found.scores.sum() == pytest.approx(1.0, abs=0.02)
    _, axes = components(model.codes.double(), 3)
    principal = (axes.float() @ torch.nn.functional.normalize(model.mixing, dim=0)).abs()
    assert principal.max(dim=0).values.min() < 0.9


def test_ica_needs_an_encoder_and_a_share():
    with pytest.raises(UserError, match=r"ica: StyleGAN2 has no encoder"):
        ICA().check(small_generators()[2])
    with pytest.raises(UserError, match=r"variance=0: expected a share above 0"):
        ICA(variance=0.0)
