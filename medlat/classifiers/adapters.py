"""The user's own classifier as a black box: a file (TorchScript, ONNX), a Python function, or a medlat checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlat.classifiers.black_box import BlackBox, Task
from medlat.classifiers.networks import outputs_of
from medlat.classifiers.trained import Trained, load
from medlat.core.errors import ArgumentError, UserError, did_you_mean, key_in
from medlat.core.external import (
    Culprit,
    NetworkFails,
    ONNXFile,
    TorchScriptFile,
    check_file,
    imported,
    last_line,
)
from medlat.core.fitting import Deviation, Fitting, Kind, Layout, Mean, Range, takes_bytes, what_fits
from medlat.core.ranges import Width
from medlat.core.spaces import ImageSpec

Output = Literal["probabilities", "logits"]
TOLERANCE = 1e-2  # by which probabilities may miss 0, 1 and their sum: half precision
SAME = 1e-4  # within which two answers to one image are the same
REPEATS = 8  # of what gives another answer each time
ROUNDING = 1e-4  # within which sums of probabilities are 1, and sums of logits are not by chance


class Own:
    """What classifiers of the user's own share: fitting images to the input, and making predictions of the output.

    path:           of the file.
    task, classes:  what it predicts, see `BlackBox`; regression: the name of the value.
    output:         "probabilities" or "logits", of which softmax is taken here (multilabel, and binary with one column:
                    sigmoid); regression ignores it.
    size, channels, range, mean, std, layout, dtype, batch, fixed_batch: the images that it takes, see
                    `medlat.core.fitting.Fitting`.
    repeats:        how often each image is asked for, and the mean taken; null: once, and of a network that gives the
                    same image another answer when it is asked again (dropout left on) 8 times.

    It may return [N, K] with K the number of classes; binary also [N] or [N, 1] for the second class, regression [N];
    ordinal also [N, K - 1], for each grade but the lowest the probability (or its logit) of it or a higher one (Frank &
    Hall 2001; CORAL, Cao et al. 2020), which may not rise from grade to grade.

    Raises UserError for arguments that make no sense and, when called, where images do not fit or the output is not
    what is declared.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Any],
        fitting: Fitting,
        task: Task,
        classes: list[str],
        output: Output,
        differentiable: bool,
        repeats: int | None,
    ) -> None:
        self.network, self.fitting, self.culprit = network, fitting, fitting.culprit
        if output not in get_args(Output):
            raise self.culprit.wrong("output", f"'{output}', expected probabilities or logits")
        self.task, self.classes, self.output, self.differentiable = task, classes, output, differentiable
        self.outputs, self.repeats = outputs_of(task, classes), repeats
        self.watched: tuple[nn.Module, str] | None = None  # for Grad-CAM: the network, and the layer's name
        self.differs = 0.0  # by how much the predictions of one image may
        takes_bytes(fitting, differentiable)

    def for_images(self, image: ImageSpec) -> None:
        """Get to know what the images of the data are. Raises UserError where the network says that it takes others."""
        self.fitting.for_images(image)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> predictions [N, len(outputs)] float32 on the images' device."""
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            parts = self.fitting.batches(images)
            return torch.cat([self._mean(part)[:n] for part, n in parts])

    def _mean(self, part: Tensor) -> Tensor:
        """Predictions of a batch; of several that differ their mean."""
        if self.repeats in (None, 1):
            return self._predictions(self.network(part), part)
        answers = []
        with torch.random.fork_rng(devices=[part.device] if part.is_cuda else []):
            for number in range(self.repeats or 1):
                torch.manual_seed(number)  # the same draws in every run, as far as they are torch's
                answers.append(self._predictions(self.network(part), part))
        return torch.stack(answers).mean(dim=0)

    def ask_twice(self, images: Tensor) -> float:
        """Find out by how much two answers to the same images differ, and how often they are to be asked for."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            parts = [(part, n) for part, n in self.fitting.batches(images)]
            two = [torch.cat([self._predictions(self.network(x), x)[:n] for x, n in parts]) for _ in range(2)]
        self.differs = float((two[0] - two[1]).abs().max())
        if self.repeats is None:
            self.repeats = REPEATS if self.differs > SAME * (1.0 + float(two[0].abs().max())) else 1
        return self.differs

    def _predictions(self, output: Any, batch: Tensor) -> Tensor:
        values = self._columns(output, len(batch)).to(batch.device, torch.float32)
        if not torch.isfinite(values).all():
            bad = int((~torch.isfinite(values)).any(dim=1).sum())
            raise self.culprit.error(f"it returns NaN or infinity for {bad} of {len(batch)} images")
        if self.task == "regression":
            return values
        by_threshold = self.task == "ordinal" and values.shape[1] < len(self.outputs)
        exclusive = self.task != "multilabel" and values.shape[1] > 1 and not by_threshold
        if self.output == "logits":
            values = self._of_logits(values, exclusive)
        else:
            values = self._probabilities(values, exclusive)
        if by_threshold:
            return self._of_thresholds(values)
        return values[:, -1:] if self.task == "binary" else values

    def _columns(self, output: Any, n: int) -> Tensor:
        """The output as [n, K], K as many as the task can have."""
        if not isinstance(output, Tensor | np.ndarray):
            raise self.culprit.error(f"it returns a {type(output).__name__}; expected one tensor [N, K]")
        values = torch.as_tensor(output)
        if values.dim() == 1 and len(self.outputs) == 1:
            values = values[:, None]
        count = len(self.outputs)
        widths = {"binary": (1, 2), "ordinal": (count, count - 1)}.get(self.task, (count,))
        if values.dim() == 2 and len(values) == n and values.shape[1] in widths:
            return values
        found = f"it returns {list(values.shape)} for {n} images"
        expected = " or ".join(str([n, width]) for width in widths)
        raise self.culprit.wrong("classes", f"{self.classes} with task {self.task}, but {found}; expected {expected}")

    def _of_logits(self, values: Tensor, exclusive: bool) -> Tensor:
        sums = values.sum(dim=1)
        if exclusive and values.min() >= 0.0 and ((sums - 1.0).abs() < ROUNDING).all():
            raise self.culprit.wrong(
                "output",
                "logits, but what it returns are probabilities already: from 0 to 1, and 1 in sum for each image; "
                "expected probabilities",
            )
        return values.softmax(dim=1) if exclusive else values.sigmoid()

    def _of_thresholds(self, values: Tensor) -> Tensor:
        """The probability of each grade [N, K] from those of it or a higher one, [N, K - 1]."""
        ends = F.pad(F.pad(values, (1, 0), value=1.0), (0, 1), value=0.0)
        grades = ends[:, :-1] - ends[:, 1:]
        if grades.min() < -TOLERANCE:
            row, grade = divmod(int(grades.argmin()), grades.shape[1])
            names = self.classes[grade : grade + 2]
            raise self.culprit.wrong(
                "task",
                f"ordinal, with a probability of each grade or a higher one, but of an image {names[0]} or more has "
                f"{ends[row, grade]:.3g} and {names[1]} or more {ends[row, grade + 1]:.3g}; expected no rise, or a "
                f"probability for each of the {len(self.classes)} classes",
            )
        return grades.clamp_min(0.0) / grades.clamp_min(0.0).sum(dim=1, keepdim=True)

    def _probabilities(self, values: Tensor, exclusive: bool) -> Tensor:
        low, high = values.min().item(), values.max().item()
        if low < -TOLERANCE or high > 1.0 + TOLERANCE:
            before = "its softmax" if exclusive else "its sigmoid"
            raise self.culprit.wrong(
                "output",
                f"probabilities, but it returns values from {low:.3g} to {high:.3g}; expected 0 to 1, or, of a network "
                f"that ends before {before}, {key_in(self, 'output')}=logits",
            )
        values = values.clamp(0.0, 1.0)
        if not exclusive:
            return values
        sums = values.sum(dim=1, keepdim=True)
        worst = sums[(sums - 1.0).abs().argmax()].item()
        if abs(worst - 1.0) > TOLERANCE:
            raise self.culprit.wrong("task", f"{self.task}, but {self._no_classes(worst)}")
        return values / sums

    def _no_classes(self, worst: float) -> str:
        """What is said where the probabilities of classes of which one is true do not sum to 1. Logits are no way out:
        a softmax of what is a probability already would answer, with other numbers.
        """
        found = f"the probabilities of an image sum to {worst:.3g}; expected 1, as one class alone is true"
        if self.task == "binary":
            return f"{found}, or one column, the probability of {self.classes[1]}"
        return f"{found}. Of findings that are each predicted for itself (a sigmoid each) the task is multilabel"


class TorchScriptClassifier(Own):
    """The user's classifier in a TorchScript file; arguments as above. The file is a program that is run (see
    `medlat.core.external`): take it from where you would take a program. ONNX holds no code.

    differentiable: whether gradients in the images can be taken; false for a network that cuts them off.
    layer:          for Grad-CAM: none can be named, as torch watches no layer of a TorchScript program.
    """

    def __init__(
        self,
        path: str | Path,
        task: Task,
        classes: list[str],
        output: Output = "probabilities",
        size: Width | None = None,
        channels: Width | None = None,
        range: Range = (-1.0, 1.0),
        mean: Mean = None,
        std: Deviation = None,
        layout: Layout = "NCHW",
        dtype: Kind = "float32",
        batch: Width = 64,
        fixed_batch: bool = False,
        repeats: Width | None = None,
        differentiable: bool = True,
        layer: str | None = None,
    ) -> None:
        culprit = Culprit(self, "path", str(path))
        if layer is not None:
            raise culprit.wrong(
                "layer",
                f"{layer}, but torch watches no layer of a TorchScript program; expected null, or the network itself "
                f"(a torch.nn.Module) by classifier=python",
            )
        fitting = Fitting(culprit, size, channels, range, mean, std, layout, dtype, batch, fixed_batch)
        network = TorchScriptFile(Path(path).expanduser(), culprit)
        super().__init__(network, fitting, task, classes, output, differentiable, repeats)


class ONNXClassifier(Own):
    """The user's classifier in an ONNX file, run by onnxruntime on the CPU; arguments as above.

    It must have one input of four axes; the first output is taken. Where the file fixes N, that is the batch.
    """

    network: ONNXFile

    def __init__(
        self,
        path: str | Path,
        task: Task,
        classes: list[str],
        output: Output = "probabilities",
        size: Width | None = None,
        channels: Width | None = None,
        range: Range = (-1.0, 1.0),
        mean: Mean = None,
        std: Deviation = None,
        layout: Layout = "NCHW",
        dtype: Kind = "float32",
        batch: Width = 64,
        fixed_batch: bool = False,
        repeats: Width | None = None,
    ) -> None:
        culprit = Culprit(self, "path", str(path))
        fitting = Fitting(culprit, size, channels, range, mean, std, layout, dtype, batch, fixed_batch)
        network = ONNXFile(Path(path).expanduser(), culprit)
        if network.fixed_batch is not None:
            fitting.batch, fitting.fixed_batch = network.fixed_batch, True
        super().__init__(network, fitting, task, classes, output, False, repeats)

    def for_images(self, image: ImageSpec) -> None:
        super().for_images(image)
        self.network.check_input(self.fitting.shape(image), self.fitting.layout, self.fitting.dtype)


class PythonClassifier(Own):
    """The user's classifier as a function; other arguments as above.

    function:       "package.module:function", imported from where Python looks, or from the folder of the command. It
                    gets images [N, C, H, W] as said of them on their device, and returns a tensor or array.
    differentiable: whether gradients in the images can be taken of what it returns.
    layer:          of a function that is a torch.nn.Module, the one that Grad-CAM looks at, by its name there.
    """

    def __init__(
        self,
        function: str,
        task: Task,
        classes: list[str],
        output: Output = "probabilities",
        size: Width | None = None,
        channels: Width | None = None,
        range: Range = (-1.0, 1.0),
        mean: Mean = None,
        std: Deviation = None,
        layout: Layout = "NCHW",
        dtype: Kind = "float32",
        batch: Width = 64,
        fixed_batch: bool = False,
        repeats: Width | None = None,
        differentiable: bool = False,
        layer: str | None = None,
    ) -> None:
        culprit = Culprit(self, "function", function)
        fitting = Fitting(culprit, size, channels, range, mean, std, layout, dtype, batch, fixed_batch)
        found = _Function(function, culprit)
        super().__init__(found, fitting, task, classes, output, differentiable, repeats)
        if layer is not None:
            self.watched = found.watched(layer, differentiable), layer


class _Function:
    """A function of the user's own; beside the networks of `medlat.core.external`."""

    def __init__(self, name: str, culprit: Culprit) -> None:
        self.function, self.culprit = imported(name, culprit), culprit

    def watched(self, layer: str, differentiable: bool) -> nn.Module:
        """The network that has a layer of that name, whose gradients can be taken."""
        if not isinstance(self.function, nn.Module):
            raise self.culprit.wrong("layer", f"{layer}, but the function is no torch.nn.Module; expected null")
        names = [name for name, _ in self.function.named_modules() if name]
        if layer not in names:
            raise self.culprit.wrong("layer", f"{layer}, and the network has no such layer{did_you_mean(layer, names)}")
        if not differentiable:
            raise self.culprit.wrong("layer", f"{layer}, which takes gradients; expected null, or differentiable=true")
        return self.function

    def __call__(self, batch: Tensor) -> Any:
        try:
            return self.function(batch.contiguous())  # repeated channels share memory, and it may write
        except Exception as error:  # whatever the user's code raises
            kind, text = type(error).__name__, last_line(error)
            problem = f"it raises {kind} on images {list(batch.shape)} ({text})"
            raise NetworkFails("function", problem, self.culprit.value, of=self.culprit.owner) from error


