"""What a direction finder is, and what it declares.

A method is a class with explicit arguments and `find(model, ...)`, and one YAML in `conf/directions/`; it may stand
anywhere that Python can import it. It says by class attributes what it needs and what it is called:

needs:     names out of `NEEDS`, and capabilities of the generator (`medlat.core.spaces.CAPABILITIES`). What is a thing
           is given to `find` as an argument of that name. Default: none.
name:      of its directions, where the configuration does not give another. Default: the class's own, as `my_finder`.
per_image: whether its direction differs from image to image, as `directions_at` says. Default: no.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from medlat.core.errors import ArgumentError, UserError, did_you_mean
from medlat.core.spaces import CAPABILITIES, Directions, LatentModel, LatentSpace, device_of

Origin = Literal["real", "samples", "both"]

NEEDS = {
    "images": "find(model, images): batches [N, C, H, W] in [-1, 1] of training images, at most `self.images` of them",
    "supervision": "find(model, supervision): codes and what the classifier predicts (`Supervision`)",
    "gradients": "a classifier with gradients; beside supervision",
    "measurements": "find(model, measurements): what is measured (`MeasurementSet`); with supervision they are in it",
    "training": "`schedule`, `module(model)` and `directions(model, module)` in place of `find`",
}
ARGUMENTS = ("images", "supervision", "measurements")  # of `find`


class Finder(Protocol):
    """Finds directions in a latent space of any generator.

    It may have `check(model)`, which raises UserError for a generator that it cannot work on, and of one that needs
    measurements `check_measurements(names)`; both are called before any data are read, the first with a network that
    has sizes and no numbers.
    """

    needs: frozenset[str] = frozenset()
    name: str
    per_image: bool = False

    @property
    def find(self) -> Callable[..., Directions]:
        """find(model, ...) -> unit directions, ranked; at most as many as the space has dimensions for methods that
        find a basis.
        """
        ...


def needs_of(finder: object) -> frozenset[str]:
    """What a finder declares that it needs. Raises UserError for a need that there is not, and where its methods do not
    take what it needs.
    """
    declared: Any = getattr(finder, "needs", frozenset())
    what = type(finder).__name__
    needs = frozenset([declared] if isinstance(declared, str) else declared)
    for name in sorted(needs - NEEDS.keys() - CAPABILITIES.keys()):
        known = [*NEEDS, *CAPABILITIES]
        raise UserError(f"{what}.needs: nothing is called '{name}'{did_you_mean(name, known)}")
    if "training" in needs:
        missing = [name for name in ("schedule", "module", "directions") if not hasattr(finder, name)]
        if missing:
            raise UserError(f"{what}: needs training, and has no {missing[0]}; expected {NEEDS['training']}")
        return needs
    find = getattr(finder, "find", None)
    if find is None:
        raise UserError(f"{what}: has no find(model); expected a direction finder (`medlat.directions.finder`)")
    given = arguments_of(needs)
    try:
        inspect.signature(find).bind(None, **dict.fromkeys(given))
    except TypeError as error:
        raise UserError(
            f"{what}.find{inspect.signature(find)}: called as find({', '.join(['model', *given])}), as its needs are "
            f"{sorted(needs) or 'none'} ({error}); expected what it takes in its `needs`, e.g. {{'images'}}"
        ) from error
    return needs


def arguments_of(needs: frozenset[str]) -> list[str]:
    """What `find` is given beside the model, by name."""
    told = {"measurements"} if "supervision" in needs else set()
    return [name for name in ARGUMENTS if name in needs - told]


def name_of(finder: object) -> str:
    """What a finder's directions are called."""
    found = getattr(finder, "name", None)
    return found if isinstance(found, str) else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(finder).__name__).lower()


@dataclass(frozen=True)
class Supervision:
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
            raise ArgumentError(
                "",
                "needs gradients, and the classifier is a black box without; expected linear, svm, style_channels or "
                "conditional, or a differentiable classifier",
                method,
            )

    def column(self, measurement: str) -> np.ndarray:
        """[N] of one measurement. Raises UserError where there is none of that name."""
        if measurement not in self.measurements:
            known = did_you_mean(measurement, self.measurements)
            raise ArgumentError("confounders", f"no measurement '{measurement}'{known}")
        return self.measure()[:, list(self.measurements).index(measurement)]


class SupervisedFinder(Finder, Protocol):
    """Finds the directions along which a classifier's prediction changes; vectors point to higher values, and the first
    is the one to follow.

    space: name of the latent space; None: the first of `preferred` that the generator has, else that of the inverted
           images. origin: which codes it learns from.
    """

    preferred: tuple[str, ...] = ()
    space: str | None
    origin: Origin

    def directions_at(self, model: LatentModel, supervision: Supervision, codes: Tensor) -> Tensor:
        """Of one that is `per_image`: codes [N, *space.shape] -> unit directions of the same shape, towards higher
        values.
        """
        ...


class TrainedFinder(Finder, Protocol):
    """A finder that learns by gradient descent. schedule: how long."""

    schedule: Any

    def module(self, model: LatentModel) -> Any:
        """The LightningModule that trains."""
        ...

    def directions(self, model: LatentModel, module: Any) -> tuple[Directions, dict[str, float]]:
        """What a trained module has found, and numbers on how well."""
        ...


IN_WORDS = {
    "encode": "encoder of its own",
    "posterior": "posterior",
    "latent_affines": "weights that codes enter through (latent_affines)",
}


def need_capabilities(finder: object, model: LatentModel) -> None:
    """Raises UserError where the generator cannot do what the finder needs of it."""
    for name in sorted(needs_of(finder) & CAPABILITIES.keys()):
        if not model.can(name):
            lacks = f"{type(model).__name__} has no {IN_WORDS.get(name, name)}"
            raise ArgumentError(
                "", f"{lacks}; expected a method that needs none, e.g. pca or jacobian", name_of(finder), of=finder
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


def check_count(count: int) -> None:
    """Raises UserError for a number of directions below 1."""
    if count < 1:
        raise ArgumentError("count", "expected a whole number of at least 1", count)
