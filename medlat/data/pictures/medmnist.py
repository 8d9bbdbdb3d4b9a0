"""MedMNIST: small standardised medical images, one `.npz` file a data set (Yang et al. 2023, Sci. Data 10, 41)."""

import hashlib
import logging
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, UserError, did_you_mean
from medlat.data.modality import GREY, HISTOLOGY, Modality
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan, Slice
from medlat.data.unpacked import unpacked

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
ONE_MM = (1.0, 1.0)
MOST_IMAGES = 10_000_000  # of a part; the largest that was published has 236,386
MOST_PIXELS = 4096 * 4096  # of an image
CHEST = (  # the labels of chestmnist, as its authors number them
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax"),
    *("consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
)
MOST_LABEL_BYTES = 800  # for each image


class Entry(NamedTuple):
    """The row-th image of one part of a file."""

    path: str
    part: str
    row: int


class MedMNIST:
    """All images of a 2D MedMNIST file, with the split it was published in (column `split`).

    path: the `.npz` file; `~` is expanded. It holds train_images, val_images and test_images, [N, H, W] or [N, H, W, 3]
          uint8, and train_labels, val_labels and test_labels, [N, 1] whole numbers.

    label: of files with several labels per image (chestmnist): the one that is read, by its number from 0 or, for
          chestmnist, its name. None: all that there are; `explain.label` then says which a classifier is about.

    The files name neither patients nor classes nor pixel sizes: each image is a group of its own (with those of the
    same pixels), classes are called by their numbers, and a pixel counts as 1 mm. A reading process unpacks the images
    of a part to a temporary file without a name, so that memory does not grow with the data.

    A file with one label per image calls it `label`; several are called by their numbers, or chestmnist's by name.

    Raises UserError where there is no such file, and, once it is opened, where it is no such data set.
    """

    has_labels = True

    def __init__(self, path: str, label: str | int | None = None) -> None:
        if not path.strip():
            raise ArgumentError("path", "empty (an unset variable?), expected a MedMNIST file (.npz)")
        self.path, self.label = path, None if label is None else str(label)
        self.file = Path(os.path.abspath(os.path.expanduser(path)))
        if not os.path.exists(self.file):
            there = _archives(self.file.parent)
            raise ArgumentError("path", f"there is no file '{path}'{did_you_mean(self.file.name, there)}")

    @classmethod
    def of_files(cls, files: Sequence[str], modality: Modality, **_: Any) -> ImageFolder:
        """Pictures, in colour or grey as the images of the run."""
        return ImageFolder.of_files(files, modality, root="", colour=modality.colour, mpp=1000.0 * ONE_MM[0])

    @cached_property
    def modality(self) -> Modality:
        """RGB or grey, as the file says."""
        return HISTOLOGY if len(self._shapes["train"]) == 4 else GREY

    def fingerprint(self) -> str:
        """sha256 over the file's name, size and time of change."""
        assert self._shapes
        status = self.file.stat()
        return hashlib.sha256(f"{self.file.name}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()

    def expected(self) -> int:
        """Images of all parts."""
        return sum(shape[0] for shape in self._shapes.values())

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read the labels. Raises UserError where they are not whole numbers, or there is no such label."""
        labels = {part: self._labels(part) for part in PARTS}
        if len(counts := {found.shape[1] for found in labels.values()}) > 1:
            raise ArgumentError(
                "path", f"the parts of '{self.path}' differ in their number of labels: {sorted(counts)}"
            )
        scan, columns = Scan(), {}
        for number, name in self._chosen(counts.pop()):
            classes = np.unique(np.concatenate([found[:, number] for found in labels.values()]))
            if len(classes) < 2:
                log.warning("every image has the same %s: there is nothing to learn from it", name)
            scan.classes[name] = tuple(str(one) for one in classes.tolist())
            columns[f"label.{name}"] = {p: np.searchsorted(classes, labels[p][:, number]).astype(float) for p in PARTS}
        for number, part in enumerate(PARTS):
            for row in range(self._shapes[part][0]):
                arrays = {"position_mm": np.zeros(1), "split": np.array([float(number)])}
                arrays |= {name: values[part][row : row + 1] for name, values in columns.items()}
                scan.chunks.append(Chunk(f"{part} {row}", (Entry(str(self.file), part, row),), arrays, known=False))
        return scan

    def _chosen(self, count: int) -> list[tuple[int, str]]:
        """The labels that are read, of so many: number and name."""
        if count == 1:
            names = ["label"]
        elif self.file.name.lower().startswith("chestmnist") and count == len(CHEST):
            names = list(CHEST)
        else:
            names = [str(number) for number in range(count)]
        found = list(enumerate(names))
        if self.label is None:
            return found
        chosen = [(number, name) for number, name in found if self.label in (name, str(number))]
        if not chosen:
            problem = f"'{self.path}' has {count} label{'s' * (count > 1)} per image{did_you_mean(self.label, names)}"
            raise ArgumentError("label", problem, self.label, of=self)
        return chosen

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """The chunk's images, in order; all are `Damaged` where the archive cannot be unpacked."""
        for item in chunk.items:
            try:
                image = _unpacked(item.path, item.part)[item.row]
                yield Slice(image if image.ndim == 3 else image.astype(np.float32), ONE_MM)
            except UserError:  # no room to unpack it is no damage
                raise
            except Exception:  # zip, its codecs and NumPy raise anything on damaged files
                yield Damaged(item.path, "corrupt archive")

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each part's images. Read at the first need, so that what is wrong gets its whole key here."""
        try:
            return self._read_shapes()
        except ArgumentError as error:
            raise ArgumentError(error.argument, error.problem, of=self) from error

    def _read_shapes(self) -> dict[str, tuple[int, ...]]:
        """From the headers alone."""
        if os.path.isdir(self.file):
            there = _archives(self.file)
            hint = f"; did you mean '{self.file / there[0]}'?" if there else ", and there is none in it"
            raise ArgumentError("path", f"'{self.path}' is a folder, expected a MedMNIST file (.npz){hint}")
        if not os.path.isfile(self.file):  # a pipe would be waited for
            raise ArgumentError("path", f"'{self.path}' is no plain file, expected a MedMNIST file (.npz)")
        shapes = {}
        try:
            with zipfile.ZipFile(self.file) as archive:
                for part in PARTS:
                    name = f"{part}_images"
                    if f"{name}.npy" not in archive.namelist():
                        found = ", ".join(n.removesuffix(".npy") for n in archive.namelist()) or "nothing"
                        raise ArgumentError(
                            "path", f"'{self.path}' has no {name}, found {found}; expected MedMNIST's names"
                        )
                    with archive.open(f"{name}.npy") as file:
                        shapes[part] = _checked(self.path, name, *_header(file))
                    if math.prod(shapes[part]) > archive.getinfo(f"{name}.npy").file_size:
                        raise ArgumentError("path", f"{name} in '{self.path}' claims more images than it holds")
        except UserError:
            raise
        except Exception as error:  # zip, its codecs and NumPy raise anything on damaged files
            raise ArgumentError("path", f"'{self.path}' is no readable .npz file; expected a MedMNIST file") from error
        if len({shape[1:] for shape in shapes.values()}) > 1:
            raise ArgumentError("path", f"the parts of '{self.path}' differ in the shape of their images: {shapes}")
        return shapes

    def _labels(self, part: str) -> np.ndarray:
        """[N, labels] int64 class numbers of a part."""
        name, count = f"{part}_labels", self._shapes[part][0]
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(f"{name}.npy") as file:
                shape, _, dtype = _header(file)
            if math.prod(shape) * dtype.itemsize > MOST_LABEL_BYTES * max(count, 1000):
                raise ValueError("claims more labels than there are images")
            with np.load(self.file, allow_pickle=False) as arrays:
                labels = arrays[name]
        except KeyError:
            raise ArgumentError("path", f"'{self.path}' has no {name}; expected MedMNIST's names") from None
        except Exception as error:
            raise ArgumentError(
                "path",
                f"{name} in '{self.path}' cannot be read as numbers: Python objects are refused, "
                f"as they may run code, and so are damaged files",
            ) from error
        fits = labels.shape in ((count,), (count, 1)) or (labels.ndim == 2 and len(labels) == count)
        if not fits or labels.dtype.kind not in "iu":
            raise ArgumentError(
                "path",
                f"{name} in '{self.path}' is {labels.dtype} of shape {labels.shape}, expected "
                f"whole numbers of shape ({count}, 1), or ({count}, L) where images have L labels",
            )
        return labels.reshape(count, -1).astype(np.int64)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and dtype of a .npy stream, which then stands at the first value."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _archives(folder: Path) -> list[str]:
    """The names of the .npz files in a folder, as far as it can be looked into."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".npz"))
    except OSError:
        return []


def _checked(path: str, name: str, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> tuple[int, ...]:
    if dtype.hasobject:
        raise ArgumentError(
            "path", f"{name} in '{path}' holds Python objects, which are refused as they may run code; expected uint8"
        )
    flat = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
    if not flat or dtype != np.uint8 or fortran or min(shape[1:]) < 1:
        raise ArgumentError(
            "path",
            f"{name} in '{path}' is {dtype} of shape {shape}, expected uint8 of shape (N, H, W) or "
            f"(N, H, W, 3); volumes are not read",
        )
    if not 0 <= shape[0] <= MOST_IMAGES or math.prod(shape[1:3]) > MOST_PIXELS:
        raise ArgumentError(
            "path", f"{name} in '{path}' claims the shape {shape}, expected at most {MOST_IMAGES} images of 4096²"
        )
    return shape


@lru_cache(maxsize=len(PARTS))
def _unpacked(path: str, part: str) -> np.ndarray:
    """The images of a part, memory-mapped: compressed bytes cannot be read from the middle, and images come in any
    order.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{part}_images.npy") as packed:
        shape, _, dtype = _header(packed)
        return np.memmap(unpacked(packed, math.prod(shape)), dtype=dtype, mode="r", shape=shape)
