"""Training of anything with Lightning: continues where it was interrupted, and ends as if it never had been."""

import logging
import signal
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.multiprocessing.spawn import ProcessException

from medlat.core import machine
from medlat.core.errors import ArgumentError, UserError, key_in
from medlat.core.files import write_whole
from medlat.core.randomness import generator_for
from medlat.core.records import Record, read_records, to_line
from medlat.core.spaces import decode_in_parts
from medlat.core.store import PROGRESS
from medlat.data.module import SliceData
from medlat.training import nodes
from medlat.training.batchless import Steps
from medlat.training.checkpoints import AtomicCheckpoints, Checkpoints, last_checkpoint, step_of
from medlat.training.interruption import Interruption
from medlat.training.processes import EqualProcesses, end_with_parent, user_error
from medlat.training.settings import Hardware, Schedule

log = logging.getLogger(__name__)

OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError", "MemoryError", "can't allocate memory")
Report = Callable[[list[Record]], None]
Show = Callable[[int, Tensor], None]  # images shown so far, images [N, C, H, W] in [-1, 1] of the fixed codes


class TrainedModule(pl.LightningModule, ABC):
    """What trains a network: a generator, an encoder, a classifier.

    optimisers: whose steps Lightning counts, each, in every batch. several_processes: whether it trains in more than
                one; compiles: whether it can use torch.compile. headline: the metric that a line of progress shows,
                and how. section: of the configuration, for messages.
    """

    optimisers = 1
    several_processes = False
    compiles = False
    headline: tuple[str, str]
    section = "generator"

    @property
    @abstractmethod
    def result(self) -> Any:
        """The network that the training is for."""

    def settle(self, images: Iterable[Tensor]) -> None:
        """Called when the training has ended, before the result is kept: for what is known of all images, and not of
        batches. images: batches [N, C, H, W] of training images as they are, without augmentation.
        """

    def compile_networks(self) -> None:
        """Let torch.compile make it faster; overridden where `compiles`."""
        raise TypeError(f"{type(self).__name__} has no networks to compile")


class GeneratorModule(TrainedModule):
    """What trains a generator: its result is a `LatentModel`, whose images of fixed codes are kept as it goes on."""


def train(
    module: TrainedModule,
    data: SliceData | Steps,
    schedule: Schedule,
    hardware: Hardware,
    folder: Path,
    report: Report,
    show: Show | None = None,
) -> None:
    """Train to the end, from the last checkpoint in `folder/progress` if there is one.

    Every logged value goes to `folder/metrics.jsonl` and, live, to `report`; images of fixed codes to
    `folder/grid/<images shown>.npy` at each validation and, live, to `show` (of several processes, only the files are
    written). Raises UserError where the training diverges or a checkpoint is damaged.
    """
    check_hardware(module, schedule, hardware)
    if hardware.nodes > 1:
        nodes.check(hardware)
    progress, first = folder / PROGRESS, machine.node() == 0
    last, steps = _agreed_checkpoint(progress, folder, hardware), module.optimisers * schedule.steps
    data.start = step_of(last) // module.optimisers if last else 0
    alone, grows = hardware.processes == 1, isinstance(module, GeneratorModule)
    curves = _Curves(folder / "metrics.jsonl", schedule.batch_size, report if alone else _nowhere, data.start, first)
    interruption = Interruption(progress, hardware.processes)
    if last is not None:
        log.info(
            "training the %s: continues at step %d of %d", module.section.split(".")[-1], data.start, schedule.steps
        )
    trainer = pl.Trainer(
        accelerator=hardware.device.type.replace("cuda", "gpu"),
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        strategy="auto" if alone else EqualProcesses(_begin_like_this_process(hardware)),
        precision=hardware.lightning_precision(),  # type: ignore[arg-type]
        max_steps=steps,
        val_check_interval=max(1, schedule.steps // schedule.validations),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, schedule.steps // 200),
        logger=curves,
        callbacks=[
            *([FixedGrid(folder / "grid", schedule.batch_size, show if alone else None)] if grows else []),
            Checkpoints(progress, schedule.checkpoint_every_s, interruption),
            *([_Compile()] if hardware.compile else []),
            *_progress_display(schedule),
        ],
        # A cluster's own environment would insist on starting the processes itself.
        plugins=[AtomicCheckpoints(), LightningEnvironment()],
        enable_checkpointing=False,  # by `Checkpoints` instead
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        enable_autolog_hparams=False,
        default_root_dir=str(folder),
        use_distributed_sampler=False,
    )
    module.to(memory_format=torch.channels_last)
    try:
        with interruption:
            trainer.fit(module, datamodule=data, ckpt_path=str(last) if last else None, weights_only=True)
    except SystemExit as end:
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGKILL)
        if end.code == 1:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        raise
    except (torch.OutOfMemoryError, MemoryError, ProcessException, RuntimeError) as error:
        raise _explained(error, module, schedule) from error
    if isinstance(data, SliceData):
        module.settle(data.as_they_are())
    if first:
        (folder / nodes.MEETING).unlink(missing_ok=True)


