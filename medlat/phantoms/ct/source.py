"""The CT phantom: procedural chest CT in Hounsfield units whose factors of variation are known.

It stands in for data where none is at hand, and lets one check what a direction does against truth. It is
anatomy by eye, not by any atlas: never report it as data of patients.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from medlat.core.errors import ArgumentError, UserError, did_you_mean
from medlat.core.ranges import Count, NotNegative, Positive, Seed, ShareBelowOne, Span, Width
from medlat.data.ct.dicom import CTDicom
from medlat.data.modality import CT, Modality
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan, Slice
from medlat.phantoms.ct.anatomy import Scene, paint_thorax
from medlat.phantoms.ct.canvas import Canvas, Tissue
from medlat.phantoms.ct.person import LENGTH, Nodule, Person
from medlat.phantoms.ct.shapes import Build
from medlat.phantoms.factors import Draws, Factor, Margin

VERSION = "1"  # of the renderer: raise it with every change of what is painted


FACTORS: tuple[Factor, ...] = (
    Factor("rotation", "deg", -15.0, 15.0, "turn of the body in the image plane, clockwise in the image"),
    Factor("x", "mm", -18.0, 18.0, "shift of the body to the right in the image"),
    Factor("y", "mm", -15.0, 15.0, "shift of the body downwards in the image; the table moves with it"),
    Factor("body_size", "1", 0.84, 1.08, "scale of the whole body"),
    Factor("fat_thickness", "mm", 4.0, 18.0, "fat under the skin; it grows inwards, the outline stays"),
    Factor("lung_size", "1", 0.8, 1.0, "width of the rib cage and the lungs in it; the outline stays"),
    Factor("breast_size", "mm", 0.0, 40.0, "how far the breasts protrude, at the levels where they are"),
    Factor("heart_size", "1", 0.75, 1.2, "diameter of the heart, at the levels where it is"),
    Factor("table_height", "mm", 3.0, 28.0, "smallest vertical gap between the back and the table's surface"),
    Factor("z", "1", 0.0, 1.0, "level: 0 at the apex of the lungs, 1 at the liver"),
)
NAMES = tuple(factor.name for factor in FACTORS)
Correlated = Literal["all", "habitus"]
HABITUS = ("body_size", "fat_thickness", "lung_size", "breast_size", "heart_size")  # what bodies are like
# A patient does not lie quite still nor straight: standard deviation of a slice around its patient's value.
JITTER = {"rotation": 0.8, "x": 1.0, "y": 1.0}
NODULE_LEVELS = (0.14, 0.82)  # where every body has lung
NODULE_HU = 35.0


class Rendering(NamedTuple):
    """hu: [size, size] float32, clipped below at -1024; tissue: [size, size] uint8 of `Tissue`."""

    hu: np.ndarray
    tissue: np.ndarray


def middle_factors() -> dict[str, float]:
    """Every factor half-way between its bounds."""
    return {factor.name: (factor.low + factor.high) / 2 for factor in FACTORS}


def render(
    factors: Mapping[str, float],
    size: int,
    field_of_view_mm: float = 400.0,
    noise_hu: float = 20.0,
    person: Person | None = None,
    nodules: tuple[Nodule, ...] = (),
    noise_seed: int = 0,
) -> Rendering:
    """One axial slice and its map of tissues, row 0 anterior, column 0 the patient's right.

    factors:  a value for each of FACTORS; values outside the bounds are painted too. A missing one is at its middle.
    noise_hu: standard deviation of a pixel in the body; half as much in air.
    person:   what is individual beside the factors; None is one fixed person.
    Raises UserError for a factor that does not exist.
    """
    for name in factors:
        if name not in NAMES:
            raise UserError(f"the phantom has no factor '{name}'{did_you_mean(name, NAMES)}")
    canvas = _paint(factors, size, field_of_view_mm, person or Person.draw(np.random.default_rng(0)), nodules, True)
    add_noise(canvas.hu, noise_hu, np.random.default_rng(noise_seed))
    assert canvas.tissue is not None
    return Rendering(canvas.hu, canvas.tissue)


def _paint(
    factors: Mapping[str, float],
    size: int,
    field_of_view_mm: float,
    person: Person,
    nodules: tuple[Nodule, ...],
    with_tissue: bool,
) -> Canvas:
    f = middle_factors() | dict(factors)
    scale = f["body_size"]
    canvas = Canvas(size, field_of_view_mm / size, (f["x"], f["y"]), f["rotation"], scale, with_tissue)
    build = Build(f["z"], f["fat_thickness"] / scale, f["lung_size"], f["breast_size"] / scale, f["heart_size"])
    scene = paint_thorax(canvas, build, person, f["table_height"])
    for nodule in nodules:
        _paint_nodule(scene, nodule)
    return canvas


def nodule_radius_mm(nodule: Nodule, z: float, scale: float) -> float:
    """Radius of the disc in which the slice at this level cuts the nodule, 0 where it does not."""
    distance = (z - nodule.z) * LENGTH * scale
    return float(np.sqrt(max(0.0, nodule.radius_mm**2 - distance**2)))


def _paint_nodule(scene: Scene, nodule: Nodule) -> None:
    """The place is picked at the nodule's own level, so that it stays put in the slices above and below."""
    radius = nodule_radius_mm(nodule, scene.build.z, scene.canvas.scale) / scene.canvas.scale
    if radius > 0:
        centre = scene.lung_point(nodule.z, nodule.place, nodule.radius_mm / scene.canvas.scale)
        scene.canvas.ellipse(centre, (radius, 0.9 * radius), NODULE_HU, Tissue.NODULE, 360 * nodule.place)


