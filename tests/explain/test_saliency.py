import torch
from torch import nn
from toy_models import Quarters

from medlat.classifiers.black_box import Target
from medlat.explain.saliency import grad_cam, occlusion


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


def test_a_black_box_of_a_probability():
    images = torch.zeros(1, 1, 4, 4)
    images[0, 0, :2, :2] = 0.1  # a code of 1: the probability is sigmoid(4), and sigmoid(1) at the image's mean
    maps = occlusion(Target(Quarters(4.0, 0.0, 0.0, 0.0)), images)
    lost = torch.sigmoid(torch.tensor([4.0, 1.0]))
    assert 0.0 < float(maps[0, 0, 0]) <= float(lost[0] - lost[1]) + 1e-6
    assert abs(float(maps[0, 3, 3])) < 1e-6
