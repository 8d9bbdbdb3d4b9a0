"""All steps of a traversal in one small PNG, beside each other: what the page's sliders show.

Kept at the generator's own resolution; the browser enlarges it smoothly. 8 bits in the display window or a colour,
lossless.
"""

import base64
import io
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from medlat.report.rendering import Look, differences, finite, upscale
from medlat.report.style import DIVERGING

MIDDLE, REACH = 128, 127  # palette index of no change; distance from it to the largest change shown
OPACITY = 0.75  # of the most relevant place of a saliency map over its image
LOSSLESS_BYTES = 150_000  # a figure whose lossless copy is larger is photographs, and is embedded at quality 88


def image_sprite(images: np.ndarray, look: Look) -> bytes:
    """Images [S, H, W] of physical values -> grey PNG [H, S * W]: pixel v means low + v/255 * (high - low) of the
    window; pictures [S, H, W, 3] -> RGB PNG of their own values.
    """
    return _png(Image.fromarray(_beside(look.levels(images))))


def difference_sprite(values: np.ndarray, zero: int, limit: float) -> bytes:
    """[S, H, W] (`Look.scalar`) -> palette PNG [H, S * W]: index i is a change by (i - 128) / 127 * limit from step
    `zero`.
    """
    return change_sprite(differences(values, zero), limit)


def change_sprite(changes: np.ndarray, limit: float) -> bytes:
    """[S, H, W] signed changes -> palette PNG [H, S * W]: index i is a change by (i - 128) / 127 * limit."""
    assert limit > 0, limit
    scaled = (changes / limit).clip(-1.0, 1.0)
    indexed = Image.fromarray(_beside(np.rint(MIDDLE + REACH * scaled).astype(np.uint8)))
    indexed.putpalette(diverging_palette())  # turns the grey image into a palette image
    return _png(indexed)


def saliency_sprite(image: np.ndarray, relevance: np.ndarray, look: Look) -> bytes:
    """One image without its colours, and over it a saliency map [H, W] -> RGB PNG: red speaks for, blue against."""
    side = max(relevance.shape)
    colours = relevance_colours(relevance, side)
    opacity = colours[..., 3:]
    mixed = (1.0 - opacity) * look.lightness(image, side)[..., None] + opacity * colours[..., :3]
    return _png(Image.fromarray(np.rint(255.0 * mixed).astype(np.uint8)))


def relevance_colours(relevance: np.ndarray, side: int) -> np.ndarray:
    """[H, W] signed -> [h, w, 4] in [0, 1], the longer edge of `side` pixels: as opaque as its share of the largest."""
    size = finite(np.asarray(relevance, np.float32))
    largest = float(np.abs(size).max())
    share = upscale(size / largest if largest > 0 else size, side, -1.0, 1.0)
    colours = matplotlib.colormaps[DIVERGING](np.where(share > 0, 0.9, 0.1))
    colours[..., 3] = OPACITY * np.abs(share)
    return colours


@cache
def diverging_palette() -> tuple[int, ...]:
    """256 RGB triples: blue below the middle, red above, index 0 unused (it repeats index 1)."""
    positions = (np.clip(np.arange(256), MIDDLE - REACH, MIDDLE + REACH) - MIDDLE) / (2 * REACH) + 0.5
    return tuple(np.rint(matplotlib.colormaps[DIVERGING](positions)[:, :3] * 255).astype(int).ravel().tolist())


def css_gradient() -> str:
    """The colours of that palette for CSS, blue to red."""
    palette = np.array(diverging_palette()).reshape(256, 3)[1::21]
    return ", ".join(f"rgb({r} {g} {b})" for r, g, b in palette)


def figure_uri(path: Path) -> str:
    """A saved PNG as a WebP data URI: lossless for charts, quality 88 for figures full of images."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    hopeless = path.stat().st_size > 2 * LOSSLESS_BYTES  # of so many bytes of a PNG, WebP keeps half at best
    for options in ({"lossless": True, "quality": 25, "method": 1}, {"quality": 88, "method": 2})[hopeless:]:
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", **options)
        if buffer.tell() <= LOSSLESS_BYTES:
            break
    return data_uri(buffer.getvalue(), "image/webp")


def data_uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _beside(images: np.ndarray) -> np.ndarray:
    """[S, H, W(, 3)] -> [H, S * W(, 3)]."""
    return np.ascontiguousarray(np.concatenate(list(images), axis=1))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")  # optimize=True takes five times as long for 4% of the size
    return buffer.getvalue()
