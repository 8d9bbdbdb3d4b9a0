"""How long and on what a generator is trained. Light: checked before anything heavy is imported."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from medlat.core.errors import ArgumentError
from medlat.core.machine import cores

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute; never part of an artifact's key.

    accelerator: auto | cpu | gpu; precision: "auto" takes bf16 where the hardware has it; threads: of the CPU;
    devices: processes on a node that train together, each with its GPU or on the CPU; nodes: machines that do so;
    compile: whether GANs use torch.compile.
    """

    accelerator: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    devices: int = 1
    nodes: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ArgumentError("threads", "expected a whole number of at least 1, or null", self.threads)
        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, "expected a whole number of at least 1", getattr(self, name))

    @property
    def processes(self) -> int:
        """That train together, on all nodes."""
        return self.devices * self.nodes

    def alone(self) -> "Hardware":
        """The same for what trains in one process, as all but some generators do."""
        return replace(self, devices=1, nodes=1, compile=False)

    def limit_threads(self) -> None:
        """Let torch use as many CPU threads as asked for, or as this process has cores."""
        torch.set_num_threads(self.threads or min(torch.get_num_threads(), cores()))

    @property
    def device(self) -> torch.device:
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ArgumentError("accelerator", "no GPU found; expected auto or cpu on this machine", "gpu", of=self)
        return torch.device("cuda" if self.accelerator in ("auto", "gpu") and torch.cuda.is_available() else "cpu")

    def lightning_precision(self) -> str:
        """The precision with "auto" resolved."""
        if self.precision != "auto":
            return self.precision
        if self.device.type == "cuda":
            return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
        return "bf16-mixed" if cpu_has_bf16() else "32-true"


@dataclass(frozen=True)
class Schedule:
    """Length of a training: images shown, images per step, seconds between checkpoints, number of validations."""

    images: int
    batch_size: int
    checkpoint_every_s: float = 60.0
    validations: int = 20

    def __post_init__(self) -> None:
        for name in ("images", "batch_size", "validations"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, "expected a whole number of at least 1", getattr(self, name))

    @property
    def steps(self) -> int:
        return max(1, round(self.images / self.batch_size))


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX512-BF16, AMX); emulated it would be slower than float32."""
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


def fast(device: torch.device) -> AbstractContextManager:
    """bf16 where the hardware has it; for what does not hang on the last digits."""
    able = cpu_has_bf16() if device.type == "cpu" else torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=able)


def cpu_errs_in_second_derivatives() -> bool:
    """Whether bf16 must not be differentiated twice here: on CPUs with AMX, oneDNN of torch 2.13 returns a wrong
    gradient of a convolution's weights there (R1 of 4 or 8 images: off by its own length). It does not with
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, which makes all else half as fast.
    """
    return "amx_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    return Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
