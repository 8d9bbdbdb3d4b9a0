"""Annotations of whole slides as ASAP writes them, in the groups of Camelyon16 (Litjens et al. 2018, GigaScience 7)."""

import os
from collections import Counter
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from medlat.core.errors import ArgumentError

TUMOUR = {"tumor", "tumour", "_0", "_1"}
HOLE = {"exclusion", "_2"}
MOST_BYTES = 1 << 26  # of a file; the largest of Camelyon16 has some 4 MB
MOST_PIXELS = 1 << 31  # that a coordinate may be from the corner of a slide


class AsapAnnotation:
    """The outlines of one file, in level-0 pixels: each [points, 2] float64, x and y.

    tumour: of the groups Tumor, _0 and _1; holes: of Exclusion and _2, what is inside these is no tumour. Other groups
    and anything that encloses no area (dots, measurements) are left out.

    Raises UserError where the file is no ASAP annotation, declares a document type or entities (which are a way to make
    a small file fill the memory), or has outlines in none of these groups.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tumour: list[np.ndarray] = []
        self.holes: list[np.ndarray] = []
        self._root: str | None = None
        self._group = ""
        self._points: list[tuple[float, float, float]] = []  # order, x, y
        self._others: Counter[str] = Counter()
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            if os.path.getsize(path) > MOST_BYTES:
                raise ArgumentError("annotations", f"'{path}' has more than {MOST_BYTES} bytes, expected ASAP XML")
            parser.Parse(path.read_bytes(), True)
        except expat.ExpatError as error:
            raise ArgumentError("annotations", f"'{path}' is no well-formed XML ({error})") from error
        except (OSError, ValueError, LookupError) as error:  # the last two: an encoding that nobody knows
            raise ArgumentError("annotations", f"'{path}' cannot be read ({type(error).__name__})") from error
        if self._others and not (self.tumour or self.holes):
            raise ArgumentError(
                "annotations",
                f"the outlines in '{path}' are of the groups {', '.join(self._others)}, "
                f"expected Tumor, _0 or _1, and Exclusion or _2 for holes",
            )

    def _refuse(self, *declaration: Any) -> None:
        raise ArgumentError(
            "annotations", f"'{self.path}' declares a document type or entities, expected plain ASAP XML"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._root is None:
            self._root = name
            if name != "ASAP_Annotations":
                raise ArgumentError("annotations", f"'{self.path}' begins with <{name}>, expected <ASAP_Annotations>")
        if name == "Annotation":
            self._group, self._points = attributes.get("PartOfGroup", "None"), []
        elif name == "Coordinate":
            try:
                order, x, y = (float(attributes[key]) for key in ("Order", "X", "Y"))
                if not all(abs(value) <= MOST_PIXELS for value in (order, x, y)):
                    raise ValueError("no place on a slide")
            except (KeyError, ValueError):
                raise ArgumentError(
                    "annotations", f"a Coordinate in '{self.path}' is {attributes}, expected numbers for Order, X and Y"
                ) from None
            self._points.append((order, x, y))

    def _end(self, name: str) -> None:
        if name != "Annotation" or len(self._points) < 3:
            return
        outline = np.array(sorted(self._points))[:, 1:]
        group = self._group.lower()
        if group in TUMOUR:
            self.tumour.append(outline)
        elif group in HOLE:
            self.holes.append(outline)
        else:
            self._others[self._group] += 1

    def mask(self, shape: tuple[int, int], scale: float) -> np.ndarray:
        """[H, W] bool: where there is tumour, on pixels that are `scale` level-0 pixels a side. A pixel that an outline
        touches is inside.
        """
        from PIL import Image, ImageDraw

        canvas = Image.new("L", (shape[1], shape[0]))
        draw = ImageDraw.Draw(canvas)
        for outlines, fill in ((self.tumour, 1), (self.holes, 0)):
            for outline in outlines:
                # a pixel's centre is at its number for the drawing, and half a pixel further in the slide
                draw.polygon([(x / scale - 0.5, y / scale - 0.5) for x, y in outline.tolist()], fill=fill)
        return np.asarray(canvas, dtype=bool)
