"""Looks: how images are shown, and what differences between them are taken of."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from report.made import LOOKS, picture, pictures

from medlat.core.stains import stained
from medlat.data import modality
from medlat.report import anatomy
from medlat.report.gif import LARGEST_BYTES, traversal_gif
from medlat.report.page import Report, Traversal, TraversalSet, write_page
from medlat.report.rendering import Look, differences
from medlat.report.sprites import image_sprite

CT, GREY, COLOUR = LOOKS["HU"], LOOKS["grey"], LOOKS["RGB"]


def haematoxylin(amount: float, shape=(4, 6)) -> np.ndarray:
    return stained(np.broadcast_to([amount, 0.2, 0.0], (*shape, 3)))


def test_values_are_their_own_scalar_and_colour_has_the_density_of_haematoxylin():
    values = np.array([[-1000.0, 40.0]])
    assert CT.scalar(values).tolist() == [[-1000.0, 40.0]]
    assert COLOUR.scalar(haematoxylin(0.5)) == pytest.approx(np.full((4, 6), 0.5), abs=1e-5)


def test_differences_of_colour_are_signed_and_in_its_unit():
    stack = np.stack([haematoxylin(amount) for amount in (0.1, 0.3, 0.8)])
    change = differences(COLOUR.scalar(stack), 1)
    assert change[:, 0, 0] == pytest.approx([-0.2, 0.0, 0.5], abs=1e-5)
    assert [look.change_unit for look in (CT, GREY, COLOUR)] == ["HU", "grey levels", "OD haematoxylin"]
    table = anatomy.difference_table(stack[None], [-1, 0, 1], ["a"], 1, COLOUR)
    assert [row["mean"] for row in table] == pytest.approx([-0.2, 0.0, 0.5], abs=1e-5)


def test_size_is_of_the_picture_not_of_its_channels():
    assert CT.size(np.zeros((5, 3, 4, 6))) == (4, 6)
    assert COLOUR.size(np.zeros((5, 4, 6, 3))) == (4, 6)


def test_tiles_keep_colours_and_hide_what_is_not_finite():
    flat = np.broadcast_to([255.0, 51.0, np.nan], (4, 4, 3))
    assert np.allclose(COLOUR.tile(flat, 8), [1.0, 0.2, 0.0])
    assert COLOUR.tile(flat, 8).shape == (8, 8, 3)
    assert COLOUR.levels(flat)[0, 0].tolist() == [255, 51, 0]
    assert np.allclose(COLOUR.lightness(flat, 8), 0.299 + 0.587 * 0.2)
    assert np.allclose(GREY.tile(np.full((4, 4), 127.5), 8), 0.5)
    assert np.allclose(Look(modality.CT, (-100.0, 300.0)).tile(np.full((4, 4), 100.0), 8), 0.5)


def test_sprite_of_colour_is_lossless():
    stack = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.float32)
    with Image.open(io.BytesIO(image_sprite(stack, COLOUR))) as sprite:
        assert sprite.mode == "RGB"
        assert np.array_equal(np.asarray(sprite), np.concatenate(list(stack), axis=1))


@pytest.mark.parametrize("unit", ["RGB", "grey"])
def test_figures_of_other_images_have_their_unit_and_no_skin(unit):
    look, images = LOOKS[unit], pictures(unit, 2)
    names, steps = ["a", "b"], [-2.0, -1.0, 0.0, 1.0, 2.0]
    figures = [
        anatomy.traversal_grid(images, steps, names, ["", ""], look),
        anatomy.difference_maps(images, steps, names, 2, look),
        anatomy.reconstructions(images[:, 0], images[:, 1], [20.0, 30.0], look),
        anatomy.samples_grid(images[:, 0], images[:, 1], look),
        anatomy.training_grid({10: images[:, 0], 20: images[:, 1]}, look),
    ]
    for figure in figures:
        assert not any(axes.collections for axes in figure.axes if axes.images and not axes.get_label()), "no outline"
        words = " ".join(text.get_text() for axes in figure.axes for text in (*axes.texts, axes.xaxis.label))
        assert "HU" not in words
    words = " ".join(text.get_text() for axes in figures[1].axes for text in axes.texts)
    assert f"change from 0, {look.change_unit}" in words
    shown = figures[0].axes[0].images[0].get_array()
    assert shown.shape == ((220, 220, 3) if unit == "RGB" else (220, 220)), "1.1 inches at 200 dpi"


def test_lightness_of_colours_that_are_no_stains():
    look = Look(replace(modality.HISTOLOGY, difference="lightness", difference_unit="lightness"), (0.0, 255.0))
    image = np.full((2, 2, 3), (100.0, 50.0, 20.0), np.float32)
    assert np.allclose(look.scalar(image), 29.9 + 29.35 + 2.28)
    assert look.change_unit == "lightness"


def test_gif_keeps_the_colours_of_stained_tissue(tmp_path):
    stack = np.stack([picture("RGB", step, 0, 64) for step in (-1.0, 0.0, 1.0)])
    traversal_gif(stack, tmp_path / "a.gif", COLOUR, [-1, 0, 1], "nuclei")
    assert (tmp_path / "a.gif").stat().st_size <= LARGEST_BYTES
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4
        frame = np.asarray(gif.convert("RGB")).astype(float)[:256]
    far = np.abs(frame - 255.0 * COLOUR.tile(stack[0])).mean()
    assert far < 4.0, "mean distance in levels of 255"


def test_page_in_colour_has_no_grey_scale_and_sets_may_differ_in_their_steps(tmp_path):
    images = pictures("RGB", 1)[0]
    sets = [
        TraversalSet("a", [Traversal("a 0", images)], [-2, -1, 0, 1, 2]),
        TraversalSet("b", [Traversal("b 0", images[:3])], [0, 1, 2]),
    ]
    write_page(tmp_path / "index.html", Report("t", "v", {}, COLOUR, traversal_sets=sets))
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "OD haematoxylin" in html
    assert 'data-view="images"></span>' in html, "no grey scale"
    assert 'max="4"' in html
    assert 'max="2"' in html
