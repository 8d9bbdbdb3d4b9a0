"""Images of a MONAI datalist, made by the user's own MONAI dictionary transforms."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, did_you_mean, key_in
from medlat.core.ranges import Name, Positive
from medlat.data.groups import called
from medlat.data.modality import Modality
from medlat.data.monai.datalist import PARTS, Item, labels_of, read_items
from medlat.data.pictures.files import some
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice

log = logging.getLogger(__name__)

CLIPPED = 0.01  # share of an image's values outside of the modality's from which on it is said
NARROW = 0.02  # of the modality's range, that all values of a data set lie in


class Cut(NamedTuple):
    """The level-th slice of what the transform makes of an item; the whole of an image in two dimensions: None."""

    path: str
    item: Item
    level: int | None


class Seen(NamedTuple):
    """What a transform made of an item: positions of its slices in mm (of an image in two dimensions None), the lowest
    and the highest value, and the share of values that the modality clips.
    """

    positions_mm: np.ndarray | None
    low: float
    high: float
    clipped: float


class MonaiDatalist:
    """The images of a datalist in the Decathlon's format, as MONAI dictionary transforms leave them.

    datalist:   the JSON file; `~` is expanded. {"training": [{"image": "a.nii.gz", "label": 1, "group": "p1"}, ...]}
    transform:  makes an image of an item: `monai.transforms.Compose`, or any function of a dict to a dict. It loads the
                files, and leaves an array [C, H, W], or [C, H, W, D]: D slices, as they lie. Nothing is turned here:
                `Orientationd(keys=image, axcodes=PLS)` makes axial slices from feet to head, row 0 anterior, column 0
                the patient's right. It is called twice for each item, in worker processes, and must not be random.
    modality:   what the values are that it leaves: `low` to `high` are kept, `intensity_range` is seen by networks.
    image_key:  of the image, in the item and in what the transform leaves.
    label_key:  of the item's label, a class or a number (`kind`); the label is called so. None: no labels.
    group_key:  of the patient: a split never divides one. None: each item is its own.
    lists:      that are read. Of training, validation and test (several of them), each is the part of that name in a
                split as given.
    classes:    in rising order, for an ordinal label. None: all that occur, sorted.
    kind:       "class" or "quantity".
    spacing_mm: between pixels. None: of the affine that the transform leaves (1 mm where it leaves none).

    Items whose transform fails are `Damaged`. Raises UserError where the datalist is missing or the transform random;
    the lists are checked by `scan`.
    """

    def __init__(
        self,
        datalist: str,
        transform: Callable[[dict], Any],
        modality: Modality,
        image_key: Name = "image",
        label_key: Name | None = None,
        group_key: Name | None = None,
        lists: Sequence[str] = ("training",),
        classes: list[str | int] | None = None,
        kind: Literal["class", "quantity"] = "class",
        spacing_mm: Positive | None = None,
    ) -> None:
        if not datalist.strip():
            raise ArgumentError("datalist", "empty (an unset variable?), expected a JSON file")
        self.file = Path(os.path.abspath(os.path.expanduser(datalist)))
        if not os.path.isfile(self.file):
            there = [entry.name for entry in _beside(self.file.parent) if entry.name.endswith(".json")]
            raise ArgumentError("datalist", f"there is no file '{datalist}'{did_you_mean(self.file.name, there)}")
        self.folder = self.file.parent
        if not callable(transform):
            raise ArgumentError("transform", "expected a function of an item, e.g. _target_: monai.transforms.Compose")
        if random := _random_in(transform):
            raise ArgumentError(
                "transform",
                f"{random} is random; expected what is always the same (data.augment is for training images)",
            )
        if not lists:
            raise ArgumentError("lists", "expected at least one, e.g. [training]", list(lists))
        self.transform, self.modality = transform, modality
        self.image_key, self.label_key, self.group_key = image_key, label_key, group_key
        self.lists, self.classes, self.kind, self.spacing_mm = list(lists), classes, kind, spacing_mm

    def fingerprint(self) -> str:
        """sha256 over the datalist's content, and size and time of change of every image that it names."""
        digest = hashlib.sha256(self.file.read_bytes())
        for item in self._items():
            try:
                status = os.stat(item.path)
                digest.update(b"%d\0%d\n" % (status.st_size, status.st_mtime_ns))
            except (OSError, ValueError):
                digest.update(b"absent\n")
        return digest.hexdigest()

    def expected(self) -> None:
        """Unknown before the transform has made the images."""

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read the lists and try the transform on every item; chunks of one item each."""
        items = self._items()
        scan = Scan(groups=called(self.group_key or ""))
        values: list[float | None] = [None] * len(items)
        if self.label_key is not None:
            names, values = labels_of(self, items, self.label_key, self.kind == "quantity", self.classes)
            scan.classes = {self.label_key: names} if names else {}
        groups = self._groups(items)
        seen: list[Seen] = []
        for place, result in enumerate(parallel_map(self._look, items, "transforming")):
            item = items[place]
            if isinstance(result, Damaged):
                scan.damaged.append(result)
            elif self.label_key is not None and values[place] is None:
                scan.remarks.append(Remark(item.path, f"without a {self.label_key}", False))
            else:
                seen.append(result)
                scan.chunks.append(self._chunk(item, groups[place], values[place], result, float(len(scan.chunks))))
                if result.clipped > CLIPPED:
                    scan.remarks.append(Remark(item.path, self._clips(), True))
        if not scan.chunks:
            first = next(iter(scan.damaged), None)
            why = f"the first, '{first.path}': {first.reason}" if first else "none has a label"
            raise ArgumentError("transform", f"none of the {len(items)} items became an image; {why}", of=self)
        self._say_range(seen)
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """The slices of the chunk's item, in order: [H, W] float32, or [H, W, 3] in colour."""
        first: Cut = chunk.items[0]
        made = self._made(first.item)
        found = None if isinstance(made, Damaged) or made[0].ndim == 3 else made[0].shape[3]
        if not isinstance(made, Damaged) and found != (None if first.level is None else len(chunk.items)):
            made = Damaged(first.path, "another image than was found")
        for cut in chunk.items:
            if isinstance(made, Damaged):
                yield made
                continue
            pixels = made[0] if cut.level is None else made[0][..., cut.level]
            flat = pixels.transpose(1, 2, 0) if self.modality.colour else pixels[0]
            yield Slice(np.nan_to_num(flat, nan=self.modality.fill), self._spacing(made[1]))

    def _items(self) -> list[Item]:
        return read_items(self, self.file, self.lists, self.image_key)

    def _groups(self, items: Sequence[Item]) -> list[str]:
        if self.group_key is None:
            return [f"{place}\0{item.path}" for place, item in enumerate(items)]
        found = [item.entry.get(self.group_key) for item in items]
        if missing := [item.path for item, group in zip(items, found, strict=True) if group is None or group == ""]:
            keys = sorted({key for item in items for key in item.entry})
            problem = f"{len(missing)} items without one: {some(missing)}{did_you_mean(self.group_key, keys)}"
            raise ArgumentError("group_key", problem, self.group_key, of=self)
        return [str(group) for group in found]

    def _chunk(self, item: Item, group: str, value: float | None, seen: Seen, number: float) -> Chunk:
        positions = seen.positions_mm
        levels: list[int | None] = [None] if positions is None else list(range(len(positions)))
        columns = {"position_mm": np.zeros(1) if positions is None else positions}
        if positions is not None:
            columns["series"] = np.full(len(levels), number)
        if value is not None:
            columns[f"label.{self.label_key}"] = np.full(len(levels), value)
        if len(self.lists) > 1 and {name.lower() for name in self.lists} <= set(PARTS):
            columns["split"] = np.full(len(levels), float(item.part))
        cuts = tuple(Cut(item.path, item, level) for level in levels)
        return Chunk(group, cuts, columns, known=self.group_key is not None)

    def _look(self, item: Item) -> Seen | Damaged:
        made = self._made(item)
        if isinstance(made, Damaged):
            return made
        image, affine = made
        finite = image[np.isfinite(image)]
        if finite.size == 0:
            return Damaged(item.path, "no finite value")
        clipped = float(((finite < self.modality.low) | (finite > self.modality.high)).mean())
        positions = None if image.ndim == 3 else _positions(affine, image.shape[3])
        return Seen(positions, float(finite.min()), float(finite.max()), clipped)

    def _made(self, item: Item) -> tuple[np.ndarray, np.ndarray | None] | Damaged:
        """What the transform makes of an item: [C, H, W(, D)] float32, and its affine [4, 4], if it has one."""
        try:
            image = self.transform(dict(item.entry))[self.image_key]
            affine = getattr(image, "affine", None)
            values = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image, np.float32)
            found = None if affine is None else np.asarray(affine, np.float64)
        except Exception as error:  # readers and transforms raise anything, and their messages quote paths
            while error.__cause__ is not None:
                error = error.__cause__  # type: ignore[assignment]
            return Damaged(item.path, f"the transform failed ({type(error).__name__})")
        if values.ndim not in (3, 4) or 0 in values.shape:
            return Damaged(item.path, f"an array of {values.ndim} dimensions, expected [C, H, W] or [C, H, W, D]")
        if values.shape[0] != self.modality.channels:
            return Damaged(item.path, f"{values.shape[0]} channels, expected {self.modality.channels}")
        usable = found is not None and found.shape == (4, 4) and np.isfinite(found).all()
        return values, found if usable else None

    def _spacing(self, affine: np.ndarray | None) -> tuple[float, float]:
        if self.spacing_mm is not None or affine is None:
            return (self.spacing_mm or 1.0,) * 2
        rows, columns = np.linalg.norm(affine[:3, :2], axis=0).tolist()
        return rows, columns

    def _clips(self) -> str:
        return f"values outside {self.modality.low:g} to {self.modality.high:g}, which are clipped"

    def _say_range(self, seen: Sequence[Seen]) -> None:
        low, high = min(one.low for one in seen), max(one.high for one in seen)
        log.info("values that the transform leaves: %g to %g", low, high)
        kind = self.modality
        if min(high, kind.high) - max(low, kind.low) < NARROW * (kind.high - kind.low):
            log.warning(
                "%s: the transform leaves values from %g to %g, where low=%g and high=%g: images will have no contrast",
                *(key_in(self, "modality"), low, high, kind.low, kind.high),
            )


def _positions(affine: np.ndarray | None, count: int) -> np.ndarray:
    """[count] places of the slices along their normal in mm, towards the head; their numbers where nobody knows."""
    step = np.array([0.0, 0.0, 1.0]) if affine is None else affine[:3, 2]
    length = float(np.linalg.norm(step))
    if affine is None or not length > 0.0:
        return np.arange(count, dtype=np.float64)
    normal = step / length * (-1.0 if step[2] < 0 else 1.0)
    return (affine[:3, 3] + np.arange(count)[:, None] * step) @ normal


def _random_in(transform: Any) -> str | None:
    """The name of the first random transform in a MONAI transform."""
    from monai.transforms import Compose, RandomizableTrait

    parts = transform.flatten().transforms if isinstance(transform, Compose) else (transform,)
    return next((type(part).__name__ for part in parts if isinstance(part, RandomizableTrait)), None)


def _beside(folder: Any) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []
