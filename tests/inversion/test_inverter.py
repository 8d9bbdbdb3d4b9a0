from types import SimpleNamespace

import pytest
import torch
from inversion.models import SPEC, Linear, solved, stylegan2

from medlat.classifiers.black_box import Target
from medlat.core.errors import UserError
from medlat.core.similarity import psnr
from medlat.core.spaces import chosen_space, device_of
from medlat.explain.counterfactuals import Traversal
from medlat.inversion.encode import Encode, Exact, own_encoder
from medlat.inversion.hybrid import Hybrid
from medlat.inversion.inverter import compare, invert_all
from medlat.inversion.optimise import Optimise
from medlat.inversion.pivotal import Pivotal

CPU = torch.device("cpu")


def test_the_solution_of_a_linear_generator_gives_its_images_back():
    model = Linear(saturates=False)
    codes = model.sample(5)
    images = model.decode(codes)
    found = invert_all(Encode(), model, [images[:2], images[2:]], solved(model), CPU)
    assert torch.allclose(found.codes, codes, atol=1e-4)
    assert found.images.shape == (5, *SPEC.shape)
    assert torch.equal(found.psnr, psnr(found.images, images))
    assert found.psnr.min() > 80.0
    assert found.ms_ssim.tolist() == pytest.approx([1.0] * 5, abs=1e-4)
    assert found.seconds > 0.0


def test_a_useless_encoder_gives_the_mean_image():
    model = Linear()
    images = model.decode(model.sample(3))
    found = invert_all(Encode(), model, [images], lambda x: torch.zeros(len(x), 4), CPU)
    assert torch.equal(found.images, torch.zeros(3, *SPEC.shape))
    assert torch.allclose(found.psnr, psnr(torch.zeros_like(images), images))


def test_compare_says_what_a_model_makes_of_codes():
    model = Linear()
    codes = model.sample(2)
    same = compare(model, codes, "z", model.decode(codes), 0.5)
    assert same.psnr.tolist() == [100.0, 100.0]
    assert same.seconds == 0.5


class Residual(Linear):
    """What the code leaves out of an image is its noise, kept as it is."""

    def invert(self, images, codes, space="z"):
        return images - self.decode(codes)

    def decode_with(self, codes, noise, space="z"):
        return self.decode(codes) + noise


def test_the_noise_of_an_image_gives_it_back_and_a_moved_code_keeps_it():
    model = Residual(saturates=False)
    images = torch.rand(5, *SPEC.shape, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0
    alone = invert_all(Encode(), model, [images], solved(model), CPU)
    exact = invert_all(Exact(), model, [images[:2], images[2:]], solved(model), CPU)
    assert alone.noise is None
    assert alone.psnr.max() < 15.0, "256 pixels in 4 numbers"
    assert torch.equal(exact.codes, alone.codes)
    assert exact.noise.shape == images.shape
    assert exact.psnr.min() > 90.0
    move = torch.tensor([0.5, 0.0, 0.0, 0.0]).expand(5, 4)
    target = Target(SimpleNamespace(task="regression", outputs=("mean",)))
    traversal = Traversal(model, "z", exact.codes, move, target, CPU, exact.noise)
    change = traversal.images(torch.tensor([0.0, 1.0, 2.0, -1.0, 1.0])) - images
    expected = torch.tensor([0.0, 0.5, 1.0, -0.5, 0.5])[:, None] * model.weight[:, 0]
    assert torch.allclose(change.flatten(1), expected, atol=1e-5)


def test_noise_is_asked_of_a_generator_that_knows_it(vae):
    images = vae.decode(vae.sample(2))
    with pytest.raises(UserError, match=r"^Exact: VAE knows no noise that belongs to an image"):
        invert_all(Exact(), vae, [images], own_encoder(vae, "z"), CPU)


def test_real_images_go_to_w_plus_where_there_is_one(vae):
    assert chosen_space(stylegan2(), None, for_images=True).name == "w+"
    assert chosen_space(stylegan2(), "w", for_images=True).name == "w"
    assert chosen_space(vae, None, for_images=True).name == "z"
    assert device_of(vae) == CPU


def test_directions_live_in_the_generators_own_default_or_any_other_space():
    assert chosen_space(stylegan2(), None).name == "w"
    assert chosen_space(stylegan2(), "z").name == "z"
    assert chosen_space(stylegan2(), "w+").name == "w+"
    with pytest.raises(UserError, match=r"^space=x: this generator has w, z, w\+, s$"):
        chosen_space(stylegan2(), "x")


@pytest.mark.parametrize("inverter", [Encode, Optimise, Hybrid])
def test_a_space_that_the_generator_lacks_is_named(inverter):
    model = Linear()
    with pytest.raises(UserError, match=r"space=w: with this generator, images are inverted into z$"):
        invert_all(inverter(space="w"), model, [model.decode(model.sample(1))], solved(model), CPU)


def test_stylegan2_s_z_has_no_mean_code_to_start_from():
    with pytest.raises(UserError, match=r"space=z: .* images are inverted into w\+, w, s$"):
        chosen_space(stylegan2(), "z", for_images=True)


def test_what_each_method_is():
    methods = [Encode(), Optimise(), Hybrid(), Pivotal(Optimise("w")), Pivotal(Hybrid("w+"))]
    assert [m.needs_encoder for m in methods] == [True, False, True, False, True]
    assert [m.tunes for m in methods] == [False, False, False, True, True]
    assert [m.one_pass for m in methods] == [True, False, False, False, False]
    assert [m.space for m in methods] == [None, None, None, "w", "w+"]


def test_a_vae_has_its_own_encoder(vae):
    images = vae.decode(vae.sample(3))
    encoder = own_encoder(vae, "z")
    assert torch.equal(Encode().invert(vae, images, encoder), vae.posterior(images)[0])
    assert torch.equal(vae.encode(images, "z"), vae.posterior(images)[0])


def test_a_stylegan2_has_one_only_if_it_was_trained_with_it():
    assert own_encoder(stylegan2(), "w") is None
    model = stylegan2(encoder=True)
    images = model.decode(model.sample(3))
    found = {space: Encode(space).invert(model, images, own_encoder(model, space)) for space in ("w", "w+", "s")}
    assert torch.equal(found["w"], model.encoder(images))
    for space in ("w+", "s"):
        assert torch.allclose(model.decode(found[space], space), model.decode(found["w"], "w"), atol=1e-6)
