"""Pipelines of augmentation, what they are built from, and the probability that follows the overfitting."""

import math

import numpy as np
import pytest
import torch

from medlat.core import colour
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.core.stains import stain_vectors, stained, stains
from medlat.generators.gan import geometry
from medlat.generators.gan.augmentation import CT, Adaptive, Draws, Histology, Published

PATCH = ImageSpec(3, 16, 16, 0.0, 255.0, "RGB", 0.001)
SLICE = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
STILL = {"rotation_deg": 0.0, "scale": [1.0, 1.0], "shift": 0.0}
QUIET = {"offset_hu": 0.0, "gain": 0.0, "noise_hu": 0.0}
PLAIN = {"flip": False, "turns": False, "stain_scale": 0.0, "stain_shift": 0.0}
PIPELINES = [(Published(), SLICE), (Published(), PATCH), (CT(flip=True), SLICE), (Histology(), PATCH)]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(spec, n=4, dtype=torch.float32, seed=1):
    return torch.rand(n, *spec.shape, generator=rng(seed), dtype=dtype) * 1.8 - 0.9


def disc(n=65, x=0.0, y=0.0, radius=6.0):
    """A smooth spot, centre in pixels from the image's centre."""
    axis = torch.arange(n) - (n - 1) / 2.0
    return torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2.0 * radius**2))[None, None]


def centre(image):
    """Centre of mass (x, y) in pixels from the image's centre."""
    axis = torch.arange(image.shape[-1]) - (image.shape[-1] - 1) / 2.0
    return torch.stack([(image.sum(2) * axis).sum(), (image.sum(3) * axis).sum()]) / image.sum()


# --- all pipelines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pipeline", "spec"), PIPELINES)
def test_p_zero_is_the_same_object(pipeline, spec):
    images = noise(spec)
    generator = rng()
    before = generator.get_state()
    assert pipeline(images, 0.0, generator, spec) is images
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("pipeline", "spec"), PIPELINES)
def test_the_generator_decides(pipeline, spec):
    images = noise(spec)
    first, again, other = (pipeline(images, 0.7, rng(seed), spec) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.dtype == images.dtype


@pytest.mark.parametrize(("pipeline", "spec"), PIPELINES)
def test_twice_differentiable(pipeline, spec):
    small = ImageSpec(spec.channels, 4, 4, spec.low, spec.high, spec.unit, spec.spacing_mm)
    images = noise(small, n=2, dtype=torch.float64).requires_grad_()

    def apply(x):
        return pipeline(x, 0.8, rng(5), small).square()  # squared, so that the second derivative is not zero

    assert torch.autograd.gradcheck(apply, (images,))
    assert torch.autograd.gradgradcheck(apply, (images,))


@pytest.mark.parametrize(("pipeline", "spec"), PIPELINES)
def test_everything_at_once_stays_finite(pipeline, spec):
    images = (noise(spec, n=64) * 2.0).requires_grad_()  # generated images leave [-1, 1]
    result = pipeline(images, 1.0, rng(), spec)
    (gradient,) = torch.autograd.grad(result.square().sum(), images, create_graph=True)
    assert result.isfinite().all()
    assert gradient.isfinite().all()
    assert torch.autograd.grad(gradient.square().sum(), images)[0].isfinite().all()


@pytest.mark.parametrize(("pipeline", "spec"), PIPELINES)
def test_half_precision_around_it_changes_nothing(pipeline, spec):
    """Neither the images nor the gradients that are taken inside autocast."""
    images = noise(spec).requires_grad_()

    def run():
        result = pipeline(images, 1.0, rng(), spec)
        (gradient,) = torch.autograd.grad(result.square().sum(), images, create_graph=True)
        return result, gradient, torch.autograd.grad(gradient.square().sum(), images)[0]

    expected = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_half_precision_in_half_precision_out():
    images = noise(SLICE).bfloat16()
    assert CT()(images, 1.0, rng(), SLICE).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("pipeline", "spec", "share"),
    [
        (CT(**STILL, offset_hu=50.0, gain=0.0, noise_hu=0.0), SLICE, 1.0),
        (CT(**STILL, offset_hu=0.0, gain=0.0, noise_hu=20.0), SLICE, 1.0),
        (CT(**(STILL | {"rotation_deg": 20.0}), **QUIET), SLICE, 1.0),
        (CT(**STILL, **QUIET, flip=True), SLICE, 0.5),  # a drawn flip is no flip half of the times
        (Histology(**STILL, **(PLAIN | {"stain_scale": 0.3})), PATCH, 1.0),
        (Histology(**STILL, **(PLAIN | {"turns": True})), PATCH, 0.75),
    ],
)
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_share_of_images_changed(pipeline, spec, share, p):
    n = 1000
    images = noise(spec, n=n)
    changed = (pipeline(images, p, rng(), spec) != images).flatten(1).any(1).float().mean().item()
    expected = p * share
    assert changed == pytest.approx(expected, abs=4.0 * math.sqrt(expected * (1.0 - expected) / n))


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_filter_is_the_symlet():
    h = torch.tensor(geometry.SYM6, dtype=torch.float64)
    for shift in range(6):
        inner = (h[2 * shift :] * h[: 12 - 2 * shift]).sum().item()
        assert inner == pytest.approx(float(shift == 0), abs=1e-8), "orthonormal to its even shifts"
    n = torch.arange(12, dtype=torch.float64)
    for power in range(6):
        assert abs((h * (-1.0) ** n * (n / 12.0) ** power).sum().item()) < 1e-8, "vanishing moments"


