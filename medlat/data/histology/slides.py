"""Tiles of whole slides: any file that OpenSlide reads, with or without ASAP annotations of tumour."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, UserError, key_in
from medlat.core.randomness import derive_seed
from medlat.core.ranges import Count, Patterns, Positive, PositiveShare, Seed, Share, Width
from medlat.data.ct.dicom_tree import OfFiles, checked_root, fingerprint, listed, nothing_found, walk
from medlat.data.histology.asap import AsapAnnotation
from medlat.data.histology.slide_files import (
    LIKELY_MPP,
    MPP_TIMES_POWER,
    named_as_tumour,
    objective_power,
    own_mpp,
    problem,
    read_mpps,
    slides_among,
)
from medlat.data.histology.tissue import shares, tissue_mask
from medlat.data.modality import HISTOLOGY
from medlat.data.patterns import Picked
from medlat.data.pictures.files import read_table, some
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice, check_installed

if TYPE_CHECKING:
    from openslide import OpenSlide

CHUNK = 32  # tiles one worker reads in one go
FINEST_MASK_MPP, COARSEST_MASK_MPP = 2.0, 8.0
MOST_MASK = 20_000_000  # pixels of the mask, some 40 bytes each: of 100,000 x 200,000 pixels a mask is this fine
MOST_READ = 4096 * 4096  # pixels that are read at once
MOST_TILES = 1 << 24  # of the grid on a slide
MASK_BLOCK = 64  # pixels of the tissue mask that are read together: 2048² of a slide at 0.25 µm without other levels
NO_TISSUE = "slide without tissue"
ASSUMED = "slide that does not say its micrometres per pixel: slide_mpp taken"
UNANNOTATED = "slide without an annotation: all its tissue is normal"
UNKNOWN = "slide without an annotation"
EDGE = "tile at the edge of a tumour"


class Tile(NamedTuple):
    """A square of a slide, in level-0 pixels; `side` may be a fraction of a pixel off the whole ones that are read."""

    path: str
    x: int
    y: int
    side: int


class Job(NamedTuple):
    """A slide, its outlines, and its micrometres per level-0 pixel where a table says them."""

    path: str
    outlines: AsapAnnotation | None
    mpp: float | None


class Plan(NamedTuple):
    """What a slide gives: its tiles with their labels (NaN without annotations), and how many were left out.

    assumed: whether its resolution is `slide_mpp`, as it does not say one.
    """

    path: str
    tiles: tuple[Tile, ...]
    labels: np.ndarray
    edge: int
    assumed: bool


class NoMpp(NamedTuple):
    """A slide that does not say its micrometres per pixel; power: the magnification that it says, if it does."""

    path: str
    power: float | None


class Slides(OfFiles):
    """Square tiles of the tissue on every whole slide below a folder.

    root:         the folder; `~` is expanded. Every file that OpenSlide knows, whatever its name; `*_mask.tif` are no
                  slides.
    mpp:          micrometres per pixel of the tiles, from 0.05 to 20. Read at the next finer level, averaged down.
    tile_px:      pixels along a side of a tile.
    annotations:  a folder of ASAP's XML files, named as their slides, at any depth. Tiles then have `label.tumour`.
                  None: no labels.
    unannotated:  what a slide without such a file is: "normal" (one that is called after tumour is then refused), or
                  "left_out".
    min_tissue:   share of a tile's area that must be tissue, 0 to 1.
    max_tiles:    of one slide, drawn at random; up to half of them are tumour where there is tumour. None: all.
    tumour_share: share of a tile's area inside the outlines from which on it is tumour, above 0 to 1. Tiles that
                  outlines touch with less are neither, and left out.
    slide_mpp:    micrometres per level-0 pixel of the slides that do not say it. None: all say it.
    mpp_table:    a CSV, relative to the root, with columns `slide` and `mpp`: micrometres per level-0 pixel of the
                  slides that it names, whatever these say. None: there is none.
    seed:         of the draw of tiles.
    include, exclude: which slides, as of `medlat.data.patterns.Picked`; None: all, none.

    A slide is a group: its identity is its path below the root without the suffix. Tiles lie on a grid from the upper
    left corner. `position_mm` is 0.

    OpenSlide itself and not MONAI's WSIReader, whose `mpp` takes only what is a level of the file already; a tile at a
    resolution between two levels would have to be read by level number and resized here in any case.

    Raises UserError where an argument is out of range.
    """

    modality = HISTOLOGY
    alone: ClassVar[Mapping[str, Any]] = {"annotations": None, "mpp_table": None}

    def __init__(
        self,
        root: str,
        mpp: Positive = 0.5,
        tile_px: Width = 224,
        annotations: str | None = None,
        min_tissue: Share = 0.5,
        max_tiles: Count | None = None,
        tumour_share: PositiveShare = 0.5,
        slide_mpp: Positive | None = None,
        mpp_table: str | None = None,
        unannotated: Literal["normal", "left_out"] = "normal",
        seed: Seed = 0,
        include: Patterns = None,
        exclude: Patterns = None,
    ) -> None:
        for name, value in (("mpp", mpp), ("slide_mpp", slide_mpp)):
            if value is not None and not LIKELY_MPP[0] <= value <= LIKELY_MPP[1]:
                raise ArgumentError(name, "expected 0.05 to 20 micrometres per pixel, e.g. 0.5", value)
        if tile_px < 8:
            raise ArgumentError("tile_px", "expected at least 8 pixels, e.g. 224", tile_px)
        if not 0.0 <= min_tissue <= 1.0:
            raise ArgumentError("min_tissue", "expected a share from 0 to 1", min_tissue)
        if not 0.0 < tumour_share <= 1.0:
            raise ArgumentError("tumour_share", "expected a share above 0 and up to 1", tumour_share)
        if max_tiles is not None and max_tiles < 1:
            raise ArgumentError("max_tiles", "expected at least 1, or null for all", max_tiles)
        if unannotated not in ("normal", "left_out"):
            raise ArgumentError("unannotated", "expected normal or left_out", unannotated)
        if mpp_table is not None and not mpp_table.strip():
            raise ArgumentError("mpp_table", "empty (an unset variable?), expected a CSV file")
        check_installed("openslide", "openslide-python openslide-bin")
        self.root, self.folder = root, checked_root(root)
        self.mpp, self.tile_px, self.slide_mpp, self.mpp_table = mpp, tile_px, slide_mpp, mpp_table
        self.unannotated = unannotated
        self.min_tissue, self.max_tiles, self.tumour_share, self.seed = min_tissue, max_tiles, tumour_share, seed
        self.picked = Picked.of(include, exclude)
        self.annotated = None if annotations is None else _annotation_folder(annotations)

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every slide and annotation."""
        parts = [fingerprint(folder) for folder in (self.folder, self.annotated) if folder is not None]
        if self.mpp_table is not None:
            table = self.folder / os.path.expanduser(self.mpp_table)
            read_table(key_in(self, "mpp_table"), table)
            parts.append(hashlib.sha256(table.read_bytes()).hexdigest())
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def expected(self) -> int | None:
        """Unknown before the tissue is found; 0 where there is no slide."""
        paths = iter(listed(self.folder, Counter(), self.picked))
        first = (slides_among([path], lambda function, items, _: map(function, items))[0] for path in paths)
        return None if any(first) else 0

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Find the tissue of every slide and its tiles, slide by slide. Raises UserError where there is none."""
        skipped: Counter[str] = Counter()
        paths = listed(self.folder, skipped, self.picked)
        slides, more = slides_among(paths, parallel_map)
        skipped["not a slide"] += len(paths) - len(slides) - more
        scan = Scan(classes={"tumour": ("normal", "tumour")} if self.annotated else {}, groups="slides")
        jobs = self._jobs(slides, skipped, scan)
        plans: list[Plan] = []
        empty: list[str] = []
        unknown: list[NoMpp] = []
        for job, result in zip(jobs, parallel_map(partial(_plan, self), jobs, "finding tissue"), strict=True):
            if isinstance(result, Plan):
                plans.append(result)
            elif isinstance(result, Damaged):
                scan.damaged.append(result)
            elif isinstance(result, NoMpp):
                unknown.append(result)
            else:
                empty.append(job.path)
        self._check(plans, empty, unknown, skipped, scan.damaged)
        scan.remarks += [Remark(plan.path, ASSUMED, True) for plan in plans if plan.assumed]
        scan.remarks += [Remark(path, NO_TISSUE, False) for path in empty]
        skipped[EDGE] += sum(plan.edge for plan in plans)
        scan.skipped = dict(+skipped)
        scan.chunks = [chunk for plan in plans for chunk in self._chunks(plan)]
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """The chunk's tiles, in order: [tile_px, tile_px, 3] uint8; one that cannot be decoded is `Damaged`."""
        from openslide import OpenSlide

        spacing = (self.mpp / 1000.0,) * 2
        slide: OpenSlide | None = None
        for tile in chunk.items:
            try:
                slide = slide or OpenSlide(tile.path)
                yield Slice(region(slide, (tile.x, tile.y), (tile.side,) * 2, (self.tile_px,) * 2), spacing)
            except Exception:  # OpenSlide's own errors, and what ctypes and the image library raise
                yield Damaged(tile.path, "corrupt pixel data")
                slide = None  # after an error OpenSlide reads nothing more from an open slide
        if slide is not None:
            slide.close()

    def tile_at(self, path: str, x: int, y: int) -> Chunk:
        """The tile whose upper left corner is the pixel x, y of a slide's finest level.

        Raises UserError, without the path, where the file is no slide, the tile does not lie on it, or nothing says
        how large its pixels are.
        """
        from openslide import OpenSlide, OpenSlideError

        try:
            with OpenSlide(path) as slide:
                reason, own, (width, height) = problem(slide, path), own_mpp(slide) or self.slide_mpp, slide.dimensions
        except (OpenSlideError, OSError, ValueError, ArithmeticError) as error:
            raise UserError("no slide that OpenSlide can read") from error
        if reason or own is None:
            raise UserError(reason or "does not say its micrometres per pixel, and neither does the run's slide_mpp")
        side = max(1, round(self.tile_px * self.mpp / own))
        if not (0 <= x <= width - side + 1 and 0 <= y <= height - side + 1):
            raise UserError(
                f"a tile of {side} pixels at {x},{y} does not lie on the slide; expected up to "
                f"{max(0, width - side)},{max(0, height - side)}"
            )
        return Chunk("", (Tile(path, x, y, side),), {"position_mm": np.zeros(1)}, known=False)

    def _jobs(self, slides: list[str], skipped: Counter[str], scan: Scan) -> list[Job]:
        """What is done with each slide. Raises UserError where an annotation is malformed or none has a slide, where a
        slide is called after tumour and has none, or where the table of resolutions is wrong.
        """
        mpps = {} if self.mpp_table is None else read_mpps(self, self.mpp_table, self.folder, slides)
        if self.annotated is None:
            return [Job(path, None, mpps.get(path)) for path in slides]
        files = {Path(e.path).stem: Path(e.path) for e in walk(self.annotated) if e.path.lower().endswith(".xml")}
        there = {Path(path).stem for path in slides}
        if slides and not there & set(files):
            raise ArgumentError(
                "annotations",
                f"none of the {len(files)} XML files below '{self.annotated}' is named as "
                f"one of the {len(slides)} slides, expected e.g. '{sorted(there)[0]}.xml'",
            )
        skipped["annotation without a slide"] += len(set(files) - there)
        without = [path for path in slides if Path(path).stem not in files]
        kept = self.unannotated == "normal"
        if kept and (tumour := [path for path in without if named_as_tumour(path)]):
            raise ArgumentError(
                "annotations",
                f"{len(tumour)} slide{'s' * (len(tumour) > 1)} called after tumour without an XML file, whose tissue "
                f"would all be normal: {some(tumour)}; add the files, or leave slides without one out "
                f"({key_in(self, 'unannotated')}=left_out)",
            )
        scan.remarks += [Remark(path, UNANNOTATED if kept else UNKNOWN, kept) for path in without]
        outlines = {path: AsapAnnotation(files[Path(path).stem]) for path in slides if path not in without}
        return [Job(path, outlines.get(path), mpps.get(path)) for path in slides if kept or path in outlines]

    def _check(
        self,
        plans: list[Plan],
        empty: list[str],
        unknown: list[NoMpp],
        skipped: Counter[str],
        damaged: list[Damaged],
    ) -> None:
        """Raises UserError where slides do not say their resolution, or where no tile or no tumour is left."""
        if unknown:
            powers = Counter(slide.power for slide in unknown if slide.power is not None)
            said = [f" ({n} say {power:g}x: about {MPP_TIMES_POWER / power:.3g})" for power, n in powers.items()]
            raise ArgumentError(
                "slide_mpp",
                f"{len(unknown)} slide{'s' * (len(unknown) > 1)} without micrometres per pixel{''.join(said)}, "
                f"expected a number for those, e.g. 0.25, or a CSV of slides ({key_in(self, 'mpp_table')}): "
                f"{some([slide.path for slide in unknown])}",
            )
        if not plans and empty:
            raise ArgumentError(
                "root",
                f"no tissue on any of the {len(empty)} slides (tiles of {self.tile_px} pixels at "
                f"{self.mpp} µm, min_tissue={self.min_tissue}): {some(empty)}",
            )
        if not plans:
            raise nothing_found(self.root, "whole slide", skipped + Counter(one.reason for one in damaged))
        labels = np.concatenate([plan.labels for plan in plans])
        if self.annotated is not None and len(np.unique(labels)) < 2:
            found = "tumour" if labels.any() else "normal"
            raise ArgumentError(
                "annotations",
                f"all {len(labels)} tiles are {found}, expected tumour and normal ones "
                f"(tumour_share={self.tumour_share} of a tile's area makes it tumour)",
            )

    def _chunks(self, plan: Plan) -> Iterator[Chunk]:
        name = Path(os.path.relpath(plan.path, self.folder)).with_suffix("").as_posix()
        for start in range(0, len(plan.tiles), CHUNK):
            tiles, labels = plan.tiles[start : start + CHUNK], plan.labels[start : start + CHUNK]
            columns = {"position_mm": np.zeros(len(tiles))}
            yield Chunk(name, tiles, columns | ({"label.tumour": labels} if self.annotated else {}), known=False)


