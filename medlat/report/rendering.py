"""From physical values to what is shown: windows, symmetric ranges, smooth upscaling. NumPy and Pillow only."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

Window = tuple[float, float]  # physical values shown as black and white


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
    """One image [H, W] -> float32 with its longer edge at least `side` pixels, by Lanczos; no smaller than it was.

    The filter overshoots at sharp edges, so the result is clipped to [low, high], the range on show.
    """
    height, width = image.shape
    factor = max(1, math.ceil(side / max(height, width)))
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    enlarged = picture.resize((width * factor, height * factor), Image.Resampling.LANCZOS)
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


def differences(images: np.ndarray, zero: int) -> np.ndarray:
    """[..., S, H, W] -> signed differences to step `zero`, same shape and unit; 0 where either is not finite."""
    images = np.asarray(images, np.float32)
    return np.nan_to_num(images - images[..., zero : zero + 1, :, :], nan=0.0, posinf=0.0, neginf=0.0)


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