def _explained(error: Exception, module: TrainedModule, schedule: Schedule) -> Exception:
    """The user's error behind one of training, or the error itself."""
    if isinstance(error, ProcessException) and (found := user_error(error)):
        return found
    if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
        return error
    parts = getattr(module, "accumulate", None)
    key = f"{key_in(module, 'accumulate')}={parts}"
    split = "" if parts is None else f", or raise {key}, the parts a batch is divided into"
    return UserError(f"out of memory: lower {key_in(schedule, 'batch_size')}={schedule.batch_size}{split}")


def check_hardware(module: TrainedModule, schedule: Schedule, hardware: Hardware) -> None:
    """Raises UserError where the module cannot be trained as asked."""
    if hardware.processes > 1 and not module.several_processes:
        key = "devices" if hardware.devices > 1 else "nodes"
        raise ArgumentError(
            key, f"{type(module).__name__} trains in one process; expected 1", getattr(hardware, key), of=hardware
        )
    if hardware.compile and not module.compiles:
        raise ArgumentError(
            "compile", f"{type(module).__name__} does not use torch.compile; expected false", True, of=hardware
        )
    if hardware.device.type == "cuda" and hardware.devices > torch.cuda.device_count():
        raise ArgumentError("devices", f"found {torch.cuda.device_count()} GPU(s)", hardware.devices, of=hardware)
    if schedule.batch_size % hardware.processes:
        across = f" times {key_in(hardware, 'nodes')}={hardware.nodes}" if hardware.nodes > 1 else ""
        processes = f"{key_in(hardware, 'devices')}={hardware.devices}{across}"
        expected = f"expected a multiple of {processes}, which share a batch"
        raise ArgumentError("batch_size", expected, schedule.batch_size, of=schedule)
    parts = getattr(module, "accumulate", 1)
    if schedule.batch_size // hardware.processes % parts:
        images = schedule.batch_size // hardware.processes
        expected = f"expected a divisor of the {images} images that a process has in each step"
        raise ArgumentError("accumulate", expected, parts, of=module)


def _nowhere(records: list[Record]) -> None:
    """Where values go that another process reports."""


def _begin_like_this_process(hardware: Hardware) -> Callable[[int], None]:
    """What makes a started process end with this one and use as many threads as asked for, and the first of several
    talk as this one does.
    """
    formatters = [handler.formatter for handler in logging.getLogger().handlers if handler.formatter]
    style = {"format": formatters[0]._fmt, "datefmt": formatters[0].datefmt} if formatters else {}
    return partial(_begin, hardware, logging.getLogger("medlat").getEffectiveLevel(), style)


def _begin(hardware: Hardware, level: int, style: dict[str, Any], rank: int) -> None:
    end_with_parent()
    hardware.limit_threads()
    logging.basicConfig(**style)
    logging.getLogger("medlat").setLevel(level if rank == 0 else logging.CRITICAL)
    _quieten_lightning()


def _quieten_lightning() -> None:
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


