"""Networks of the user's own, from files: fitting images to what they take, running them, and saying what is wrong.

A file in TorchScript is a program: `medlat.core.trial` runs it in a process of its own first, and it is loaded at its
first call and run where the images are. A file in ONNX holds no code; it is loaded when the object is made, and run on
the CPU. Feature extractors (`medlat.evaluation.features`) and classifiers (`medlat.classifiers.adapters`) use this.
"""

import os
import pkgutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.core.errors import ArgumentError, UserError, did_you_mean, nearest

TORCHSCRIPT = ("version", "constants.pkl", "data.pkl", "code/")  # what every archive of torch.jit.save holds


@dataclass(frozen=True, repr=False)
class Culprit:
    """What messages say is wrong.

    owner:    the object whose arguments are named; it may not be finished.
    argument: the one that names the network, "path"; value: of it.
    """

    owner: Any
    argument: str
    value: str

    def error(self, problem: str) -> ArgumentError:
        """Of the network."""
        return ArgumentError(self.argument, problem, self.value, of=self.owner)

    def wrong(self, argument: str, problem: str) -> ArgumentError:
        """Of one of its other arguments."""
        return ArgumentError(argument, problem, of=self.owner)


class Fitting:
    """Brings images to the size, channels and range that a network takes.

    size:      pixels a side that images are resized to (bilinear, antialiased); None: as they are.
    channels:  that the network takes: greyscale is repeated; None: as many as the images have.
    low, high: what the network takes for -1 and +1, e.g. 0 and 1, or 0 and 255.
    batch:     images at a time.

    Raises UserError for arguments that make no sense and, when called, where images do not fit.
    """

    def __init__(
        self, culprit: Culprit, size: int | None, channels: int | None, low: float, high: float, batch: int
    ) -> None:
        self.culprit, self.size, self.channels = culprit, size, channels
        self.low, self.high, self.batch = low, high, batch
        for argument, value in (("size", size), ("channels", channels), ("batch", batch)):
            if value is not None and value < 1:
                raise culprit.wrong(argument, f"{value}, expected a whole number of at least 1")
        if not low < high:
            raise culprit.wrong("low", f"{low:g}, high: {high:g}, expected low below high")

    def batches(self, images: Tensor) -> Iterator[Tensor]:
        """Images [N, C, H, W] in [-1, 1] -> fitted parts of at most `batch`."""
        assert images.dim() == 4, images.shape
        assert len(images), "no images"
        return map(self, images.split(self.batch))

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> [N, channels, size, size] float32 in [low, high]; differentiable."""
        channels = self.channels or images.shape[1]
        if images.shape[1] not in (1, channels):
            expected = "1" if channels == 1 else f"1 or {channels}"
            raise self.culprit.wrong(
                "channels", f"{channels}, but the images have {images.shape[1]}; expected {expected}"
            )
        x = (images.float() + 1.0) * ((self.high - self.low) / 2.0) + self.low
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return x.expand(-1, channels, -1, -1)


class TorchScriptFile:
    """A network in a TorchScript file (`torch.jit.script(network).save(...)`), with gradients in the images only.

    `torch.jit.load` builds tensors, plain values and TorchScript's own classes, and refuses pickled Python objects: a
    file cannot call Python. But it is a program that is run: its operators can read and write files (`torch.save` is
    one of them), and its loops need not end. Take files from where you would take a program; ONNX holds none.

    No more than the list of the file's contents is read until the first call.

    method: of the program that is called.

    Raises UserError where the file is missing or of another format and, when called, where the network cannot be
    loaded, or fails.
    """

    fixed_batch: int | None = None
    takes = "images"

    def __init__(self, path: Path, culprit: Culprit, method: str = "forward") -> None:
        self.path, self.culprit, self.method = path, culprit, method
        self.network: Any = None  # until the first call
        check_file(path, culprit)
        _check_archive(path, culprit)

    def __call__(self, batch: Tensor) -> Any:
        if self.network is None:
            self.network = self._load()
        self.network.to(batch.device)
        try:
            return getattr(self.network, self.method)(batch)
        except Exception as error:  # whatever the program raises
            raise fails(self.culprit, batch, error, self.takes) from error

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"network": None}  # another process loads it itself

    def _opened(self) -> Any:
        """What `torch.jit.load` reads."""
        return self.path

    @torch.inference_mode(False)  # whoever calls first: its weights are also used where gradients are taken
    def _load(self) -> Any:
        try:
            network = torch.jit.load(self._opened(), map_location="cpu").eval()
        except Exception as error:  # as above
            raise self.culprit.error(f"not a TorchScript file ({first_line(error)})") from error
        if not hasattr(network, self.method):
            raise self.culprit.error(f"the program has no method '{self.method}'")
        for parameter in network.parameters():  # a scripted network has no requires_grad_ of its own
            parameter.requires_grad_(False)
        return network


def is_program(made: Any) -> bool:
    """Whether a classifier or a feature extractor runs a program of a file, which `medlat.core.trial` tries first."""
    return isinstance(getattr(made, "network", None), TorchScriptFile)


class ONNXFile:
    """A network in an ONNX file, run by onnxruntime on the CPU, without gradients.

    It must have one input, float32 [N, C, H, W]; the first output is taken. Where the file fixes N
    (`fixed_batch`), a smaller batch is filled up. An ONNX file is a graph of operators and holds no code; operators of
    one's own are not loaded.

    Raises UserError where the file is missing or of another format and, when called, where the network fails.
    """

    def __init__(self, path: Path, culprit: Culprit) -> None:
        self.culprit = culprit
        check_file(path, culprit)
        self.session = _session(path, culprit)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{i.name} {i.type}" for i in inputs)
            raise culprit.error(f"the network's inputs are {found}; expected one of float32 [N, C, H, W]")
        self.input = inputs[0].name
        first = inputs[0].shape[0] if inputs[0].shape else None
        self.fixed_batch: int | None = first if isinstance(first, int) else None

    def __call__(self, batch: Tensor) -> Any:
        x, n, fixed = batch.detach().cpu().numpy(), len(batch), self.fixed_batch
        if fixed is not None and n < fixed:
            x = np.concatenate([x, np.repeat(x[-1:], fixed - n, axis=0)])
        try:
            output = self.session.run(None, {self.input: np.ascontiguousarray(x)})[0]
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise fails(self.culprit, x, error) from error
        return output[:n] if fixed is not None and output.shape[:1] == (fixed,) else output


def _session(path: Path, culprit: Culprit) -> Any:
    try:
        runtime: Any = import_module("onnxruntime")
    except ImportError as missing:
        raise culprit.error("onnxruntime is not installed; pip install onnxruntime") from missing
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise culprit.error(f"not an ONNX file that onnxruntime can run ({first_line(error)})") from error


def check_file(path: Path, culprit: Culprit) -> None:
    """Raises UserError where there is no such file, with the most similar one beside it."""
    if path.is_file():
        return
    beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    raise culprit.error("no such file" + (f"; did you mean '{path.parent / near}'?" if near else ""))


def _check_archive(path: Path, culprit: Culprit) -> None:
    """Raises UserError where a file's contents, by their names, are not those of a TorchScript file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except Exception as error:  # whatever damaged bytes lead to
        raise culprit.error(f"not a TorchScript file ({first_line(error)})") from error
    missing = [part for part in TORCHSCRIPT if not any(name.startswith(part) for name in names)]
    if missing:
        raise culprit.error(
            f"not a TorchScript file (a zip without {', '.join(missing)}); expected what "
            f"torch.jit.script(network).save(FILE) writes"
        )


