"""A StyleGAN2 that learns the way back with it: what its step is made of, and what it leaves."""

import pytest
import torch
from generators.gan import tiny

from medlat.classifiers.black_box import disagreement
from medlat.core.checkpoints import read_generator, save_generator
from medlat.core.errors import UserError
from medlat.core.similarity import pyramid_error
from medlat.generators.stylegan2.encoder import Encoder
from medlat.generators.stylegan2.networks import StyleGAN2

NETWORK = {"z_dim": 4, "w_dim": 4, "mapping_layers": 2, **tiny.CHANNELS}


@pytest.fixture
def images():
    return torch.rand(5, *tiny.SPEC.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0


@pytest.mark.parametrize("n", [1, 2, 5])
def test_half_of_what_is_judged_is_what_comes_back_of_real_images(images, n):
    module = tiny.explaining(8)
    made, codes, samples = module._make(images[:n], module.random("fakes", 3, 0))
    assert samples == max(1, n // 2)
    assert codes.shape == (samples, 4)
    assert made.shape == (max(n, 1), *tiny.SPEC.shape)
    assert torch.equal(module.fakes(images[:n], module.random("fakes", 3, 0)), made)
    back = module.network.encode(images[samples:n])
    noise = module.network.noise_maps(samples, "off")
    with torch.no_grad():  # noise has no strength yet
        decoded = module.network.synthesis(module.network.synthesis.styles(module.network.broadcast(back)), noise)
    assert torch.allclose(made[samples:], decoded.clamp(-1.0, 1.0), atol=1e-5)


def test_the_loss_by_hand(images):
    weights = {"image_weight": 0.3, "prediction_weight": 0.7, "code_weight": 0.2}
    module = tiny.explaining(8, augmentation=None, path_length=0.0, **weights)
    (name, loss), *rest = module._generator_terms(images, 4, 0)
    assert (name, rest) == ("generator", [])
    made, codes, m = module._make(images, module.random("generator", 4, 0))
    again, real = made[m:], images[m:]
    image = pyramid_error(again, real).mean().log()
    prediction = disagreement(module.classifier, module.classifier(again), module.classifier(real))
    missed = (module.network.encode(made[:m]) - codes).square().mean()
    code = missed / (codes - module.network.w_mean).square().mean()
    adversarial = module.generator_loss(module.discriminator(made))
    expected = adversarial + 0.3 * image + 0.7 * prediction + 0.2 * code
    # The mean w has moved by one step between the two, by what the batch says.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    assert module._latest["image"] == pytest.approx(image.item(), rel=1e-5)
    assert module._latest["prediction"] == pytest.approx(prediction.item(), rel=1e-4)


def test_each_term_reaches_what_it_is_for(images):
    """Codes of samples teach the encoder alone; what comes back teaches encoder and synthesis, and no classifier."""
    module = tiny.explaining(8)
    made, codes, m = module._make(images, module.random("generator", 0, 0))
    terms = module._further(made[m:], images[m:], made[:m].detach(), codes.detach())

    def reached(loss):
        module.zero_grad()
        loss.backward(retain_graph=True)
        grads = {name: p.grad for name, p in module.network.named_parameters() if p.grad is not None}
        return {name.split(".")[0] for name, grad in grads.items() if grad.any()}

    assert reached(terms["code"]) == {"encoder"}
    assert reached(terms["image"]) == reached(terms["prediction"]) == {"encoder", "synthesis"}
    assert all(p.grad is None for p in module.classifier.network.parameters())
    assert not any("classifier" in name for name in module.state_dict())


def test_it_learns_to_bring_images_back(tmp_path, tmp_path_factory):
    opened = tiny.store(tmp_path_factory.mktemp("store"))
    module = tiny.run(tiny.explaining(36), opened, tmp_path / "run", batch=8)
    found = [value for name, _, value in tiny.curves(tmp_path / "run") if name == "train/image"]
    assert len(found) > 20
    assert sum(found[-5:]) / 5 < sum(found[:5]) / 5 - 0.5, "the error of what comes back has halved"
    names = {name for name, _, _ in tiny.curves(tmp_path / "run")}
    assert {"validation/psnr", "validation/prediction", "validation/patch_distance", "train/code"} <= names
    assert module.result.encoder is not module.network.encoder, "the averaged one is the result"


def test_encoder_is_saved_and_read_again(tmp_path, images):
    torch.manual_seed(0)
    network = StyleGAN2(tiny.SPEC, encoder=True, **NETWORK)
    save_generator(tmp_path / "g.safetensors", network, {"_target_": "medlat.x"} | NETWORK, tiny.SPEC)
    weights = read_generator(tmp_path / "g.safetensors")[2]
    again = StyleGAN2(tiny.SPEC, encoder=True, **NETWORK)
    again.load_state_dict(weights)
    assert torch.equal(again.encode(images), network.encode(images))
    assert not StyleGAN2(tiny.SPEC, **NETWORK).state_dict().keys() & {k for k in weights if k.startswith("encoder")}


def test_codes_of_an_untrained_encoder_are_finite_and_differ(images):
    torch.manual_seed(0)
    codes = Encoder(tiny.SPEC, [4, 8, 8], (4, 4), 6, None)(images)
    assert codes.shape == (5, 6)
    assert codes.dtype == torch.float32
    assert codes.std(dim=0).min() > 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"style_mixing": 0.5}, r"style_mixing=0\.5: expected 0"),
        ({"image_weight": -1.0}, r"image_weight=-1: expected a number of at least 0"),
        ({"prediction_weight": -0.5}, r"prediction_weight=-0\.5"),
        ({"code_weight": -2.0}, r"code_weight=-2"),
        ({"encoder": False}, r"encoder=false: Stopping\w+ trains one"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UserError, match=words):
        tiny.explaining(8, **arguments)
