"""Whether an image is like those that a run was made with: how far from its training images, beside held-out ones.

Two distances over plain pixels, which no network has to know: of the *layout*, the means of 8 x 8 squares, and of the
*texture*, how much there is at each scale, with brightness and contrast. Each is Mahalanobis's, from the mean of the
training images with their covariance, and is counted from the median of held-out images in units of what 95% of them
keep; the larger one counts. `experiments/explain/` has what it tells apart, and what it does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LEVEL = 0.05  # share of held-out images that are called unlike, too
SQUARES, SCALES = 8, 4
KEPT = 0.95  # of held-out images, that lie within a distance of 1
RIDGE = {"layout": 0.1, "texture": 1e-3}  # of the mean variance, added to all: few images do not tell 64
SMALLEST = 1e-6  # energy, and variance: less is none
KINDS = ("layout", "texture")


@dataclass(frozen=True)
class Likeness:
    """How like the training images are images [N, C, H, W] in [-1, 1].

    layout, texture: [F, F] that whiten, with the centres [F]. middle, reach: [2] the median of
    held-out images' distances, and from there to what 95% of them keep. held_out: [n] their distances, rising.
    """

    layout: np.ndarray
    layout_centre: np.ndarray
    texture: np.ndarray
    texture_centre: np.ndarray
    middle: np.ndarray
    reach: np.ndarray
    held_out: np.ndarray

    @classmethod
    def fit(cls, train: Tensor, held_out: Tensor) -> Self:
        """From training images and held-out ones, both [N, C, H, W] in [-1, 1], at least one of each."""
        layout, texture = layouts(train), textures(train)
        axes = {"layout": _whitening(layout, RIDGE["layout"]), "layout_centre": layout.mean(axis=0)}
        axes |= {"texture": _whitening(texture, RIDGE["texture"]), "texture_centre": texture.mean(axis=0)}
        found = cls(**axes, middle=np.zeros(2), reach=np.ones(2), held_out=np.zeros(0)).distances(held_out)
        middle = np.median(found, axis=0)
        reach = np.maximum(np.quantile(found, KEPT, axis=0) - middle, 1e-3)
        ranked = np.sort(((found - middle) / reach).max(axis=1))
        return cls(**axes, middle=middle, reach=reach, held_out=ranked)

    def distances(self, images: Tensor) -> np.ndarray:
        """[N, 2]: of the layout and of the texture, counted from the middle of held-out images."""
        both = (
            (layouts(images) - self.layout_centre) @ self.layout.T,
            (textures(images) - self.texture_centre) @ self.texture.T,
        )
        lengths = np.stack([np.linalg.norm(each, axis=1) for each in both], axis=1)
        return (lengths - self.middle) / self.reach

    def __call__(self, images: Tensor) -> list["Found"]:
        """What is found of each image."""
        found = []
        for both in self.distances(images):
            nearer = int((self.held_out < both.max()).sum())
            found.append(Found(float(both.max()), KINDS[int(both.argmax())], nearer, len(self.held_out)))
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Found:
    """distance: 1 is what 95% of the held-out images keep; kind: what is far, "layout" or "texture"; nearer: of so many
    held-out images those that are nearer to the training images.
    """

    distance: float
    kind: str
    nearer: int
    held_out: int

    @property
    def p(self) -> float:
        """(1 + held-out images at least as far) / (1 + held-out images): at most x for a share x of such images."""
        return (1 + self.held_out - self.nearer) / (1 + self.held_out)

    @property
    def is_unlike(self) -> bool:
        return self.p <= LEVEL

    @property
    def is_like(self) -> bool:
        return not (self.is_unlike or self.is_open)

    @property
    def is_open(self) -> bool:
        """Whether it is farther than all held-out images, and these are too few to say more."""
        return self.nearer == self.held_out and not self.is_unlike

    def told(self, nouns: str) -> str:
        """In words, with the numbers. nouns: what images are called."""
        beside = f"{self.nearer} of {self.held_out} held-out {nouns} (p = {self.p:.2g})"
        if self.is_unlike:
            return (
                f"Unlike anything this run has seen: farther from its training {nouns} than {beside}, in its "
                f"{self.kind}."
            )
        if self.is_open:
            whole = f"all {self.held_out} held-out {nouns} (p = {self.p:.2g})"
            return f"Farther from the run's training {nouns} than {whole}: they are too few to say more."
        return (
            f"Not unlike the run's {nouns} in brightness, layout and texture: nearer to its training {nouns} than "
            f"{self.held_out - self.nearer} of {self.held_out} held-out ones (p = {self.p:.2g})."
        )


def layouts(images: Tensor) -> np.ndarray:
    """[N, C, H, W] -> [N, C * 64] means of 8 x 8 squares."""
    return F.adaptive_avg_pool2d(images.float(), SQUARES).flatten(1).double().numpy()


def textures(images: Tensor) -> np.ndarray:
    """[N, C, H, W] -> [N, 6]: logarithms of the energy at four scales, each an octave, then mean and logarithm of the
    contrast.
    """
    rest, found = images.float(), []
    for _ in range(SCALES):
        if min(rest.shape[-2:]) < 2:
            break
        coarse = F.avg_pool2d(rest, 2)
        fine = rest - F.interpolate(coarse, size=rest.shape[-2:], mode="nearest")
        found.append(fine.square().mean(dim=(1, 2, 3)).clamp_min(SMALLEST).log())
        rest = coarse
    whole = images.float().flatten(1)
    contrast = whole.std(dim=1).square().clamp_min(SMALLEST).log() / 2.0
    return torch.stack([*found, whole.mean(dim=1), contrast], dim=1).double().numpy()


def _whitening(features: np.ndarray, ridge: float) -> np.ndarray:
    """[F, F] that gives features [N, F] the covariance 1, but for what is added: `ridge` of the mean variance."""
    covariance = np.cov(features.T, bias=True) if len(features) > 1 else np.zeros((features.shape[1],) * 2)
    variance, axes = np.linalg.eigh(covariance)
    added = max(ridge * float(variance.mean()), SMALLEST)
    return (axes / np.sqrt(variance.clip(0.0) + added)).T