def moves_of(flip=False, turns=0, x=0, y=0):
    return geometry.pixel_moves(torch.tensor([flip]), torch.tensor([turns]), torch.tensor([[x, y]]))


def test_flip_is_exact():
    images = noise(PATCH, n=1)
    assert torch.equal(geometry.move(images, moves_of(flip=True), "reflection"), images.flip(3))


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("side", [7, 8])
def test_quarter_turns_are_exact(turns, side):
    images = torch.rand(1, 2, side, side)
    assert torch.equal(geometry.move(images, moves_of(turns=turns), "reflection"), images.rot90(turns, (2, 3)))


@pytest.mark.parametrize(("padding", "mode"), [("reflection", "symmetric"), ("border", "edge")])
def test_whole_shifts_are_exact(padding, mode):
    images = torch.rand(1, 1, 6, 9)
    padded = torch.from_numpy(np.pad(images[0, 0].numpy(), 4, mode=mode))
    moved = geometry.move(images, moves_of(x=3, y=-2), padding)
    assert torch.equal(moved[0, 0], padded[4 + 2 : 4 + 2 + 6, 4 - 3 : 4 - 3 + 9]), "3 to the right, 2 upwards"


def test_flip_comes_before_turn_before_shift():
    images = torch.rand(1, 1, 8, 8)
    together = geometry.move(images, moves_of(True, 1, 2, 3), "border")
    turned = images.flip(3).rot90(1, (2, 3))
    assert torch.equal(together[..., 3:, 2:], turned[..., :-3, :-2])


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_blitting_with_known_draws(p):
    images = noise(PATCH, n=50)
    result = Published(geometry=False, colour=False)(images, p, rng(2), PATCH)
    assert torch.equal(
        result, geometry.move(images, Draws(50, p, rng(2)).pixel_moves(PATCH, True, True, 0.125), "reflection")
    )
    assert torch.isin(result[0], images[0]).all(), "values are pixels of the image"


def test_only_half_turns_where_the_image_is_not_square():
    spec = ImageSpec(1, 6, 9, 0.0, 255.0, "RGB", 1.0)
    images = noise(spec, n=200)
    moves = Draws(200, 1.0, rng()).pixel_moves(spec, turns=True)
    turned = geometry.move(images, moves, "reflection")
    half = (turned == images.rot90(2, (2, 3))).flatten(1).all(1)
    assert 70 < half.sum() < 130
    assert ((turned == images).flatten(1).all(1) | half).all()


