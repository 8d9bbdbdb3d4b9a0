import pytest
import torch
from torch import nn
from toy_models import Quarters

from medlat.classifiers.black_box import Target, target_of
from medlat.explain.saliency import grad_cam, grad_cam_of_own, integrated_gradients, occlusion


def test_occlusion_shows_where_the_prediction_comes_from():
    images = torch.zeros(2, 1, 16, 16)
    images[0, 0, :8, :8] = images[1, 0, 8:, 8:] = 1.0

    class Corner:
        task, outputs, differentiable = "regression", ("corner",), False

        def __call__(self, x):
            return x[:, :, :8, :8].mean(dim=(1, 2, 3))[:, None]

    maps = occlusion(Target(Corner()), images)
    assert maps.shape == (2, 16, 16)
    assert maps[0, :6, :6].min() > 0.0  # hiding it lowers the value
    assert maps[0, 10:, 10:].abs().max() < 1e-6
    assert maps[1, :6, :6].max() < 0.0  # what is dark there is raised to the image's mean


def test_grad_cam_shows_the_feature_that_counts():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(1, 2, 1, bias=False)
            self.features.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
            self.last = nn.Linear(2, 1, bias=False)
            self.last.weight.data = torch.tensor([[1.0, 0.0]])

        def forward(self, x):
            return self.last(torch.relu(self.features(x)).mean(dim=(2, 3)))

    images = -torch.ones(1, 1, 8, 8)
    images[0, 0, 2:4, 5:7] = 1.0
    for plus in (False, True):
        maps = grad_cam(Two().eval(), "features", images, 0, plus)
        assert maps.shape == (1, 8, 8)
        assert maps[0, 2:4, 5:7].min() > 0.0
        assert float(maps.sum() - maps[0, 2:4, 5:7].sum()) == 0.0


class Sides(nn.Module):
    """The probability that an image is bright (the second class); its one feature for either sign is a map."""

    task, classes, outputs, differentiable = "binary", ("dark", "bright"), ("bright",), True

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)

    def forward(self, x):
        bright, dark = torch.relu(self.features(x)).mean(dim=(2, 3)).unbind(dim=1)
        return (bright - dark).sigmoid()[:, None]


def test_what_speaks_for_the_first_of_two_classes_speaks_against_the_second():
    network, images = Sides(), torch.ones(1, 1, 8, 8)
    images[0, 0, 2:4, 5:7] = -1.0
    dark, bright = (grad_cam_of_own(target_of(network, name), network, "features", images) for name in network.classes)
    assert dark[0, 2:4, 5:7].min() > 0.0
    assert float(dark.sum() - dark[0, 2:4, 5:7].sum()) == 0.0
    assert bright[0, 2:4, 5:7].max() == 0.0
    assert bright[0, 4:].min() > 0.0


def test_a_black_box_of_a_probability():
    images = torch.zeros(1, 1, 4, 4)
    images[0, 0, :2, :2] = 0.1  # a code of 1: the probability is sigmoid(4), and sigmoid(1) at the image's mean
    maps = occlusion(Target(Quarters(4.0, 0.0, 0.0, 0.0)), images)
    lost = torch.sigmoid(torch.tensor([4.0, 1.0]))
    assert 0.0 < float(maps[0, 0, 0]) <= float(lost[0] - lost[1]) + 1e-6
    assert abs(float(maps[0, 3, 3])) < 1e-6


class Linear:
    """The logit is the sum of weights [C, H, W] times the image."""

    task, outputs, differentiable = "binary", ("yes",), True

    def __init__(self, weights, bend=0.0):
        self.weights, self.bend = weights, bend

    def __call__(self, x):
        z = (self.weights * x).flatten(1).sum(dim=1, keepdim=True)
        return torch.sigmoid(z + self.bend * z**3)


def test_integrated_gradients_of_a_linear_model_are_its_terms():
    """Weight times what a pixel differs from the baseline by, summed over channels."""
    pytest.importorskip("captum", reason="the extra captum is not installed")
    generator = torch.Generator().manual_seed(0)
    weights, images = (torch.randn(n, 2, 4, 4, generator=generator) * 0.1 for n in (1, 3))
    maps = integrated_gradients(Target(Linear(weights)), images)
    expected = (weights * (images - images.mean(dim=(2, 3), keepdim=True))).sum(dim=1)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)


def test_integrated_gradients_are_complete():
    """Over all pixels they sum to what the logit has more than at the baseline, of a model that is not linear too."""
    pytest.importorskip("captum", reason="the extra captum is not installed")
    generator = torch.Generator().manual_seed(1)
    weights, images = (torch.randn(n, 1, 6, 6, generator=generator) * 0.3 for n in (1, 4))
    target = Target(Linear(weights, bend=0.1))
    baselines = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    more = target.linear(target(images)) - target.linear(target(baselines))
    maps = integrated_gradients(target, images)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), more, atol=1e-4, rtol=1e-3)
    assert more.abs().max() > 0.5


def test_grad_cam_of_a_network_of_ones_own():
    """The layer is watched through all that fits images to it and makes predictions of its output."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(1, 1, 1, bias=False)
            self.features.weight.data.fill_(1.0)

        def forward(self, x):
            return self.features(x).clamp_min(0.0).mean(dim=(1, 2, 3))

    net = Net().eval()

    class Box:
        task, outputs, differentiable = "binary", ("yes",), True

        def __call__(self, x):
            return net(x * 0.5).sigmoid()[:, None]

    images = -torch.ones(1, 1, 8, 8)
    images[0, 0, 2:4, 5:7] = 1.0
    maps = grad_cam_of_own(Target(Box()), net, "features", images)
    assert maps.shape == (1, 8, 8)
    assert maps[0, 2:4, 5:7].min() > 0.0
    assert float(maps.sum() - maps[0, 2:4, 5:7].sum()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("plus", [False, True])
def test_a_network_answers_after_its_map_as_before(training, plus):
    """Neither batches nor its own dropout change what it says of an image because somebody looked where it looks."""

    class Net(nn.Sequential):
        task, outputs, differentiable = "binary", ("yes",), True

        def forward(self, x):
            return super().forward(x).mean(dim=(2, 3)).sigmoid()

    torch.manual_seed(0)
    net = Net(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.2), nn.Conv2d(3, 1, 1)).eval()
    net[2].train(training)  # of one who wants several answers
    images = torch.randn(4, 1, 8, 8).clamp(-1.0, 1.0)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    grad_cam_of_own(Target(net), net, "1", images, plus)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
