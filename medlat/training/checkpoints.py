"""Checkpoints of a training: written whole, checked byte for byte, and read without running code."""

import errno
import logging
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import CheckpointIO

from medlat.core.errors import UserError
from medlat.training.interruption import Interruption

log = logging.getLogger(__name__)


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


class Checkpoints(Callback):
    """The two newest checkpoints, `folder/<optimisers' steps>.ckpt`, one every so many seconds, and at once when the
    training is asked to end.

    Where a step ends with a validation, the checkpoint is written after it: what goes on from there does not validate
    that step again.
    """

    def __init__(self, folder: Path, every_s: float, interruption: Interruption) -> None:
        self.folder, self.every_s, self.interruption = folder, every_s, interruption

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.last, self.saved = time.monotonic(), False
        self.interruption.begin()

    def on_train_batch_start(self, *_: Any) -> None:
        if self.saved:  # here what the last step measured is on record too
            self.saved = False
            self.interruption.hand_on()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        assert isinstance(trainer.val_check_batch, int)
        if trainer.global_step // module.optimisers % trainer.val_check_batch:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._save_if_due(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert trainer.global_step == trainer.max_steps, f"ended at step {trainer.global_step} of {trainer.max_steps}"

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        asked = bool(self.interruption.pending)
        due = trainer.strategy.broadcast(asked or time.monotonic() - self.last >= self.every_s)  # one process decides
        if not due or trainer.global_step == trainer.max_steps:
            return
        trainer.save_checkpoint(self.folder / f"{trainer.global_step:09d}.ckpt")
        self.last = time.monotonic()
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob("*.ckpt"), key=step_of)[:-2]:
                old.unlink()
        if asked:
            log.warning("asked to end by a signal: saved first, at step %d", trainer.global_step)
            self.saved = True


def last_checkpoint(progress: Path) -> Path | None:
    """The newest whole checkpoint; damaged ones, as a full disk leaves them, are said and removed."""
    for path in sorted(progress.glob("*.ckpt"), key=step_of, reverse=True):
        if is_whole(path):
            return path
        log.warning("%s is damaged: going on from the checkpoint before it, or from the start", path.name)
        path.unlink()
    return None


def is_whole(checkpoint: Path) -> bool:
    """Whether all bytes are as they were written, by the checksums that torch's files have for each tensor (torch
    itself does not look). Raises OSError where the file cannot be read, which says nothing about it.
    """
    with checkpoint.open("rb") as file:
        try:
            if zipfile.ZipFile(file).testzip() is not None:
                return False
            torch.load(file, map_location="meta", weights_only=True)
        except pickle.UnpicklingError:
            return True  # as it was written, with what is refused when it is loaded
        except OSError as error:
            if error.errno != errno.EINVAL:  # of a place in the file that cannot be
                raise
            return False
        except Exception:  # what zipfile raises for damage has no common class
            return False
    return True


def step_of(checkpoint: Path) -> int:
    """The optimisers' steps that were done."""
    return int(checkpoint.stem)
