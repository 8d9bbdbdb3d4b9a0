import math
from functools import partial

import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec, kl_per_dimension
from medlat.generators.vae.module import ClassifierGuidedVAEModule, VAEModule
from medlat.generators.vae.networks import VAE
from medlat.generators.vae.objective import ClassifierGuidedObjective, VAEObjective
from medlat.training.optimisation import Optimisation


def image(side, channels=1):
    return ImageSpec(channels, side, side, -1000.0, 2000.0, "HU", 400 / side)


@pytest.mark.parametrize(
    ("side", "arguments"),
    [
        (32, {"capacity": 4}),
        (64, {"capacity": 4, "stem_stride": 1, "norm": "batch"}),
        (128, {"capacity": 4, "stem_stride": 2, "latent_dim": 5}),
        (16, {"capacity": 4, "max_width": 1, "stem_stride": 2}),
    ],
)
def test_shapes(side, arguments):
    vae = VAE(image(side), **arguments)
    images = torch.randn(2, 1, side, side)
    mean, log_variance = vae.posterior(images)
    size = arguments.get("latent_dim", 32)
    assert mean.shape == log_variance.shape == (2, size)
    decoded = vae.decode(mean)
    assert decoded.shape == images.shape
    assert decoded.abs().max() <= 1.0
    assert vae.latent_affines("z")[0].shape[1] == size


def test_channels_and_rectangles():
    spec = ImageSpec(3, 64, 32, 0.0, 255.0, "RGB", 1.0)
    vae = VAE(spec, capacity=4)
    assert vae.decode(vae.sample(2)).shape == (2, 3, 64, 32)


@pytest.mark.parametrize(("side", "nearest"), [(100, 128), (48, 32), (4, 32), (65, 64)])
def test_a_size_that_does_not_fit_is_named(side, nearest):
    with pytest.raises(UserError, match=rf"image_size={side}: .*nearest: {nearest}$"):
        VAE(image(side))