class _Compile(Callback):
    """In each process, as what torch.compile made cannot be sent there."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        assert isinstance(module, TrainedModule)
        module.compile_networks()


class FixedGrid(Callback):
    """What a fixed set of codes looks like as the training goes on: [SIDE², C, H, W] float16 in [-1, 1] per file."""

    SIDE = 6

    def __init__(self, folder: Path, batch_size: int, show: Show | None = None) -> None:
        self.folder, self.batch_size, self.show = folder, batch_size, show

    @torch.inference_mode()
    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainedModule)
        if not trainer.is_global_zero:
            return
        model = module.result
        space = next(iter(model.spaces))
        codes = model.sample(self.SIDE**2, space, generator_for("fixed grid")).to(module.device)
        self.folder.mkdir(exist_ok=True)
        shown = trainer.global_step // module.optimisers * self.batch_size
        images = decode_in_parts(model, codes, space)
        np.save(self.folder / f"{shown:010d}.npy", images.half().numpy())
        if self.show is not None:
            self.show(shown, images)


def _agreed_checkpoint(progress: Path, folder: Path, hardware: Hardware) -> Path | None:
    """Where to go on from: of several nodes, all where the first one does."""
    if hardware.nodes > 1 and machine.node() > 0:
        meeting = nodes.called(folder)
        assert meeting is not None, "a node follows when it is called"
    else:
        last = last_checkpoint(progress)
        if hardware.nodes == 1:
            return last
        meeting = nodes.call(folder, last.name if last else None)
    meeting.attend()
    return progress / meeting.checkpoint if meeting.checkpoint else None


def _progress_display(schedule: Schedule) -> list[Callback]:
    _quieten_lightning()
    return [_ProgressBar(schedule.batch_size)] if sys.stderr.isatty() else [_ProgressLines(schedule)]


class _ProgressBar(TQDMProgressBar):
    """Lightning's bar, with what was shown and how fast beside the time left."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(refresh_rate=5)
        self.batch_size = batch_size

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, TrainedModule)
        kimg = trainer.global_step // pl_module.optimisers * self.batch_size / 1000
        rate = (self.train_progress_bar.format_dict["rate"] or 0.0) * self.batch_size
        shown = {"kimg": f"{kimg:.1f}", "images/s": f"{rate:.0f}"}
        return shown | {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}


def duration(seconds: float) -> str:
    """In words: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60.0), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class _ProgressLines(Callback):
    """A line every ten seconds where there is no terminal to draw a bar on."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.first, self.start = self._done(trainer, module), time.monotonic()
        self.last = self.start

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        now = time.monotonic()
        if now - self.last < 10.0:
            return
        self.last = now
        assert isinstance(module, TrainedModule)
        done = self._done(trainer, module)
        speed = (done - self.first) / (now - self.start)
        name, words = module.headline
        value = trainer.callback_metrics.get(name)
        log.info(
            "training the %s: step %d of %d (%.1f of %.1f kimg), %.0f images/s, %s left%s",
            module.section.split(".")[-1],
            done,
            self.schedule.steps,
            done * self.schedule.batch_size / 1000,
            self.schedule.images / 1000,
            speed * self.schedule.batch_size,
            duration((self.schedule.steps - done) / speed),
            "" if value is None else ", " + words.format(value),
        )

    def _done(self, trainer: pl.Trainer, module: pl.LightningModule) -> int:
        assert isinstance(module, TrainedModule)
        return trainer.global_step // module.optimisers


class _Curves(Logger):
    """Lightning's values as records, in a file that grows with the training and is cut back to the checkpoint on
    resuming.
    """

    def __init__(self, path: Path, batch_size: int, report: Report, resume_step: int, writes: bool) -> None:
        super().__init__()
        self.batch_size, self.report_to = batch_size, report
        kept = [r for r in read_records(path) if r.step <= resume_step * batch_size]
        if writes:
            write_whole(path, "".join(map(to_line, kept)))
        self.path = path
        report(kept)

    @property
    def name(self) -> str:
        return "medlat"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is recorded by the run."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        now = time.time()
        images = ((step or 0) + 1) * self.batch_size
        records = [Record(name, images, float(value), now) for name, value in metrics.items() if name != "epoch"]
        with open(self.path, "a") as file:
            file.writelines(map(to_line, records))
        self.report_to(records)
