"""Batches for a training of one's own."""

from dataclasses import dataclass

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.modality import GREY
from medlat.data.module import ImageData
from medlat.data.source import Chunk, Scan, Slice
from medlat.data.splits import Split

PARTS = Split(np.arange(10), np.arange(10, 14), np.arange(14, 20))


@dataclass
class Tens:
    """20 images of 10 people; image i is 10·i everywhere."""

    modality = GREY

    def scan(self, parallel_map):
        chunks = []
        for p in range(10):
            numbers = np.array([2.0 * p, 2.0 * p + 1.0])
            columns = {"position_mm": np.zeros(2), "factor.ten": numbers * 10, "label.side": numbers % 2}
            chunks.append(Chunk(f"p{p}", tuple(numbers), columns | {"label.age": numbers / 4}))
        return Scan(chunks, classes={"side": ("left", "right")})

    def read(self, chunk):
        for number in chunk.items:
            yield Slice(np.full((8, 8), 10 * number, np.float32), (1.0, 1.0))


@pytest.fixture
def data(tmp_path) -> ImageData:
    prepare(Tens(), Preparation(8, None, 0.0, "salt", 1), tmp_path)
    store = ImageStore.open(tmp_path)
    return ImageData(store, PARTS, store.spec((0.0, 200.0)), batch_size=4)


def test_a_batch_holds_images_and_all_that_is_known(data):
    batch = next(iter(data.test_dataloader()))
    assert list(batch) == ["image", "group", "row", "factor.ten", "label.age", "label.side", "position_mm"]
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 1, 8, 8), torch.float32)
    tens = batch["factor.ten"]
    assert torch.allclose(data.spec.to_physical(batch["image"])[:, 0, 3, 3], tens)
    assert torch.allclose(batch["image"][:, 0, 0, 0], tens / 100.0 - 1.0)
    assert batch["row"].tolist() == [14, 15, 16, 17]
    assert batch["group"].tolist() == [7, 7, 8, 8]
    assert torch.equal(batch["label.side"], (tens / 10 % 2).long())
    assert torch.allclose(batch["label.age"], tens / 40)
    assert (batch["label.side"].dtype, batch["label.age"].dtype) == (torch.int64, torch.float32)
    assert data.classes("side") == ["left", "right"]
    assert data.classes("age") is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_shows_each_training_image_once_in_a_new_order(data, workers):
    data.workers = workers
    pl.seed_everything(1, verbose=False)
    loader = data.train_dataloader()
    first, second = ([row for batch in loader for row in batch["row"].tolist()] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    pl.seed_everything(1, verbose=False)
    assert [row for batch in data.train_dataloader() for row in batch["row"].tolist()] == first


def test_parts_are_whole_and_only_training_is_augmented(data):
    data.augment = lambda images, seed: images * 0.0
    rows = {}
    for name in ("train", "val", "test", "predict"):
        batches = list(getattr(data, f"{name}_dataloader")())
        rows[name] = sorted(row for batch in batches for row in batch["row"].tolist())
        assert all((batch["image"] == 0.0).all() for batch in batches) is (name == "train")
    assert rows == {
        "train": [*range(10)],
        "val": [*range(10, 14)],
        "test": [*range(14, 20)],
        "predict": [*range(14, 20)],
    }
    data.split = Split(np.arange(10), np.array([], dtype=np.int64), np.arange(10, 20))
    assert data.val_dataloader() == []


def test_one_image_of_the_dataset_stands_alone(data):
    one = data.test_dataloader().dataset[2]
    assert (one["image"].shape, one["row"].item(), one["group"].shape) == ((1, 8, 8), 16, ())


class Mean(pl.LightningModule):
    """Learns the mean of all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.seen = torch.nn.Parameter(torch.zeros(())), 0

    def training_step(self, batch, _):
        self.seen += len(batch["image"])
        return ((batch["image"] - self.mean) ** 2).mean()

    def validation_step(self, batch, _):
        assert batch["row"].min() >= 10

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_training_of_ones_own(data, tmp_path):
    model = Mean()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=30, accelerator="cpu", default_root_dir=tmp_path, num_sanity_val_steps=0, **quiet)
    trainer.fit(model, data)
    assert model.seen == 300
    expected = float(np.mean(data.store.columns["factor.ten"][:10]) / 100 - 1)
    assert model.mean.item() == pytest.approx(expected, abs=0.15)
