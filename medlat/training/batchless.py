"""Data of a training that draws its own: a batch is the number of a step."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader


class Steps(pl.LightningDataModule):
    """`steps` training steps, and one for each validation. `start`, the step to go on from, is set by what trains."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.start = steps, 0

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.arange(self.start, self.steps), batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(1, dtype=torch.int64), batch_size=None)  # type: ignore[arg-type]
