"""Lightning data module over a slice store."""

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from medlat.core.spaces import ImageSpec
from medlat.data.batches import Augment, ShuffledBatches, Slices, in_batches
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split


class SliceData(pl.LightningDataModule):
    """Training and validation batches.

    batch_size: images per step of all processes together; steps: of the whole training; augment: applied to training
    batches only; targets: a number for every slice of the store, which batches then hold as well. `start`, the step to
    go on from, is set by what trains.
    """

    VALIDATION_IMAGES = 256
    KNOWN_IMAGES = 8192  # that are enough to know what holds for all training images

    def __init__(
        self,
        store: ImageStore,
        split: Split,
        spec: ImageSpec,
        batch_size: int,
        steps: int,
        seed: int,
        augment: Augment | None = None,
        targets: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.store, self.split, self.spec, self.augment, self.targets = store, split, spec, augment, targets
        self.batch_size, self.steps, self.seed, self.start = batch_size, steps, seed, 0

    def train_dataloader(self) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        size = self.batch_size // world
        batches = ShuffledBatches(self.split.train, size, self.steps, self.seed, self.start, rank, world)
        return DataLoader(Slices(self.store, self.spec, self.augment, self.targets), sampler=batches, batch_size=None)

    def as_they_are(self) -> Iterator[Tensor]:
        """Batches [N, C, H, W] of training images, evenly spaced, without augmentation."""
        rows = self.split.train
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), self.KNOWN_IMAGES)).astype(int))]
        return (self.store.fetch(part, self.spec) for part in in_batches(rows, self.VALIDATION_IMAGES))

    def val_dataloader(self) -> DataLoader | list:
        """Evenly spaced validation slices, the same each time; nothing where the split has none."""
        held_out = self.split.validation
        if len(held_out) == 0:
            return []
        picked = held_out[np.linspace(0, len(held_out) - 1, min(len(held_out), self.VALIDATION_IMAGES)).astype(int)]
        batches = [(part, 0) for part in np.array_split(picked, -(-len(picked) // self.batch_size))]
        return DataLoader(Slices(self.store, self.spec, None, self.targets), sampler=batches, batch_size=None)
