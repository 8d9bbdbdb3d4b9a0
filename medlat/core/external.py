"""Networks of the user's own, from files: running them, and saying what is wrong. Images are fitted to what they take
by `medlat.core.fitting`.

A file in TorchScript is a program: `medlat.core.trial` runs it in a process of its own first, and it is loaded at its
first call and run where the images are. A file in ONNX holds no code; it is loaded when the object is made, and run on
the CPU. Feature extractors (`medlat.evaluation.features`) and classifiers (`medlat.classifiers.adapters`) use this.
"""

import os
import pkgutil
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlat.core.errors import ArgumentError, did_you_mean, key_in, nearest
from medlat.core.foreign import SCRIPTED, TORCHSCRIPT, what_it_is

GPU = re.compile(r'"(cuda(?::[0-9]+)?)"')  # as the code of a TorchScript file names the device
ELEMENTS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


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


class NetworkFails(ArgumentError):
    """A network raised an error on a batch of images."""


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
            raise fails(self.culprit, batch, error, self._of_a_gpu(), self.takes) from error

    def _of_a_gpu(self) -> str:
        """What is said of a program that names a GPU; "" of others."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                codes = [archive.read(name) for name in archive.namelist() if "/code/" in name and name.endswith(".py")]
        except Exception:  # whatever damaged bytes lead to
            return ""
        found = GPU.search(b"\n".join(codes).decode(errors="replace"))
        return f"its code names the device {found[1]}, as after tracing there: trace it on the CPU" if found else ""

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

    It must have one input, [N, C, H, W] or [N, H, W, C] of float32, float16 or uint8; the first output is taken. Where
    the file fixes N that is `fixed_batch`. An ONNX file is a graph of operators and holds no code; operators of one's
    own are not loaded.

    Raises UserError where the file is missing or of another format and, when called, where the network fails.
    """

    def __init__(self, path: Path, culprit: Culprit) -> None:
        self.culprit = culprit
        check_file(path, culprit)
        self.session = _session(path, culprit)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in ELEMENTS or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise culprit.error(f"the network's inputs are {found}; expected one of float32 [N, C, H, W], or NHWC")
        self.input, self.dtype, self.shape = inputs[0].name, ELEMENTS[inputs[0].type], inputs[0].shape
        first = self.shape[0]
        self.fixed_batch: int | None = first if isinstance(first, int) else None

    def __call__(self, batch: Tensor) -> Any:
        x = batch.detach().cpu().numpy()
        try:
            return self.session.run(None, {self.input: np.ascontiguousarray(x)})[0]
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise fails(self.culprit, x, error) from error

    def check_input(self, given: tuple[int, ...], layout: str, dtype: str) -> None:
        """Raises UserError where the file says that it takes other images than these of the shape `given`, one of which
        is [C, H, W], or with the layout NHWC [H, W, C]; it names every key that would fit.
        """
        declared: list[int | None] = [n if isinstance(n, int) else None for n in self.shape[1:]]
        right = "NCHW" if declared[0] in (1, 3) else layout
        if declared[2] in (1, 3):  # no image is that narrow
            right = "NHWC"
        channels, sides = (declared[2], declared[:2]) if right == "NHWC" else (declared[0], declared[1:])
        if None not in sides and sides[0] != sides[1]:
            raise self.culprit.error(f"it takes images of {sides[0]}x{sides[1]}; expected a network of square ones")
        mine, own = (given[2], given[:2]) if layout == "NHWC" else (given[0], given[1:])
        wrong = {"layout": right} if right != layout else {}
        wrong |= {"channels": str(channels)} if channels not in (None, mine) else {}
        size = next((side for side, n in zip(sides, own, strict=True) if side not in (None, n)), None)
        wrong |= {"size": str(size)} if size is not None else {}
        wrong |= {"dtype": self.dtype} if dtype != self.dtype else {}
        if wrong:
            keys = ", ".join(f"{key_in(self.culprit.owner, key)}={value}" for key, value in wrong.items())
            takes = f"it takes {self.dtype} {['N', *self.shape[1:]]}, and is given {dtype} {['N', *given]}"
            raise self.culprit.error(f"{takes}; expected {keys}".replace("'", ""))


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
        found = what_it_is(path)
        problem = first_line(error) if found is None or found[0] == "an ONNX file" else "; ".join(found)
        raise culprit.error(f"not an ONNX file that onnxruntime can run ({problem})") from error


def check_file(path: Path, culprit: Culprit) -> None:
    """Raises UserError where there is no such file, with the most similar one beside it."""
    if path.is_file():
        return
    if path.is_dir():
        raise culprit.error("a folder; expected a file")
    if path.exists() or path.is_symlink():
        raise culprit.error("a link that leads nowhere" if path.is_symlink() else "no file, but a device or a pipe")
    beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    raise culprit.error("no such file" + (f"; did you mean '{path.parent / near}'?" if near else ""))


def _check_archive(path: Path, culprit: Culprit) -> None:
    """Raises UserError where a file's contents, by their names, are not those of a TorchScript file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
        missing = [part for part in TORCHSCRIPT if not any(name.startswith(part) for name in names)]
        problem = f"a zip without {', '.join(missing)}"
    except Exception as error:  # whatever damaged bytes lead to
        missing, problem = [""], first_line(error)
    if missing:
        what, right = what_it_is(path) or (problem, SCRIPTED)
        raise culprit.error(f"not a TorchScript file ({what}); {right}")


def fails(
    culprit: Culprit, batch: Tensor | np.ndarray, error: Exception, why: str = "", takes: str = "images"
) -> NetworkFails:
    """The message of a network that raised an error on a batch of images, or what else it takes. why: that is known
    better than it says.
    """
    problem = f"the network fails on {takes} {list(batch.shape)} ({why or last_line(error)})"
    return NetworkFails(culprit.argument, problem, culprit.value, of=culprit.owner)


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
