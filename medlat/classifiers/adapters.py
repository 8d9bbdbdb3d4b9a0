"""The user's own classifier as a black box: a file (TorchScript, ONNX), a Python function, or a medlat checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from medlat.classifiers.black_box import BlackBox, Task
from medlat.classifiers.networks import outputs_of
from medlat.classifiers.trained import Trained, load
from medlat.core.errors import ArgumentError, UserError, key_in
from medlat.core.external import Culprit, Fitting, ONNXFile, TorchScriptFile, check_file, imported, last_line
from medlat.core.ranges import Width
from medlat.core.spaces import ImageSpec

Output = Literal["probabilities", "logits"]
TOLERANCE = 1e-2  # by which probabilities may miss 0, 1 and their sum: half precision


class _Own:
    """What classifiers of the user's own share: fitting images to the input, and making predictions of the output.

    path:           of the file.
    task, classes:  what it predicts, see `BlackBox`; regression: the name of the value.
    output:         "probabilities" or "logits", of which sigmoid or softmax are taken here; regression ignores it.
    size:           pixels a side that images are resized to (bilinear, antialiased); null: as they are.
    channels:       that it takes: greyscale is repeated; null: as many as the images have.
    low, high:      what it takes for -1 and +1, e.g. 0 and 1, or 0 and 255.
    batch:          images at a time.

    It may return [N, K] with K the number of classes; binary also [N] or [N, 1] for the second class, regression [N].

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
    ) -> None:
        self.network, self.fitting, self.culprit = network, fitting, fitting.culprit
        if output not in get_args(Output):
            raise self.culprit.wrong("output", f"'{output}', expected probabilities or logits")
        self.task, self.classes, self.output, self.differentiable = task, classes, output, differentiable
        self.outputs = outputs_of(task, classes)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> predictions [N, len(outputs)] float32 on the images' device."""
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            return torch.cat([self._predictions(self._run(part), part) for part in self.fitting.batches(images)])

    def _run(self, batch: Tensor) -> Any:
        try:
            return self.network(batch)
        except UserError as error:
            if self.fitting.channels is not None or batch.shape[1] != 1:
                raise
            hint = f"; images have 1 channel: if it takes colour, expected {key_in(self, 'channels')}=3"
            raise UserError(f"{error}{hint}") from error.__cause__

    def _predictions(self, output: Any, batch: Tensor) -> Tensor:
        values = self._columns(output, len(batch)).to(batch.device, torch.float32)
        if not torch.isfinite(values).all():
            bad = int((~torch.isfinite(values)).any(dim=1).sum())
            raise self.culprit.error(f"it returns NaN or infinity for {bad} of {len(batch)} images")
        if self.task == "regression":
            return values
        if self.output == "logits":
            values = values.sigmoid() if values.shape[1] == 1 else values.softmax(dim=1)
        else:
            values = self._probabilities(values)
        return values[:, -1:] if self.task == "binary" else values

    def _columns(self, output: Any, n: int) -> Tensor:
        """The output as [n, K], K as many as the task can have."""
        if not isinstance(output, Tensor | np.ndarray):
            raise self.culprit.error(f"it returns a {type(output).__name__}; expected one tensor [N, K]")
        values = torch.as_tensor(output)
        if values.dim() == 1 and len(self.outputs) == 1:
            values = values[:, None]
        widths = (1, 2) if self.task == "binary" else (len(self.outputs),)
        if values.dim() == 2 and len(values) == n and values.shape[1] in widths:
            return values
        found = f"it returns {list(values.shape)} for {n} images"
        expected = " or ".join(str([n, width]) for width in widths)
        raise self.culprit.wrong("classes", f"{self.classes} with task {self.task}, but {found}; expected {expected}")

    def _probabilities(self, values: Tensor) -> Tensor:
        low, high = values.min().item(), values.max().item()
        if low < -TOLERANCE or high > 1.0 + TOLERANCE:
            raise self.culprit.wrong(
                "output",
                f"probabilities, but it returns values from {low:.3g} to {high:.3g}; expected 0 to 1, or "
                f"{key_in(self, 'output')}=logits",
            )
        if values.shape[1] == 1:
            return values.clamp(0.0, 1.0)
        sums = values.sum(dim=1)
        worst = sums[(sums - 1.0).abs().argmax()].item()
        if abs(worst - 1.0) > TOLERANCE:
            raise self.culprit.wrong(
                "output",
                f"probabilities, but those of an image sum to {worst:.3g}; expected 1, or "
                f"{key_in(self, 'output')}=logits",
            )
        values = values.clamp(0.0, 1.0)
        return values / values.sum(dim=1, keepdim=True)


