"""Picture files and tables as users have them: decoding PNG, JPEG, TIFF and BMP, and reading CSV files."""

import csv
import errno
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medlat.core.errors import UserError, did_you_mean
from medlat.data.modality import GREY, HISTOLOGY

if TYPE_CHECKING:
    import PIL.Image

SEPARATORS = ",;\t"
WHITE_16_BIT = 65535.0
MISSING = {"", "nan", "na", "n/a", "null"}
MOST_PIXELS = 8192 * 8192  # decoded, and then copied once: 0.6 GB
MOST_OF_JPEG2000 = 3072 * 3072  # whose decoder takes eight times the time and twice the memory
TOO_MANY = "more than 67 million pixels, or 9 million of JPEG 2000"
STRIP = 1 << 20  # pixels that are converted together
# What is read; the library knows others too, whose decoders start programs or need several times the memory
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
TIFF_TILE = (322, 323)  # width and length of a tile; a decoder allocates a whole one


class Table(NamedTuple):
    """A CSV file: its column names, and its rows as text."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]

    def check_column(self, key: str, name: str) -> None:
        """Raises UserError where there is no column of that name; `key` is the configuration's word for it."""
        if name not in self.columns:
            raise UserError(f"{key}: the CSV has no column '{name}'{did_you_mean(name, self.columns)}")


def read_table(key: str, path: Path) -> Table:
    """A CSV file with a header, separated by comma, semicolon or tab, in UTF-8; blanks about a value are dropped.

    Raises UserError, beginning with the configuration's key, where it is absent, unreadable or without rows.
    """
    if not os.path.isfile(path):
        try:
            there = [name for name in os.listdir(path.parent) if name.endswith(".csv")]
        except OSError:
            there = []
        raise UserError(f"{key}: there is no file '{path}'{did_you_mean(path.name, there)}")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            separator = max(SEPARATORS, key=header.count)
            file.seek(0)
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, delimiter=separator) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{key}: '{path}' cannot be read as a CSV file in UTF-8 ({type(error).__name__})") from error
    if len(lines) < 2:
        raise UserError(f"{key}: '{path}' has no rows, expected a line of column names and one line per image")
    columns, uneven = lines[0], [i for i, line in enumerate(lines, 1) if len(line) != len(lines[0])]
    if uneven:
        raise UserError(
            f"{key}: line {uneven[0]} of '{path}' has {len(lines[uneven[0] - 1])} values, "
            f"expected one for each of the {len(columns)} columns"
        )
    return Table(tuple(columns), [dict(zip(columns, line, strict=True)) for line in lines[1:]])


def below(root: Path, cell: str) -> Path | None:
    """The file that a cell of a table names, relative to the root and with either slash; None where it leaves the root
    (`..`, or an absolute path).
    """
    relative = PureWindowsPath(cell)
    if relative.is_absolute() or relative.anchor or ".." in relative.parts or not relative.parts:
        return None
    return root / relative.as_posix()


def some(names: Sequence[str] | Mapping[str, object], most: int = 3) -> str:
    """The first few names, quoted, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def number(cell: str) -> float | None:
    """The finite number that a cell holds, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_picture(path: str | os.PathLike[str], colour: bool, white: float | None = None) -> np.ndarray:
    """The first image of a file, upright by its EXIF tag: [H, W, 3] uint8, or [H, W] float32 from 0 to 255.

    colour: greyscale files become three equal channels; else colours become their luminance. What is transparent is
            glass in colour, black in grey.
    white:  the stored value of white in a greyscale file; None: 255 of 8 bits, 65535 of 16. Brighter ones are clipped.

    Raises ValueError, in fixed words, where the file cannot be decoded (the messages of the library quote paths) or
    has more than 8192² pixels.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as image:
            problem = _problem(image, white)
            if problem is None:
                ImageOps.exif_transpose(image, in_place=True)
                return _converted(image, colour, white)
    except Image.DecompressionBombError:
        problem = TOO_MANY
    except Exception as error:  # decoders raise anything on damaged files
        problem = _reason(error)
    raise ValueError(problem)


def _problem(image: "PIL.Image.Image", white: float | None) -> str | None:
    """Why a picture is not decoded, by what its header claims."""
    tile = math.prod(int(getattr(image, "tag_v2", {}).get(tag, 1)) for tag in TIFF_TILE)
    if max(math.prod(image.size), tile) > (MOST_OF_JPEG2000 if image.format == "JPEG2000" else MOST_PIXELS):
        return TOO_MANY
    if image.mode == "F" and white is None:
        return "floating-point pixels; data.white says which value is white"
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR):
        return "no name of a file"
    return "more than fits into memory" if isinstance(error, MemoryError) else "corrupt"


def _converted(image: "PIL.Image.Image", colour: bool, white: float | None) -> np.ndarray:
    """As `read_picture` returns it, strip by strip: the library's own conversions are copies of the whole."""
    width, height = image.size
    deep = image.mode[0] in "IF"
    grey = deep or (white is not None and image.mode == "L")
    scale = np.float32(255.0 / (white or (WHITE_16_BIT if deep else 255.0)))
    pixels = np.empty((height, width, 3), np.uint8) if colour else np.empty((height, width), np.float32)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        values = np.asarray(strip if grey else _opaque(strip, colour))
        if grey:
            with np.errstate(over="ignore"):
                values = np.clip(np.nan_to_num(values.astype(np.float32)) * scale, 0.0, 255.0)
        pixels[top : top + rows] = np.rint(values).astype(np.uint8)[:, :, None] if colour and grey else values
    return pixels


def _opaque(image: "PIL.Image.Image", colour: bool) -> "PIL.Image.Image":
    """An image of mode RGB or L, over the modality's fill."""
    from PIL import Image

    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        fill = int(HISTOLOGY.fill if colour else GREY.fill)
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (fill, fill, fill, 255)), rgba)
    return image.convert("RGB" if colour else "L")