@pytest.mark.parametrize("arguments", [{"latent_dim": 0}, {"capacity": -1}, {"stem_stride": 3}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UserError, match=f"{next(iter(arguments))}="):
        VAE(image(32), **arguments)


def test_kl_against_torch():
    mean, log_variance = torch.randn(4, 3), torch.randn(4, 3)
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros(3), torch.ones(3)))
    assert torch.allclose(kl_per_dimension(mean, log_variance), expected, atol=1e-5)
    assert kl_per_dimension(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_objective_by_hand():
    class Constant:
        def __call__(self, images, noise):
            return images + 0.5, torch.ones(len(images), 2), torch.zeros(len(images), 2)

    images, noise = torch.zeros(3, 1, 4, 4), torch.zeros(3, 2)
    for name, error in (("log_mse", math.log(0.25)), ("mse", 0.25), ("l1", 0.5)):
        terms = VAEObjective(name, beta=0.1)(Constant(), images, noise, rise=0.5)
        assert terms["reconstruction"] == pytest.approx(error)
        assert terms["kl"] == pytest.approx(0.5), "mean² / 2 per dimension"
        assert terms["loss"] == pytest.approx(error + 0.5 * 0.1 * 0.5)


class Half:
    """A classifier with one weight: sigmoid(weight · mean of the left half)."""

    task, outputs, differentiable = "binary", ("left",), True

    def __init__(self):
        self.weight = torch.tensor(3.0, requires_grad=False)

    def __call__(self, images):
        return torch.sigmoid(self.weight * images[..., : images.shape[-1] // 2].mean(dim=(1, 2, 3)))[:, None]


class Moved(torch.nn.Module):
    """A generator that gives images back, with its one weight added to the columns from `first` on."""

    def __init__(self, by, first):
        super().__init__()
        self.by, self.first = torch.nn.Parameter(torch.tensor(by)), first

    def forward(self, images, noise):
        columns = (torch.arange(images.shape[-1]) >= self.first).to(images.dtype)
        return images + self.by * columns, torch.zeros(len(images), 2), torch.zeros(len(images), 2)


def test_what_the_classifier_does_not_see_costs_nothing_more():
    images, noise = torch.linspace(-1.0, 1.0, 48).reshape(3, 1, 4, 4), torch.zeros(3, 2)
    unseen = ClassifierGuidedObjective(Half(), "mse", 0.1, weight=5.0)(Moved(0.5, 2), images, noise)
    assert unseen["prediction"] == 0.0
    assert unseen["loss"] == VAEObjective("mse", 0.1)(Moved(0.5, 2), images, noise)["loss"] == 0.125


def test_what_the_classifier_sees_is_asked_of_the_generator_and_not_of_the_classifier():
    images, noise, classifier = torch.linspace(-1.0, 1.0, 48).reshape(3, 1, 4, 4), torch.zeros(3, 2), Half()
    network = Moved(0.5, 0)
    terms = ClassifierGuidedObjective(classifier, "mse", 0.1, weight=5.0)(network, images, noise)
    p, q = classifier(images), classifier(images + 0.5)
    kl = torch.distributions.kl_divergence(torch.distributions.Bernoulli(p), torch.distributions.Bernoulli(q)).mean()
    assert terms["prediction"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert terms["loss"].item() == pytest.approx(0.25 + 5.0 * kl.item(), rel=1e-4)
    terms["loss"].backward()
    assert network.by.grad.item() == pytest.approx((1.0 + 5.0 * (3.0 * (q - p)).mean()).item(), rel=1e-3)
    assert classifier.weight.grad is None


def test_the_classifier_is_no_part_of_what_is_trained_or_saved():
    from medlat.classifiers.networks import ResNet
    from medlat.classifiers.trained import Trained

    classifier = Trained(ResNet(image(16), "binary", ["no", "yes"], width=8))
    plain = VAEModule(VAE(image(16), 2, 2, stem_stride=2), 0, 3, VAEObjective(), Optimisation())
    network = VAE(image(16), 2, 2, stem_stride=2)
    module = ClassifierGuidedVAEModule(
        network, classifier, 0, 3, partial(ClassifierGuidedObjective, weight=1.0), Optimisation()
    )
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert len(list(module.parameters())) == len(list(plain.parameters()))
    module.train()
    assert not classifier.network.training


def test_bad_weight():
    with pytest.raises(UserError, match=r"weight=-1: expected a number of at least 0"):
        ClassifierGuidedObjective(Half(), weight=-1.0)


def test_residual_branches_start_at_zero_without_normalisation():
    vae = VAE(image(32), capacity=4, norm="none")
    assert all(p.item() == 0.0 for name, p in vae.named_parameters() if name.endswith("gain"))
    assert any(name.endswith("gain") for name, _ in vae.named_parameters())


def test_samples_are_the_seeds(vae):
    a, b = (vae.sample(4, "z", torch.Generator().manual_seed(s)) for s in (0, 0))
    assert torch.equal(a, b)
    assert not torch.equal(a, vae.sample(4, "z", torch.Generator().manual_seed(1)))


def test_decode_is_differentiable_in_the_codes(vae):
    codes = vae.sample(2).requires_grad_()
    vae.decode(codes).sum().backward()
    assert codes.grad is not None
    assert codes.grad.abs().sum() > 0


def test_learning_rate_over_time():
    cosine = Optimisation(warmup=0.1, schedule="cosine")
    assert [cosine.factor(s, 100) for s in (0, 9, 50, 100)] == pytest.approx([0.1 * 1.0, 0.98015, 0.5, 0.0], abs=1e-3)
    constant = Optimisation(warmup=0.0, schedule="constant")
    assert [constant.factor(s, 100) for s in (0, 50, 99)] == [1.0, 1.0, 1.0]


def test_average_by_hand():
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0.0)
    averaged = Optimisation(ema_decay=0.5).averaged(network)
    averaged.update_parameters(network)  # the first update copies
    expected = 0.0
    for count, value in enumerate((1.0, 2.0, 3.0), start=1):
        with torch.no_grad():
            network.weight.fill_(value)
        averaged.update_parameters(network)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    assert averaged.module.weight.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": 0.0},
        {"warmup": 1.0},
        {"ema_decay": 1.0},
        {"betas": [0.9]},
        {"gradient_clip": 0.0},
        {"betas": [0.9, 1.0]},
    ],
)
def test_bad_optimisation(arguments):
    with pytest.raises(UserError, match=f"{next(iter(arguments))}="):
        Optimisation(**arguments)


def test_bad_beta():
    with pytest.raises(UserError, match=r"beta=-1"):
        VAEObjective(beta=-1.0)