def _annotation_folder(annotations: str) -> Path:
    try:
        return checked_root(annotations)
    except ArgumentError as error:
        raise ArgumentError("annotations", error.problem) from error


def _plan(source: Slides, job: Job) -> Plan | Damaged | NoMpp | str:
    """The tiles of one slide, or why there are none."""
    from openslide import OpenSlide, OpenSlideError

    path = job.path
    try:
        with OpenSlide(path) as slide:
            if reason := problem(slide, path):
                return Damaged(path, reason)
            said = job.mpp or own_mpp(slide)
            mpp = said or source.slide_mpp
            if mpp is None:
                return NoMpp(path, objective_power(slide))
            return _tiles(source, slide, job, mpp, said is None)
    except PermissionError:
        return Damaged(path, "permission denied")
    except MemoryError:
        return Damaged(path, "more than fits into memory")
    except (OpenSlideError, OSError, ValueError, ArithmeticError):  # the last two: of numbers that mean nothing
        return Damaged(path, "no slide that OpenSlide can read")


def _tiles(source: Slides, slide: "OpenSlide", job: Job, own: float, assumed: bool) -> Plan | Damaged | str:
    """own: micrometres per level-0 pixel."""
    path, outlines, _ = job
    side = source.tile_px * source.mpp / own  # of a tile, in level-0 pixels
    columns, rows = (int(n / side + 1e-6) for n in slide.dimensions)
    if columns * rows > MOST_TILES:
        return Damaged(path, "more than 16 million tiles")
    extent = source.tile_px * source.mpp
    scale = max(1.0, min(max(extent / 8.0, FINEST_MASK_MPP), COARSEST_MASK_MPP) / own)  # of a pixel of the mask
    scale = max(scale, math.sqrt(math.prod(slide.dimensions) / MOST_MASK))
    tissue = tissue_mask(low_resolution(slide, scale), scale * own)
    fits = shares(tissue, side / scale, rows, columns) >= max(source.min_tissue, 1e-9)
    if not fits.any():
        return NO_TISSUE
    labels = np.full(fits.shape, np.nan)
    if source.annotated is not None:
        tumour = np.zeros(fits.shape)
        if outlines is not None:
            tumour = shares(outlines.mask(tissue.shape, scale), side / scale, rows, columns)
        labels = np.where(tumour >= source.tumour_share, 1.0, np.where(tumour == 0.0, 0.0, np.nan))
    edge = int((fits & np.isnan(labels)).sum()) if source.annotated is not None else 0
    if source.annotated is not None:
        fits &= ~np.isnan(labels)
    places = np.argwhere(fits)
    name = os.path.relpath(path, source.folder).encode(errors="replace").decode()  # a file's name need not be text
    places = places[_drawn(labels[fits], source.max_tiles, derive_seed(source.seed, "tiles", name))]
    whole = max(1, round(side))
    tiles = tuple(Tile(path, round(column * side), round(row * side), whole) for row, column in places.tolist())
    return Plan(path, tiles, labels[tuple(places.T)], edge, assumed)


