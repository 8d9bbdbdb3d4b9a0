import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medlat.core.checkpoints import save_generator
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.evaluation.regressor import FactorRegressor, beta_nll, r2, train_regressor

SIDE = 16
SPEC = ImageSpec(1, SIDE, SIDE, -1000.0, 2000.0, "HU", 1.0)


def discs(n, seed):
    """Discs whose place and size are the factors; `luck` does not show."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(5, 10, (2, n))
    radius, luck = rng.uniform(2, 5, n), rng.normal(size=n)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(rows - y[:, None, None], columns - x[:, None, None])
    images = 2 / (1 + np.exp(2 * (distance - radius[:, None, None]))) - 1
    return torch.tensor(images, dtype=torch.float32)[:, None], {"x": x, "y": y, "radius": radius, "luck": luck}


def trained(steps=150, seed=0):
    images, targets = discs(1000, 0)
    values = torch.tensor(np.stack(list(targets.values()), axis=1))

    def fetch(step):
        rows = torch.randint(1000, (32,), generator=torch.Generator().manual_seed(step))
        return images[rows], values[rows]

    return train_regressor(fetch, SPEC, targets, steps=steps, width=8, seed=seed, bf16=False)


@pytest.fixture(scope="module")
def network():
    return trained()


def test_it_reads_what_shows_and_nothing_else(network):
    scores = r2(network, *discs(300, 1))
    assert list(scores) == ["x", "y", "radius", "luck"]
    assert min(scores[name] for name in ("x", "y", "radius")) > 0.9
    assert abs(scores["luck"]) < 0.1


def test_it_knows_what_does_not_show(network):
    images, _ = discs(100, 1)
    with torch.no_grad():
        _, log_variance = network.standardised(images)
    assert log_variance[:, 3].mean() > -0.3, "luck: about the variance it has, 1"
    assert log_variance[:, :3].max(dim=0).values.mean() < -1.0


def test_r2_of_a_constant_and_of_the_mean(network):
    images, targets = discs(50, 1)
    assert np.isnan(r2(network, images, targets | {"x": np.ones(50)})["x"])
    untrained = FactorRegressor(SPEC, list(targets), width=4).eval()
    torch.nn.init.zeros_(untrained.head.weight)
    torch.nn.init.zeros_(untrained.head.bias)
    untrained.centre.copy_(torch.tensor([v.mean() for v in targets.values()]))
    assert list(r2(untrained, images, targets).values()) == pytest.approx([0.0] * 4, abs=1e-5)


def test_the_seed_decides(network):
    first, again, other = trained(3, 0), trained(3, 0), trained(3, 1)
    weights = [torch.cat([p.flatten() for p in n.state_dict().values()]) for n in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_beta_nll_by_hand():
    """Variance 4, error 3: (9/4 + log 4)/2 times 4^½."""
    mean, log_variance = torch.tensor([[1.0]]), torch.log(torch.tensor([[4.0]]))
    found = beta_nll(mean, log_variance, torch.tensor([[4.0]]))
    assert float(found) == pytest.approx((9 / 4 + np.log(4)) / 2 * 2)


def test_the_same_after_reloading(tmp_path, network):
    path = tmp_path / "regressor.safetensors"
    network.save(path)
    again = FactorRegressor.load(path)
    images, _ = discs(10, 2)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
    assert (again.factors, again.image, again.training) == (network.factors, SPEC, False)


def test_other_files_are_refused(tmp_path, network, vae):
    path = tmp_path / "regressor.safetensors"
    recipe = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 6, "capacity": 8}
    save_generator(path, vae, recipe, vae.image)
    with pytest.raises(UserError, match=r"holds a medlat\.generators\.vae\.networks\.VAE, expected a factor regressor"):
        FactorRegressor.load(path)
    save_generator(path, network, network.recipe() | {"width": 4}, SPEC)
    with pytest.raises(UserError, match="damaged checkpoint"):
        FactorRegressor.load(path)
    save_generator(path, network, network.recipe() | {"wide": 4}, SPEC)
    with pytest.raises(UserError, match="damaged checkpoint"):
        FactorRegressor.load(path)
    header = json.dumps({"format": 99, "recipe": network.recipe(), "image": SPEC.to_dict()})
    save_file({"x": torch.zeros(1)}, path, metadata={"medlat": header})
    with pytest.raises(UserError, match="format 99, expected 1"):
        FactorRegressor.load(path)


def test_images_that_are_too_small():
    with pytest.raises(UserError, match=r"image_size=8: the factor regressor needs at least 16"):
        FactorRegressor(ImageSpec(1, 8, 8, -1.0, 1.0, "HU", 1.0), ["a"])


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 48, 64), (1, 128, 128)])
def test_sides(shape):
    network = FactorRegressor(ImageSpec(*shape, -1.0, 1.0, "RGB", 1.0), ["a", "b"], width=4, features=8).eval()
    images = torch.zeros(2, *shape)
    assert network(images).shape == (2, 2)
    assert network.features(images).shape == (2, 8)