def add_noise(hu: np.ndarray, noise_hu: float, rng: np.random.Generator) -> None:
    """Gaussian noise, smoothed over neighbouring pixels as a reconstruction kernel does, in place."""
    if noise_hu > 0:
        size = len(hu)
        white = rng.standard_normal((size + 2, size + 2), dtype=np.float32)
        rows = white[1:-1] + np.float32(0.35) * (white[:-2] + white[2:])
        noise = rows[:, 1:-1] + np.float32(0.35) * (rows[:, :-2] + rows[:, 2:])
        noise *= np.float32(noise_hu / (1 + 2 * 0.35**2))  # the two passes multiply the variance by this squared
        noise *= np.clip(np.float32(1.0) + hu * np.float32(0.0005), 0.5, 1.0)
        hu += noise
    np.maximum(hu, np.float32(-1024.0), out=hu)


class _Item(NamedTuple):
    """All that `read` needs for one slice."""

    patient: int
    slice: int
    factors: tuple[float, ...]


class CTPhantom:
    """Chest CT of invented patients as a `SliceSource`; a pure function of the arguments.

    patients, slices_per_patient: how many; the slices of a patient are spread from apex to liver with some jitter.
    size:             pixels a side; a pixel is field_of_view_mm / size.
    field_of_view_mm: side of the square image.
    noise_hu:         standard deviation of a pixel's noise in the body.
    seed:             of everything.
    nodule_radius_mm: smallest and largest radius of a nodule.
    seen_radius_mm:   of the disc that a slice must cut out of a nodule to be labelled.
    levels:           lowest and highest `z` of slices; [0.14, 0.82]: where every body has lung.
    margin:           of each factor over patients, "uniform" or "gaussian": see `Draws`. `z` stays evenly spread.
    correlation:      of the Gaussian copula between patients' factors, 0 to below 1.
    correlated:       which factors that concerns: "all" but `z`, or the "habitus": size, fat, lungs, breast, heart.

    Columns: `position_mm`, `factor.<name>` for each of FACTORS (of the slice: jitter included), and `label.nodule`, 1
    in slices that cut a nodule in a disc of more than `seen_radius_mm`. Half of the patients have nodules, 5 to 9 each,
    so about one slice in six is positive; slices of one patient belong together: split by patient.
    """

    modality = CT

    def __init__(
        self,
        patients: Count,
        slices_per_patient: Count,
        size: Width,
        field_of_view_mm: Positive = 400.0,
        noise_hu: NotNegative = 20.0,
        seed: Seed = 0,
        nodule_radius_mm: Span | None = None,
        seen_radius_mm: NotNegative = 2.5,
        levels: list[float] | None = None,
        margin: Margin = "uniform",
        correlation: ShareBelowOne = 0.0,
        correlated: Correlated = "all",
    ) -> None:
        bounds = {"patients": (patients, 1), "slices_per_patient": (slices_per_patient, 1), "size": (size, 16)}
        for name, (value, least) in bounds.items():
            if value < least:
                raise ArgumentError(name, f"{value}, expected at least {least}")
        if field_of_view_mm <= 0:
            raise ArgumentError(
                "field_of_view_mm", f"{field_of_view_mm}, expected more than 0 (400 shows a whole chest)"
            )
        if noise_hu < 0:
            raise ArgumentError("noise_hu", f"{noise_hu}, expected 0 or more")
        low, high = nodule_radius_mm or (4.0, 10.0)
        if not 0.0 < low <= high:
            raise ArgumentError("nodule_radius_mm", f"[{low}, {high}], expected two rising numbers above 0")
        if not 0.0 <= seen_radius_mm < low:
            raise ArgumentError("seen_radius_mm", f"{seen_radius_mm}, expected 0 to below {low}, the smallest nodule")
        self.nodule_radius_mm, self.seen_radius_mm = (low, high), seen_radius_mm
        first, last = levels or (0.0, 1.0)
        if not 0.0 <= first < last <= 1.0:
            raise ArgumentError("levels", f"[{first}, {last}], expected two rising numbers from 0 to 1")
        self.levels = (first, last)
        if correlated not in get_args(Correlated):
            near = did_you_mean(correlated, get_args(Correlated))
            raise ArgumentError("correlated", f"{correlated}, expected {' or '.join(get_args(Correlated))}{near}")
        self.draws, self.correlated = Draws(margin, correlation), NAMES if correlated == "all" else HABITUS
        self.patients, self.slices_per_patient, self.size = patients, slices_per_patient, size
        self.field_of_view_mm, self.noise_hu, self.seed = float(field_of_view_mm), float(noise_hu), seed

    @classmethod
    def of_files(cls, files: Sequence[str], modality: Modality, **_: Any) -> CTDicom:
        """Slices as DICOM, which the phantom is exported to (`medlat.phantoms.ct.export`)."""
        return CTDicom.of_files(files, modality, root="")

    def fingerprint(self) -> str:
        """The renderer's version: all else is in the arguments."""
        return f"ct-phantom-{VERSION}"

    def expected(self) -> int:
        """Slices there will be."""
        return self.patients * self.slices_per_patient

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """One chunk per patient; draws factors, paints nothing, and needs no workers."""
        chunks = [self._chunk(patient) for patient in range(self.patients)]
        return Scan(
            chunks, classes={"nodule": ("no nodule", "nodule")}, units={factor.name: factor.unit for factor in FACTORS}
        )

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """Render the chunk's slices, HU float32 [size, size]."""
        spacing = self.field_of_view_mm / self.size
        patient = chunk.items[0].patient
        person, nodules = Person.draw(self._rng(patient, 1)), self._nodules(patient)
        for item in chunk.items:
            factors = dict(zip(NAMES, item.factors, strict=True))
            canvas = _paint(factors, self.size, self.field_of_view_mm, person, nodules, False)
            add_noise(canvas.hu, self.noise_hu, self._rng(item.patient, 3, item.slice))
            yield Slice(canvas.hu, (spacing, spacing))

    def _rng(self, patient: int, purpose: int, number: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, patient, purpose, number]))

    def _nodules(self, patient: int) -> tuple[Nodule, ...]:
        rng = self._rng(patient, 4)
        count = int(rng.integers(5, 10)) if rng.random() < 0.5 else 0
        levels = rng.uniform(*NODULE_LEVELS, count)
        return tuple(Nodule(z, rng.uniform(*self.nodule_radius_mm), rng.random()) for z in levels)

    def _chunk(self, patient: int) -> Chunk:
        rng, n = self._rng(patient, 2), self.slices_per_patient
        low, high = np.array([f.low for f in FACTORS]), np.array([f.high for f in FACTORS])
        uniform, shared = rng.random(len(FACTORS)), self._rng(patient, 5).standard_normal()
        together = np.where(np.isin(NAMES, self.correlated), self.draws.correlated(uniform, shared), uniform)
        factors = np.tile(self.draws.between(low, high, together), (n, 1))
        for name, deviation in JITTER.items():
            factors[:, NAMES.index(name)] += rng.normal(0.0, deviation, n)
        first, last = self.levels
        factors[:, NAMES.index("z")] = first + (last - first) * ((np.arange(n) + rng.uniform(0, 1, n)) / n)
        z, scale = factors[:, NAMES.index("z")], factors[0, NAMES.index("body_size")]
        nodules = self._nodules(patient)
        cut = [any(nodule_radius_mm(nodule, level, scale) > self.seen_radius_mm for nodule in nodules) for level in z]
        columns = {f"factor.{name}": factors[:, i].copy() for i, name in enumerate(NAMES)}
        columns["position_mm"] = (1 - z) * LENGTH * scale
        columns["label.nodule"] = np.array(cut, np.float64)
        items = tuple(_Item(patient, i, tuple(row)) for i, row in enumerate(factors.tolist()))
        return Chunk(f"phantom-{patient:05d}", items, columns)
