"""Training of any generator with Lightning: continues where it was interrupted, and ends as if it never had been."""

import logging
import os
import pickle
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.io import CheckpointIO

from medlat.errors import UserError
from medlat.generators.settings import Hardware, Schedule
from medlat.tracking import Record, read_records, to_line

log = logging.getLogger(__name__)

Report = Callable[[list[Record]], None]


def train(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    schedule: Schedule,
    hardware: Hardware,
    folder: Path,
    report: Report,
) -> None:
    """Train to the end, from the last checkpoint in `folder/progress` if there is one.

    Every logged value goes to `folder/metrics.jsonl` and, live, to `report`. Raises UserError where the training
    diverges or a checkpoint is damaged.
    """
    progress = folder / "progress"
    last = _last_checkpoint(progress)
    curves = _Curves(folder / "metrics.jsonl", schedule.batch_size, report, _step_of(last) if last else 0)
    if last is not None:
        log.info("training: continues at step %d of %d", _step_of(last), schedule.steps)
    trainer = pl.Trainer(
        accelerator=hardware.device.type.replace("cuda", "gpu"),
        devices=1,
        precision=hardware.lightning_precision(),  # type: ignore[arg-type]
        max_steps=schedule.steps,
        val_check_interval=max(1, schedule.steps // schedule.validations),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, schedule.steps // 200),
        logger=curves,
        callbacks=[_checkpoints(progress, schedule.checkpoint_every_s), *_progress_display(schedule)],
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        enable_autolog_hparams=False,
        default_root_dir=str(folder),
        use_distributed_sampler=False,
    )
    module.to(memory_format=torch.channels_last)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if last else None, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        curves.close()
    assert trainer.global_step == schedule.steps, f"ended at step {trainer.global_step} of {schedule.steps}"
    shutil.rmtree(progress, ignore_errors=True)


class AtomicCheckpoints(CheckpointIO):
    """Checkpoints written whole or not at all, and read without unpickling more than tensors and plain containers."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        with open(fresh, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{path}: damaged checkpoint, or one that holds more than tensors, which could run code; refused. "
                f"Delete its folder to train from the start"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: damaged checkpoint; delete it to go on from the one before, or from the start"
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def _checkpoints(folder: Path, every_s: float) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder,
        filename="{step:09d}",
        auto_insert_metric_name=False,
        monitor="step",
        mode="max",
        save_top_k=2,
        train_time_interval=timedelta(seconds=every_s),
        enable_version_counter=False,
    )


def _last_checkpoint(folder: Path) -> Path | None:
    return max(folder.glob("*.ckpt"), key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem)


def _progress_display(schedule: Schedule) -> list[Callback]:
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return [TQDMProgressBar(refresh_rate=5)] if sys.stderr.isatty() else [_ProgressLines(schedule)]


class _ProgressLines(Callback):
    """A line every ten seconds where there is no terminal to draw a bar on."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.first, self.start = trainer.global_step, time.monotonic()
        self.last = self.start

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        now = time.monotonic()
        if now - self.last < 10.0:
            return
        self.last = now
        done, speed = trainer.global_step, (trainer.global_step - self.first) / (now - self.start)
        psnr = trainer.callback_metrics.get("validation/psnr")
        log.info(
            "training: step %d of %d, %.0f images/s, %.0f s left%s",
            done,
            self.schedule.steps,
            speed * self.schedule.batch_size,
            (self.schedule.steps - done) / speed,
            "" if psnr is None else f", validation PSNR {psnr:.1f} dB",
        )


class _Curves(Logger):
    """Lightning's values as records, in a file that grows with the training and is cut back to the checkpoint on
    resuming.
    """

    def __init__(self, path: Path, batch_size: int, report: Report, resume_step: int) -> None:
        super().__init__()
        self.batch_size, self.report_to = batch_size, report
        kept = [r for r in read_records(path) if r.step <= resume_step * batch_size]
        path.write_text("".join(map(to_line, kept)))
        self._file = open(path, "a")  # noqa: SIM115 (closed in `close`)
        report(kept)

    @property
    def name(self) -> str:
        return "medlat"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is recorded by the run."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        now = time.time()
        images = ((step or 0) + 1) * self.batch_size
        records = [Record(name, images, float(value), now) for name, value in metrics.items() if name != "epoch"]
        self._file.writelines(map(to_line, records))
        self._file.flush()
        self.report_to(records)

    def close(self) -> None:
        self._file.close()
