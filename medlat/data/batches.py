"""Whole batches from the memory map of a slice store, in an order that only seed and step decide."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medlat.core.randomness import derive_seed
from medlat.core.spaces import ImageSpec
from medlat.data.image_store import ImageStore

Augment = Callable[[Tensor, int], Tensor]  # images [B, C, H, W] and a seed -> images


class Slices(Dataset):
    """Whole batches: `dataset[(indices, seed)]` is a tensor [B, C, H, W] in [-1, 1], with targets (a number for every
    slice of the store) a pair of that and their [B] float64.
    """

    def __init__(
        self, store: ImageStore, spec: ImageSpec, augment: Augment | None = None, targets: np.ndarray | None = None
    ) -> None:
        self.store, self.spec, self.augment, self.targets = store, spec, augment, targets

    def __getitem__(self, batch: tuple[np.ndarray, int]) -> Tensor | tuple[Tensor, Tensor]:
        indices, seed = batch
        images = self.store.fetch(indices, self.spec)
        if self.augment is not None:
            images = self.augment(images, seed)
        return images if self.targets is None else (images, torch.from_numpy(self.targets[indices]))


class ShuffledBatches(Sampler):
    """`steps` batches from an endless row of permutations of the indices.

    The batch of a step is a function of seed and step, so training continues anywhere: set `start`.
    rank, world: of this process; the processes take turns within a permutation.
    """

    def __init__(
        self, indices: np.ndarray, batch_size: int, steps: int, seed: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.indices, self.batch_size, self.steps, self.seed = indices, batch_size, steps, seed
        self.start, self.rank, self.world = start, rank, world

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        for step in range(self.start, self.steps):
            yield self.batch(step), derive_seed(self.seed, "augment", step, self.rank)

    def batch(self, step: int) -> np.ndarray:
        """Indices of one step, [batch_size]."""
        n = len(self.indices)
        first = (step * self.world + self.rank) * self.batch_size
        places = np.arange(first, first + self.batch_size)
        rounds = places // n
        parts = [self._permutation(int(r))[places[rounds == r] % n] for r in np.unique(rounds)]
        return np.concatenate(parts)

    def _permutation(self, number: int) -> np.ndarray:
        if getattr(self, "_last", (None,))[0] != number:
            generator = np.random.default_rng(derive_seed(self.seed, "order", number))
            self._last = (number, self.indices[generator.permutation(len(self.indices))])
        return self._last[1]


def in_batches(indices: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of at most `size`."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
