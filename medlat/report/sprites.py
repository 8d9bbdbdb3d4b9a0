"""All steps of a traversal in one small picture, beside each other: what the page's sliders show.

Kept at the generator's own resolution; the browser enlarges it smoothly.
"""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from medlat.report.rendering import Look, Window, differences, finite, upscale, windowed
from medlat.report.style import DIVERGING

LEVELS = 1023  # of a sprite of values: ten bits, so that a narrow window shows no steps
PHOTO_QUALITY = 92  # of WebP, where not every value must come back
EXACT_PIXELS = 2_000_000  # of a set of sprites: of more, they are kept at that quality
MIDDLE, REACH = 128, 127  # palette index of no change; distance from it to the largest change shown
WIDEST = 1440  # pixels of a figure on the page: more of them, for print, lie beside it
OPACITY = 0.75  # of the most relevant place of a saliency map over its image
LOSSLESS_BYTES = 150_000  # a figure whose lossless copy is larger is photographs, and is embedded at quality 88


def image_sprite(images: np.ndarray, look: Look) -> bytes:
    """Images [S, H, W] of physical values -> grey PNG [H, S * W]: pixel v means low + v/255 * (high - low) of the
    window; pictures [S, H, W, 3] -> RGB PNG of their own values.
    """
    return _png(Image.fromarray(_beside(look.levels(images))))


def value_sprite(images: np.ndarray, shown: Window, exact: bool = True) -> bytes:
    """Images [S, H, W] of physical values -> WebP [H, S * W] that any display window within `shown` can be drawn from:
    level v of 0 to `LEVELS` means low + v / LEVELS * (high - low) of `shown`.

    Red and green hold v // 4, blue the same but for its last two bits, which are those of v: to the eye it is grey.
    exact: False keeps the first eight bits, and these nearly, in a fifth of the space.
    """
    levels = np.rint(LEVELS * windowed(images, shown)).astype(np.uint16)
    coarse, fine = (levels >> 2).astype(np.uint8), (levels & 3).astype(np.uint8)
    if not exact:
        return _webp(_beside(coarse), quality=PHOTO_QUALITY)
    return _webp(_beside(np.stack([coarse, coarse, (coarse & 252) | fine], axis=-1)), lossless=True, quality=50)


def colour_sprite(images: np.ndarray, look: Look) -> bytes:
    """Pictures [S, H, W, 3] -> WebP [H, S * W] of nearly their own colours: a seventh of what all of them take."""
    return _webp(_beside(look.levels(images)), quality=PHOTO_QUALITY, use_sharp_yuv=True)


def difference_sprite(values: np.ndarray, zero: int, limit: float) -> bytes:
    """[S, H, W] (`Look.scalar`) -> grey WebP [H, S * W]: level i is nearly a change by (i - 128) / 127 * limit from
    step `zero`.
    """
    return _webp(_beside(_indices(differences(values, zero), limit)), quality=PHOTO_QUALITY)


def change_sprite(changes: np.ndarray, limit: float) -> bytes:
    """[S, H, W] signed changes -> palette PNG [H, S * W]: index i is a change by (i - 128) / 127 * limit."""
    indexed = Image.fromarray(_beside(_indices(changes, limit)))
    indexed.putpalette(diverging_palette())  # turns the grey image into a palette image
    return _png(indexed)


def _indices(changes: np.ndarray, limit: float) -> np.ndarray:
    """Signed changes -> uint8 of the same shape, 1 at -limit, 128 at 0, 255 at limit."""
    assert limit > 0, limit
    return np.rint(MIDDLE + REACH * (changes / limit).clip(-1.0, 1.0)).astype(np.uint8)


def saliency_sprite(image: np.ndarray, relevance: np.ndarray, look: Look) -> bytes:
    """One image without its colours, and over it a saliency map [H, W] -> RGB PNG: red speaks for, blue against."""
    side = max(relevance.shape)
    colours = relevance_colours(relevance, side)
    opacity = colours[..., 3:]
    mixed = (1.0 - opacity) * look.lightness(image, side)[..., None] + opacity * colours[..., :3]
    return _png(Image.fromarray(np.rint(255.0 * mixed).astype(np.uint8)))


def relevance_colours(relevance: np.ndarray, side: int, least: float = 0.0) -> np.ndarray:
    """[H, W] signed -> [h, w, 4] in [0, 1], the longer edge of `side` pixels: as opaque as its share of the largest, or
    of `least` where all are smaller.
    """
    size = finite(np.asarray(relevance, np.float32))
    largest = max(float(np.abs(size).max()), least)
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


def figure_uri(path: Path, widest: int = WIDEST) -> str:
    """A saved PNG as a WebP data URI: lossless for charts, quality 88 for figures full of images. widest: in pixels."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((widest, picture.height), Image.Resampling.LANCZOS)
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


def _webp(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", method=2, **options)
    return buffer.getvalue()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")  # optimize=True takes five times as long for 4% of the size
    return buffer.getvalue()