def _drawn(labels: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Indices of at most so many tiles, rising; up to half of them tumour, more where normal ones do not suffice."""
    if most is None or len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    tumour = order[labels[order] == 1.0]
    others = order[labels[order] != 1.0]
    count = max(most - len(others), min(len(tumour), most // 2))
    return np.sort(np.concatenate([tumour[:count], others[: most - count]]))


def region(slide: "OpenSlide", corner: tuple[int, int], size: tuple[int, int], out: tuple[int, int]) -> np.ndarray:
    """A rectangle of a slide, averaged from the coarsest level that is as fine as the result, [height, width, 3] uint8.

    corner, size: x and y, width and height in level-0 pixels; out: width and height of the result. What the scanner
    left out, and what lies beyond the slide, is glass.
    """
    from PIL import Image

    level = slide.get_best_level_for_downsample(max(size[0] / out[0], size[1] / out[1]) * (1.0 + 1e-3))
    down = slide.level_downsamples[level]
    if math.prod(size) / down**2 > MOST_READ and max(out) > 1:  # in two halves: there may be no level near the result
        axis = int(out[1] > out[0])
        cut, at = out[axis] // 2, round(size[axis] * (out[axis] // 2) / out[axis])

        def but(pair: tuple[int, int], value: int) -> tuple[int, int]:
            return (value, pair[1]) if axis == 0 else (pair[0], value)

        first = region(slide, corner, but(size, at), but(out, cut))
        second = region(slide, but(corner, corner[axis] + at), but(size, size[axis] - at), but(out, out[axis] - cut))
        return np.concatenate([first, second], axis=1 - axis)
    read = slide.read_region(corner, level, (max(1, round(size[0] / down)), max(1, round(size[1] / down))))
    flat = Image.new("RGB", read.size, (int(HISTOLOGY.fill),) * 3)
    flat.paste(read, mask=read.getchannel("A"))
    shrinks = read.size[0] >= out[0] and read.size[1] >= out[1]
    kind = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(flat if read.size == out else flat.resize(out, kind))


def low_resolution(slide: "OpenSlide", scale: float) -> np.ndarray:
    """The whole slide with `scale` level-0 pixels along each side of a pixel, [H, W, 3] uint8.

    Read block by block: a slide without coarser levels would not fit into memory.
    """
    width, height = (math.ceil(n / scale) for n in slide.dimensions)
    small = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, MASK_BLOCK):
        for left in range(0, width, MASK_BLOCK):
            block = small[top : top + MASK_BLOCK, left : left + MASK_BLOCK]
            out = (block.shape[1], block.shape[0])
            size = (max(1, round(out[0] * scale)), max(1, round(out[1] * scale)))
            block[:] = region(slide, (round(left * scale), round(top * scale)), size, out)
    return small
