"""Traversals as GIFs: there and back, the step marked, all frames in one palette so that the file stays small."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medlat.core.files import whole
from medlat.report.rendering import Look
from medlat.report.style import step_label

LARGEST_BYTES = 300_000
SHADES = (96, 64, 48, 32, 24, 16)  # greys or colours, tried in turn until the file is small enough
INK, DIM, ACCENT, PAPER = (240, 240, 240), (120, 120, 120), (86, 180, 233), (0, 0, 0)
MOVE_MS, END_MS = 140, 500
LINE = 16  # pixels: the height of a line of text
MARKS = 26  # pixels: the strip of step marks at the bottom


def traversal_gif(images: np.ndarray, path: Path, look: Look, steps: Sequence[float], caption: str) -> None:
    """One direction, images [S, H, W(, 3)]: at least 256 pixels wide, with step marks and caption."""
    frames = [
        _framed([image], [caption], look, steps, index, side=256) for index, image in enumerate(np.asarray(images))
    ]
    _write(path, frames, look)


def overview_gif(
    images: np.ndarray,  # [K, S, H, W(, 3)] physical values
    path: Path,
    look: Look,
    steps: Sequence[float],
    names: Sequence[str],  # [K]
) -> None:
    """Several directions side by side (rows of four), all at the same step."""
    images = np.asarray(images)
    assert images.shape[:2] == (len(names), len(steps)), images.shape
    side = 256 if len(names) == 1 else 192 if len(names) <= 3 else 128
    frames = [_framed(images[:, index], names, look, steps, index, side) for index in range(len(steps))]
    _write(path, frames, look)


def _framed(
    images: Sequence[np.ndarray] | np.ndarray,
    captions: Sequence[str],
    look: Look,
    steps: Sequence[float],
    index: int,
    side: int,
) -> Image.Image:
    """One RGB frame: tiles in rows of four with their captions, below them one line of step marks."""
    tiles = [Image.fromarray(np.rint(look.tile(image, side) * 255).astype(np.uint8)) for image in images]
    columns, (width, height) = min(4, len(tiles)), tiles[0].size
    rows = -(-len(tiles) // columns)
    texts = [_wrapped(caption, width - 8) for caption in captions]
    cell = height + 6 + LINE * max(len(lines) for lines in texts)
    frame = Image.new("RGB", (columns * width, rows * cell + MARKS), PAPER)
    draw = ImageDraw.Draw(frame)
    for number, (tile, lines) in enumerate(zip(tiles, texts, strict=True)):
        x, y = number % columns * width, number // columns * cell
        frame.paste(tile, (x, y))
        for line, text in enumerate(lines):
            draw.text((x + width // 2, y + height + 4 + LINE * (line + 0.5)), text, INK, _font(), anchor="mm")
    _marks(draw, frame.width, frame.height - MARKS // 2, steps, index)
    return frame


def _marks(draw: ImageDraw.ImageDraw, width: int, y: int, steps: Sequence[float], index: int) -> None:
    """A line with a tick per step, the present one filled, its value in σ at the right."""
    left, right = 14, min(width, 300) - 64
    span = (max(steps) - min(steps)) or 1.0
    xs = [left + (right - left) * (step - min(steps)) / span for step in steps]
    draw.line((left, y, right, y), DIM)
    for x, step in zip(xs, steps, strict=True):
        reach = 4 if abs(step) < 1e-9 else 2
        draw.line((x, y - reach, x, y + reach), DIM)
    draw.ellipse((xs[index] - 4, y - 4, xs[index] + 4, y + 4), ACCENT)
    draw.text((right + 12, y), step_label(steps[index]), ACCENT, _font(), anchor="lm")


@cache
def _font() -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib: the same on every machine."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 12)


def _wrapped(text: str, width: int, most: int = 2) -> list[str]:
    """The text in at most two lines of so many pixels; what is longer ends in an ellipsis."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font().getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_shortened(line, width) for line in lines]


def _shortened(text: str, width: int) -> str:
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _write(path: Path, frames: Sequence[Image.Image], look: Look) -> None:
    """Ping-pong, with a pause at either end, in as many greys or colours as the size allows."""
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    ends = {0, len(frames) - 1}
    durations = [END_MS if index in ends else MOVE_MS for index in order]
    for shades in SHADES:
        palette = _palette(_colours(frames, shades) if look.colour else _greys(shades))
        indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        buffer = io.BytesIO()
        first, *rest = (indexed[index] for index in order)
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
        if buffer.tell() <= LARGEST_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as fresh:
        fresh.write_bytes(buffer.getvalue())


def _greys(count: int) -> list[int]:
    """R, G, B of so many evenly spaced greys."""
    return [int(level) for level in np.rint(np.linspace(0, 255, count)).repeat(3)]


def _colours(frames: Sequence[Image.Image], count: int) -> list[int]:
    """R, G, B of so many colours that suit all frames together, and of the text's."""
    pixels = np.concatenate([np.asarray(frame)[::2, ::2].reshape(-1, 3) for frame in frames])
    fitted = Image.fromarray(pixels[None]).quantize(count, Image.Quantize.MEDIANCUT).getpalette()
    assert fitted is not None
    return [*fitted[: 3 * count], *INK, *DIM, *PAPER]


def _palette(colours: list[int]) -> Image.Image:
    """The colours and the accent, as the palette of a dummy image."""
    palette = Image.new("P", (1, 1))
    palette.putpalette([*colours, *ACCENT])
    return palette
