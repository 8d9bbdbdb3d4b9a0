"""Label maps among pictures (ISIC, DRIVE, BUSI, ...): what is named like one, and whether it is one by its values."""

import re
from collections import defaultdict
from collections.abc import Sequence
from posixpath import basename, dirname, splitext

import numpy as np

WORDS = {"mask", "masks", "label", "labels", "labelmap", "seg", "segmentation", "segmentations", "segmented"}
WORDS |= {"groundtruth", "truth", "gt", "annotation", "annotations", "anno", "manual", "contour", "contours"}
FEW = 8  # values, of any picture
MOST_LABELS, PIXELS_A_LABEL = 128, 50  # of one that is flat
FLAT = 0.8  # share of pixels, but for the commonest value, that are as their neighbour: of small objects 0.9
NOISE, TWO = 24, 0.97  # of a mask that was saved as JPEG: so near to black or white, this share of the pixels
COMPARED = (1 << 13, 1 << 20)  # pixels, at first and then


def named_after(paths: Sequence[str]) -> dict[str, str]:
    """Of each picture that may be a label map by its name: the path of the picture that it is named after, or "" where
    a word in its own path says what it is (`masks/a.png`, `21_manual1.gif`).

    paths: of all pictures, below the root, with forward slashes. One is named after another where that name goes on
    with a suffix (`a.jpg`, `a_segmentation.png`), or stands in another folder again. Where every path has such a word,
    it says nothing.
    """
    marked = {path for path in paths if WORDS & set(re.split(r"[^a-z]+", splitext(path)[0].lower()))}
    if len(marked) == len(paths):
        marked = set()
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(set(paths) - marked):
        stems[splitext(basename(path))[0]].append(path)
    found = dict.fromkeys(marked, "")
    for stem, same in stems.items():
        cuts = [match.start() for match in re.finditer(r"[^A-Za-z0-9]", stem)]
        first = next((stems[stem[:cut]][0] for cut in reversed(cuts) if stem[:cut] in stems), None)
        for path in same:
            elsewhere = (other for other in same if dirname(other) != dirname(path))
            if beside := first or next(elsewhere, None):
                found[path] = beside
    return found


def are_labels(pixels: np.ndarray) -> bool:
    """Whether a picture holds labels: hardly any different values, or some in areas of one value each, or black and
    white that JPEG has blurred. pixels: [H, W] or [H, W, 3], from 0 to 255; of an image some rows mostly say no.
    """
    height, width = pixels.shape[:2]
    return all(_hold_labels(pixels[:: max(1, height * width // most)]) for most in COMPARED)


def _hold_labels(rows: np.ndarray) -> bool:
    rows = rows.astype(np.float32)
    numbers = rows if rows.ndim == 2 else rows @ np.array([65536, 256, 1], np.float32)  # one for each colour
    values, counts = np.unique(numbers, return_counts=True)
    if len(values) <= FEW:
        return True
    if len(values) <= MOST_LABELS and numbers.size >= PIXELS_A_LABEL * len(values):
        inside = numbers[:, 1:] != values[counts.argmax()]
        alike = inside & (numbers[:, 1:] == numbers[:, :-1])
        if alike.sum() >= max(1, FLAT * inside.sum()):
            return True
    black, white = rows <= NOISE, rows >= 255 - NOISE
    return float((black | white).mean()) >= TWO and 1 - TWO <= float(white.mean()) <= TWO
