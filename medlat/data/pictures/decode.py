"""Decoding a picture file: PNG, JPEG, TIFF, BMP and the like, and what its stored values mean."""

import errno
import math
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medlat.data.modality import GREY, HISTOLOGY

if TYPE_CHECKING:
    import PIL.Image

MOST_PIXELS = 8192 * 8192  # decoded, and then copied once: 0.6 GB
MOST_OF_JPEG2000 = 3072 * 3072  # whose decoder takes eight times the time and twice the memory
TOO_MANY = "more than 67 million pixels, or 9 million of JPEG 2000"
STRIP = 1 << 20  # pixels that are converted together
SEEN = 256  # pixels a side that tell whether a picture has colours
# What is read; the library knows others too, whose decoders start programs or need several times the memory
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (
    *(".bmp", ".dib", ".gif", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".png", ".pbm", ".pgm", ".ppm"),
    *(".pnm", ".tif", ".tiff", ".webp"),
)
TIFF_TILE = (322, 323)  # width and length of a tile; a decoder allocates a whole one
TIFF_BITS, TIFF_POLARITY, TIFF_NUMBERS = 258, 262, 339  # BitsPerSample, PhotometricInterpretation, SampleFormat
WHITE_IS_ZERO = 0
UNSIGNED, SIGNED = 1, 2
TIFF_KINDS = {  # byte order, kind of number, bits -> mode and decoder of the library, which knows some of them only as
    (b"II", UNSIGNED, 16): ("I;16", "I;16"),  # BlackIsZero, though it decodes WhiteIsZero alike
    (b"MM", UNSIGNED, 16): ("I;16B", "I;16B"),
    (b"II", SIGNED, 16): ("I", "I;16S"),
    (b"MM", SIGNED, 16): ("I", "I;16BS"),
    (b"II", UNSIGNED, 32): ("I", "I;32S"),
    (b"MM", UNSIGNED, 32): ("I", "I;32BS"),
    (b"II", SIGNED, 32): ("I", "I;32S"),
    (b"MM", SIGNED, 32): ("I", "I;32BS"),
}


class Stored(NamedTuple):
    """What kind of numbers a greyscale picture stores.

    bits:   of a value.
    kind:   "u", "i" or "f": unsigned, signed, floating-point.
    turned: whether the least of them is white, as TIFF's WhiteIsZero has it.
    """

    bits: int
    kind: str
    turned: bool

    @property
    def white(self) -> float | None:
        """The stored value that counts as white; None of floating-point numbers, which do not say it."""
        return None if self.kind == "f" else 2.0 ** (self.bits - (self.kind == "i")) - 1.0

    def values(self, decoded: np.ndarray) -> np.ndarray:
        """What the file stores, from what the library makes of it: its integers are all signed, and of 8 bits it turns
        WhiteIsZero by itself.
        """
        if self.bits == 32 and self.kind == "u":
            return decoded.view(np.uint32)
        if self.bits == 8 and self.kind == "i":
            return decoded.view(np.int8)
        return 255 - decoded if self.bits == 8 and self.turned else decoded


def opened(path: str | os.PathLike[str]) -> "PIL.Image.Image":
    """A picture file of one of the formats that are read; its pixels are not decoded yet."""
    from PIL import Image, TiffImagePlugin

    for (order, numbers, bits), decoder in TIFF_KINDS.items():
        for polarity in (WHITE_IS_ZERO, 1):
            TiffImagePlugin.OPEN_INFO.setdefault((order, polarity, (numbers,), 1, (bits,), ()), decoder)
    return Image.open(path, formats=FORMATS)


def stored(image: "PIL.Image.Image") -> Stored | None:
    """Of an opened picture; None where the library gives it as colours, a palette, or fewer than 8 bits."""
    if image.mode[0] not in "IF" and image.mode != "L":
        return None
    if image.format != "TIFF":
        return Stored(8 if image.mode == "L" else 16, "u", False)
    tags = getattr(image, "tag_v2", {})
    bits, numbers = (int(np.ravel(tags.get(tag, 1))[0]) for tag in (TIFF_BITS, TIFF_NUMBERS))
    if bits < 8:
        return None
    kind = "f" if image.mode == "F" else "i" if numbers == SIGNED else "u"
    return Stored(bits, kind, tags.get(TIFF_POLARITY) == WHITE_IS_ZERO)


def read_picture(
    path: str | os.PathLike[str], colour: bool, white: float | None = None, black: float | None = None
) -> np.ndarray:
    """The first image of a file, upright by its EXIF tag: [H, W, 3] uint8, or [H, W] float32 from 0 to 255.

    colour: greyscale files become three equal channels; else colours become their luminance. What is transparent is
            glass in colour, black in grey.
    white:  the stored value of white in a greyscale file; None: the largest that its numbers can hold (255 of 8 bits,
            65535 of 16, 32767 of 16 with a sign). Brighter ones are clipped.
    black:  the stored value of black in a greyscale file; None: 0. Darker ones are clipped.

    Where the file says that its least value is white (TIFF), black and white change places.

    Raises ValueError, in fixed words, where the file cannot be decoded (the messages of the library quote paths) or
    has more than 8192² pixels.
    """
    from PIL import Image, ImageOps

    try:
        with opened(path) as image:
            what = stored(image)
            problem = _problem(image)
            if problem is None and what is not None:
                problem = _unknown_levels(what.white if white is None else white, black)
            if problem is None:
                ImageOps.exif_transpose(image, in_place=True)
                return _converted(image, colour, what, white, black)
    except Image.DecompressionBombError:
        problem = TOO_MANY
    except Exception as error:  # decoders raise anything on damaged files
        problem = _reason(error, path)
    raise ValueError(problem)


