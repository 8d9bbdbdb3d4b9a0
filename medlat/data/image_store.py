"""The slice store: every image of a data set, resampled once, in one memory-mapped array with an index.

`images.npy` [N, C, S, S], in the data type of the modality; `index.npz` a number per slice and column; `slices.json`
the rest, the modality among it. Memory does not grow with the data set: workers write into the map, batches are read
from it.
"""

import hashlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver, get_context, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from medlat.core.digests import CheckedRows, DamagedFile
from medlat.core.errors import ArgumentError
from medlat.core.files import read_json
from medlat.core.progress import track
from medlat.core.spaces import ImageSpec, pictures
from medlat.core.store import IMAGES, RECIPE
from medlat.data.account import account, account_of, add, is_too_damaged, refuse_damage, show_paths, warn
from medlat.data.equal import blank
from medlat.data.groups import joined
from medlat.data.modality import Modality
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice, SliceSource

if TYPE_CHECKING:
    from medlat.data.resample import ToGrid

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM) if sys.platform != "win32" else ()
OUTLIVES_SIGTERM_S = 120  # a worker; clusters kill what is left after at most so long
BLANK = "one value everywhere"
CLASSES_SHOWN = 12  # of a label, when the images are made
INLINE_BELOW = 64  # items: starting worker processes costs more than reading these


@dataclass
class ImageStore:
    """An open slice store.

    images:   [N, C, H, W], memory-mapped, physical values in the modality's unit.
    patient:  [N] int64, a patient's number.
    columns:  name -> [N] float64: `position_mm`, `factor.<name>`, `label.<name>`, ...
    patients: pseudonym of each patient number.
    folder:   that it was opened from: a pickle holds this place, and no image.
    """

    images: np.ndarray
    patient: np.ndarray
    columns: dict[str, np.ndarray]
    patients: list[str]
    info: dict[str, Any]
    modality: Modality
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "ImageStore":
        """Raises UserError where a file of the store is damaged, as images may do later when they are read first."""
        try:
            info = json.loads((folder / "slices.json").read_text())
            index = np.load(folder / "index.npz", allow_pickle=False)
            noted = (read_json(folder / RECIPE) or {}).get("files")  # of an artifact
            path = folder / IMAGES
            images: Any = CheckedRows(path, noted[IMAGES]) if noted else np.load(path, mmap_mode="r")
            columns = {name: index[name] for name in index.files if name not in ("row", "patient")}
            rows = index["row"]
            info.setdefault("groups", "groups")  # of a run of before 2026-11-30, which did not say what they are
            modality = Modality.from_dict(info["modality"])
        except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile) as error:
            raise DamagedFile(folder / IMAGES) from error
        if not np.array_equal(rows, np.arange(len(images))):
            images = _Rows(images, rows)
        return cls(images, index["patient"], columns, info["patients"], info, modality, folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.folder,)

    def __len__(self) -> int:
        return len(self.patient)

    def spec(self, intensity_range: tuple[float, float]) -> ImageSpec:
        """The image specification where a network sees those physical values as -1 and 1."""
        channels, height, width = self.images.shape[1:]
        return ImageSpec(channels, height, width, *intensity_range, self.modality.unit, self.info["spacing_mm"])

    def fetch(self, indices: np.ndarray, spec: ImageSpec) -> torch.Tensor:
        """Whole batch of slices, [B, C, H, W] float32 in [-1, 1]."""
        return spec.to_network(torch.from_numpy(self.images[indices]))

    def physical(self, indices: np.ndarray, spec: ImageSpec) -> np.ndarray:
        """Images as measurements see them, clipped to the intensity range: [B, H, W(, 3)] float32."""
        return pictures(np.clip(self.images[indices].astype(np.float32), spec.low, spec.high))

    def factors(self) -> dict[str, np.ndarray]:
        """Known factors by name, each [N]; empty for real data."""
        return {n.removeprefix("factor."): v for n, v in self.columns.items() if n.startswith("factor.")}

    def labels(self) -> dict[str, np.ndarray]:
        """Labels by name, each [N]; a class by its number."""
        return {n.removeprefix("label."): v for n, v in self.columns.items() if n.startswith("label.")}

    def classes(self, label: str) -> list[str] | None:
        """The names of a label's classes in the order of their numbers; None where it is a quantity."""
        return self.info["classes"].get(label)