class MedlatClassifier(Trained):
    """A classifier that medlat trained, from its file. Raises UserError where it is missing or something else.

    path: the file. network: dotted name of the network's class, where it is one of the user's own.
    """

    def __init__(self, path: str | Path, network: str | None = None) -> None:
        self.culprit = Culprit(self, "path", str(path))
        file = Path(path).expanduser()
        check_file(file, self.culprit)
        try:
            super().__init__(load(file, () if network is None else (network,)).network)
        except UserError as error:
            raise self.culprit.error(str(error)) from error


def check(black_box: BlackBox, image: ImageSpec) -> None:
    """Run it on two made-up images, one grey and one of noise. Raises UserError where it does not take images of the
    data, returns what it should not, or has no gradients though it says so.
    """
    if isinstance(black_box, MedlatClassifier):
        _check_trained_on(black_box, image)
    if isinstance(black_box, Own):
        black_box.for_images(image)
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    images = torch.stack([torch.zeros(image.shape), noise])
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():  # it may draw numbers
            predictions = black_box(images.requires_grad_(black_box.differentiable))
    except NetworkFails as error:
        assert isinstance(black_box, Own)
        fits = what_fits(black_box.network, black_box.fitting, images.detach())
        if fits is None:
            raise
        raise black_box.culprit.error(f"{error.problem}; {fits}") from error
    assert predictions.shape == (2, len(black_box.outputs)), predictions.shape
    if isinstance(black_box, Own):
        black_box.ask_twice(images.detach())
    if black_box.differentiable and not predictions.requires_grad:
        raise ArgumentError(
            "differentiable", "its predictions have no gradient in the images; expected false", True, of=black_box
        )


def _check_trained_on(black_box: MedlatClassifier, image: ImageSpec) -> None:
    seen = black_box.network.image
    for key, theirs, ours in (
        ("data", f"{seen.channels} channel(s) of {seen.unit}", f"{image.channels} channel(s) of {image.unit}"),
        ("data.image_size", f"{seen.height}x{seen.width}", f"{image.height}x{image.width}"),
        ("data.intensity_range", f"[{seen.low:g}, {seen.high:g}]", f"[{image.low:g}, {image.high:g}]"),
    ):
        if theirs != ours:
            raise black_box.culprit.error(f"it was trained on images of {theirs}; {key} gives {ours}")
