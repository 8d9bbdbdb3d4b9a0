"""What a direction finder is.

Adding a method = one class here with explicit arguments and `find`, one YAML in `conf/directions/`, one test.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from medlat.core.errors import UserError, did_you_mean
from medlat.core.spaces import Directions, LatentModel, LatentSpace, device_of

Origin = Literal["real", "samples", "both"]


class Finder(Protocol):
    """Finds directions in a latent space of any generator."""

    def find(self, model: LatentModel) -> Directions:
        """Unit directions, ranked; at most as many as the space has dimensions for methods that find a basis."""
        ...


@dataclass(frozen=True)
class Evidence:
    """What a supervised method learns from: codes and what a classifier predicts for their images.

    space:        of the codes. codes: [N, *space.shape], of real images, samples or both.
    values:       [N] predictions for the images that the generator makes of the codes, on a scale without bounds:
                  logits of probabilities, other values as they are.
    threshold:    the value at which the prediction is said to have changed.
    score:        images [N, C, H, W] in [-1, 1] -> values [N], differentiable in the images where `differentiable`.
    measure:      gives [N, M] measurements of the codes' images, NaN where there is none; measurements: their names.
    groups:       [N] whose image a code is, so that no patient stands on both sides of a cross-validation.
    sigma:        [*space.shape] standard deviation of each coordinate over the codes that the generator knows.
    """

    space: LatentSpace
    codes: Tensor
    values: Tensor
    threshold: float
    score: Callable[[Tensor], Tensor]
    differentiable: bool
    measure: Callable[[], np.ndarray]
    measurements: Sequence[str]
    groups: np.ndarray
    sigma: Tensor

    def standardised(self) -> np.ndarray:
        """The codes [N, D] float64 in standard deviations: what is far is the same in every coordinate."""
        return (self.codes / self.sigma).flatten(1).double().cpu().numpy()

    def directions(self, weights: np.ndarray, scores: Tensor, method: str) -> Directions:
        """Directions [K, D] of the standardised space as directions of the codes, their signs kept."""
        vectors = torch.from_numpy(weights).float().reshape(-1, *self.space.shape) * self.sigma.cpu()
        return Directions.ranked(vectors, scores, method, self.space, signed=True)

    def above(self) -> np.ndarray:
        """[N] bool: which predictions lie above the threshold; above the median where all lie on one side of it.

        Raises UserError where all are the same.
        """
        values = self.values.double().cpu().numpy()
        side = values > self.threshold
        if side.all() or not side.any():
            side = values > np.median(values)
        if not side.any():
            raise UserError(
                f"classifier: it predicts {values[0]:.3g} of all {len(values)} codes: nothing to tell apart"
            )
        return side

    def need_gradients(self, method: str) -> None:
        """Raises UserError where the classifier has no gradients."""
        if not self.differentiable:
            raise UserError(
                f"directions={method}: needs gradients, and the classifier is a black box without; "
                f"expected linear, svm, style_channels or conditional, or a differentiable classifier"
            )

    def column(self, measurement: str) -> np.ndarray:
        """[N] of one measurement. Raises UserError where there is none of that name."""
        if measurement not in self.measurements:
            raise UserError(
                f"directions.confounders: no measurement '{measurement}'{did_you_mean(measurement, self.measurements)}"
            )
        return self.measure()[:, list(self.measurements).index(measurement)]


class SupervisedFinder(Protocol):
    """Finds the directions along which a classifier's prediction changes; vectors point to higher values.

    space: name of the latent space; None: the first of `preferred` that the generator has, else that of the inverted
           images. origin: which codes it learns from.
    """

    preferred: tuple[str, ...] = ()
    space: str | None
    origin: Origin

    def find(self, model: LatentModel, evidence: Evidence) -> Directions:
        """At least one direction; the first is the one to follow, and points to higher values."""
        ...


class LocalFinder(SupervisedFinder, Protocol):
    """A supervised finder whose direction differs from image to image; that of `find` is the mean of them."""

    def directions_at(self, model: LatentModel, evidence: Evidence, codes: Tensor) -> Tensor:
        """Codes [N, *space.shape] -> unit directions [N, *space.shape], towards higher values."""
        ...


class ImageTaughtFinder(Protocol):
    """A finder that looks at real images. images: how many at most."""

    images: int

    def find(self, model: LatentModel, images: Iterable[Tensor]) -> Directions:
        """images: batches [N, C, H, W] in [-1, 1] of training images."""
        ...


class TrainedFinder(Protocol):
    """A finder that learns by gradient descent. schedule: how long."""

    schedule: Any

    def module(self, model: LatentModel) -> Any:
        """The LightningModule that trains."""
        ...

    def directions(self, model: LatentModel, module: Any) -> tuple[Directions, dict[str, float]]:
        """What a trained module has found, and numbers on how well."""
        ...


def is_trained(finder: object) -> bool:
    """Whether the finder learns by gradient descent."""
    return hasattr(finder, "module")


def is_taught_by_images(finder: object) -> bool:
    """Whether `find` wants real images."""
    return hasattr(finder, "images")


NEEDED = {  # unsupervised methods, and the capability of a generator that each cannot do without
    "sefa": "latent_affines",
    "pca": None,
    "jacobian": None,
    "ica": "encode",
    "posterior_axes": "posterior",
    "coordinate": None,
    "random": None,
}
IN_WORDS = {
    "encode": "encoder of its own",
    "posterior": "posterior",
    "latent_affines": "weights that codes enter through (latent_affines)",
}


def need_capability(model: LatentModel, method: str) -> None:
    """Raises UserError where the generator cannot do what the method needs of it; see `NEEDED`."""
    needed = NEEDED[method]
    if needed is not None and not model.can(needed):
        expected = [name for name, other in NEEDED.items() if other is None or model.can(other)]
        raise UserError(
            f"directions={method}: {type(model).__name__} has no {IN_WORDS[needed]}; expected {', '.join(expected)}"
        )


def encoded(model: LatentModel, images: Iterable[Tensor], space: str) -> Tensor:
    """Codes [N, D] float64 on the CPU of batches [B, C, H, W] in [-1, 1], by the generator's own encoder."""
    device = device_of(model)
    with torch.no_grad():
        return torch.cat([model.encode(part.to(device), space).flatten(1).double().cpu() for part in images])


def posteriors(model: LatentModel, images: Iterable[Tensor], space: str) -> Iterator[tuple[Tensor, Tensor]]:
    """What the generator's encoder says of each batch [N, C, H, W]: mean and log variance [N, D] float64 on the CPU."""
    device = device_of(model)
    for part in images:
        with torch.no_grad():
            mean, log_variance = model.posterior(part.to(device), space)
        yield mean.flatten(1).double().cpu(), log_variance.flatten(1).double().cpu()


def is_supervised(finder: object) -> bool:
    """Whether `find` wants evidence."""
    return hasattr(finder, "origin")


def check_count(count: int) -> None:
    """Raises UserError for a number of directions below 1."""
    if count < 1:
        raise UserError(f"directions.count={count}: expected a whole number of at least 1")


def chosen_space(model: LatentModel, name: str | None) -> LatentSpace:
    """The space of that name, or the model's default. Raises UserError where there is none."""
    if name is None:
        return next(iter(model.spaces.values()))
    if name not in model.spaces:
        raise UserError(f"directions.space={name}: this generator has {', '.join(model.spaces)}")
    return model.spaces[name]
