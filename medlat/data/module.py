"""Lightning data modules over an image store: for the program's own training, and for anybody else's."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

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


class ImageData(pl.LightningDataModule):
    """The images of a run for a training of one's own: `trainer.fit(model, medlat.load(folder).data)`.

    Batches are dicts: `image` [B, C, H, W] float32 in [-1, 1]; `group` [B] int64, the patient's number, and `row` [B]
    int64, the image's in the store; and the store's columns by name, [B] float32: `position_mm`, `factor.NAME`,
    `label.NAME`, of a class its number as int64 (`classes(NAME)` are the names). No patient is in two of the parts.

    batch_size: of each process; workers: processes that read; augment: what training images pass through, None:
    nothing. All of them may be set before the first batch. Training images are shuffled anew in every epoch, by torch's
    own random numbers (`pl.seed_everything`); several processes share them as Lightning arranges it.

    spec: what [-1, 1] means: `spec.to_physical(batch["image"])` are values in `spec.unit`.
    """

    def __init__(
        self,
        store: ImageStore,
        split: Split,
        spec: ImageSpec,
        batch_size: int = 32,
        workers: int = 0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.store, self.split, self.spec = store, split, spec
        self.batch_size, self.workers, self.augment = batch_size, workers, augment

    def classes(self, label: str) -> list[str] | None:
        """The names of a label's classes in the order of their numbers; None where it is a quantity."""
        return self.store.classes(label)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.split.train, self.augment, shuffle=True)

    def val_dataloader(self) -> DataLoader | list:
        """All validation images; nothing where the split has none."""
        return self._loader(self.split.validation) if len(self.split.validation) else []

    def test_dataloader(self) -> DataLoader:
        """All held-out images."""
        return self._loader(self.split.test)

    def predict_dataloader(self) -> DataLoader:
        """All held-out images."""
        return self._loader(self.split.test)

    def _loader(self, rows: np.ndarray, augment: Augment | None = None, shuffle: bool = False) -> DataLoader:
        images = _Images(self.store, rows, self.spec, augment)
        return DataLoader(images, self.batch_size, shuffle=shuffle, num_workers=self.workers, collate_fn=_as_it_is)


class _Images(Dataset):
    """Rows of a store, one by one or a whole batch at once."""

    def __init__(self, store: ImageStore, rows: np.ndarray, spec: ImageSpec, augment: Augment | None) -> None:
        self.store, self.rows, self.spec, self.augment = store, rows, spec, augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([place]).items()}

    def __getitems__(self, places: Sequence[int]) -> dict[str, Tensor]:
        """A batch, as a loader asks for it."""
        rows = self.rows[np.asarray(places)]
        images = self.store.fetch(rows, self.spec)
        if self.augment is not None:
            images = self.augment(images, int(torch.randint(2**62, ())))
        found = {"image": images, "group": torch.from_numpy(self.store.patient[rows]), "row": torch.from_numpy(rows)}
        for name, values in self.store.columns.items():
            is_class = self.store.classes(name.removeprefix("label.")) is not None and name.startswith("label.")
            found[name] = torch.from_numpy(values[rows]).to(torch.int64 if is_class else torch.float32)
        return found


def _as_it_is(batch: Any) -> Any:
    """A batch that is whole already."""
    return batch
