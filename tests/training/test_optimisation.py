"""Adam of a GAN's networks, and the average of a generator's weights, by hand."""

import pytest
import torch
from torch import nn

from medlat.core.errors import UserError
from medlat.training.optimisation import Adam, Averaging


def weights(value):
    network = nn.Linear(2, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def test_adam_is_torch_s_with_these_settings():
    group = Adam(0.25, [0.0, 0.99], epsilon=1e-4).of(weights(0.0)).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.25, (0.0, 0.99), 1e-4, 0)
    assert Adam(0.25).of(weights(0.0)).param_groups[0]["betas"] == (0.9, 0.999)


def test_the_first_step_of_adam_is_the_learning_rate():
    network = weights(1.0)
    optimiser = Adam(0.25, [0.5, 0.9]).of(network)
    (network.weight * torch.tensor([3.0, -0.01])).sum().backward()
    optimiser.step()
    assert torch.allclose(network.weight, torch.tensor([[0.75, 1.25]]), atol=1e-5), "whatever the gradient's size"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": 1.0, "betas": [0.9]}, "betas="),
        ({"learning_rate": 1.0, "betas": [0.9, 1.0]}, "betas="),
    ],
)
def test_bad_adam(arguments, name):
    with pytest.raises(UserError, match=name):
        Adam(**arguments)


def test_decay_halves_the_weight_after_the_half_life():
    averaging = Averaging(half_life=100.0, ramp_up=None)
    assert averaging.decay(0, 100) == pytest.approx(0.5)
    assert averaging.decay(0, 50) ** 2 == pytest.approx(0.5)
    assert averaging.decay(10**9, 1) ** 100 == pytest.approx(0.5)


def test_half_life_rises_with_the_images_shown():
    averaging = Averaging(half_life=100.0, ramp_up=0.05)
    assert averaging.decay(0, 8) == 0.0, "the first weights are copied"
    assert averaging.decay(1000, 25) == pytest.approx(0.5**0.5), "half-life 0.05 · 1000 = 50"
    assert averaging.decay(2000, 25) == averaging.decay(10**6, 25) == pytest.approx(0.5**0.25), "and no longer than 100"


def test_average_by_hand():
    averaged, network = weights(1.0), weights(3.0)
    Averaging().update(averaged, network, 0.75)
    assert averaged.weight.tolist() == [[1.5, 1.5]]
    assert network.weight.tolist() == [[3.0, 3.0]]
    Averaging().update(averaged, network, 0.0)
    assert averaged.weight.tolist() == [[3.0, 3.0]]


def test_buffers_are_copied():
    averaged, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    network(torch.tensor([[0.0, 4.0], [2.0, 8.0]]))
    Averaging().update(averaged, network, 0.75)
    for name, buffer in network.named_buffers():
        assert torch.equal(averaged.get_buffer(name), buffer), name
    assert averaged.num_batches_tracked == 1
    assert averaged.running_mean.tolist() == pytest.approx([0.1, 0.6])


@pytest.mark.parametrize("arguments", [{"half_life": 0.0}, {"ramp_up": 0.0}, {"ramp_up": -1.0}])
def test_bad_averaging(arguments):
    with pytest.raises(UserError, match=f"{next(iter(arguments))}="):
        Averaging(**arguments)