class Stored:
    """What the images of a store are, in the place of the source that they came from: that may be gone."""

    def __init__(self, folder: str) -> None:
        self.modality = ImageStore.open(Path(folder)).modality


class _Rows:
    """The rows of an array that hold a slice (others belong to damaged files)."""

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self.array, self.rows, self.shape = array, rows, (len(rows), *array.shape[1:])

    def __getitem__(self, indices: Any) -> np.ndarray:
        return self.array[self.rows[indices]]


@dataclass(frozen=True)
class Preparation:
    """How slices become an array: image side in pixels, field of view in mm, tolerated share of damaged slices, ..."""

    image_size: int
    field_of_view_mm: float | None
    max_damaged: float
    salt: str
    workers: int
    damaged_list: str | None = None


def prepare(source: SliceSource, how: Preparation, folder: Path) -> None:
    """Read every slice of the source into `folder`. Raises UserError where too many files are damaged."""
    with worker_pool(how.workers) as parallel_map:
        scan = source.scan(parallel_map)
        scan.chunks = in_order(scan.chunks)
        images = sum(len(chunk.items) for chunk in scan.chunks) + len(scan.damaged)
        if is_too_damaged(scan, images, how.max_damaged):  # known before an hour of reading
            _settle(scan, images, how, source)
        spacing, said = _fill_images(source, scan, how, folder, parallel_map)
        add(scan, said)
        if hasattr(source, "compare"):
            _read_again(source, scan, how, folder, spacing, parallel_map)
    stored, rows = np.load(folder / IMAGES, mmap_mode="r"), np.flatnonzero(~np.isnan(spacing))
    items = [item for chunk in scan.chunks for item in chunk.items]
    scan.remarks += [Remark(_path(items[row]), BLANK, True) for row in blank(stored, rows)]
    left_out = sum(isinstance(one, Remark) and not one.kept for one in said)
    _settle(scan, images - left_out, how, source)
    if not all(chunk.known for chunk in scan.chunks):
        scan.chunks = joined(scan.chunks, stored, rows, are_files=hasattr(source, "folder"))
        scan.groups = "groups" if scan.groups == "patients" else scan.groups
    info = _write_index(source.modality, scan, spacing, how, folder)
    counted = f"{info['slices']:,} {source.modality.nouns} of {groups_of(info)}"
    lines = [*map(str, account_of(info, copies=0)), *_label_lines(folder, info["classes"])]
    log.info("%s", "\n  ".join([f"data: {counted}; a pixel is taken for {info['spacing_mm']:.3g} mm", *lines]))


def groups_of(info: Mapping[str, Any]) -> str:
    """Of how many patients the images of slices.json are, e.g. "54 patients"; "98 groups" where no more is known."""
    count, groups = len(info["patients"]), info["groups"]
    return f"{count:,} {groups if count != 1 else groups[:-1]}"


