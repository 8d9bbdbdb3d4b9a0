"""Feature extractors: what turns images into the rows that distances and path lengths are taken over.

An extractor is a black box: it has a `name`, which results are called by, and maps images [N, C, H, W] in [-1, 1] to
features [N, D]. The user's own network comes as a file in TorchScript or ONNX, loaded when the extractor is made and
run where the images are (ONNX: on the CPU).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.errors import UserError

if TYPE_CHECKING:
    from medlat.evaluation.regressor import FactorRegressor


@runtime_checkable
class Features(Protocol):
    """An extractor, as every metric sees it."""

    name: str

    def __call__(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] in [-1, 1] -> features [N, D] float32, finite; in batches, without gradients."""
        ...


class _FromFile(ABC):
    """What networks from files share: fitting images to the network's input, and checking its output.

    name:      results are called by it.
    path:      of the network's file.
    size:      pixels a side that images are resized to (bilinear, antialiased); null: as they are.
    channels:  that the network takes: greyscale is repeated; null: as many as the images have.
    low, high: what the network takes for -1 and +1, e.g. 0 and 1, or 0 and 255.
    batch:     images at a time.

    Raises UserError where the file is missing or of another format, and, when called, where images do not fit or the
    output is not one row of finite numbers per image.
    """

    def __init__(
        self,
        name: str,
        path: str | Path,
        size: int | None = None,
        channels: int | None = None,
        low: float = -1.0,
        high: float = 1.0,
        batch: int = 32,
    ) -> None:
        self.name, self.path = name, Path(path).expanduser()
        self.size, self.channels, self.low, self.high, self.batch = size, channels, low, high, batch
        self.label = f"evaluation.features.{name}.path={path}"
        for argument, value in (("size", size), ("channels", channels), ("batch", batch)):
            if value is not None and value < 1:
                raise self.error(f"{argument}: {value}, expected a whole number of at least 1")
        if not low < high:
            raise self.error(f"low: {low:g}, high: {high:g}, expected low below high")
        if not self.path.is_file():
            raise self.error("no such file")
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Open the file."""

    @abstractmethod
    def run(self, batch: Tensor) -> Any:
        """The network's output for a batch of fitted images."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] in [-1, 1] -> features [N, D] float32. Output of more axes is flattened."""
        assert images.dim() == 4, images.shape
        assert len(images), "no images"
        parts = [self._rows(self.run(self._fit(part)), len(part)) for part in images.split(self.batch)]
        return np.concatenate(parts)

    def error(self, problem: str) -> UserError:
        """A UserError that names the key and the file."""
        return UserError(f"{self.label}: {problem}")

    def _fit(self, images: Tensor) -> Tensor:
        """Channels, range and size that the network takes: [N, C, H, W] in [-1, 1] -> [N, channels, size, size]."""
        channels = self.channels or images.shape[1]
        if images.shape[1] not in (1, channels):
            raise self.error(f"channels: {channels}, but the images have {images.shape[1]}; expected 1 or {channels}")
        x = (images.float() + 1.0) * ((self.high - self.low) / 2.0) + self.low
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return x.expand(-1, channels, -1, -1)

    def _rows(self, output: Any, n: int) -> np.ndarray:
        """The output as [n, D] float32."""
        if isinstance(output, Tensor):
            output = output.float().cpu().numpy()
        if not isinstance(output, np.ndarray):
            raise self.error(f"the network returns a {type(output).__name__}; expected one tensor [N, D]")
        if output.ndim < 2 or len(output) != n:
            raise self.error(f"the network returns {list(output.shape)} for {n} images; expected [{n}, D]")
        rows = np.ascontiguousarray(output.reshape(n, -1), dtype=np.float32)
        if not np.isfinite(rows).all():
            bad = int((~np.isfinite(rows)).any(axis=1).sum())
            raise self.error(f"the network returns NaN or infinite features for {bad} of {n} images")
        return rows


class TorchScript(_FromFile):
    """The user's network in a TorchScript file (`torch.jit.script(network).save(...)`); arguments as above.

    `torch.jit.load` builds tensors, plain values and TorchScript's own classes, and refuses pickled Python objects: a
    file cannot call Python. But it is a program that is run, and its operators can read and write files (`torch.save`
    is one of them): take files from where you would take a program.
    """

    def load(self) -> None:
        try:
            self.network = torch.jit.load(self.path, map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise self.error(f"not a TorchScript file ({_first_line(error)})") from error

    def run(self, batch: Tensor) -> Any:
        self.network.to(batch.device)
        try:
            return self.network(batch)
        except RuntimeError as error:
            raise self.error(f"the network fails on images {list(batch.shape)} ({_last_line(error)})") from error


class Inception(TorchScript):
    """An Inception network in TorchScript that takes RGB [N, 3, 299, 299] in [0, 255] and gives [N, D]."""

    def __init__(self, path: str | Path, name: str = "inception", batch: int = 32) -> None:
        super().__init__(name, path, size=299, channels=3, low=0.0, high=255.0, batch=batch)


class ONNX(_FromFile):
    """The user's network in an ONNX file, run by onnxruntime on the CPU; arguments as above.

    It must have one input, float32 [N, C, H, W]; the first output is taken. Where the file fixes N, that is the batch.
    An ONNX file is a graph of operators and holds no code; operators of one's own are not loaded.
    """

    def load(self) -> None:
        self.session = self._open(_onnxruntime(self.error))
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{i.name} {i.type}" for i in inputs)
            raise self.error(f"the network's inputs are {found}; expected one of float32 [N, C, H, W]")
        self.input = inputs[0].name
        first = inputs[0].shape[0] if inputs[0].shape else None
        self.fixed = first if isinstance(first, int) else None
        self.batch = self.fixed or self.batch

    def run(self, batch: Tensor) -> Any:
        x, n = batch.cpu().numpy(), len(batch)
        if self.fixed is not None and n < self.fixed:  # the last batch is filled up
            x = np.concatenate([x, np.repeat(x[-1:], self.fixed - n, axis=0)])
        try:
            output = self.session.run(None, {self.input: np.ascontiguousarray(x)})[0]
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise self.error(f"the network fails on images {list(x.shape)} ({_last_line(error)})") from error
        return output[:n] if self.fixed is not None and output.shape[:1] == (self.fixed,) else output

    def _open(self, runtime: Any) -> Any:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors only
        try:
            return runtime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise self.error(f"not an ONNX file that onnxruntime can run ({_first_line(error)})") from error


def _onnxruntime(error: Callable[[str], UserError]) -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError as missing:
        raise error('onnxruntime is not installed; pip install "medlat[onnx]"') from missing


class RegressorFeatures:
    """The penultimate layer of a `FactorRegressor`: features that see what varies in the data, and where it is."""

    name = "factors"

    def __init__(self, network: "FactorRegressor", batch: int = 256) -> None:
        self.network, self.batch = network.eval(), batch

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] in [-1, 1] -> features [N, 64] float32."""
        device = next(self.network.parameters()).device
        parts = [self.network.features(part.to(device)).float().cpu() for part in images.split(self.batch)]
        return torch.cat(parts).numpy()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: Exception) -> str:
    """TorchScript puts its own traceback before what went wrong."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