def ramp(n, x, y):
    axis = torch.arange(n, dtype=torch.float64) - (n - 1) / 2.0
    return (x * axis + y * axis[:, None])[None, None]


@pytest.mark.parametrize("degrees", [10.0, 90.0, 200.0])
def test_warp_turns_a_ramp_without_error(degrees):
    """Anticlockwise as displayed: what rose to the right rises, after 90 degrees, upwards."""
    angle = torch.tensor([math.radians(degrees)], dtype=torch.float64)
    turned = geometry.warp(ramp(33, 1.0, 0.0), geometry.rotation(angle), "border")
    expected = ramp(33, math.cos(angle), -math.sin(angle))
    assert torch.allclose(turned[..., 12:21, 12:21], expected[..., 12:21, 12:21], atol=1e-9)


def test_warp_moves_and_magnifies_a_ramp_without_error():
    one = torch.ones(1, dtype=torch.float64)
    maps = geometry.magnification(2.0 * one, 0.8 * one) @ geometry.translation(1.3 * one, -0.4 * one)
    expected = ramp(33, 0.5, 1.0 / 0.8) - (0.5 * 1.3 - 0.4 / 0.8)
    result = geometry.warp(ramp(33, 1.0, 1.0), maps, "reflection")
    assert torch.allclose(result[..., 10:23, 10:23], expected[..., 10:23, 10:23], atol=1e-9)


def test_warp_counts_in_pixels_where_the_image_is_not_square():
    wide = ramp(41, 1.0, 2.0)[..., 6:-6, :]  # 29 rows, 41 columns
    turned = geometry.warp(wide, geometry.rotation(torch.tensor([0.3], dtype=torch.float64)), "reflection")
    cos, sin = math.cos(0.3), math.sin(0.3)
    expected = ramp(41, cos + 2.0 * sin, 2.0 * cos - sin)[..., 6:-6, :]
    assert torch.allclose(turned[..., 12:17, 16:25], expected[..., 12:17, 16:25], atol=1e-9)


def test_warp_by_nothing_gives_the_image_back_away_from_the_edge():
    images = noise(PATCH, dtype=torch.float64)
    result = geometry.warp(images, torch.eye(3).repeat(4, 1, 1), "reflection")
    assert torch.allclose(result[..., 4:-4, 4:-4], images[..., 4:-4, 4:-4], atol=1e-7)
    assert (result - images).abs().max() < 0.2


@pytest.mark.parametrize("x", [0.5, -3.25])
def test_warp_moves_a_spot_to_where_it_should_be(x):
    shift = torch.tensor([x])
    moved = geometry.warp(disc(), geometry.translation(shift, 2.0 * shift), "border")
    assert torch.allclose(centre(moved), torch.tensor([x, 2.0 * x]), atol=1e-2)
    assert (moved - disc(x=x, y=2.0 * x)).abs().max() < 3e-3


def test_pixels_move_and_maps_follow():
    """Images that only move are exact, those that turn as well are resampled once, the others are left alone."""
    images = disc(x=5.0, y=-3.0).repeat(3, 1, 1, 1)
    flips, zero = torch.tensor([False, True, True]), torch.zeros(3, 2, dtype=torch.long)
    maps = geometry.rotation(torch.tensor([0.0, 0.0, math.pi / 2]))
    result = geometry.transform(images, geometry.pixel_moves(flips, zero[:, 0], zero), maps, "reflection")
    assert torch.equal(result[0], images[0])
    assert torch.equal(result[1], images[1].flip(2))
    assert torch.allclose(centre(result[2:]), torch.tensor([-3.0, 5.0]), atol=2e-2)


def grating(frequency, n=64):
    """Columns cos(frequency · x)."""
    return torch.cos(frequency * (torch.arange(n) - (n - 1) / 2.0)).expand(1, 1, n, n)