def _label_lines(folder: Path, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Of each label how many images have each of its classes, in their order; of many classes the first."""
    index = np.load(folder / "index.npz")
    lines = []
    for label, names in classes.items():
        counts = np.bincount(index[f"label.{label}"].astype(int), minlength=len(names))
        shown = [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True)]
        more = f" and {len(shown) - CLASSES_SHOWN} more" if len(shown) > CLASSES_SHOWN else ""
        lines.append(f"{label}: {', '.join(shown[:CLASSES_SHOWN])}{more}")
    return lines


def _settle(scan: Scan, images: int, how: Preparation, source: SliceSource) -> None:
    """Say what is damaged, left out or remarked on. Raises UserError where too much is damaged."""
    warn(scan)
    show_paths(scan, how.damaged_list, getattr(source, "folder", None), of=how)
    refuse_damage(scan, images, how.max_damaged, of=how)


def pseudonym(patient: str, salt: str) -> str:
    """A patient's identity as it may be written: a salted hash."""
    return hashlib.blake2b(_bytes(patient), key=salt.encode()[:64], digest_size=6).hexdigest()


def in_order(chunks: list[Chunk]) -> list[Chunk]:
    """Chunks as their slices stand in the store: patient by patient, in an order that says nothing of who they are."""
    return sorted(chunks, key=lambda chunk: hashlib.sha256(_bytes(chunk.patient)).digest())


def _bytes(patient: str) -> bytes:
    """In UTF-8; an identity may be the name of a file, which need not be text."""
    return patient.encode("utf-8", "surrogatepass")


@contextmanager
def worker_pool(workers: int) -> Iterator[ParallelMap]:
    """A `ParallelMap` over worker processes; few items are worked off in this process, starting none."""
    pool: ProcessPoolExecutor | None = None

    def parallel_map(function: Any, items: Any, description: str) -> Iterator[Any]:
        nonlocal pool
        items = list(items)
        if workers <= 1 or len(items) < INLINE_BELOW:
            return track(map(function, items), description, len(items))
        if pool is None:
            context = get_context("forkserver" if sys.platform != "win32" else "spawn")
            if sys.platform != "win32":
                context.set_forkserver_preload(["medlat.data.image_store", "monai.transforms"])
                _start_forkserver()
            pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
        share = max(1, min(16, len(items) // (4 * workers)))
        return track(pool.map(function, items, chunksize=share), description, len(items))

    try:
        yield parallel_map
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _start_forkserver() -> None:
    """Deaf to the signals by which a cluster asks all processes of a job to end, as its workers are: if they died of
    them first, the job would have failed and not been interrupted. This process gets its own a moment later.
    """
    resource_tracker.ensure_running()  # which the forkserver would start, and unblock SIGTERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """One thread; of the signals that its start left blocked only SIGTERM ends it, late: a broken pool sends it."""
    torch.set_num_threads(1)
    threadpool_limits(1)  # of NumPy's BLAS, whose threads otherwise wait for each other on cores that are all busy
    if sys.platform != "win32":
        for number in SIGNALS[:-1]:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(OUTLIVES_SIGTERM_S))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _fill_images(
    source: SliceSource, scan: Scan, how: Preparation, folder: Path, parallel_map: ParallelMap
) -> tuple[np.ndarray, list[Damaged | Remark]]:
    """Read all chunks into images.npy. Returns the spacing of each row (NaN: no image), and what there is to say: one
    for each row without an image, and those on files that are read.
    """
    starts = np.cumsum([0, *(len(chunk.items) for chunk in scan.chunks)])
    shape = (int(starts[-1]), source.modality.channels, how.image_size, how.image_size)
    path = folder / IMAGES
    _allocate(path, shape, source.modality)
    read = partial(_read_chunk, source, how.image_size, how.field_of_view_mm, str(path))
    spacing = np.full(shape[0], np.nan)
    found: list[Damaged | Remark] = []
    jobs = list(zip(scan.chunks, starts[:-1].tolist(), strict=True))
    for start, (rows, said) in zip(
        starts, parallel_map(read, jobs, f"reading {source.modality.nouns} in parts"), strict=False
    ):
        spacing[start : start + len(rows)] = rows
        found += said
    return spacing, found


def _allocate(path: Path, shape: tuple[int, ...], modality: Modality) -> None:
    """A .npy file whose blocks are on the disk: writing to a map on a full disk would kill the process."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(modality.dtype), shape=shape).flush()
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _read_chunk(
    source: SliceSource, size: int, field_of_view_mm: float | None, path: str, job: tuple[Chunk, int]
) -> tuple[np.ndarray, list[Damaged | Remark]]:
    """Write a chunk to its rows of images.npy. Returns the spacing of each slice (NaN: no image), and what there is to
    say.
    """
    from medlat.data.resample import ToGrid

    chunk, start = job
    grid = ToGrid(size, field_of_view_mm, source.modality)
    images = np.lib.format.open_memmap(path, mode="r+")
    spacing = np.full(len(chunk.items), np.nan)
    without: list[Damaged | Remark] = []
    remarks: dict[Remark, None] = {}
    for i, (item, result) in enumerate(zip(chunk.items, source.read(chunk), strict=True)):
        image = on_grid(grid, item, result) if isinstance(result, Slice) else result
        if isinstance(result, Slice) and isinstance(image, np.ndarray):
            images[start + i] = image
            spacing[i] = _pixel_mm(result, size, field_of_view_mm)
            remarks |= dict.fromkeys(result.remarks)
        else:
            assert not isinstance(image, np.ndarray)
            images[start + i] = source.modality.fill
            without.append(image)
    return spacing, [*without, *remarks]


def on_grid(grid: "ToGrid", item: Any, image: Slice) -> np.ndarray | Damaged:
    """[C, S, S] as it stands in the store."""
    from medlat.data.resample import UnusableImage

    try:
        return grid(image)
    except UnusableImage as error:
        reason = str(error)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):  # as torch says it
            raise
        reason = "more than fits into memory"
    return Damaged(_path(item), reason)


def _path(item: Any) -> str:
    return getattr(item, "path", "an image without a file")


def _read_again(
    source: Any, scan: Scan, how: Preparation, folder: Path, spacing: np.ndarray, parallel_map: ParallelMap
) -> None:
    """Replace the images that the source, having seen all of them, wants read in another way."""
    path = folder / IMAGES
    again = source.compare(np.load(path, mmap_mode="r"), np.flatnonzero(~np.isnan(spacing)), scan)
    read = partial(_read_chunk, source, how.image_size, how.field_of_view_mm, str(path))
    for _ in parallel_map(read, [(Chunk("", (item,), {}), row) for row, item in again.items()], "reading again"):
        pass


def _pixel_mm(item: Slice, size: int, field_of_view_mm: float | None) -> float:
    if field_of_view_mm is not None:
        return field_of_view_mm / size
    extents = [n * mm for n, mm in zip(item.pixels.shape[:2], item.spacing_mm, strict=True)]
    return float(max(extents)) / size


def _write_index(modality: Modality, scan: Scan, spacing: np.ndarray, how: Preparation, folder: Path) -> dict[str, Any]:
    """Leaves index.npz and slices.json; returns what stands in the latter."""
    order: dict[str, int] = {}
    patient = np.concatenate([[order.setdefault(c.patient, len(order))] * len(c.items) for c in scan.chunks])
    names = set.intersection(*(set(chunk.columns) for chunk in scan.chunks))
    columns = {name: np.concatenate([chunk.columns[name] for chunk in scan.chunks]) for name in sorted(names)}
    rows = np.flatnonzero(~np.isnan(spacing))
    if len(rows) == 0:
        raise ArgumentError("", "no slice could be read")
    kept, patient = np.unique(patient[rows], return_inverse=True)
    identities = list(order)
    index = {"row": rows, "patient": patient} | {name: values[rows] for name, values in columns.items()}
    np.savez(folder / "index.npz", **index)
    info = {
        "modality": modality.to_dict(),
        "spacing_mm": float(np.median(spacing[rows])),
        "slices": len(rows),
        "patients": [pseudonym(identities[i], how.salt) for i in kept],
        "groups": scan.groups,
        "studies": len(set(scan.studies.values()) - {""}),
        "account": account(scan),
        "classes": scan.classes,
        "units": scan.units,
        "digest": _digest(folder / IMAGES, index, modality),
    }
    (folder / "slices.json").write_text(json.dumps(info, indent=2) + "\n")
    return info


def _digest(images: Path, index: dict[str, np.ndarray], modality: Modality) -> str:
    """A hash of the content and of what it means: two copies of one data set, in any place, have the same."""
    digest = hashlib.sha256(json.dumps(modality.to_dict(), sort_keys=True).encode())
    with open(images, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    for name in sorted(index):
        digest.update(name.encode() + np.ascontiguousarray(index[name]).tobytes())
    return digest.hexdigest()[:16]
