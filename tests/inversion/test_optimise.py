import pytest
import torch
from inversion.models import Linear, solved, stylegan2

from medlat.core.errors import UserError
from medlat.core.similarity import psnr
from medlat.inversion.hybrid import Hybrid
from medlat.inversion.inverter import invert_all
from medlat.inversion.objective import Objective
from medlat.inversion.optimise import Optimise
from medlat.training import settings

CPU = torch.device("cpu")


@pytest.fixture
def exact(monkeypatch):
    """Without bf16, where codes are compared closely."""
    monkeypatch.setattr(settings, "cpu_has_bf16", lambda: False)


def images_of(model, n=4, seed=3, space="z"):
    codes = model.sample(n, space, torch.Generator().manual_seed(seed))
    return codes, model.decode(codes, space)


@pytest.mark.parametrize("saturates", [True, False])
def test_a_linear_generator_is_inverted(saturates):
    model = Linear(saturates)
    codes, images = images_of(model)
    found = invert_all(Optimise(steps=200, prior_weight=0.0), model, [images], None, CPU)
    assert found.psnr.min() > 40.0
    assert torch.allclose(found.codes, codes, atol=0.05)


def test_the_prior_draws_codes_to_the_mean():
    """Of W z with |W column|² = P per pixel, the least of |W (z - u)|²/pixels + λ|u|²/D is known."""
    model = Linear(saturates=False, size=1)
    codes, images = images_of(model)
    model.image = None  # nothing but `decode` is asked
    weight = 0.5
    found = Optimise(steps=300, noise=0.0, prior_weight=weight).invert(model, images, None)
    column = model.weight.reshape(1, 1, 16, 16)
    coarse = torch.nn.functional.avg_pool2d(column, 2)
    power = 0.5 * (column.square().mean() + coarse.square().mean())
    assert torch.allclose(found, codes * power / (power + weight), atol=0.01)


def test_one_step_begins_at_the_mean_code():
    """Adam's first step has the length of the learning rate in σ, so all coordinates are that far from the mean."""
    model = stylegan2()
    _, images = images_of(model, space="w+")
    objective = Objective(model, model.spaces["w+"], images, 0.0)
    found = Optimise(steps=1, learning_rate=1e-3, noise=0.0, prior_weight=0.0).invert(model, images, None)
    moved = objective.coordinates(found).abs()
    assert found.shape == (4, *model.spaces["w+"].shape)
    assert ((moved < 1e-6) | ((moved - 1e-3).abs() < 1e-4)).all()
    assert moved.max() > 0.0


def test_each_image_ends_as_if_it_were_alone(exact):
    model = stylegan2()
    _, images = images_of(model, space="w")
    method = Optimise("w", steps=8)
    together = method.invert(model, images, None)
    apart = torch.cat([method.invert(model, image[None], None) for image in images])
    assert torch.allclose(together, apart, atol=1e-3), "up to rounding, which depends on batch and threads"
    assert torch.equal(together, method.invert(model, images, None)), "and the same each time"


def test_the_best_code_is_kept_not_the_last():
    """With a learning rate that throws every step across the valley, the start remains the best."""
    model = Linear(saturates=False)
    _, images = images_of(model)
    method = Optimise(steps=5, learning_rate=50.0, noise=0.0, prior_weight=0.0)
    assert torch.equal(method.invert(model, images, None), torch.zeros(4, 4))


def test_all_images_get_better_in_every_space():
    model = stylegan2()
    _, images = images_of(model, seed=8, space="w")
    for space in ("w", "w+", "s"):
        start = Optimise(space, steps=1, learning_rate=1e-6).invert(model, images, None)
        end = Optimise(space, steps=40).invert(model, images, None)
        assert (psnr(model.decode(end, space), images) > psnr(model.decode(start, space), images) + 1.0).all(), space


def test_the_generator_is_left_alone():
    model = stylegan2()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        Optimise(steps=2).invert(model, images_of(model, space="w")[1], None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_hybrid_from_the_truth_stays():
    model = Linear()
    codes, images = images_of(model)
    found = Hybrid(steps=10, prior_weight=0.0).invert(model, images, lambda _: codes)
    assert torch.allclose(found, codes, atol=1e-5)


def stiff() -> Linear:
    """A generator whose third coordinate changes images ten times as much as the first."""
    model = Linear(saturates=False)
    model.weight.mul_(torch.tensor([0.3, 1.0, 3.0, 1.0]))
    return model


def test_the_curvature_is_the_hessian_of_a_linear_generator():
    model = stiff()
    objective = Objective(model, model.spaces["z"], images_of(model, n=1)[1], prior_weight=0.5)
    hessian = torch.autograd.functional.hessian(lambda u: objective.errors(u[None]).sum(), torch.randn(4))
    assert torch.allclose(objective.curvature(3), hessian, rtol=1e-3, atol=1e-4)


def test_hybrid_that_knows_the_curvature_goes_straight_to_the_solution():
    model = stiff()
    codes, images = images_of(model, n=8)

    def missed(**arguments):
        found = Hybrid(steps=6, prior_weight=0.0, **arguments).invert(model, images, lambda _: codes + 1.0)
        return (found - codes).abs().max().item()

    assert missed(probes=4) < 0.02
    assert missed(probes=0) > 0.3


def test_hybrid_stays_where_the_generator_does_not_listen():
    model = Linear(strength=0.0)
    codes, images = images_of(model)
    assert torch.equal(Hybrid(steps=3, prior_weight=0.0).invert(model, images, lambda _: codes), codes)


def test_hybrid_improves_on_its_encoder_in_a_tenth_of_the_steps():
    model = Linear()
    _, images = images_of(model, n=8)

    def rough(x):
        return solved(model)(x) + 0.3

    encoded = psnr(model.decode(rough(images)), images)
    hybrid = invert_all(Hybrid(steps=40, prior_weight=0.0), model, [images], rough, CPU)
    long = invert_all(Optimise(steps=400, prior_weight=0.0), model, [images], None, CPU)
    assert (hybrid.psnr > encoded + 5.0).all()
    assert hybrid.psnr.min() > 40.0
    assert long.psnr.min() > 40.0
    assert hybrid.seconds < long.seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"steps=0: expected a whole number of at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate=0: expected a number above 0"),
        ({"fall": 0.0}, r"fall=0: expected a number above 0, up to 1"),
        ({"fall": 1.5}, r"fall=1\.5: expected"),
        ({"noise": -0.1}, r"noise=-0\.1: expected a number of at least 0"),
        ({"noise_ramp": 2.0}, r"noise_ramp=2: expected"),
        ({"prior_weight": -1.0}, r"prior_weight=-1: expected a number of at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match=rf"{message}"):
        Optimise(**arguments)


def test_hybrid_ends_as_if_each_image_were_alone():
    model = stylegan2()
    _, images = images_of(model, space="w")

    def rough(x):
        return model.w_mean.expand(len(x), *model.spaces["w+"].shape)

    method = Hybrid(steps=6)
    together = method.invert(model, images, rough)
    assert together.shape == (4, *model.spaces["w+"].shape)
    apart = torch.cat([method.invert(model, image[None], rough) for image in images])
    assert torch.allclose(together, apart, atol=1e-3)
    assert torch.equal(together, method.invert(model, images, rough))


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"probes": -1}, {"prior_weight": -1.0}])
def test_bad_arguments_of_hybrid(arguments):
    with pytest.raises(UserError, match=rf"{next(iter(arguments))}="):
        Hybrid(**arguments)