class TorchScriptClassifier(_Own):
    """The user's classifier in a TorchScript file; arguments as above. The file is a program that is run (see
    `medlat.core.external`): take it from where you would take a program. ONNX holds no code.

    differentiable: whether gradients in the images can be taken; false for a network that cuts them off.
    """

    def __init__(
        self,
        path: str | Path,
        task: Task,
        classes: list[str],
        output: Output = "probabilities",
        size: Width | None = None,
        channels: Width | None = None,
        low: float = -1.0,
        high: float = 1.0,
        batch: Width = 64,
        differentiable: bool = True,
    ) -> None:
        culprit = Culprit(self, "path", str(path))
        fitting = Fitting(culprit, size, channels, low, high, batch)
        network = TorchScriptFile(Path(path).expanduser(), culprit)
        super().__init__(network, fitting, task, classes, output, differentiable)


class ONNXClassifier(_Own):
    """The user's classifier in an ONNX file, run by onnxruntime on the CPU; arguments as above.

    It must have one input, float32 [N, C, H, W]; the first output is taken. Where the file fixes N, that is the batch.
    """

    def __init__(
        self,
        path: str | Path,
        task: Task,
        classes: list[str],
        output: Output = "probabilities",
        size: Width | None = None,
        channels: Width | None = None,
        low: float = -1.0,
        high: float = 1.0,
        batch: Width = 64,
    ) -> None:
        culprit = Culprit(self, "path", str(path))
        fitting = Fitting(culprit, size, channels, low, high, batch)
        network = ONNXFile(Path(path).expanduser(), culprit)
        fitting.batch = network.fixed_batch or batch
        super().__init__(network, fitting, task, classes, output, differentiable=False)


class PythonClassifier(_Own):
    """The user's classifier as a function; other arguments as above.

    function:       "package.module:function", imported from where Python looks, or from the folder of the command. It
                    gets float32 images [N, C, H, W] in [low, high] on their device, and returns a tensor or array.
    differentiable: whether gradients in the images can be taken of what it returns.
    """

    def __init__(
        self,
        function: str,
        task: Task,
        classes: list[str],
        output: Output = "probabilities",
        size: Width | None = None,
        channels: Width | None = None,
        low: float = -1.0,
        high: float = 1.0,
        batch: Width = 64,
        differentiable: bool = False,
    ) -> None:
        culprit = Culprit(self, "function", function)
        fitting = Fitting(culprit, size, channels, low, high, batch)
        super().__init__(_Function(function, culprit), fitting, task, classes, output, differentiable)


class _Function:
    """A function of the user's own; beside the networks of `medlat.core.external`."""

    def __init__(self, name: str, culprit: Culprit) -> None:
        self.function, self.culprit = imported(name, culprit), culprit

    def __call__(self, batch: Tensor) -> Any:
        try:
            return self.function(batch.contiguous())  # repeated channels share memory, and it may write
        except Exception as error:  # whatever the user's code raises
            kind, text = type(error).__name__, last_line(error)
            raise self.culprit.error(f"it raises {kind} on images {list(batch.shape)} ({text})") from error


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
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    images = torch.stack([torch.zeros(image.shape), noise])
    with torch.enable_grad():
        predictions = black_box(images.requires_grad_(black_box.differentiable))
    assert predictions.shape == (2, len(black_box.outputs)), predictions.shape
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
