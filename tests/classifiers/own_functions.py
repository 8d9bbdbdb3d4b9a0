"""Classifiers as users write them, imported by name in tests."""

import numpy as np
import torch

NOT_A_FUNCTION = 3


def darkness(images):
    """[N] probabilities: 1 for black, 0 for white; takes images in [0, 1]."""
    return 1.0 - images.mean(dim=(1, 2, 3))


def as_array(images):
    return darkness(images).double().numpy()[:, None]


def two_columns(images):
    return torch.stack([1.0 - darkness(images), darkness(images)], dim=1)


def writes_into_its_images(images):
    images[:] = 0.5
    return darkness(images)


def shapes(images):
    """Whether there are three channels of 8 pixels in [0, 255]."""
    good = images.shape[1:] == (3, 8, 8) and images.min() >= 0.0 and images.max() > 1.0
    return torch.full((len(images),), float(good))


def counts(images):
    """How many come at a time."""
    return torch.full((len(images),), float(len(images)))


def fails(images):
    raise ValueError("something\nin the user's code")


def as_list(images):
    return [0.5] * len(images)


def undefined(images):
    return np.full(len(images), np.nan)


def three(images):
    return torch.full((len(images), 3), 1.0 / 3.0)


def ones(images):
    return torch.ones(len(images), 3)


def two_ones(images):
    return torch.ones(len(images), 2)


def findings(images):
    """Three of them: brightness, darkness, and one that is always 0.485."""
    bright = images.mean(dim=(1, 2, 3))
    return torch.stack([bright, 1.0 - bright, torch.full_like(bright, 0.485)], dim=1)


def large(images):
    return torch.tensor([[4.0, -3.0, 0.0]]).expand(len(images), 3)


def half(images):
    """Rounded as half precision does."""
    return torch.tensor([[0.3, 0.3, 0.4005]]).expand(len(images), 3).half()


def dropout(images):
    """Darkness of a tenth of the pixels, drawn anew at each call."""
    kept = torch.nn.functional.dropout(torch.ones_like(images), 0.9, training=True)
    return 1.0 - (images * kept).mean(dim=(1, 2, 3)).clamp(0.0, 1.0)


def thresholds(images):
    """[N, 2], the probabilities of the second grade or a higher one, and of the third."""
    p = darkness(images)
    return torch.stack([p, 0.5 * p], dim=1)


def rising_thresholds(images):
    return torch.stack([0.25 * darkness(images), darkness(images)], dim=1)


network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
