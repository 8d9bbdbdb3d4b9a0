"""What images are: one object that everything asks which depends on it, from the image store to the figures.

A source has one as its `modality`. Adding a modality = one `Modality` object beside a source; nothing else knows it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from medlat.core.errors import UserError, did_you_mean

Range = tuple[float, float]
Difference = Literal["value", "lightness", "haematoxylin"]

DTYPES = ("uint8", "int16", "float32")
PUBLISHED = "medlat.generators.gan.augmentation.Published"


@dataclass(frozen=True)
class Modality:
    """Plain data; the image store keeps it beside the images.

    name:            in a sentence: "chest CT".
    unit:            of the values: "HU", "RGB", "grey", "a.u.".
    channels:        1, or 3: red, green, blue from 0 to 255.
    dtype:           of the image store: "uint8", "int16" or "float32".
    fill:            the value where an image ends: air, glass, black.
    low, high:       values are clipped to these before anything else.
    intensity_range: the values that a network sees as -1 and 1, unless `data.intensity_range` says otherwise.
    display_windows: name -> the values that figures show as black and white; the first unless `report.display_window`
                     says otherwise. Colours are shown as they are.
    noun:            one image: "slice", "tile", "radiograph".
    measurements:    the set that is measured by default: the dotted name of a function or class without required
                     arguments but `modality`; None: none.
    augmentation:    the pipeline of adaptive augmentation by default (`ada=auto`): its dotted name.
    difference:      what differences between images are taken of: the values; of colours their lightness, or the
                     optical density of haematoxylin.
    difference_unit: of that, where it is not `unit`.
    outline:         a value whose contour is drawn on maps of differences, so that one sees where one is; None: none.

    Raises UserError, which names the modality and the field, for what cannot be.
    """

    name: str
    unit: str
    channels: int
    dtype: str
    fill: float
    low: float
    high: float
    intensity_range: Range
    display_windows: Mapping[str, Range]
    noun: str = "image"
    measurements: str | None = None
    augmentation: str = PUBLISHED
    difference: Difference = "value"
    difference_unit: str = ""
    outline: float | None = None

    def __post_init__(self) -> None:
        self._expect(self.channels in (1, 3), "channels", "1 or 3")
        self._expect(self.dtype in DTYPES, "dtype", f"one of {', '.join(DTYPES)}")
        self._expect(-math.inf < self.low < self.high < math.inf, "low", f"a number below high={self.high}")
        self._expect(self.low <= self.fill <= self.high, "fill", f"a value from {self.low} to {self.high}")
        self._expect(_rises(self.intensity_range), "intensity_range", "two rising numbers")
        windows = bool(self.display_windows) and all(map(_rises, self.display_windows.values()))
        self._expect(windows, "display_windows", "at least one name with two rising numbers")
        self._expect(bool(self.noun), "noun", "what one image is called")
        low, high = self.intensity_range
        inside = self.outline is None or (self.channels == 1 and low < self.outline < high)
        self._expect(inside, "outline", "none, or a value within the intensity range of images of one channel")
        differences = ("value",) if self.channels == 1 else ("lightness", "haematoxylin")
        self._expect(self.difference in differences, "difference", " or ".join(differences))

    @property
    def colour(self) -> bool:
        """Whether images are red, green and blue."""
        return self.channels == 3

    @property
    def nouns(self) -> str:
        """Several images: "slices"."""
        return f"{self.noun}s"

    def display_window(self, asked: Range | str | None = None) -> Range:
        """The values shown as black and white: a window by its name, the one given, or (None) the default.

        Raises UserError for a name that there is not, or a window that does not rise.
        """
        if asked is None:
            return next(iter(self.display_windows.values()))
        if isinstance(asked, str):
            if asked not in self.display_windows:
                raise UserError(f"{asked}: no window of {self.name}{did_you_mean(asked, list(self.display_windows))}")
            return self.display_windows[asked]
        return _rising(asked)

    def network_range(self, asked: Range | None = None) -> Range:
        """The values that a network sees as -1 and 1. Raises UserError where they do not rise."""
        return self.intensity_range if asked is None else _rising(asked)

    def to_dict(self) -> dict[str, Any]:
        """Numbers, texts, lists and mappings alone, for JSON."""
        windows = {name: list(window) for name, window in self.display_windows.items()}
        return asdict(self) | {"intensity_range": list(self.intensity_range), "display_windows": windows}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Modality":
        """The inverse of `to_dict`. Raises ValueError for what is not that of a modality."""
        if set(plain) != {field.name for field in fields(cls)}:
            raise ValueError("not a modality")
        windows = {name: (float(low), float(high)) for name, (low, high) in plain["display_windows"].items()}
        low, high = plain["intensity_range"]
        return cls(**{**plain, "intensity_range": (float(low), float(high)), "display_windows": windows})

    def _expect(self, fine: bool, name: str, expected: str) -> None:
        if not fine:
            raise UserError(f"modality {self.name}: {name}={getattr(self, name)}, expected {expected}")


def _rises(window: Any) -> bool:
    return len(window) == 2 and -math.inf < window[0] < window[1] < math.inf


def _rising(window: Any) -> Range:
    low, high = map(float, window)
    if not _rises((low, high)):
        raise UserError(f"[{low:g}, {high:g}]: expected [low, high] with low below high, e.g. [-1000, 2000]")
    return low, high


CT = Modality(
    name="chest CT",
    unit="HU",
    channels=1,
    dtype="int16",
    fill=-1024.0,
    low=-1024.0,
    high=3071.0,
    intensity_range=(-1000.0, 2000.0),
    display_windows={
        "chest": (-1000.0, 500.0),
        "lung": (-1350.0, 150.0),
        "soft_tissue": (-160.0, 240.0),
        "bone": (-450.0, 1050.0),
    },
    noun="slice",
    measurements="medlat.measure.ct.chest_ct",
    augmentation="medlat.generators.gan.augmentation.CT",
    outline=-300.0,  # between air and fat: the skin
)
HISTOLOGY = Modality(
    name="H&E histology",
    unit="RGB",
    channels=3,
    dtype="uint8",
    fill=255.0,
    low=0.0,
    high=255.0,
    intensity_range=(0.0, 255.0),
    display_windows={"all": (0.0, 255.0)},
    noun="tile",
    measurements="medlat.measure.histology.tile",
    augmentation="medlat.generators.gan.augmentation.Histology",
    difference="haematoxylin",
    difference_unit="OD haematoxylin",
)
GREY = Modality(
    name="greyscale",
    unit="grey",
    channels=1,
    dtype="uint8",
    fill=0.0,
    low=0.0,
    high=255.0,
    intensity_range=(0.0, 255.0),
    display_windows={"all": (0.0, 255.0)},
    measurements="medlat.measure.grey.grey",
    difference_unit="grey levels",
)
RADIOGRAPH = replace(GREY, name="radiography", noun="radiograph")
