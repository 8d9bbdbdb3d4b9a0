"""The histology phantom: procedural H&E tiles whose factors of variation are known.

It stands in for data where none is at hand, and lets one check what a direction does against truth. It is tissue by
eye, not of any organ: never report it as data of patients.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, UserError, did_you_mean
from medlat.core.ranges import Count, Positive, Seed, ShareBelowOne, Width
from medlat.data.modality import HISTOLOGY, Modality
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan, Slice
from medlat.phantoms.factors import Draws, Factor, Margin
from medlat.phantoms.histology.paint import Rendering, Tissue, paint

VERSION = "1"  # of the renderer: raise it with every change of what is painted


FACTORS: tuple[Factor, ...] = (
    Factor("nuclear_density", "1/mm²", 1500.0, 5500.0, "nuclei whose centre is in the tile, by its area"),
    Factor("nuclear_size", "µm", 6.0, 11.0, "mean diameter of the nuclei, of the circle of the same area"),
    Factor("haematoxylin", "OD", 0.5, 0.95, "mean stain of the nuclei"),
    Factor("eosin", "OD", 0.14, 0.32, "mean stain of what lies between the nuclei"),
    Factor("stroma", "1", 0.0, 0.5, "share of the area that is fibrous stroma"),
)
NAMES = tuple(factor.name for factor in FACTORS)
# What a class draws its tiles from, uniformly. The ranges overlap: some tiles cannot be told by one factor alone.
CLASSES = ("normal", "tumour")
BY_CLASS = {"nuclear_density": ((1500.0, 3600.0), (3000.0, 5500.0)), "nuclear_size": ((6.0, 8.3), (7.6, 11.0))}
# One person's slides are stained alike: standard deviation of a tile around its patient's value.
JITTER = {"haematoxylin": 0.02, "eosin": 0.01}


def middle_factors() -> dict[str, float]:
    """Every factor half-way between its bounds."""
    return {factor.name: (factor.low + factor.high) / 2 for factor in FACTORS}


def render(factors: Mapping[str, float], size: int, mpp: float = 1.0, seed: int = 0) -> Rendering:
    """One tile, its map of nuclei and its map of stroma.

    factors: a value for each of FACTORS; values outside the bounds are painted too. A missing one is at its middle.
             The density is rounded to whole nuclei.
    size:    pixels a side, of `mpp` µm each.
    seed:    of all that the factors leave open.
    Raises UserError for a factor that does not exist.
    """
    for name in factors:
        if name not in NAMES:
            raise UserError(f"the phantom has no factor '{name}'{did_you_mean(name, NAMES)}")
    return _paint(middle_factors() | dict(factors), size, mpp, np.random.Generator(np.random.SFC64(seed)))


def _paint(factors: Mapping[str, float], size: int, mpp: float, rng: np.random.Generator) -> Rendering:
    inside = round(factors["nuclear_density"] * (size * mpp / 1000) ** 2)
    rest = (factors[name] for name in ("nuclear_size", "haematoxylin", "eosin", "stroma"))
    return paint(Tissue(inside, *rest), size, mpp, rng)


class _Item(NamedTuple):
    """All that `read` needs for one tile."""

    patient: int
    tile: int
    factors: tuple[float, ...]


class HistologyPhantom:
    """H&E tiles of invented patients as a `SliceSource`; a pure function of the arguments.

    patients, slices_per_patient: how many; a slice is a tile.
    size: pixels a side.
    mpp:  µm a pixel; a tile of 128 pixels of 1 µm, averaged to 64, shows nuclei of 3 to 6 pixels.
    seed: of everything.
    margin:      of each factor, "uniform" or "gaussian": see `Draws`; of density and size within a class.
    correlation: of the Gaussian copula between all factors, 0 to below 1. What they share is a patient's.

    Columns: `position_mm` (0), `factor.<name>` for each of FACTORS (of the tile; the density in whole nuclei), and
    `label.tumour`: 1 in half of every patient's tiles (the odd tile by lot), those with more and larger nuclei. Stains
    are a patient's, with some jitter; stroma is a tile's; neither knows the label. Split by patient.
    """

    modality = HISTOLOGY

    def __init__(
        self,
        patients: Count,
        slices_per_patient: Count,
        size: Width,
        mpp: Positive = 1.0,
        seed: Seed = 0,
        margin: Margin = "uniform",
        correlation: ShareBelowOne = 0.0,
    ) -> None:
        bounds = {"patients": (patients, 1), "slices_per_patient": (slices_per_patient, 1), "size": (size, 16)}
        for name, (value, least) in bounds.items():
            if value < least:
                raise ArgumentError(name, f"{value}, expected at least {least}")
        if not 0.1 <= mpp <= 4.0:
            raise ArgumentError("mpp", f"{mpp}, expected µm a pixel from 0.1 to 4, where nuclei can be seen")
        self.patients, self.slices_per_patient, self.size = patients, slices_per_patient, size
        self.mpp, self.seed, self.draws = float(mpp), seed, Draws(margin, correlation)

    @classmethod
    def of_files(cls, files: Sequence[str], modality: Modality, mpp: float = 1.0, **_: Any) -> ImageFolder:
        """Tiles as pictures."""
        return ImageFolder.of_files(files, modality, root="", mpp=mpp)

    def fingerprint(self) -> str:
        """The renderer's version: all else is in the arguments."""
        return f"histology-phantom-{VERSION}"

    def expected(self) -> int:
        """Tiles there will be."""
        return self.patients * self.slices_per_patient

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """One chunk per patient; draws factors, paints nothing, and needs no workers."""
        chunks = [self._chunk(patient) for patient in range(self.patients)]
        return Scan(chunks, classes={"tumour": CLASSES}, units={factor.name: factor.unit for factor in FACTORS})

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """Render the chunk's tiles, RGB float32 [size, size, 3] from 0 to 255."""
        spacing = self.mpp / 1000
        for item in chunk.items:
            factors = dict(zip(NAMES, item.factors, strict=True))
            tile = _paint(factors, self.size, self.mpp, self._rng(item.patient, 2, item.tile))
            yield Slice(tile.rgb, (spacing, spacing))

    def _rng(self, patient: int, purpose: int, number: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, patient, purpose, number]))

    def _chunk(self, patient: int) -> Chunk:
        rng, n = self._rng(patient, 1), self.slices_per_patient
        tumour = rng.permutation((np.arange(n) + rng.integers(2)) % 2)
        shared, factors = self._rng(patient, 3).standard_normal(), {}
        for name, _, low, high, _ in FACTORS:
            least, most = np.array(BY_CLASS[name])[tumour].T if name in BY_CLASS else np.array([low, high])
            uniform = self.draws.correlated(rng.random(1 if name in JITTER else n), shared)
            factors[name] = self.draws.between(least, most, uniform)
            if name in JITTER:
                factors[name] = factors[name] + rng.normal(0, JITTER[name], n)
        area = (self.size * self.mpp / 1000) ** 2
        factors["nuclear_density"] = np.round(factors["nuclear_density"] * area) / area
        columns = {f"factor.{name}": factors[name] for name in NAMES}
        columns |= {"position_mm": np.zeros(n), "label.tumour": tumour.astype(np.float64)}
        rows = np.stack([factors[name] for name in NAMES], axis=1).tolist()
        items = tuple(_Item(patient, i, tuple(row)) for i, row in enumerate(rows))
        return Chunk(f"phantom-{patient:05d}", items, columns)
