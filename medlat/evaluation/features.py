"""Feature extractors: what turns images into the rows that distances and path lengths are taken over.

An extractor is a black box: it has a `name`, which results are called by, and maps images [N, C, H, W] in [-1, 1] to
features [N, D]. The user's own network comes as a file in TorchScript (a program: see `medlat.core.external`) or ONNX.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from medlat.core.external import Culprit, ONNXFile, TorchScriptFile
from medlat.core.fitting import BYTES, Deviation, Fitting, Kind, Layout, Mean
from medlat.core.ranges import Interval, Width
from medlat.core.spaces import ImageSpec

if TYPE_CHECKING:
    from medlat.evaluation.regressor import FactorRegressor


@runtime_checkable
class Features(Protocol):
    """An extractor, as every metric sees it."""

    name: str

    def __call__(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] in [-1, 1] -> features [N, D] float32, finite; in batches, without gradients."""
        ...


class _FromFile:
    """What extractors from files share: fitting images to the network's input, and checking its output.

    name:      results are called by it.
    path:      of the network's file.
    size, channels, range, mean, std, layout, dtype, batch: the images that the network takes, see
               `medlat.core.fitting.Fitting`.

    Raises UserError where the file is missing or of another format, and, when called, where images do not fit or the
    output is not one row of finite numbers per image.
    """

    kind: type[TorchScriptFile | ONNXFile]

    def __init__(
        self,
        name: str,
        path: str | Path,
        size: Width | None = None,
        channels: Width | None = None,
        range: Interval = (-1.0, 1.0),
        mean: Mean = None,
        std: Deviation = None,
        layout: Layout = "NCHW",
        dtype: Kind = "float32",
        batch: Width = 32,
    ) -> None:
        self.name = name
        self.culprit = Culprit(self, "path", str(path))
        self.fitting = Fitting(self.culprit, size, channels, range, mean, std, layout, dtype, batch)
        self.network = self.kind(Path(path).expanduser(), self.culprit)
        if self.network.fixed_batch is not None:
            self.fitting.batch, self.fitting.fixed_batch = self.network.fixed_batch, True

    def for_images(self, image: ImageSpec) -> None:
        """Get to know what the images of the data are. Raises UserError where the network says that it takes others."""
        self.fitting.for_images(image)
        if isinstance(self.network, ONNXFile):
            self.network.check_input(self.fitting.shape(image), self.fitting.layout, self.fitting.dtype)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] in [-1, 1] -> features [N, D] float32. Output of more axes is flattened."""
        parts = self.fitting.batches(images)
        return np.concatenate([self._rows(self.network(part), len(part))[:n] for part, n in parts])

    def _rows(self, output: Any, n: int) -> np.ndarray:
        """The output as [n, D] float32."""
        if isinstance(output, Tensor):
            output = output.float().cpu().numpy()
        if not isinstance(output, np.ndarray):
            raise self.culprit.error(f"the network returns a {type(output).__name__}; expected one tensor [N, D]")
        if output.ndim < 2 or len(output) != n:
            raise self.culprit.error(f"the network returns {list(output.shape)} for {n} images; expected [{n}, D]")
        rows = np.ascontiguousarray(output.reshape(n, -1), dtype=np.float32)
        if not np.isfinite(rows).all():
            bad = int((~np.isfinite(rows)).any(axis=1).sum())
            raise self.culprit.error(f"the network returns NaN or infinite features for {bad} of {n} images")
        return rows


class TorchScript(_FromFile):
    """The user's network in a TorchScript file; arguments as above. The file is a program that is run: take it from
    where you would take a program. ONNX holds no code.
    """

    kind = TorchScriptFile


class Inception(TorchScript):
    """An Inception network in TorchScript (see there) that takes RGB [N, 3, 299, 299] in [0, 255] and gives [N, D]."""

    def __init__(self, path: str | Path, name: str = "inception", batch: Width = 32) -> None:
        super().__init__(name, path, size=299, channels=3, range=BYTES, batch=batch)


class ONNX(_FromFile):
    """The user's network in an ONNX file, run by onnxruntime on the CPU; arguments as above.

    It must have one input of four axes; the first output is taken. Where the file fixes N, that is the batch.
    """

    kind = ONNXFile


def check(extractor: Features, image: ImageSpec) -> None:
    """Run it on two made-up images of noise. Raises UserError where it does not take images of the data, or returns
    what it should not.
    """
    if isinstance(extractor, _FromFile):
        extractor.for_images(image)
    extractor(torch.rand(2, *image.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0)


class RegressorFeatures:
    """The penultimate layer of a `FactorRegressor`: features that see what varies in the data, and where it is.

    name: what it learnt to tell: "factors"; "labels" where no factors are known and it is a classifier of these.
    """

    def __init__(self, network: "FactorRegressor", name: str = "factors", batch: Width = 256) -> None:
        self.network, self.name, self.batch = network.eval(), name, batch

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] in [-1, 1] -> features [N, 64] float32."""
        device = next(self.network.parameters()).device
        parts = [self.network.features(part.to(device)).float().cpu() for part in images.split(self.batch)]
        return torch.cat(parts).numpy()
