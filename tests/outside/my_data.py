"""What a user brings who has MR: a modality and a source of it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medlat.core.errors import UserError
from medlat.data.modality import Modality
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan, Slice

MR = Modality(
    name="brain MR",
    unit="a.u.",
    channels=1,
    dtype="float32",
    fill=0.0,
    low=0.0,
    high=4.0,
    intensity_range=(0.0, 2.0),
    display_windows={"brain": (0.0, 1.5), "dark": (0.0, 0.5)},
    noun="scan",
    measurements="medlat.measure.grey.grey",
)


class Arrays:
    """A folder with an array [S, H, W] per patient (.npy), pixels of 2 mm."""

    modality = MR

    def __init__(self, root: str) -> None:
        self.files = sorted(Path(root).glob("*.npy"))
        if not self.files:
            raise UserError(f"data.root: no arrays in {root}")

    def fingerprint(self) -> str:
        return hashlib.sha256(b"".join(path.read_bytes() for path in self.files)).hexdigest()

    def expected(self) -> None:
        return None

    def scan(self, parallel_map: ParallelMap) -> Scan:
        chunks = []
        for path in self.files:
            count = len(np.load(path, mmap_mode="r"))
            items = tuple((path, i) for i in range(count))
            chunks.append(Chunk(path.stem, items, {"position_mm": np.arange(count) * 5.0}))
        return Scan(chunks)

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        for path, i in chunk.items:
            yield Slice(np.load(path, mmap_mode="r")[i].astype(np.float32), (2.0, 2.0))


class Nameless(Arrays):
    """One that forgets to say what its images are."""

    modality = "MR"


def write(root: Path, patients: int = 24, slices: int = 4, side: int = 32) -> None:
    """Heads of many sizes with ventricles of many sizes."""
    root.mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    far = np.hypot(rows, columns * 1.2)
    for patient in range(patients):
        head, ventricle = rng.uniform(9.0, 14.0), rng.uniform(2.0, 5.0)
        images = [
            np.where(far < ventricle, 0.3, np.where(far < head, 1.2, 0.0)) + rng.normal(0.0, 0.02, (side, side))
            for _ in range(slices)
        ]
        np.save(root / f"{patient}.npy", np.abs(images))
