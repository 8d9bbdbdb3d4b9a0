"""What a data source is: it finds slices (`scan`) and reads them in worker processes (`read`).

A source knows files and anatomy; it knows nothing of the store, of splits or of networks. `medlat.data.slices`
drives it: scan once, order the patients, read every chunk in parallel into one memory-mapped array.

Adding a source = one class with these three methods, one YAML in `conf/data/`, one test.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

# parallel_map(function, items, description) yields function(item) for each item, in order, over all
# worker processes, with a progress bar. `function` and `items` are picklable.
ParallelMap = Callable[[Callable[[Any], Any], Iterable[Any], str], Iterator[Any]]


class Slice(NamedTuple):
    """One axial slice as a radiologist sees it: row 0 is anterior, column 0 is the patient's right."""

    pixels: np.ndarray  # [H, W] float32, Hounsfield units
    spacing_mm: tuple[float, float]  # distance between rows, between columns


class Damaged(NamedTuple):
    """A file that should have held slices and could not be read."""

    path: str  # only ever shown on the terminal, or in a file the user names: paths hold patient names
    reason: str


@dataclass(frozen=True)
class Chunk:
    """Slices of one patient that one worker reads in one go.

    patient: the identity as the source has it; it is hashed before anything is written.
    items:   one picklable item per slice, whatever the source's `read` wants.
    columns: numbers known per slice before it is read, each [len(items)] float64. `position_mm` (along the
             patient axis, feet to head) is always there; known factors are `factor.<name>`, labels `label.<name>`.
    """

    patient: str
    items: tuple[Any, ...]
    columns: dict[str, np.ndarray]


@dataclass
class Scan:
    """What a source found. `skipped` counts what is not meant to be read, by reason ("not DICOM": 3)."""

    chunks: list[Chunk] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


class SliceSource(Protocol):
    """Where slices come from. Constructor arguments are explicit and typed, and are checked there (UserError)."""

    def fingerprint(self) -> str:
        """A hash of what the slices depend on beside the constructor's arguments (e.g. the files below the root)."""
        ...

    def expected(self) -> int | None:
        """At most how many slices there will be, without opening a file; None where that cannot be known."""
        ...

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Find the slices. Raises UserError where there is nothing to read."""
        ...

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """One result per item of the chunk, in order. Runs in a worker process; never raises for a bad file."""
        ...
