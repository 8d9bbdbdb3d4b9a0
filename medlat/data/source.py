"""What a data source is: it finds slices (`scan`) and reads them in worker processes (`read`).

A source knows files and anatomy; it knows nothing of the store, of splits or of networks. `medlat.data.image_store`
drives it: scan once, order the patients, read every chunk in parallel into one memory-mapped array.

Adding a source = one class with a modality and these methods, one YAML in `conf/data/`, one test.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np

from medlat.core.errors import UserError
from medlat.data.modality import Modality

# parallel_map(function, items, description) yields function(item) for each item, in order, over all
# worker processes, with a progress bar. `function` and `items` are picklable.
ParallelMap = Callable[[Callable[[Any], Any], Iterable[Any], str], Iterator[Any]]


def check_installed(library: str, packages: str) -> None:
    """Raises UserError where a library that a source reads its files with is not there. packages: what pip calls it."""
    try:
        import_module(library)
    except (ImportError, OSError) as error:  # of openslide, a Python part alone finds no library
        raise UserError(f"data: {library} is not installed; pip install {packages}") from error


class Damaged(NamedTuple):
    """A file that should have held slices and could not be read."""

    path: str  # only ever shown on the terminal, or in a file the user names: paths hold patient names
    reason: str


class Remark(NamedTuple):
    """What the user should know of a file that is whole: it is read all the same (`kept`), or left out."""

    path: str  # as of `Damaged`
    reason: str  # in fixed words: it is counted by it, where paths may not stand
    kept: bool
    values: tuple[float, float] | None = None  # the range that was found, where that is the point
    advice: str = ""  # what to do about it: said in a warning, once for all such files


class Slice(NamedTuple):
    """One image as its reader sees it: of an axial slice, row 0 is anterior and column 0 the patient's right."""

    pixels: np.ndarray  # [H, W] float32 in the modality's unit, or [H, W, 3] uint8 or float32 (RGB, 0 to 255)
    spacing_mm: tuple[float, float]  # distance between rows, between columns
    remarks: tuple[Remark, ...] = ()  # on its file, which is read all the same


@dataclass(frozen=True)
class Chunk:
    """Slices of one patient that one worker reads in one go.

    patient: the identity as the source has it, or as `data.group` finds it; it is hashed before anything is written.
    items:   one picklable item per slice, whatever the source's `read` wants; its attribute `path`, where it has one,
             names the file where the image turns out to be unusable, and tells `data.group` where that lies.
    columns: numbers known per slice before it is read, each [len(items)] float64. `position_mm` (along the
             patient axis, feet to head; 0 where there is no such thing) is always there; known factors are
             `factor.<name>`, labels `label.<name>` (a class by its number), and `split` is the part that whoever
             published the data gave a slice to: 0 training, 1 validation, 2 test.
    known:   False where nothing says who they are of, and a file is taken for a patient of its own.
    """

    patient: str
    items: tuple[Any, ...]
    columns: dict[str, np.ndarray]
    known: bool = True


@dataclass
class Scan:
    """What a source found.

    skipped: counts what is not meant to be read, by reason ("not DICOM": 3).
    remarks: on single files; those that are left out are not among `skipped`.
    classes: label -> names of its classes, in the order of their numbers; a label that is not here is a quantity.
    units:   factor -> its unit.
    studies: path -> the examination that the file belongs to, where the source knows it.
    groups:  what the chunks' patients are called: "slides" where they are; "groups" where it is not known.
    """

    chunks: list[Chunk] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)
    groups: str = "patients"


class SliceSource(Protocol):
    """Where slices come from. Constructor arguments are explicit and typed, and are checked there (UserError).

    modality: what the images are; an attribute of the class or of the object.
    folder:   optional: the folder that it reads files below, as a path. `data.group` needs it.

    A source may also have `has_labels`, False where its images get none;
    `of_files(files, modality, **settings)`, a class method, for `medlat explain`: the source of these files and folders
    alone, absolute paths, without labels; modality: of the run's images; settings: those of their source, whose own
    files may be gone;
    `tile_at(path, x, y) -> Chunk`, where an image is a place in a file (UserError where there is none); and
    `compare(images, rows, scan) -> {row: item}`, called once when all images are on the grid ([M, C, S, S],
    memory-mapped; rows: those that hold one): it may add to `scan.remarks`, and returns items to be read in place of
    others, for what only shows when images are seen beside each other.
    """

    modality: Modality

    def fingerprint(self) -> str:
        """A hash of what the slices depend on beside the constructor's arguments (e.g. the files below the root)."""
        ...

    def expected(self) -> int | None:
        """At most how many slices there will be, without reading the files; None where that cannot be known, 0 where
        none of them can hold one.
        """
        ...

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Find the slices. Raises UserError where there is nothing to read."""
        ...

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged | Remark]:
        """One result per item of the chunk, in order. Runs in a worker process; never raises for a bad file."""
        ...
