"""Small pyramidal slides, written here, and one real slide."""

import io
import pickle
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from data.dicom_files import write_slice
from openslide import OpenSlide
from PIL import Image
from pydicom import Dataset, Sequence, uid
from pydicom.encaps import encapsulate

from medlat.core.errors import UserError
from medlat.data.histology.asap import AsapAnnotation
from medlat.data.histology.pcam import PatchCamelyon
from medlat.data.histology.slide_files import named_as_tumour
from medlat.data.histology.slides import Slides, low_resolution, region
from medlat.data.histology.tissue import colour, otsu, shares, tissue_mask
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.source import Chunk, Damaged, Remark, Scan

PINK = (220, 150, 190)


def in_order(function, items, description):
    return map(function, items)


def picture(side: int = 1024, tissue: tuple[int, int, int, int] | None = (256, 256, 512, 512)) -> np.ndarray:
    """Glass with slight noise, and a rectangle (x, y, width, height) of tissue."""
    image = np.random.default_rng(0).integers(240, 250, (side, side, 1), dtype=np.uint8).repeat(3, 2)
    if tissue:
        x, y, width, height = tissue
        image[y : y + height, x : x + width] = PINK
    return image


def write(path: Path, image: np.ndarray, mpp: float | None = 0.5, levels: int = 3) -> Path:
    """A tiled pyramidal TIFF, each level half the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            whole = image.reshape(image.shape[0] >> level, 1 << level, image.shape[1] >> level, 1 << level, 3)
            small = np.rint(whole.mean((1, 3))).astype(np.uint8)
            scaled = {"resolution": tuple(r / 2**level for r in tags["resolution"])} if tags else {}
            file.write(small, tile=(128, 128), photometric="rgb", subfiletype=int(level > 0), **(tags | scaled))
    return path


def xml(path: Path, *outlines: tuple[str, list[tuple[float, float]]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    annotations = "".join(
        f'<Annotation Name="{i}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
        + "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}" />' for n, (x, y) in enumerate(points))
        + "</Coordinates></Annotation>"
        for i, (group, points) in enumerate(outlines)
    )
    groups = '<AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#64FE2E"><Attributes /></Group>'
    text = f"<?xml version='1.0'?><ASAP_Annotations><Annotations>{annotations}</Annotations>{groups}</AnnotationGroups>"
    path.write_text(text + "</ASAP_Annotations>")
    return path


def box(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def places(scan: Scan) -> dict[tuple[int, int], float]:
    """Corner of each tile -> its label, -1 without."""
    found = {}
    for chunk in scan.chunks:
        labels = chunk.columns.get("label.tumour", np.full(len(chunk.items), -1.0))
        found.update({(tile.x, tile.y): label for tile, label in zip(chunk.items, labels, strict=True)})
    return found


def test_tiles_lie_on_tissue(tmp_path):
    write(tmp_path / "p1" / "a.tif", picture())
    source = pickle.loads(pickle.dumps(Slides(str(tmp_path), mpp=0.5, tile_px=64)))
    scan = source.scan(in_order)
    assert {chunk.patient for chunk in scan.chunks} == {"p1/a"}
    assert set(places(scan)) == {(x, y) for x in range(256, 768, 64) for y in range(256, 768, 64)}
    assert scan.classes == {}
    assert all(set(chunk.columns) == {"position_mm"} for chunk in scan.chunks)
    for one in source.read(scan.chunks[0]):
        assert one.pixels.shape == (64, 64, 3)
        assert one.pixels.dtype == np.uint8
        assert (one.pixels == PINK).all()
        assert one.spacing_mm == (0.0005, 0.0005)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_share_of_tissue_that_a_tile_needs(tmp_path, share):
    write(tmp_path / "a.tif", picture(tissue=(256, 256, 512 + 32, 512)))  # the last column of tiles is half tissue
    found = places(Slides(str(tmp_path), mpp=0.5, tile_px=64, min_tissue=share).scan(in_order))
    assert ((768, 320) in found) == (share < 0.5)
    assert ((320, 320) in found) == (share < 1.0 or (320, 320) in found)
    assert (0, 0) not in found


def test_a_tile_at_a_resolution_between_two_levels_is_averaged(tmp_path):
    """A picture whose red rises from left to right: a tile's columns are the means of what they cover."""
    image = np.zeros((1024, 1024, 3), np.uint8)
    image[..., 0] = (np.arange(1024) // 8)[None]
    image[..., 2] = 255
    write(tmp_path / "a.tif", image, mpp=0.25)
    with OpenSlide(str(tmp_path / "a.tif")) as slide:
        assert slide.level_count == 3
        tile = region(slide, (128, 64), (384, 384), (64, 64))  # 6 level-0 pixels each; level 1 is read, 3 pixels each
        wide = region(slide, (960, 0), (128, 128), (64, 64))
    expected = (np.arange(128, 512) // 8).reshape(64, 6).mean(1)
    assert np.abs(tile[10, :, 0] - expected).max() <= 1.0
    assert (tile[..., 2] == 255).all()
    assert (wide[:, 32:] == 255).all(), "beyond the slide is glass"
    assert (wide[:, :30, 1] == 0).all()


def test_the_asked_resolution_decides_how_much_a_tile_covers(tmp_path):
    write(tmp_path / "a.tif", picture(), mpp=0.5)
    for mpp, side in ((0.5, 64), (1.0, 128), (0.75, 96)):
        scan = Slides(str(tmp_path), mpp=mpp, tile_px=64).scan(in_order)
        tiles = [tile for chunk in scan.chunks for tile in chunk.items]
        assert {tile.side for tile in tiles} == {side}
        assert len(tiles) == (512 // side) ** 2 or side == 96
        one = next(Slides(str(tmp_path), mpp=mpp, tile_px=64).read(scan.chunks[0]))
        assert one.pixels.shape == (64, 64, 3)
        assert one.spacing_mm == (mpp / 1000, mpp / 1000)


def test_tumour_normal_edge_and_holes(tmp_path):
    slides, outlines = tmp_path / "slides", tmp_path / "xml"
    write(slides / "a.tif", picture())
    write(slides / "b.tif", picture())
    # a quarter of the tile at (512, 256) and three quarters of (512, 320) by height; a hole over (256, 256)
    shapes = [("_0", box(256, 256, 256, 256)), ("Tumor", box(512, 304, 64, 16)), ("_1", box(512, 320, 64, 48))]
    xml(outlines / "deep" / "a.xml", *shapes, ("Exclusion", box(254, 254, 68, 68)))
    scan = Slides(str(slides), 0.5, 64, annotations=str(outlines)).scan(in_order)
    assert scan.classes == {"tumour": ("normal", "tumour")}
    of = {c.patient: places(Scan([d for d in scan.chunks if d.patient == c.patient])) for c in scan.chunks}
    assert set(of["b"].values()) == {0.0}, "a slide without a file is normal"
    assert len(of["b"]) == 64
    assert of["a"][320, 320] == 1.0
    assert of["a"][512, 320] == 1.0, "three quarters"
    assert (512, 256) not in of["a"], "a quarter is neither"
    assert of["a"][704, 704] == 0.0
    assert of["a"].get((256, 256), 0.0) == 0.0, "a hole is no tumour"
    assert scan.skipped["tile at the edge of a tumour"] >= 1
    less = places(Slides(str(slides), 0.5, 64, annotations=str(outlines), tumour_share=0.2).scan(in_order))
    assert (512, 256) in less


def test_annotations_may_lie_below_the_root(tmp_path):
    write(tmp_path / "training" / "a.tif", picture())
    write(tmp_path / "training" / "a_mask.tif", picture())
    xml(tmp_path / "training" / "lesions" / "a.xml", ("Tumor", box(256, 256, 256, 512)))
    xml(tmp_path / "training" / "lesions" / "z.xml", ("Tumor", box(0, 0, 9, 9)))
    scan = Slides(str(tmp_path), 0.5, 64, annotations=str(tmp_path)).scan(in_order)
    assert sum(v == 1.0 for v in places(scan).values()) == 32
    assert scan.skipped["annotation without a slide"] == 1
    assert scan.skipped["not a slide"] == 3


def test_of_many_tiles_a_seed_draws_some_and_half_are_tumour(tmp_path):
    write(tmp_path / "a.tif", picture())
    xml(tmp_path / "a.xml", ("Tumor", box(256, 256, 512, 64)))  # 8 of 64 tiles

    def drawn(seed: int, most: int) -> dict[tuple[int, int], float]:
        return places(Slides(str(tmp_path), 0.5, 64, str(tmp_path), max_tiles=most, seed=seed).scan(in_order))

    assert drawn(0, 10) == drawn(0, 10) != drawn(1, 10)
    assert sorted(drawn(0, 10).values()) == [0.0] * 5 + [1.0] * 5
    assert sum(drawn(0, 40).values()) == 8
    assert len(drawn(0, 40)) == 40


def test_a_slide_that_does_not_say_its_resolution(tmp_path):
    write(tmp_path / "a.tif", picture(), mpp=None)
    write(tmp_path / "dpi.tif", picture(), mpp=25400 / 72)  # what any TIFF says
    words = r"slide_mpp: 2 slides without .* pixel, expected a number for those, .*\(mpp_table\): .*a.tif.*dpi.tif"
    with pytest.raises(UserError, match=words):
        Slides(str(tmp_path), 0.5, 64).scan(in_order)
    assert len(places(Slides(str(tmp_path), 0.5, 64, slide_mpp=0.5).scan(in_order))) == 64
    assert len(places(Slides(str(tmp_path), 0.5, 64, slide_mpp=0.25).scan(in_order))) == 16


def sides(scan: Scan) -> dict[str, int]:
    """Slide -> level-0 pixels along a tile."""
    return {chunk.patient: chunk.items[0].side for chunk in scan.chunks}


def test_a_resolution_is_taken_where_a_slide_says_none(tmp_path):
    for name, mpp in (("a", 0.25), ("b", 0.5), ("c", None)):
        write(tmp_path / f"{name}.tif", picture(), mpp)
    scan = Slides(str(tmp_path), 0.5, 64, slide_mpp=0.25).scan(in_order)
    assert sides(scan) == {"a": 128, "b": 64, "c": 128}
    assumed = "slide that does not say its micrometres per pixel: slide_mpp taken"
    assert scan.remarks == [Remark(str(tmp_path / "c.tif"), assumed, True)]


def test_a_table_says_the_resolution_of_single_slides(tmp_path):
    for name, mpp in (("a", 0.25), ("deep/b", 0.5), ("c", None), ("d", None)):
        write(tmp_path / f"{name}.tif", picture(), mpp)
    (tmp_path / "mpp.csv").write_text("slide,mpp\nc,0.25\ndeep/b.tif,1.0\n")
    source = Slides(str(tmp_path), 0.5, 64, slide_mpp=0.5, mpp_table="mpp.csv")
    assert sides(source.scan(in_order)) == {"a": 128, "deep/b": 32, "c": 128, "d": 64}
    first = source.fingerprint()
    (tmp_path / "mpp.csv").write_text("slide,mpp\nc,0.25\ndeep/b.tif,0.5\n")
    assert source.fingerprint() != first


TABLES = [
    ("slide,mpp\nz,0.25\n", r"mpp_table=mpp.csv: 1 rows name no slide: 'z'; expected slides below the root"),
    ("slide,mpp\na,353\n", r"1 rows name no micrometres per pixel: 'a: 353'"),
    ("slide,mpp\na,\n", r"1 rows name no micrometres per pixel: 'a: '"),
    ("slide,mpp\nb,0.5\n", r"1 rows name more than one slide: 'b'"),
    ("name,mpp\na,0.5\n", r"mpp_table: the CSV has no column 'slide'"),
]


@pytest.mark.parametrize(("text", "words"), TABLES)
def test_a_table_that_does_not_fit(tmp_path, text, words):
    for name in ("a", "1/b", "2/b"):
        write(tmp_path / f"{name}.tif", picture())
    (tmp_path / "mpp.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        Slides(str(tmp_path), mpp_table="mpp.csv").scan(in_order)


def aperio(path: Path, power: str) -> Path:
    """As an Aperio scanner writes it, without the resolution."""
    words = f"Aperio Image Library v11.2.1\r\n1024x1024 (128x128) JPEG/RGB Q=70|AppMag = {power}"
    with tifffile.TiffWriter(path) as file:
        file.write(picture(), tile=(128, 128), photometric="rgb", description=words, metadata=None)
    return path


def test_the_magnification_that_a_slide_says_is_a_hint(tmp_path):
    aperio(tmp_path / "a.svs", "40")
    with pytest.raises(UserError, match=r"^slide_mpp: 1 slide without .* pixel \(1 say 40x: about 0.25\), expected a"):
        Slides(str(tmp_path), 0.5, 64).scan(in_order)
    aperio(tmp_path / "b.svs", "20")
    with pytest.raises(UserError, match=r"2 slides .* \(1 say 40x: about 0.25\) \(1 say 20x: about 0.5\), expected"):
        Slides(str(tmp_path), 0.5, 64).scan(in_order)


def test_what_openslide_knows_is_a_slide_whatever_its_name(tmp_path):
    write(tmp_path / "a.tif", picture()).rename(tmp_path / "IM0001")
    write(tmp_path / "b.tif", picture()).rename(tmp_path / "b.bin")
    (tmp_path / "notes.dat").write_bytes(b"no slide")
    scan = Slides(str(tmp_path), 0.5, 64).scan(in_order)
    assert sorted({chunk.patient for chunk in scan.chunks}) == ["IM0001", "b"]
    assert (scan.damaged, scan.skipped) == ([], {"not a slide": 1})


def test_a_slide_in_dicom_is_read_once(tmp_path):
    """Each of its levels is a file; OpenSlide finds the others from any of them."""
    for number, side in enumerate((512, 256)):
        write_wsi(tmp_path / "slide" / f"level{number}.dcm", side, 0.5 * 512 / side, number)
    write_slice(tmp_path / "ct.dcm")
    source = Slides(str(tmp_path), 0.5, 64)
    scan = source.scan(in_order)
    assert {chunk.patient for chunk in scan.chunks} == {"slide/level0"}
    assert sorted(places(scan)) == [(x, y) for x in range(0, 512, 64) for y in range(0, 512, 64) if max(x, y) >= 256]
    assert np.abs(next(source.read(scan.chunks[0])).pixels.astype(int) - PINK).max() <= 3
    assert scan.skipped == {"not a slide": 1}


def write_wsi(path: Path, side: int, mpp: float, number: int, tile: int = 64) -> None:
    """One level of a slide in DICOM: pink, and glass in the upper left quarter."""
    path.parent.mkdir(exist_ok=True)
    pink, glass = io.BytesIO(), io.BytesIO()
    for colour_of, stream in ((PINK, pink), ((245,) * 3, glass)):
        Image.new("RGB", (tile, tile), colour_of).save(stream, "JPEG", quality=95)
    frames = [glass if max(i, j) < side // 128 else pink for i in range(side // tile) for j in range(side // tile)]
    tags = {"SOPClassUID": uid.VLWholeSlideMicroscopyImageStorage, "Modality": "SM", "SeriesInstanceUID": "2.25.5"}
    tags |= {"ImageType": ["ORIGINAL" if number == 0 else "DERIVED", "PRIMARY", "VOLUME", "NONE"]}
    tags |= {"Rows": tile, "Columns": tile, "TotalPixelMatrixRows": side, "TotalPixelMatrixColumns": side}
    tags |= {"NumberOfFrames": (side // tile) ** 2, "DimensionOrganizationType": "TILED_FULL", "PlanarConfiguration": 0}
    tags |= {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "BitsAllocated": 8, "BitsStored": 8}
    tags |= {"HighBit": 7, "PixelRepresentation": 0, "TotalPixelMatrixFocalPlanes": 1, "NumberOfOpticalPaths": 1}
    measures, shared, optical = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, optical.OpticalPathIdentifier = [mpp / 1000, mpp / 1000], "1"
    shared.PixelMeasuresSequence = Sequence([measures])
    tags |= {"SharedFunctionalGroupsSequence": Sequence([shared]), "OpticalPathSequence": Sequence([optical])}
    tags |= {"PixelData": encapsulate([frame.getvalue() for frame in frames])}
    write_slice(path, syntax=uid.JPEGBaseline8Bit, **tags)


NAMES = [
    ("tumor_001", True),
    ("Tumour-3", True),
    ("patient_7_tumor", True),
    ("TUMOR", True),
    ("metastasis_2", True),
    ("normal_001", False),
    ("non_tumor_1", False),
    ("no-tumour", False),
    ("peritumoral_2", False),
    ("test_001", False),
]


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_a_slide_may_be_called_after_tumour(name, expected):
    assert named_as_tumour(f"/data/tumor/{name}.tif") is expected


def test_a_tumour_slide_without_its_annotation_is_refused(tmp_path):
    for name in ("tumor_001", "tumor_002", "normal_001"):
        write(tmp_path / f"{name}.tif", picture())
    xml(tmp_path / "tumor_001.xml", ("Tumor", box(256, 256, 256, 512)))
    words = r"annotations: 1 slide called after tumour .*tumor_002.tif'; .*\(unannotated=left_out\)"
    with pytest.raises(UserError, match=words):
        Slides(str(tmp_path), 0.5, 64, annotations=str(tmp_path)).scan(in_order)
    scan = Slides(str(tmp_path), 0.5, 64, annotations=str(tmp_path), unannotated="left_out").scan(in_order)
    assert {chunk.patient for chunk in scan.chunks} == {"tumor_001"}
    left = [
        Remark(str(tmp_path / f"{n}.tif"), "slide without an annotation", False) for n in ("normal_001", "tumor_002")
    ]
    assert scan.remarks == left
    (tmp_path / "tumor_002.tif").unlink()
    scan = Slides(str(tmp_path), 0.5, 64, annotations=str(tmp_path)).scan(in_order)
    assert len(places(Scan([c for c in scan.chunks if c.patient == "normal_001"]))) == 64
    words = "slide without an annotation: all its tissue is normal"
    assert scan.remarks == [Remark(str(tmp_path / "normal_001.tif"), words, True)]


def test_slides_without_tissue(tmp_path):
    write(tmp_path / "empty.tif", picture(tissue=None))
    with pytest.raises(UserError, match=r"no tissue on any of the 1 slides .*empty.tif"):
        Slides(str(tmp_path), 0.5, 64).scan(in_order)
    write(tmp_path / "a.tif", picture())
    left = [Remark(str(tmp_path / "empty.tif"), "slide without tissue", False)]
    assert Slides(str(tmp_path), 0.5, 64).scan(in_order).remarks == left


def test_damaged_slides(tmp_path):
    write(tmp_path / "a.tif", picture())
    (tmp_path / "b.svs").write_bytes(b"no slide")
    scan = Slides(str(tmp_path), 0.5, 64).scan(in_order)
    assert [(Path(one.path).name, one.reason) for one in scan.damaged] == [
        ("b.svs", "no slide that OpenSlide can read")
    ]
    (tmp_path / "a.tif").write_bytes(b"gone")
    assert all(isinstance(one, Damaged) for one in Slides(str(tmp_path), 0.5, 64).read(scan.chunks[0]))
    with pytest.raises(UserError, match=r"no whole slide below .*found: 2 no slide that OpenSlide can read"):
        Slides(str(tmp_path), 0.5, 64).scan(in_order)


def test_after_a_damaged_tile_the_next_one_is_read(tmp_path):
    noise = np.random.default_rng(1).integers(0, 100, (512, 512, 3), dtype=np.uint8) + np.array([150, 0, 100], np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(
            noise,
            tile=(128, 128),
            photometric="rgb",
            compression="zlib",
            resolution=(2e4, 2e4),
            resolutionunit="CENTIMETER",
        )
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[0]
    scan = Slides(str(tmp_path), 0.5, 128, min_tissue=0.0).scan(in_order)
    data = bytearray(path.read_bytes())
    data[offset : offset + 100] = bytes(100)
    path.write_bytes(data)
    results = list(Slides(str(tmp_path), 0.5, 128).read(scan.chunks[0]))
    corner = [(tile.x, tile.y) for tile in scan.chunks[0].items].index((0, 0))
    assert [i for i, one in enumerate(results) if isinstance(one, Damaged)] == [corner]
    assert len(results) > 3


def test_nothing_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"root: no whole slide below .*1 not a slide"):
        Slides(str(tmp_path)).scan(in_order)


ARGUMENTS = [
    ({"mpp": 0.0}, "mpp=0"),
    ({"mpp": 500.0}, "mpp=500"),
    ({"slide_mpp": 353.0}, "slide_mpp=353"),
    ({"tile_px": 4}, "tile_px=4"),
    ({"min_tissue": 1.5}, "min_tissue=1.5"),
    ({"tumour_share": 0.0}, "tumour_share=0"),
    ({"max_tiles": 0}, "max_tiles=0"),
    ({"unannotated": "x"}, "unannotated=x: expected normal or left_out"),
    ({"mpp_table": " "}, "mpp_table: empty"),
    ({"annotations": "/nowhere/at/all"}, "annotations: there is no folder"),
]


@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS)
def test_arguments_out_of_range(tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        Slides(str(tmp_path), **arguments)


def test_annotations_that_belong_to_no_slide_or_mark_nothing(tmp_path):
    write(tmp_path / "a.tif", picture())
    xml(tmp_path / "xml" / "b.xml", ("Tumor", box(0, 0, 9, 9)))
    with pytest.raises(UserError, match=r"none of the 1 XML files .*e.g. 'a.xml'"):
        Slides(str(tmp_path), 0.5, 64, annotations=str(tmp_path / "xml")).scan(in_order)
    xml(tmp_path / "xml" / "a.xml")
    with pytest.raises(UserError, match=r"all 64 tiles are normal"):
        Slides(str(tmp_path), 0.5, 64, annotations=str(tmp_path / "xml")).scan(in_order)


BILLION = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
XMLS = [
    ("<ASAP_Annotations><Annotations>", "no well-formed XML"),
    ("", "no well-formed XML"),
    ("<html></html>", r"begins with <html>, expected <ASAP_Annotations>"),
    (
        f'<!DOCTYPE x [<!ENTITY l0 "lol">{BILLION}]><ASAP_Annotations>&l11;</ASAP_Annotations>',
        "declares a document type",
    ),
    ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><ASAP_Annotations/>', "declares a document type"),
    (
        '<ASAP_Annotations><Annotation><Coordinate Order="0" X="one" Y="2"/></Annotation></ASAP_Annotations>',
        "a Coordinate",
    ),
    ('<ASAP_Annotations><Annotation><Coordinate X="1" Y="2"/></Annotation></ASAP_Annotations>', "a Coordinate"),
]


@pytest.mark.parametrize(("text", "words"), XMLS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_malformed_annotations_are_named_at_once(tmp_path, text, words, encoding):
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    start = time.perf_counter()
    with pytest.raises(UserError, match=rf"annotations: .*a.xml' .*{words}|annotations: {words}.*a.xml"):
        AsapAnnotation(tmp_path / "a.xml")
    assert time.perf_counter() - start < 1.0


def test_outlines_of_other_groups(tmp_path):
    with pytest.raises(UserError, match=r"are of the groups Stroma, expected Tumor"):
        AsapAnnotation(xml(tmp_path / "a.xml", ("Stroma", box(0, 0, 9, 9))))
    shapes = ("Stroma", box(0, 0, 9, 9)), ("tumor", box(1, 2, 3, 4)), ("Tumor", [(3, 4), (1, 2)])
    read = AsapAnnotation(xml(tmp_path / "a.xml", *shapes))
    assert [outline.tolist() for outline in read.tumour] == [[[1, 2], [4, 2], [4, 6], [1, 6]]], (
        "two points enclose nothing"
    )
    assert read.holes == []


def test_a_mask_has_the_area_of_its_outlines(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disc = [(500 + 300 * np.cos(a), 400 + 300 * np.sin(a)) for a in angles]
    read = AsapAnnotation(xml(tmp_path / "a.xml", ("Tumor", disc), ("_2", box(400, 300, 200, 200))))
    mask = read.mask((200, 250), 4.0)
    assert mask.sum() * 16 == pytest.approx(np.pi * 300**2 - 200**2, rel=0.02)
    rows, columns = np.nonzero(mask)
    assert (columns.mean() + 0.5) * 4 == pytest.approx(500, abs=3)
    assert (rows.mean() + 0.5) * 4 == pytest.approx(400, abs=3)


def test_otsu_divides_two_groups():
    values = np.concatenate([np.random.default_rng(0).normal(m, 0.05, 1000) for m in (0.2, 0.8)])
    assert otsu(values) == pytest.approx(0.5, abs=0.1)
    assert otsu(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.5, abs=0.01)
    assert otsu(np.full(9, 3.0)) == 3.0


def test_colour_of_glass_shadow_and_stain():
    densities = colour(np.array([[255, 255, 255], [60, 60, 60], [0, 0, 0], [255, 25.5, 255]]))
    np.testing.assert_allclose(densities, [0, 0, 0, 1], atol=1e-6)


def test_tissue_without_specks_and_gaps():
    image = picture(256, (64, 64, 128, 128))
    image[10:14, 10:14] = PINK  # dirt: 32 µm
    image[120:124, 120:124] = 245  # a gap as small
    image[80:110, 80:110] = 245  # a vessel
    image[200:, 200:] = 30  # a shadow
    mask = tissue_mask(image, 8.0)
    assert not mask[10:14, 10:14].any()
    assert mask[118:126, 118:126].all()
    assert not mask[84:106, 84:106].any()
    assert not mask[200:, 200:].any()
    assert mask.sum() == pytest.approx(128**2 - 30**2, rel=0.01)


@pytest.mark.parametrize("side", [1.0, 2.5, 7.0, 20.0])
def test_shares_are_exact_areas(side):
    mask = np.zeros((20, 30), bool)
    mask[3:11, 4:17] = True
    count = int(20 / side), int(30 / side)

    def covered(low: int, high: int, n: int) -> np.ndarray:
        edges = np.arange(n + 1) * side
        return np.maximum(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0.0)

    expected = np.outer(covered(3, 11, count[0]), covered(4, 17, count[1])) / side**2
    np.testing.assert_allclose(shares(mask, side, *count), expected, atol=1e-9)


def test_into_the_slice_store(tmp_path):
    write(tmp_path / "in" / "a.tif", picture())
    xml(tmp_path / "in" / "a.xml", ("Tumor", box(256, 256, 256, 512)))
    (tmp_path / "out").mkdir()
    source = Slides(str(tmp_path / "in"), 0.5, 64, annotations=str(tmp_path / "in"))
    prepare(source, Preparation(16, None, 0.0, "salt", 1), tmp_path / "out")
    store = ImageStore.open(tmp_path / "out")
    assert store.images.shape == (64, 3, 16, 16)
    assert store.info["spacing_mm"] == pytest.approx(0.002)
    assert store.columns["label.tumour"].sum() == 32


def test_the_fingerprint_follows_slides_and_annotations(tmp_path):
    write(tmp_path / "s" / "a.tif", picture(128, None), levels=1)
    (tmp_path / "x").mkdir()
    source = Slides(str(tmp_path / "s"), annotations=str(tmp_path / "x"))
    before = source.fingerprint()
    xml(tmp_path / "x" / "a.xml")
    assert source.fingerprint() != before


def test_a_real_slide(real_data):
    source = Slides(str(real_data / "wsi"), mpp=0.5, tile_px=224)
    scan = source.scan(in_order)
    tiles = [tile for chunk in scan.chunks for tile in chunk.items]
    assert 35 < len(tiles) < 50, "a third of 9 by 13"
    assert {chunk.patient for chunk in scan.chunks} == {"CMU-1-Small-Region"}
    for one in source.read(Chunk("", tuple(tiles[::20]), {})):
        assert one.pixels.shape == (224, 224, 3)
        assert one.pixels.mean() < 225, "not glass"
    coarse = Slides(str(real_data / "wsi"), mpp=2.0, tile_px=64).scan(in_order)
    assert 25 < sum(len(chunk.items) for chunk in coarse.chunks) < 45
    with OpenSlide(str(real_data / "wsi" / "CMU-1-Small-Region.svs")) as slide:
        small = low_resolution(slide, 16.0)
        assert small.shape == (186, 139, 3)
        whole = np.asarray(slide.get_thumbnail((139, 186)).convert("RGB"), float)
    assert np.abs(whole[:180, :130] - small[: len(whole)][:180, :130]).mean() < 12


@pytest.mark.parametrize(
    ("source", "library", "packages"),
    [(Slides, "openslide", "openslide-python openslide-bin"), (PatchCamelyon, "h5py", "h5py")],
)
def test_a_library_that_is_not_installed(source, library, packages, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=f"data: {library} is not installed; pip install {packages}$"):
        source(root=str(tmp_path))
