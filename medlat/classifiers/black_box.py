"""What is explained: a black box, images in and predictions out, and the one number of it that a question is about."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.core.errors import ArgumentError, did_you_mean

Task = Literal["binary", "multiclass", "multilabel", "ordinal", "regression"]
TARGET_VERSION = 2  # of what is explained where nothing is chosen: what is learnt from it is found anew
OR_MORE = " or more"  # of a grade: it, or a higher one
CHOSEN = ("multiclass", "multilabel")  # tasks with several outputs, of which the user says which is explained
NOTHING = {"normal", "healthy", "benign", "negative", "absent", "none", "nothing", "control", "no", "false", "0"}
NOT = ("no ", "non", "not ", "without ")  # that such a class's name may begin with
PIXELS_AT_ONCE = 2**20  # of images that are predicted together
LOGIT_LIMIT = 1e-6  # probabilities nearer to 0 or 1 than this have the logit of this


class BlackBox(Protocol):
    """Any classifier or regressor, as explanations see it.

    task:           what the predictions are. binary: the probability of the second class, one column. multiclass,
                    ordinal: a probability for each class, rows sum to 1; ordinal classes are in rising order.
                    multilabel: a probability for each finding, of which an image may have any number.
                    regression: one value.
    classes:        the names of its classes in the order of the network's outputs; binary: both of them.
    outputs:        a name for each column of the predictions; for binary that of the second class.
    differentiable: whether gradients of the predictions in the images can be taken.
    """

    task: Task
    classes: list[str]
    outputs: tuple[str, ...]
    differentiable: bool

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> predictions [N, len(outputs)] float32, finite, on the images' device.

        Where it is differentiable, gradients flow as torch's grad mode says; else the result has none.
        Raises UserError where the images do not fit or the network returns what it should not.
        """
        ...


@dataclass(frozen=True)
class Target:
    """The number of a black box that is explained: the probability of a class, of a grade or a higher one, the expected
    grade, or the value.

    column: of the predictions; None: the expected class number of an ordinal task, from 0 to K - 1. or_more: with those
    after it, of an ordinal task. first: what is left to one, of a binary task: the probability of its first class.
    """

    black_box: BlackBox
    column: int | None = 0
    or_more: bool = False
    first: bool = False

    @property
    def name(self) -> str:
        if self.column is None:
            return "expected grade"
        if self.first:
            return self.black_box.classes[0]
        return self.black_box.outputs[self.column] + (OR_MORE if self.or_more else "")

    @property
    def is_probability(self) -> bool:
        return self.black_box.task != "regression" and self.column is not None

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> [N]; with gradients where the black box has them."""
        return self.of(self.black_box(images))

    def of(self, predictions: Tensor) -> Tensor:
        """Predictions of the black box [..., K] -> [...]."""
        if self.or_more:
            return predictions[..., self.column :].sum(dim=-1).clamp_max(1.0)
        if self.first:
            return 1.0 - predictions[..., 0]
        if self.column is not None:
            return predictions[..., self.column]
        return predictions @ torch.arange(predictions.shape[-1], dtype=predictions.dtype, device=predictions.device)

    def linear(self, predictions: Tensor) -> Tensor:
        """Predictions on a scale without bounds: the logit of a probability, other values as they are."""
        if not self.is_probability:
            return predictions
        return predictions.clamp(LOGIT_LIMIT, 1.0 - LOGIT_LIMIT).logit()


def target_of(black_box: BlackBox, name: str | None) -> Target:
    """The target of that name; None: the only one, or the expected grade of an ordinal task, of which "2 or more" is
    the probability of the grade 2 or a higher one. Of a binary task it is the second class, or the first where the
    second one's name alone says that nothing was found, e.g. of adenocarcinoma and normal.

    Raises UserError where there is none of that name, and where there are several classes and none is chosen.
    """
    outputs = black_box.outputs
    if name is None and black_box.task in CHOSEN:
        what = "classes" if black_box.task == "multiclass" else "findings"
        raise ArgumentError("target", f"the classifier has several {what}; choose from {', '.join(outputs)}", None)
    if name is None:
        first = black_box.task == "binary" and [says_nothing(each) for each in black_box.classes] == [False, True]
        return Target(black_box, None if black_box.task == "ordinal" else 0, first=first)
    if black_box.task == "binary" and name == black_box.classes[0]:
        return Target(black_box, first=True)
    thresholds = [output + OR_MORE for output in outputs[1:]] if black_box.task == "ordinal" else []
    if name in thresholds:
        return Target(black_box, 1 + thresholds.index(name), or_more=True)
    if name not in outputs:
        near = did_you_mean(name, targets(black_box))
        raise ArgumentError("target", f"the classifier predicts no such thing{near}", name)
    return Target(black_box, outputs.index(name))


def targets(black_box: BlackBox) -> list[str]:
    """What `target_of` takes."""
    if black_box.task == "binary":
        return list(black_box.classes)
    more = black_box.outputs[1:] if black_box.task == "ordinal" else ()
    return [*black_box.outputs, *(output + OR_MORE for output in more)]


def says_nothing(name: str) -> bool:
    """Whether the name of a class says that nothing was found: "normal", "no nodule", "normal, benign"."""
    parts = [part.strip() for part in name.casefold().replace("_", " ").replace(" or ", ",").split(",")]
    return all(part in NOTHING or part.startswith(NOT) for part in parts)


def disagreement(black_box: BlackBox, predictions: Tensor, wanted: Tensor) -> Tensor:
    """How far predictions [N, K] of a black box are from wanted ones [N, K]; 0 where they are the same.

    Of probabilities KL(wanted || predictions) in nats, mean over the images; of values the mean squared difference in
    variances of the wanted ones.
    """
    if black_box.task == "regression":
        return F.mse_loss(predictions, wanted) / wanted.var().clamp_min(LOGIT_LIMIT)
    p, q = (x.clamp(LOGIT_LIMIT, 1.0 - LOGIT_LIMIT) for x in (wanted, predictions))
    if black_box.task in ("binary", "multilabel"):  # each output has its opposite
        p, q = (torch.cat([1.0 - x, x], dim=1) for x in (p, q))
    return (p * (p.log() - q.log())).sum(dim=1).mean()


def predict(target: Target, images: Tensor, device: torch.device) -> Tensor:
    """Any number of images [N, C, H, W] in [-1, 1] -> [N] float32 on the CPU, without gradients."""
    return target.of(predict_all(target.black_box, images, device))


@torch.no_grad()
def predict_all(black_box: BlackBox, images: Tensor, device: torch.device) -> Tensor:
    """The same of all that it predicts, [N, K]."""
    size = max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1]))
    return torch.cat([black_box(part.to(device)).float().cpu() for part in images.split(size)])


def predict_each(black_box: BlackBox, several: Iterable[Tensor], device: torch.device) -> list[Tensor]:
    """The same of several lots of images, [N_i, C, H, W] each -> [N_i, K] each: as many lots together as are predicted
    at once, as a call may be dear however few images it is for.
    """
    found, waiting = list[Tensor](), list[Tensor]()

    def ask() -> None:
        predictions = predict_all(black_box, torch.cat(waiting), device)
        found.extend(predictions.split([len(images) for images in waiting]))
        waiting.clear()

    for images in several:
        waiting.append(images)
        if sum(map(len, waiting)) * images.shape[-2] * images.shape[-1] >= PIXELS_AT_ONCE:
            ask()
    if waiting:
        ask()
    return found
