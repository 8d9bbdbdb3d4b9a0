"""Whether the values that pictures store fill the range that they are taken to have, from black to white."""

import logging
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, key_in
from medlat.data.modality import Modality
from medlat.data.pictures.decode import look
from medlat.data.pictures.dicom import is_dicom, read_unwindowed
from medlat.data.source import ParallelMap

log = logging.getLogger(__name__)

MOST_LOOKED_AT = 256  # pictures, evenly spread over the set
DARK, DIM = 0.25, 0.5  # shares of the range; what uses less of it is refused, or said
COMMON_WHITES = tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 15, 16, 24, 31, 32))
DEEP_COLOUR = "16-bit colour"
FEW_FILES = 0.1  # share of the pictures looked at, for which the others are not refused
MOST_COMPARED = 1 << 16  # values of a picture
FEW = 8  # values of a picture that may be a mask
GREYISH, COLOURED = 1.0, 8.0  # how far from grey (`decode.Look.chroma`); 200 H&E tiles: 23 to 124


class Levels(NamedTuple):
    """What a greyscale picture stores: words for the kind of its numbers, its least and greatest value, which values
    count as black and white (None: nothing says), and whether it holds few different ones.
    """

    kind: str
    low: float
    high: float
    black: float
    white: float | None
    few: bool


class Looked(NamedTuple):
    """At one file: its levels, where it is greyscale or of 16-bit colours; whether it holds several images; and how far
    it is from grey (`decode.Look`), where it is a picture.
    """

    levels: Levels | None
    several: bool = False
    chroma: float | None = None


def looked_at(path: str) -> Looked:
    """A picture or a DICOM file; without levels where it cannot be read, or is DICOM that says what is white."""
    if is_dicom(path):
        found = read_unwindowed(path)
        return Looked(None if found is None else _levels("DICOM", *found))
    read = look(path)
    if read is None:
        return Looked(None)
    if read.values is None:
        return Looked(None, read.several, read.chroma)
    if read.what is None:
        return Looked(_levels(DEEP_COLOUR, read.values, 0.0, 255.0), read.several, read.chroma)
    words = {"u": "", "i": " signed", "f": " floating-point"}[read.what.kind]
    levels = _levels(f"{read.what.bits}-bit{words}", read.values, 0.0, read.what.white)
    return Looked(levels, read.several, read.chroma)


def _levels(kind: str, values: np.ndarray, black: float, white: float | None) -> Levels | None:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size == 0:
        return None
    few = len(np.unique(finite.reshape(-1)[:: max(1, finite.size // MOST_COMPARED)])) <= FEW
    return Levels(kind, float(finite.min()), float(finite.max()), black, white, few)


def check_levels(
    source: Any, paths: Sequence[str], parallel_map: ParallelMap, labels: Collection[str] = frozenset()
) -> None:
    """Looks at up to 256 of the files. source: has `white`, `black` and `labels`, as the configuration names them.
    labels: those that are label maps where they hold few values, and say nothing of the images then.

    Raises UserError where pictures of more than 8 bits use less than a quarter of their range (12 bits in 16), or are
    floating-point, and nobody has said what is white; says it where they use less than half.
    """
    count = min(len(paths), MOST_LOOKED_AT)
    picked = [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)] if count else []
    kinds: defaultdict[tuple, list[Levels]] = defaultdict(list)
    several, chromas = 0, list[float]()
    for path, found in zip(picked, parallel_map(looked_at, picked, "looking at the range of values"), strict=True):
        one, is_several, chroma = found
        if one is not None and one.few and path in labels:
            continue
        several += is_several
        chromas += [] if chroma is None else [chroma]
        if one is not None:
            kinds[one.kind, one.black, one.white].append(one)
    if several:
        log.warning("%d of %d pictures looked at hold several images, of which the first is read", several, count)
    _say_colours(source.modality, chromas)
    for some in kinds.values():
        _check_kind(source, some, len(picked))
    masks = sum(one.few for some in kinds.values() for one in some)
    if source.labels is None and masks > FEW_FILES * count:
        log.warning(
            "%d of %d pictures looked at hold at most %d different values, as masks do; %s=PATTERN leaves files out",
            *(masks, count, FEW, key_in(source, "exclude")),
        )


def _say_colours(modality: Modality, chromas: Sequence[float]) -> None:
    """Greyscale pictures that are read as colours, and the other way round."""
    coloured = sum(chroma > COLOURED for chroma in chromas)
    if modality.colour and chromas and max(chromas) < GREYISH:
        log.warning(
            "none of %d pictures looked at has colours, and they are read as %s; data=radiographs reads greyscale",
            *(len(chromas), modality.name),
        )
    elif not modality.colour and coloured > FEW_FILES * len(chromas):
        log.warning(
            "%d of %d pictures looked at have colours, of which the brightness alone is read as %s; data=image_folder "
            "reads colours",
            *(coloured, len(chromas), modality.name),
        )


def _check_kind(source: Any, found: list[Levels], looked_at: int) -> None:
    """Of the pictures that store one kind of numbers."""
    kind, _, _, black, white, _ = found[0]
    low, high = min(one.low for one in found), max(one.high for one in found)
    if low == high:  # blank
        return
    if kind == DEEP_COLOUR:
        if high <= DARK * 255:
            log.warning("the %s pictures look nearly black: %g of 255 is the brightest of %d", kind, high, len(found))
        return
    is_given = source.white is not None or source.black is not None
    black = black if source.black is None else source.black
    white = white if source.white is None else source.white
    values = f"the {kind} pictures ({len(found)} of {looked_at} looked at) hold values from {low:.6g} to {high:.6g}"
    if white is None:
        if 2 * len(found) >= looked_at:  # else they count as damaged
            raise ArgumentError("white", f"{values}, and nothing says which is white; {_advice(source, low, high)}")
        return
    share, is_8_bit = (high - low) / (white - black), kind.startswith("8-bit")
    values += f", where {black:.6g} is taken as black and {white:.6g} as white"
    if share > DARK and not is_given and not is_8_bit:
        _say_mixed(kind, found, white - black)
    if share > (DARK if is_8_bit else DIM) and high - white < white - black:
        return
    if share > DARK or is_given or is_8_bit or len(found) < FEW_FILES * looked_at:
        log.warning("%s; %s and %s say otherwise", values, key_in(source, "black"), key_in(source, "white"))
        return
    key = key_in(source, "white")
    is_dark = black <= low <= DARK * white
    otherwise = f", or {key}={white:.10g}, where they are meant to be so dark" if is_dark else ""
    raise ArgumentError("white", f"{values}: few grey levels would be left; {_advice(source, low, high)}{otherwise}")


def _advice(source: Any, low: float, high: float) -> str:
    """What to set, for values of that range."""
    black, white = key_in(source, "black"), key_in(source, "white")
    if low < 0 or low > 0.5 * high:
        return f"expected both {black} and {white}, e.g. {black}={low:.10g} {white}={high:.10g}"
    near = 1.0 if high <= 1.0 else next((one for one in COMMON_WHITES if high <= one < 2.1 * high), math.ceil(high))
    return f"expected {white}, e.g. {white}={near:.10g}"


def _say_mixed(kind: str, found: list[Levels], range_: float) -> None:
    """Some of 12 bits among others of 16."""
    dim = [one for one in found if one.high - one.low <= DARK * range_]
    if len(dim) > FEW_FILES * len(found):
        log.warning(
            "%d of %d %s pictures looked at use less than a quarter of the range that others fill: of other bit depth?",
            *(len(dim), len(found), kind),
        )
