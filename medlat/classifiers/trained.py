"""A classifier that was trained here, as a black box with its lid off."""

import math
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.classifiers.black_box import Task
from medlat.classifiers.networks import ClassifierNetwork
from medlat.core.checkpoints import read_generator
from medlat.core.errors import UserError
from medlat.core.external import first_line

NETWORKS = "medlat.classifiers.networks"
TEMPERATURES = (0.05, 20.0)  # what is looked through


class Trained:
    """A `BlackBox` around a network, which it sets to evaluation mode, freezes, and runs where the images are.

    cam_layer: name of the network's last layer with places in it, for Grad-CAM.
    """

    differentiable = True

    def __init__(self, network: ClassifierNetwork) -> None:
        self.network = network.eval().requires_grad_(False)
        self.task: Task = network.task
        self.classes, self.outputs = network.classes, network.outputs
        self.cam_layer = network.cam_layer

    def logits(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> raw outputs [N, K] float32, before temperature."""
        return self.network.to(images.device)(images)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> calibrated probabilities, or values in the target's unit, [N, K]."""
        outputs, network = self.logits(images), self.network
        if self.task == "regression":
            return outputs * network.scale + network.centre
        scaled = outputs / network.temperature
        return scaled.sigmoid() if self.task == "binary" else scaled.softmax(dim=1)


def fit_temperature(network: ClassifierNetwork, logits: Tensor, targets: Tensor) -> float:
    """Set the network's temperature to the one that suits held-out predictions best, and return it.

    One number that logits are divided by, for the least log loss (Guo et al. 2017, arXiv 1706.04599, section 4.2). Of
    N_k targets of class k, (N_k + 1)/(N_k + K) is asked for rather than 1 (Platt 1999): predictions without an error do
    not become certain. With targets of one class there is nothing to learn, and the temperature stays as it is.

    logits: [N, K] raw outputs (K = 1 for binary). targets: [N] class numbers.
    """
    from scipy.optimize import minimize_scalar

    assert network.task != "regression", "values have no temperature"
    assert torch.isfinite(logits).all()
    logits, numbers = logits.double(), targets.long().to(logits.device)
    if network.task == "binary":
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    classes = logits.shape[1]
    counts = torch.bincount(numbers, minlength=classes).double()
    if (counts > 0).sum() > 1:
        of_own = counts[numbers, None]
        wanted = (F.one_hot(numbers, classes) * of_own + 1.0) / (of_own + classes)

        def loss(log_temperature: float) -> float:
            return F.cross_entropy(logits / math.exp(log_temperature), wanted).item()

        bounds = tuple(map(math.log, TEMPERATURES))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        network.temperature.fill_(math.exp(found.x))
    return network.temperature.item()


def load(path: str | Path, allowed: Collection[str] = ()) -> Trained:
    """The classifier of a file that medlat made (`save_generator`).

    allowed: dotted names of the user's own subclasses of `ClassifierNetwork` that the file may name. Raises UserError
    where the file is damaged, or holds something else.
    """
    path = Path(path)
    recipe, image, weights = read_generator(path, allowed)
    target = str(recipe.pop("_target_"))
    module, _, name = target.rpartition(".")
    kind = getattr(import_module(module), name, None) if module == NETWORKS or target in allowed else None
    if not isinstance(kind, type) or not issubclass(kind, ClassifierNetwork):
        raise UserError(f"{path}: holds a {module}.{name}, expected a classifier of {NETWORKS}, or a subclass")
    try:
        _check_layers(recipe, weights)
        with torch.device("meta"):  # a network larger than its weights is refused before it takes memory
            kind(image, **recipe).load_state_dict(weights, assign=True)
        network = kind(image, **recipe)
        network.load_state_dict(weights)
    except UserError:
        raise
    except Exception as error:  # whatever a recipe that somebody else wrote leads to
        raise UserError(f"{path}: damaged checkpoint ({first_line(error)})") from error
    return Trained(network)


def _check_layers(recipe: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Raises ValueError where a list of numbers, of layers, adds up to more than there are weights: to build them would
    take memory even without their numbers.
    """
    for name, value in recipe.items():
        numbers = [n for n in value if isinstance(n, int)] if isinstance(value, list) else []
        if sum(numbers) > len(weights):
            raise ValueError(f"{name} asks for more layers than the file has weights")