class Look(NamedTuple):
    """At one file, for what shows in a set of them.

    values:  what a greyscale file stores, [H, W], and of colours of 16 bits their upper 8, [H, W, 3]; None of others.
    what:    the kind of a greyscale file's numbers.
    several: whether a second image of the same size follows the one that is read.
    chroma:  how far a pixel's red, green and blue lie apart, on average, 0 to 255; 0 of a greyscale file.
    """

    values: np.ndarray | None
    what: Stored | None
    several: bool
    chroma: float


def look(path: str | os.PathLike[str]) -> Look | None:
    """None of a file that `read_picture` cannot decode."""
    try:
        with opened(path) as image:
            if _problem(image):
                return None
            what, is_deep = stored(image), image.mode in ("RGB", "RGBA") and ";16" in str(getattr(image, "tile", ""))
            if what is None:
                image.draft("RGB", (SEEN, SEEN))  # of JPEG, which has smaller ones inside
            values = what.values(np.asarray(image)) if what else np.asarray(image)[..., :3] if is_deep else None
            chroma = 0.0 if what else _chroma(image)
            return Look(values, what, _is_followed(image), chroma)
    except Exception:  # decoders raise anything on damaged files
        return None


def _chroma(image: "PIL.Image.Image") -> float:
    whole = image if image.mode.startswith("RGB") else image.convert("RGBA")
    rgb = np.asarray(_opaque(whole.reduce(max(1, max(image.size) // SEEN)), colour=True)).astype(np.int16)
    return float((rgb.max(axis=2) - rgb.min(axis=2)).mean())


def _is_followed(image: "PIL.Image.Image") -> bool:
    size = image.size
    try:
        image.seek(1)
    except Exception:  # where there is none, or decoders raise anything on a damaged one
        return False
    return image.size == size


def _problem(image: "PIL.Image.Image") -> str | None:
    """Why a picture is not decoded, by what its header claims."""
    tile = math.prod(int(getattr(image, "tag_v2", {}).get(tag, 1)) for tag in TIFF_TILE)
    most = MOST_OF_JPEG2000 if image.format == "JPEG2000" else MOST_PIXELS
    return TOO_MANY if max(math.prod(image.size), tile) > most else None


def _unknown_levels(white: float | None, black: float | None) -> str | None:
    """Why stored values do not become grey levels, or None."""
    if white is None:
        return "floating-point pixels of which nothing says what is white"
    return "no stored value is as bright as black" if (black or 0.0) >= white else None


def _reason(error: Exception, path: str | os.PathLike[str]) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR):
        return "no name of a file"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    if isinstance(error, UnidentifiedImageError) and os.path.splitext(path)[1].lower() in (".tif", ".tiff"):
        return "corrupt, or a TIFF of a kind that is not read (saved as PNG it is)"
    return "corrupt"


def _converted(
    image: "PIL.Image.Image", colour: bool, what: Stored | None, white: float | None, black: float | None
) -> np.ndarray:
    """As `read_picture` returns it, strip by strip: the library's own conversions are copies of the whole."""
    width, height = image.size
    asked = white is not None or black is not None
    grey = what if what is not None and (asked or what[:2] != (8, "u")) else None
    pixels = np.empty((height, width, 3), np.uint8) if colour else np.empty((height, width), np.float32)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        values = np.asarray(strip if grey else _opaque(strip, colour))
        if grey:
            values = _scaled(grey.values(values), grey, white, black)
        pixels[top : top + rows] = np.rint(values).astype(np.uint8)[:, :, None] if colour and grey else values
    return pixels


def _scaled(values: np.ndarray, what: Stored, white: float | None, black: float | None) -> np.ndarray:
    """Stored values -> float32 from 0, black, to 255, white."""
    low, high = black or 0.0, (what.white if white is None else white) or 1.0
    exact: Any = np.float64 if what.bits > 16 else np.float32  # 32 bits would round what is stored
    with np.errstate(over="ignore"):
        levels = (values.astype(exact) - exact(low)) * exact(255.0 / (high - low))
        levels = np.nan_to_num(255.0 - levels if what.turned else levels)
    return np.clip(levels, 0.0, 255.0).astype(np.float32)


def _opaque(image: "PIL.Image.Image", colour: bool) -> "PIL.Image.Image":
    """An image of mode RGB or L, over the modality's fill."""
    from PIL import Image

    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        fill = int(HISTOLOGY.fill if colour else GREY.fill)
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (fill, fill, fill, 255)), rgba)
    return image.convert("RGB" if colour else "L")
