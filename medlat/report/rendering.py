"""From physical values to what is shown: looks, windows, symmetric ranges, smooth upscaling. NumPy and Pillow only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medlat.core.stains import stains
from medlat.data.modality import Modality

Window = tuple[float, float]  # physical values shown as black and white
DPI = 200  # pixels per inch of figures, where nothing else is asked for
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601


@dataclass(frozen=True)
class Look:
    """How the images of a data set are shown, and what differences between them are taken of.

    modality: what they are: [..., H, W], in colour [..., H, W, 3] from 0 to 255.
    window:   physical values shown as black and white; pictures in colour are shown as they are.
    dpi:      pixels per inch of figures.
    groups:   what the images are of: "patients", or, where that is not known, e.g. "slides" or "groups".
    """

    modality: Modality
    window: Window
    dpi: int = DPI
    groups: str = "patients"

    @property
    def colour(self) -> bool:
        return self.modality.colour

    @property
    def unit(self) -> str:
        """The unit of the images."""
        return self.modality.unit

    @property
    def nouns(self) -> str:
        """What the images are called: "slices", "tiles", ..."""
        return self.modality.nouns

    @property
    def change_unit(self) -> str:
        """The unit of `scalar`, and so of differences."""
        return self.modality.difference_unit or self.modality.unit

    @property
    def windows(self) -> dict[str, Window]:
        """The display windows of the modality by their names, the one in use first."""
        named = {name.replace("_", " "): window for name, window in self.modality.display_windows.items()}
        own = next((name for name, window in named.items() if tuple(window) == tuple(self.window)), "as asked")
        return {own: self.window} | named

    @property
    def windows_span(self) -> Window:
        """From the lowest to the highest value that one of these windows tells apart."""
        lows, highs = zip(*self.windows.values(), strict=True)
        return min(lows), max(highs)

    def size(self, images: np.ndarray) -> tuple[int, int]:
        """(H, W) of images of any number of leading dimensions."""
        height, width = images.shape[-3:-1] if self.colour else images.shape[-2:]
        return int(height), int(width)

    def scalar(self, images: np.ndarray) -> np.ndarray:
        """Images -> [..., H, W] float32 of what differences are taken of: the values, or of colours their lightness or
        the optical density of haematoxylin.
        """
        if self.modality.difference == "haematoxylin":
            return stains(images)[..., 0]
        values = np.asarray(images, np.float32)
        return values @ LUMA if self.modality.difference == "lightness" else values

    def levels(self, images: np.ndarray) -> np.ndarray:
        """Images -> uint8 of the same shape as they are shown, not enlarged; what is not finite is black."""
        return to_grey(images, (0.0, 255.0) if self.colour else self.window)

    def tile(self, image: np.ndarray, side: int = 256) -> np.ndarray:
        """One image -> what is shown of it in [0, 1], enlarged: [h, w], of colour [h, w, 3]."""
        if not self.colour:
            return shown(image, self.window, side)
        channels = np.moveaxis(windowed(image, (0.0, 255.0)), -1, 0)
        return np.stack([upscale(channel, side) for channel in channels], axis=-1)

    def lightness(self, image: np.ndarray, side: int = 256) -> np.ndarray:
        """One image as `tile` shows it, without its colours: [h, w] in [0, 1]."""
        tile = self.tile(image, side)
        return tile @ LUMA if self.colour else tile


def windowed(values: np.ndarray, window: Window) -> np.ndarray:
    """Physical values -> float32 in [0, 1], clipped to the window; what is not finite is shown as black."""
    low, high = window
    assert high > low, window
    scaled = (np.asarray(values, np.float32) - low) / (high - low)
    return np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1.0)


def to_grey(values: np.ndarray, window: Window) -> np.ndarray:
    """Physical values -> uint8, 0 at the window's low end and 255 at its high end."""
    return np.rint(windowed(values, window) * 255.0).astype(np.uint8)


def upscale(image: np.ndarray, side: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """One image [H, W] -> float32 with its longer edge `side` pixels, by Lanczos; no smaller than it was.

    The filter overshoots at sharp edges, so the result is clipped to [low, high], the range on show.
    """
    height, width = image.shape
    factor = max(1.0, side / max(height, width))
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    enlarged = picture.resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS)
    return np.asarray(enlarged, np.float32).clip(low, high)


def shown(image: np.ndarray, window: Window, side: int = 256) -> np.ndarray:
    """One image [H, W] of physical values -> [0, 1] in the window, enlarged.

    Enlarged half a window's width beyond either end and clipped then: clipped before, an edge that leaves a narrow
    window would show its pixels as stairs; unclipped, the step from air to bone would ring far into the tissue.
    """
    low, high = window
    margin = (high - low) / 2
    return (2.0 * upscale(windowed(image, (low - margin, high + margin)), side) - 0.5).clip(0.0, 1.0)


def zero_index(steps: Sequence[float]) -> int:
    """The step nearest to the base code."""
    return int(np.argmin(np.abs(np.asarray(steps, np.float64))))


def differences(values: np.ndarray, zero: int) -> np.ndarray:
    """[..., S, H, W] (`Look.scalar`) -> signed differences to step `zero`, same shape and unit; 0 where either is not
    finite.
    """
    values = np.asarray(values, np.float32)
    return finite(values - values[..., zero : zero + 1, :, :])


def finite(values: np.ndarray) -> np.ndarray:
    """The values with 0 for those that are not finite."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def symmetric_limit(values: np.ndarray, percentile: float = 97.0) -> float:
    """A round limit L so that [-L, L] holds `percentile` % of the values that are not 0; 1 where all are 0.

    Zeros are left out because the air around a patient would otherwise decide the scale.
    """
    size = np.abs(np.asarray(values, np.float64)).ravel()
    size = size[np.isfinite(size) & (size > 1e-6)]
    if size.size == 0:
        return 1.0
    limit = float(np.percentile(size, percentile))
    power = 10.0 ** math.floor(math.log10(limit))
    return float(next(power * step for step in (1, 1.5, 2, 3, 4, 5, 7.5, 10) if power * step >= limit * (1 - 1e-9)))
