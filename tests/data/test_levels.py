"""What stored values mean: polarity, bits, signs, and a black and white that nobody has said."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.pictures.decode import read_picture
from medlat.data.pictures.image_folder import ImageFolder

GREY = np.array([[0, 20, 120], [200, 240, 255]], np.uint8)
FINE = GREY.astype(np.uint16) * 257


def in_order(function, items, description):
    return map(function, items)


STORED = [
    ("8 bits", GREY, "minisblack"),
    ("8 bits, white is 0", 255 - GREY, "miniswhite"),
    ("16 bits", FINE, "minisblack"),
    ("16 bits, white is 0", 65535 - FINE, "miniswhite"),
    ("16 bits with a sign", (FINE // 2).astype(np.int16), "minisblack"),
    ("32 bits", FINE.astype(np.uint32) * 65537, "minisblack"),
    ("32 bits with a sign", (FINE.astype(np.int64) * 65537 // 2).astype(np.int32), "minisblack"),
    ("32 bits, white is 0", (65535 - FINE).astype(np.uint32) * 65537, "miniswhite"),
    ("16 bits with a sign, white is 0", 32767 - (FINE // 2).astype(np.int16), "miniswhite"),
    ("8 bits with a sign", (GREY // 2).astype(np.int8), "minisblack"),
]


@pytest.mark.parametrize(("stored", "photometric"), [s[1:] for s in STORED], ids=[s[0] for s in STORED])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("colour", [False, True])
def test_a_tiff_is_as_bright_as_its_numbers_say(tmp_path, stored, photometric, order, colour):
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, byteorder=order)
    read = read_picture(tmp_path / "a.tif", colour)
    assert read.dtype == (np.uint8 if colour else np.float32)
    np.testing.assert_allclose(read[..., 0] if colour else read, GREY, atol=1.01 if stored.itemsize == 1 else 0.01)


LEVELS = [
    (np.uint16, "minisblack", 4095.0, None, [0, 2047.5, 4095, 9000], [0, 127.5, 255, 255]),
    (np.uint16, "miniswhite", 4095.0, None, [0, 2047, 4095, 9000], [255, 127.53, 0, 0]),
    (np.uint16, "minisblack", 32808.0, 31768.0, [0, 31768, 32288, 32808, 60000], [0, 0, 127.5, 255, 255]),
    (np.int16, "minisblack", 1000.0, -1000.0, [-2000, -1000, 0, 1000, 3000], [0, 0, 127.5, 255, 255]),
    (np.int16, "minisblack", None, None, [-5, 0, 32767], [0, 0, 255]),
    (np.uint8, "minisblack", 100.0, 50.0, [0, 50, 75, 100, 200], [0, 0, 127.5, 255, 255]),
    (np.uint8, "miniswhite", 100.0, None, [0, 50, 100, 200], [255, 127.5, 0, 0]),
    (np.float32, "minisblack", 1.0, None, [0, 0.5, 1, np.nan, np.inf, -1], [0, 127.5, 255, 0, 255, 0]),
    (np.float32, "miniswhite", 1.0, -1.0, [-1, 0, 1], [255, 127.5, 0]),
    (np.uint32, "minisblack", 2.0**24 + 1, 2.0**24 - 1, [2**24 - 1, 2**24, 2**24 + 1], [0, 127.5, 255]),
]


@pytest.mark.parametrize(("dtype", "photometric", "white", "black", "stored", "expected"), LEVELS)
def test_black_and_white_as_the_user_says(tmp_path, dtype, photometric, white, black, stored, expected):
    row = np.array([stored, stored]).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", row, photometric=photometric)
    np.testing.assert_allclose(read_picture(tmp_path / "a.tif", False, white, black)[0], expected, atol=0.1)


def test_16_bits_of_a_png_keep_their_black_and_white(tmp_path):
    Image.fromarray(np.array([[31768, 32288, 32808]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_picture(tmp_path / "a.png", False, 32808.0, 31768.0), [[0, 127.5, 255]])


def test_a_black_that_no_stored_value_exceeds(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no stored value is as bright as black"):
        read_picture(tmp_path / "a.png", False, None, 31768.0)


def test_a_kind_of_tiff_that_is_not_read_is_no_damage_alone(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FINE.astype(np.float16), photometric="minisblack")
    with pytest.raises(ValueError, match=r"corrupt, or a TIFF of a kind that is not read \(saved as PNG it is\)"):
        read_picture(tmp_path / "a.tif", False)


def of(root: Path, *arrays: np.ndarray, suffix: str = "png", **arguments) -> ImageFolder:
    """A set of pictures."""
    for i, values in enumerate(arrays):
        if suffix == "tif":
            tifffile.imwrite(root / f"{i}.tif", values, photometric="minisblack")
        else:
            Image.fromarray(values).save(root / f"{i}.png")
    rows = "".join(f"{i}.{suffix},{i % 2},{i}\n" for i in range(len(arrays)))
    (root / "labels.csv").write_text("path,label,group\n" + rows)
    return ImageFolder(str(root), **({"colour": False} | arguments))


def ramp(low: int, high: int, dtype: type = np.uint16) -> np.ndarray:
    return np.linspace(low, high, 64).reshape(8, 8).astype(dtype)


DARK = (
    "where 0 is taken as black and 65535 as white: few grey levels would be left; expected white, e.g. white={}, "
    "or white=65535, where they are meant to be so dark"
)
REFUSED = [
    (ramp(0, 4095), "png", f"white: the 16-bit pictures (2 of 2 looked at) hold values from 0 to 4095, {DARK}", 4095),
    (ramp(7, 3855), "png", f"the 16-bit pictures (2 of 2 looked at) hold values from 7 to 3855, {DARK}", 4095),
    (ramp(0, 1023), "png", f"hold values from 0 to 1023, {DARK}", 1023),
    (ramp(0, 255), "png", f"hold values from 0 to 255, {DARK}", 255),
    (ramp(0, 16383), "tif", f"hold values from 0 to 16383, {DARK}", 16383),
    (
        ramp(31768, 32808),
        "png",
        "the 16-bit pictures (2 of 2 looked at) hold values from 31768 to 32808, where 0 is taken as black and 65535 "
        "as white: few grey levels would be left; expected both black and white, e.g. black=31768 white=32808",
        None,
    ),
    (
        ramp(-1024, 3071, np.int16),
        "tif",
        "the 16-bit signed pictures (2 of 2 looked at) hold values from -1024 to 3071, where 0 is taken as black and "
        "32767 as white: few grey levels would be left; expected both black and white, e.g. black=-1024 white=3071",
        None,
    ),
    (
        np.linspace(0, 0.9, 64).reshape(8, 8).astype(np.float32),
        "tif",
        "the 32-bit floating-point pictures (2 of 2 looked at) hold values from 0 to 0.9, and nothing says which is "
        "white; expected white, e.g. white=1",
        None,
    ),
]


@pytest.mark.parametrize(("values", "suffix", "said", "white"), REFUSED)
@pytest.mark.parametrize("colour", [False, True])
def test_a_set_that_would_be_nearly_black_is_refused(tmp_path, values, suffix, said, white, colour):
    with pytest.raises(UserError) as caught:
        of(tmp_path, values, values[::-1].copy(), suffix=suffix, colour=colour).scan(in_order)
    assert str(caught.value).startswith("white: the ")
    assert str(caught.value).endswith(said.format(white))


def test_what_the_message_advises_does(tmp_path):
    source = of(tmp_path, ramp(0, 4095), ramp(7, 3855), white=4095.0)
    read = [next(source.read(chunk)).pixels.max() for chunk in source.scan(in_order).chunks]
    np.testing.assert_allclose(sorted(read), [3855 / 4095 * 255, 255], atol=0.01)
    dark = of(tmp_path, ramp(0, 4095), ramp(7, 3855), white=65535.0)
    assert len(dark.scan(in_order).chunks) == 2


def test_one_bright_picture_makes_a_set_bright(tmp_path, caplog):
    of(tmp_path, ramp(0, 65535), ramp(0, 60000), ramp(0, 64000)).scan(in_order)
    assert caplog.messages == []


def test_mixed_bit_depths_are_said(tmp_path, caplog):
    of(tmp_path, ramp(0, 65535), ramp(0, 4095), ramp(0, 3900)).scan(in_order)
    assert caplog.messages == [
        "2 of 3 16-bit pictures looked at use less than a quarter of the range that others fill: of other bit depth?"
    ]


SAID = [
    (ramp(0, 32767), {}, "values from 0 to 32767, where 0 is taken as black and 65535 as white; black and white say"),
    (ramp(0, 15, np.uint8), {}, "the 8-bit pictures (2 of 2 looked at) hold values from 0 to 15, where 0 is taken as"),
    (ramp(0, 65535), {"white": 255.0}, "values from 0 to 65535, where 0 is taken as black and 255 as white; black and"),
    (ramp(0, 1000), {"white": 65535.0}, "hold values from 0 to 1000, where 0 is taken as black and 65535 as white; b"),
    (ramp(0, 120, np.uint8), {}, None),
    (ramp(0, 40000), {}, None),
    (ramp(0, 0), {}, None),
]


@pytest.mark.parametrize(("values", "arguments", "said"), SAID)
def test_a_doubtful_range_is_said(tmp_path, caplog, values, arguments, said):
    of(tmp_path, values, values.T.copy(), **arguments).scan(in_order)
    assert len(caplog.messages) == (said is not None)
    assert (said or "") in caplog.text


def test_colours_of_12_bits_in_16_are_said(tmp_path, caplog):
    deep = np.stack([ramp(0, 4095), ramp(0, 2000), ramp(0, 4095)], -1)
    for i, values in enumerate((deep, deep[::-1])):
        tifffile.imwrite(tmp_path / f"{i}.tif", values, photometric="rgb")
    (tmp_path / "labels.csv").write_text("path,label,group\n0.tif,x,1\n1.tif,y,2\n")
    ImageFolder(str(tmp_path)).scan(in_order)
    assert caplog.messages == ["the 16-bit colour pictures look nearly black: 15 of 255 is the brightest of 2"]
    tifffile.imwrite(tmp_path / "1.tif", deep * 16, photometric="rgb")
    caplog.clear()
    ImageFolder(str(tmp_path)).scan(in_order)
    assert caplog.messages == []


def test_files_of_several_images_are_said_and_smaller_copies_are_none(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "0.tif", np.stack([GREY] * 3), photometric="minisblack")
    with tifffile.TiffWriter(tmp_path / "1.tif") as file:
        file.write(GREY, photometric="minisblack", metadata=None)
        file.write(GREY[:1, :1], photometric="minisblack", metadata=None)
    (tmp_path / "labels.csv").write_text("path,label,group\n0.tif,x,1\n1.tif,y,2\n")
    ImageFolder(str(tmp_path), colour=False).scan(in_order)
    assert caplog.messages == ["1 of 2 pictures looked at hold several images, of which the first is read"]


def test_a_few_dark_files_among_many_of_another_kind_are_said(tmp_path, caplog):
    source = of(tmp_path, ramp(0, 4095), *[ramp(0, 255, np.uint8)] * 19)
    assert len(source.scan(in_order).chunks) == 20
    assert "the 16-bit pictures (1 of 20 looked at) hold values from 0 to 4095" in caplog.text


def test_colours_and_damaged_files_have_no_range(tmp_path, caplog):
    source = of(tmp_path, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"\x89PNG nothing more")
    assert len(source.scan(in_order).chunks) == 2
    assert caplog.messages == []


COLOURS = np.arange(7 * 7 * 3, dtype=np.uint8).reshape(7, 7, 3) * np.array([1, 0, 0], np.uint8)  # red, 0 to 144
GREYS = COLOURS.max(2)
IS_GREY = (
    "none of 2 pictures looked at has colours, and they are read as H&E histology; data=radiographs reads greyscale"
)
HAS_COLOURS = (
    "2 of 2 pictures looked at have colours, of which the brightness alone is read as radiography; data=image_folder "
    "reads colours"
)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "1"])
def test_greyscale_that_is_read_as_colours_is_said(tmp_path, caplog, mode):
    source = of(tmp_path, GREYS, GREYS.T.copy(), colour=True)
    for i in range(2):
        Image.open(tmp_path / f"{i}.png").convert(mode).save(tmp_path / f"{i}.png", "tiff" if mode == "CMYK" else "png")
    source.scan(in_order)
    assert caplog.messages == [IS_GREY]


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "CMYK"])
def test_colours_that_are_read_as_greyscale_are_said(tmp_path, caplog, mode):
    source = of(tmp_path, COLOURS, COLOURS[::-1].copy())
    for i in range(2):
        Image.open(tmp_path / f"{i}.png").convert(mode).save(tmp_path / f"{i}.png", "tiff" if mode == "CMYK" else "png")
    source.scan(in_order)
    assert caplog.messages == [HAS_COLOURS]


def test_pictures_of_the_kind_that_is_read_say_nothing(tmp_path, caplog):
    for colour, values in ((True, COLOURS), (False, GREYS)):
        of(tmp_path, values, values[::-1].copy(), colour=colour).scan(in_order)
    of(tmp_path, COLOURS, *[GREYS] * 19).scan(in_order)
    assert caplog.messages == [], "and one coloured picture of twenty is no matter"