def test_fine_detail_is_not_blurred():
    """Half a pixel's move by bilinear interpolation alone would leave cos(π / 4) = 0.71 of a wave of 4 pixels."""
    moved = geometry.warp(grating(math.pi / 2), geometry.translation(torch.tensor([0.5]), torch.zeros(1)), "reflection")
    inner = moved[..., 16:-16]
    assert inner.square().mean().sqrt().item() * math.sqrt(2.0) == pytest.approx(1.0, abs=0.05)


def test_what_shrinks_below_the_pixels_disappears():
    """Bilinear interpolation alone would leave cos(3π / 8) = 0.38 of it, as a coarse wave that was never there."""
    half = torch.tensor([0.5])
    shrunk = geometry.warp(grating(0.75 * math.pi), geometry.magnification(half, half), "reflection")
    assert shrunk[..., 24:-24].square().mean().sqrt().item() * math.sqrt(2.0) < 0.1


def test_ct_magnifies():
    pipeline = CT(**(STILL | {"scale": [1.2, 1.2]}), **QUIET)
    spec = ImageSpec(1, 65, 65, -1000.0, 2000.0, "HU", 6.0)
    grown = pipeline(disc(), 1.0, rng(), spec)
    assert (grown.sum() / disc().sum()).item() == pytest.approx(1.44, rel=1e-3)


def test_ct_repeats_the_edge():
    images = torch.full((50, 1, 16, 16), -1.0)
    images[..., 4:12, 4:12] = 0.3
    moved = CT(rotation_deg=0.0, scale=[1.0, 1.0], shift=0.2, **QUIET)(images, 1.0, rng(), SLICE)
    assert torch.allclose(moved[..., 0, 0], torch.tensor(-1.0), atol=0.02), "air comes in"


def test_published_geometry_with_known_draws():
    images = noise(PATCH)
    pipeline = Published(blit=False, colour=False)
    maps = pipeline.maps(Draws(4, 1.0, rng(7)), PATCH)
    assert torch.equal(pipeline(images, 1.0, rng(7), PATCH), geometry.warp(images, maps, "reflection"))


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SLICE, PATCH])
def test_brightness_contrast_and_luma_flip(spec):
    images, values = noise(spec, n=2), torch.tensor([0.3, -0.1])
    column = values[:, None, None, None]
    assert torch.allclose(colour.recolour(images, colour.brightness(values)), images + column, atol=1e-6)
    assert torch.allclose(colour.recolour(images, colour.contrast(values)), images * column, atol=1e-6)
    flipped = colour.recolour(images, colour.luma_flip(torch.tensor([True, False])))
    grey = images[0].mean(0, keepdim=True)
    assert torch.allclose(flipped[0], images[0] - 2.0 * grey, atol=1e-6)
    assert torch.equal(flipped[1], images[1])


