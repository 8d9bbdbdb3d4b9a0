"""Phantom patients as files: slides with outlined tumour and folders of tiles, to try the readers of real files on."""

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from medlat.core.errors import ArgumentError, UserError
from medlat.core.progress import track
from medlat.data.source import Chunk, Slice
from medlat.phantoms.histology.source import CLASSES, HistologyPhantom

GLASS, GLASS_NOISE = 243.0, 1.5  # grey levels of a slide where nothing is on it
TILE = 256  # pixels of the file's own tiles; the smallest level is at most this
CORNERS = 72  # of an outline


def write_slide(folder: Path | str, source: HistologyPhantom, patient: int = 0, grid: int = 8) -> tuple[Path, Path]:
    """One patient's tiles put together to a slide: `<folder>/<patient>.tif`, and `<patient>.xml` with its tumour.

    An irregular piece of tissue on glass, within it a tumour of the patient's tumour tiles, and in that a hole of
    normal tissue. The slide is a tiled pyramid (each level half the one before) that OpenSlide opens, with µm a pixel
    in its resolution tags; tiles that there are too few of return turned by 90 degrees. The outlines are ASAP's, in
    pixels of level 0, in the groups "Tumor" and "Exclusion". The same arguments give the same files.

    patient: its number in the source.
    grid:    tiles a side; the slide has grid x source.size pixels a side.
    Raises UserError where there is no such patient, or it has tiles of one class only.
    """
    chunks = _chunks(source)
    if not 0 <= patient < len(chunks):
        raise UserError(f"patient: {patient}, expected 0 to {len(chunks) - 1}, the patients of the source")
    if grid < 2:
        raise UserError(f"grid: {grid}, expected at least 2 tiles a side")
    chunk, side = chunks[patient], grid * source.size
    tiles = [one.pixels for one in source.read(chunk) if isinstance(one, Slice)]
    normal, tumour = (_mosaic(tiles, chunk, label, grid) for label in range(len(CLASSES)))
    rng = np.random.default_rng([source.seed, patient, grid])
    outlines = {
        "tissue": _outline(rng, side * np.array([0.5, 0.5]), 0.42 * side),
        "Tumor": _outline(rng, side * rng.uniform(0.42, 0.58, 2), 0.2 * side),
    }
    outlines["Exclusion"] = _outline(rng, outlines["Tumor"].mean(0), 0.06 * side)
    tissue, inside, hole = (_filled(outline, side) for outline in outlines.values())
    glass = rng.normal(GLASS, GLASS_NOISE, (side, side, 3))
    image = np.where(tissue[..., None], np.where((inside & ~hole)[..., None], tumour, normal), glass)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    slide, annotation = place / f"{chunk.patient}.tif", place / f"{chunk.patient}.xml"
    _write_pyramid(slide, image, source.mpp)
    _write_asap(annotation, {group: outlines[group] for group in ("Tumor", "Exclusion")})
    return slide, annotation


def write_tiles(folder: Path | str, source: HistologyPhantom) -> Path:
    """Every tile as PNG, `<folder>/<patient>/000.png`, ... and `labels.csv` (path, label, group); returns the CSV."""
    from PIL import Image

    rows = []
    for chunk in track(_chunks(source), "writing tiles", total=source.patients):
        place = Path(folder) / chunk.patient
        place.mkdir(parents=True, exist_ok=True)
        tiles = (one for one in source.read(chunk) if isinstance(one, Slice))
        for number, (tile, label) in enumerate(zip(tiles, chunk.columns["label.tumour"], strict=True)):
            path = place / f"{number:03d}.png"
            Image.fromarray(_bytes(tile.pixels)).save(path)
            rows.append((path.relative_to(folder).as_posix(), CLASSES[int(label)], chunk.patient))
    table = Path(folder) / "labels.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    return table


def _chunks(source: HistologyPhantom) -> list[Chunk]:
    return source.scan(lambda function, items, _: map(function, items)).chunks


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _mosaic(tiles: list[np.ndarray], chunk: Chunk, label: int, grid: int) -> np.ndarray:
    """[grid x size, grid x size, 3] of the patient's tiles of one class."""
    mine = [tile for tile, its in zip(tiles, chunk.columns["label.tumour"], strict=True) if its == label]
    if not mine:
        raise ArgumentError(
            "slices_per_patient",
            f"{len(tiles)}, none of them {CLASSES[label]}; expected at least 2, so that a slide has both",
        )
    cells = [np.rot90(mine[i % len(mine)], i // len(mine)) for i in range(grid * grid)]
    return np.concatenate([np.concatenate(cells[i * grid : (i + 1) * grid], axis=1) for i in range(grid)])


def _outline(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """A wavy closed curve around the centre, [CORNERS, 2] (x, y), within 15% of the radius."""
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    waves = [0.05 * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)]
    distance = radius * (1 + np.sum(waves, axis=0))
    points: np.ndarray = centre + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points.round(2)


def _filled(outline: np.ndarray, side: int) -> np.ndarray:
    """[side, side] bool; a pixel's centre is half a pixel from its corner."""
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (side, side))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in (outline - 0.5).tolist()], fill=1)
    return np.asarray(canvas)


def _write_pyramid(path: Path, image: np.ndarray, mpp: float) -> None:
    """A TIFF with a page a level, each averaged from the one before, until one fits into a tile."""
    import tifffile

    with tifffile.TiffWriter(path) as file:
        level, image = 0, image.astype(np.float32)
        while True:
            file.write(
                _bytes(image),
                photometric="rgb",
                tile=(TILE, TILE),
                compression="zlib",
                subfiletype=int(level > 0),  # 1: a reduced image, by which OpenSlide knows a level
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                software="medlat",
                description="histology phantom, not a patient" if level == 0 else None,
                metadata=None,
            )
            if image.shape[0] <= TILE:
                return
            half = image.shape[0] // 2
            image = image[: 2 * half, : 2 * half].reshape(half, 2, half, 2, 3).mean((1, 3))
            level += 1


def _write_asap(path: Path, outlines: dict[str, np.ndarray]) -> None:
    """An annotation a group."""
    root = ElementTree.Element("ASAP_Annotations")
    annotations, groups = (ElementTree.SubElement(root, name) for name in ("Annotations", "AnnotationGroups"))
    for number, (group, outline) in enumerate(outlines.items()):
        one = ElementTree.SubElement(
            annotations, "Annotation", Name=f"Annotation {number}", Type="Polygon", PartOfGroup=group, Color="#F4FA58"
        )
        points = ElementTree.SubElement(one, "Coordinates")
        for order, (x, y) in enumerate(outline.tolist()):
            ElementTree.SubElement(points, "Coordinate", Order=str(order), X=f"{x:.2f}", Y=f"{y:.2f}")
        entry = ElementTree.SubElement(groups, "Group", Name=group, PartOfGroup="None", Color="#F4FA58")
        ElementTree.SubElement(entry, "Attributes")
    ElementTree.indent(root, "\t")
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