def fails(culprit: Culprit, batch: Tensor | np.ndarray, error: Exception, takes: str = "images") -> UserError:
    """The message of a network that raised an error on a batch of images, or what else it takes."""
    return culprit.error(f"the network fails on {takes} {list(batch.shape)} ({last_line(error)})")


def first_line(error: Exception) -> str:
    """Of an error's message; its type where there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def last_line(error: Exception) -> str:
    """Of an error's message: TorchScript puts its own traceback before what went wrong."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def imported(name: str, culprit: Culprit) -> Callable[..., Any]:
    """A function or class of the user's, "package.module:function", from where Python looks or from the folder of the
    command. Raises UserError where there is none of that name.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise culprit.error('expected "package.module:function"')
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where `python -m` looks anyway, and a console script does not
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise culprit.error(f"importing {module_name} fails ({first_line(error)})") from error
        near = did_you_mean(error.name, _modules_beside(error.name))
        raise culprit.error(f"no module '{error.name}'{near if len(near) < 100 else ''}") from error
    except Exception as error:  # whatever the user's code raises
        raise culprit.error(f"importing {module_name} fails ({type(error).__name__}: {first_line(error)})") from error
    found = getattr(module, function_name, None)
    if not callable(found):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise culprit.error(f"{module_name} has no function '{function_name}'{did_you_mean(function_name, functions)}")
    return found


def _modules_beside(name: str) -> list[str]:
    """Modules of the package that should hold that one, with dots."""
    package, _, _ = name.rpartition(".")
    paths = list(getattr(sys.modules[package], "__path__", [])) if package else None
    return [f"{package}.{found.name}".lstrip(".") for found in pkgutil.iter_modules(paths)]