def test_hue_turns_red_into_green():
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    turned = colour.recolour(red, colour.hue(torch.tensor([2.0 * math.pi / 3.0])))
    assert torch.allclose(turned.flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_saturation_of_nothing_is_grey():
    images = noise(PATCH, n=1)
    grey = colour.recolour(images, colour.saturation(torch.zeros(1)))
    assert torch.allclose(grey, images.mean(1, keepdim=True).expand_as(images), atol=1e-6)


def test_published_colour_with_known_draws():
    for spec in (SLICE, PATCH):
        images, pipeline = noise(spec), Published(blit=False, geometry=False)
        matrices = pipeline.colours(Draws(4, 1.0, rng(3)), spec)
        assert torch.equal(pipeline(images, 1.0, rng(3), spec), colour.recolour(images, matrices))


def test_hu_offset_in_network_units():
    images = noise(SLICE, n=2)
    shifted = colour.rescale_hu(images, torch.ones(2), torch.tensor([30.0, -60.0]), SLICE)
    expected = torch.tensor([2.0 * 30.0 / 3000.0, -2.0 * 60.0 / 3000.0])[:, None, None, None]
    assert torch.allclose(shifted - images, expected.expand_as(images), atol=1e-6)


def test_gain_keeps_air_and_raises_water_by_its_share():
    air, water = (SLICE.to_network(torch.full((1, 1, 1, 1), hu)) for hu in (-1000.0, 0.0))
    for before, after in ((air, -1000.0), (water, 50.0)):
        scaled = colour.rescale_hu(before, torch.tensor([1.05]), torch.zeros(1), SLICE)
        assert ((scaled + 1.0) * 1500.0 - 1000.0).item() == pytest.approx(after, abs=1e-2)


def test_ct_offset_is_the_same_all_over_an_image_and_even_up_to_its_bound():
    images = noise(SLICE, n=2000)
    difference = CT(**STILL, offset_hu=50.0, gain=0.0, noise_hu=0.0)(images, 1.0, rng(), SLICE) - images
    offsets = difference.flatten(1).mean(1) * 3000.0 / 2.0
    assert difference.flatten(1).std(1).max() < 1e-6
    assert 49.0 < offsets.abs().max() <= 50.01
    assert offsets.std().item() == pytest.approx(50.0 / math.sqrt(3.0), rel=0.05)


def test_ct_noise_measured_in_hu():
    images = torch.zeros(100, *SLICE.shape)
    hu = CT(**STILL, offset_hu=0.0, gain=0.0, noise_hu=20.0)(images, 1.0, rng(), SLICE) * 3000.0 / 2.0
    assert hu.std().item() == pytest.approx(20.0, rel=0.03)
    assert hu.mean().item() == pytest.approx(0.0, abs=0.5)
    assert (hu[..., 1:] * hu[..., :-1]).mean().abs() < 0.02 * 400.0, "white"


def test_no_stain_jitter_is_identity_also_outside_the_range():
    images = torch.linspace(-1.5, 1.5, 300).reshape(1, 3, 10, 10)
    same = colour.restain(images, torch.ones(1, 2), torch.zeros(1, 2))
    assert torch.allclose(same, images, atol=1e-5)
    pipeline = Histology(**STILL, **PLAIN)
    assert torch.allclose(pipeline(noise(PATCH), 1.0, rng(), PATCH), noise(PATCH), atol=1e-5)


def test_haematoxylin_alone_is_scaled():
    images = noise(PATCH, dtype=torch.float64)
    scale = torch.tensor([[1.3, 1.0]], dtype=torch.float64).repeat(4, 1)
    before = colour.concentrations(images)
    after = colour.concentrations(colour.restain(images, scale, torch.zeros(4, 2)))
    bright = after.isfinite() & (colour.restain(images, scale, torch.zeros(4, 2)) > -0.98).all(1, keepdim=True)
    assert bright.float().mean() > 0.9
    expected = torch.cat([1.3 * before[:, :1], before[:, 1:]], dim=1)
    assert torch.allclose(after[bright], expected[bright], atol=1e-9)


def test_all_three_stains_are_scaled_and_shifted():
    rgb = np.random.default_rng(0).uniform(60.0, 250.0, (2, 8, 8, 3)).astype(np.float32)
    images = torch.from_numpy(rgb / 127.5 - 1.0).permute(0, 3, 1, 2)
    scale, shift = torch.tensor([[1.0, 1.0, 1.0], [1.2, 0.9, 1.1]]), torch.tensor([[0.0] * 3, [0.05, -0.02, 0.01]])
    made = colour.restain(images, scale, shift).clamp(-1.0, 1.0)
    torch.testing.assert_close(made[0], images[0], atol=1e-5, rtol=0.0)
    expected = stained(stains(rgb[1]) * scale[1].numpy() + shift[1].numpy())
    np.testing.assert_allclose((made[1].permute(1, 2, 0).numpy() + 1.0) * 127.5, expected, atol=1e-3)


def test_pure_stains_are_unmixed():
    vectors = torch.from_numpy(stain_vectors())
    for stain in (0, 1):
        images = 2.0 * 10.0 ** (-0.7 * vectors[stain]).reshape(1, 3, 1, 1) - 1.0
        expected = torch.zeros(3, dtype=torch.float64)
        expected[stain] = 0.7
        assert torch.allclose(colour.concentrations(images).flatten(), expected, atol=1e-9)


def test_stain_shift_adds_to_the_concentrations():
    white = torch.ones(200, 3, 16, 16)
    stained = Histology(**STILL, **(PLAIN | {"stain_shift": 0.1}))(white, 1.0, rng(), PATCH)
    shift = colour.concentrations(stained)[..., 0, 0]
    assert 0.095 < shift[:, :2].abs().max() <= 0.1001
    assert shift[:, 2].abs().max() < 1e-5
    assert torch.corrcoef(shift[:, :2].T)[0, 1].abs() < 0.3, "each stain on its own"


# --- the probability --------------------------------------------------------------------------------------------------


def test_p_by_hand():
    adaptive = Adaptive(Published(), target=0.6, ramp_images=1000, maximum=0.8)
    assert adaptive.updated(0.5, 0.9, 64) == pytest.approx(0.564), "too sure: up"
    assert adaptive.updated(0.5, 0.3, 64) == pytest.approx(0.436), "not sure enough: down"
    assert adaptive.updated(0.5, 0.6, 64) == 0.5
    assert adaptive.updated(0.01, -1.0, 64) == 0.0
    assert adaptive.updated(0.79, 1.0, 64) == 0.8
    assert adaptive.updated(0.5, math.nan, 64) == 0.5


def test_p_crosses_the_ramp_in_its_number_of_images():
    adaptive, p = Adaptive(CT(), ramp_images=32_000, maximum=1.0), 0.0
    for _ in range(500):
        p = adaptive.updated(p, 1.0, 32)
    assert p == pytest.approx(0.5)


def test_without_a_target_p_stays():
    adaptive = Adaptive(CT(), target=None, initial=0.3)
    assert adaptive.updated(adaptive.initial, 1.0, 10_000) == 0.3


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "key"),
    [
        (Published, {"blit": False, "geometry": False, "colour": False}, "blit"),
        (CT, {"rotation_deg": -1.0}, "rotation_deg"),
        (CT, {"rotation_deg": math.nan}, "rotation_deg"),
        (CT, {"scale": [1.1, 1.0]}, "scale"),
        (CT, {"scale": [0.0, 1.0]}, "scale"),
        (CT, {"scale": [1.0]}, "scale"),
        (CT, {"shift": 0.5}, "shift"),
        (CT, {"offset_hu": -1.0}, "offset_hu"),
        (CT, {"gain": 1.0}, "gain"),
        (CT, {"noise_hu": -1.0}, "noise_hu"),
        (Histology, {"rotation_deg": 181.0}, "rotation_deg"),
        (Histology, {"stain_scale": 1.0}, "stain_scale"),
        (Histology, {"stain_shift": -0.1}, "stain_shift"),
    ],
)
def test_mistakes_in_a_pipeline(kind, arguments, key):
    with pytest.raises(UserError, match=rf"^{key}="):
        kind(**arguments)


@pytest.mark.parametrize(
    ("key", "value"),
    [("target", 1.0), ("initial", 0.9), ("initial", -0.1), ("ramp_images", 0), ("interval", 0), ("maximum", 1.1)],
)
def test_mistakes_in_the_adaptation(key, value):
    with pytest.raises(UserError, match=rf"^{key}={value:g}: expected"):
        Adaptive(CT(), **{key: value})


@pytest.mark.parametrize(
    ("pipeline", "spec", "key"),
    [
        (Published(), ImageSpec(4, 16, 16, 0.0, 1.0, "", 1.0), "colour=true"),
        (Histology(), SLICE, "Histology"),
        (CT(), PATCH, "CT"),
    ],
)
@pytest.mark.parametrize("p", [0.0, 0.5])
def test_images_that_a_pipeline_is_not_made_for(pipeline, spec, key, p):
    """Also while p is still 0: the mistake shows at once, not after an hour of training."""
    with pytest.raises(UserError, match=rf"^{key}: expected images"):
        pipeline(noise(spec), p, rng(), spec)
