"""Reconstructors: which direction, and how far, from an image and its moved copy (Voynov & Babenko 2020)."""

import torch
from torch import Tensor, nn

from medlat.classifiers.networks import NARROWEST
from medlat.core.errors import ArgumentError
from medlat.core.ranges import Width
from medlat.core.spaces import ImageSpec

SMALLEST_SIDE = 16


class Reconstructor(nn.Module):
    """Pairs of images -> logits of K directions and the step.

    image: what the images are. directions: K.
    """

    body: nn.Module  # pairs [N, 2C, H, W] -> features [N, F]

    def __init__(self, image: ImageSpec, directions: int, features: int) -> None:
        super().__init__()
        if min(image.height, image.width) < SMALLEST_SIDE:
            raise ArgumentError("image_size", f"expected at least {SMALLEST_SIDE}", min(image.height, image.width))
        self.direction = nn.Linear(features, directions)
        self.shift = nn.Linear(features, 1)

    def forward(self, image: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """Two [N, C, H, W] in [-1, 1] -> logits [N, K], steps [N], float32."""
        pair = torch.cat([image, moved], dim=1).contiguous(memory_format=torch.channels_last)
        features = self.body(pair)
        return self.direction(features).float(), self.shift(features)[:, 0].float()


class LeNet(Reconstructor):
    """LeNet-5 (LeCun et al. 1998) with batch normalisation, its last maps averaged: 6, 16 and 120 channels, then 84
    features.

    width: factor of all these. Images below 32 pixels are padded: three 5x5 convolutions would leave nothing.
    """

    def __init__(self, image: ImageSpec, directions: int, width: Width = 1) -> None:
        super().__init__(image, directions, 84 * width)
        padding = 2 if min(image.height, image.width) < 32 else 0
        self.body = nn.Sequential(
            *_convolved(2 * image.channels, 6 * width, padding),
            nn.MaxPool2d(2),
            nn.ReLU(),  # behind the pooling: the same, of a quarter of the values
            *_convolved(6 * width, 16 * width, padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
            *_convolved(16 * width, 120 * width, padding),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(120 * width, 84 * width),
            nn.BatchNorm1d(84 * width),
            nn.ReLU(),
        )


def _convolved(inputs: int, outputs: int, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 5, padding=padding), _BatchNorm2d(outputs)]


class _BatchNorm2d(nn.BatchNorm2d):
    """In channels_last, torch's is up to 60 times slower on a CPU where there are fewer than 16 channels."""

    def forward(self, x: Tensor) -> Tensor:
        slow = x.device.type == "cpu" and self.num_features < 16
        return super().forward(x.contiguous() if slow else x)


class ResNet18(Reconstructor):
    """MONAI's ResNet-18 (He et al. 2015, arXiv 1512.03385).

    width: channels of the first stage, at least 8, doubled in each of the other three; 64 in the paper.
    """

    def __init__(self, image: ImageSpec, directions: int, width: Width = 64) -> None:
        if width < NARROWEST:
            raise ArgumentError("width", f"expected a whole number of at least {NARROWEST}", width)
        super().__init__(image, directions, 8 * width)
        from monai.networks.nets.resnet import ResNet, ResNetBlock

        self.body = ResNet(
            ResNetBlock,
            layers=[2, 2, 2, 2],
            block_inplanes=[width, 2 * width, 4 * width, 8 * width],
            spatial_dims=2,
            n_input_channels=2 * image.channels,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
