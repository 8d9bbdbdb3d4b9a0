"""Images as networks take them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medlat.core.errors import Keys, UserError
from medlat.core.external import Culprit
from medlat.core.fitting import Fitting, what_fits
from medlat.core.spaces import ImageSpec

CULPRIT = Culprit(SimpleNamespace(config_keys=Keys("some")), "path", "net.pt")
HU = ImageSpec(1, 4, 4, -1000.0, 400.0, "HU", 1.0)
GREYS = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)


def fitting(**arguments):
    return Fitting(CULPRIT, **({"batch": 2} | arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [-1.0, 0.0, 1.0]),
        ({"range": (0.0, 1.0)}, [0.0, 0.5, 1.0]),
        ({"range": [0.0, 255.0]}, [0.0, 127.5, 255.0]),
        ({"range": "data"}, [-1000.0, -300.0, 400.0]),
        ({"range": (0.0, 1.0), "mean": 0.5, "std": 0.25}, [-2.0, 0.0, 2.0]),
        ({"range": (0.0, 1.0), "mean": [0.5], "std": [0.25]}, [-2.0, 0.0, 2.0]),
        ({"range": (0.0, 255.0), "dtype": "uint8"}, [0, 128, 255]),
        ({"dtype": "float16"}, [-1.0, 0.0, 1.0]),
    ],
)
def test_values(arguments, expected):
    made = fitting(**arguments)
    made.for_images(HU)
    found = made(GREYS)
    assert found.shape == (3, 1, 4, 4)
    assert found.dtype == getattr(torch, arguments.get("dtype", "float32"))
    assert found[:, 0, 0, 0].tolist() == pytest.approx(expected)


def test_the_standardisation_of_imagenet():
    """White and black as torchvision's networks see them."""
    made = fitting(channels=3, range=(0.0, 1.0), mean="imagenet", std="imagenet", layout="NHWC")
    found = made(GREYS)
    assert found.shape == (3, 4, 4, 3)
    assert found[2, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-3)
    assert found[0, 0, 0].tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-3)


def test_range_channels_and_size():
    fitted = fitting(size=2, channels=3, range=(0.0, 255.0))(GREYS)
    assert fitted.shape == (3, 3, 2, 2)
    assert torch.allclose(fitted[:, :, 0, 0], torch.tensor([[0.0], [127.5], [255.0]]).expand(3, 3), atol=1e-4)
    assert torch.equal(fitting()(GREYS), GREYS)
    assert fitting(size=2, channels=3).shape(HU) == (3, 2, 2)
    assert fitting(layout="NHWC").shape(HU) == (4, 4, 1)


def test_parts_are_in_order_and_no_larger_than_the_batch():
    images = torch.arange(5.0).reshape(5, 1, 1, 1)
    parts = list(fitting().batches(images))
    assert [(len(part), n) for part, n in parts] == [(2, 2), (2, 2), (1, 1)]
    assert torch.equal(torch.cat([part for part, _ in parts]), images)


def test_a_fixed_batch_is_filled_up():
    images = torch.arange(5.0).reshape(5, 1, 1, 1)
    parts = list(fitting(fixed_batch=True, batch=3).batches(images))
    assert [(part.flatten().tolist(), n) for part, n in parts] == [([0.0, 1.0, 2.0], 3), ([3.0, 4.0, 4.0], 2)]


def test_gradients_pass_the_fitting():
    images = torch.zeros(1, 1, 4, 4, requires_grad=True)
    fitting(size=2, channels=3, range=(0.0, 10.0), mean=1.0, std=2.0)(images).sum().backward()
    assert images.grad.sum() == pytest.approx(3 * 4 * 5.0 / 2.0), "three channels, 2x2 pixels, half the range, by two"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"size: 0, expected a whole number of at least 1"),
        ({"channels": -1}, r"channels: -1, expected"),
        ({"batch": 0}, r"batch: 0, expected"),
        ({"range": (1.0, 1.0)}, r"range: \[1, 1\], expected two rising numbers"),
        ({"mean": 0.5}, r"std: null, but mean is given; expected both, or neither"),
        ({"std": 0.5}, r"mean: null, but std is given"),
        ({"mean": "imagenet", "std": "imagenet"}, r"mean: imagenet, which is of .* \[0, 1\]; the range is \[-1, 1\]"),
        ({"range": "data", "mean": "imagenet", "std": "imagenet"}, r"mean: imagenet, .*; the range is data"),
        ({"channels": 3, "mean": [0.1, 0.2], "std": 1.0}, r"mean: 2 numbers, expected 1 or 3, one for each channel"),
        ({"dtype": "uint8"}, r"dtype: uint8, whole numbers from 0 to 255; the range is \[-1, 1\]"),
        ({"dtype": "uint8", "range": (0.0, 1.0)}, r"dtype: uint8, .* the range is \[0, 1\]"),
        ({"dtype": "uint8", "range": (0.0, 255.0), "mean": 127.0, "std": 1.0}, r"dtype: uint8, .* of mean 0"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(UserError, match=rf"^some\.{message}"):
        fitting(**arguments)


def test_whole_numbers_of_data_that_have_others():
    made = fitting(dtype="uint8", range="data")
    with pytest.raises(UserError, match=r"^some\.dtype: uint8, .* the range is \[-1000, 400\]$"):
        made.for_images(HU)


@pytest.mark.parametrize(("channels", "expected"), [(1, "1"), (4, "1 or 4")])
def test_channels_that_do_not_fit(channels, expected):
    message = rf"^some\.channels: {channels}, but the images have 3; expected {expected}$"
    with pytest.raises(UserError, match=message):
        fitting(channels=channels)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(UserError, match=r"^some\.mean: 3 numbers, but images of 1 channel"):
        fitting(range=(0.0, 1.0), mean="imagenet", std="imagenet")(GREYS)


# --- what a network would rather take ---------------------------------------------------------------------------------


def takes(channels=None, side=None, last=False, dtype=torch.float32, batch=None):
    """A network that takes images of this kind alone."""

    def network(x):
        c, h = (x.shape[3], x.shape[1]) if last else (x.shape[1], x.shape[2])
        fits = x.dtype == dtype and channels in (None, c) and batch in (None, len(x))
        if not fits or not (side is None or h == side or (side < 0 and h >= -side)):
            raise ValueError(list(x.shape))
        return x

    return network


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (takes(channels=3), "it answers with some.channels=3"),
        (takes(channels=1, last=True), "it answers with some.layout=NHWC"),
        (takes(channels=1, dtype=torch.float16), "it answers with some.dtype=float16"),
        (takes(channels=1, dtype=torch.uint8), "it answers with some.dtype=uint8"),
        (takes(channels=1, side=224), "it answers with some.size=224"),
        (takes(channels=3, side=224), "it answers with some.channels=3, some.size=224"),
        (takes(channels=3, side=224, last=True), "it answers with some.channels=3, some.layout=NHWC, some.size=224"),
        (takes(channels=1, side=-299), "it answers with some.size=299 or 320 or 384 or 512, the size that it was "
         "trained with"),
        (takes(channels=1, batch=8), "it answers with some.batch=8, some.fixed_batch=true"),
        (takes(channels=2), None),
    ],
)  # fmt: skip
def test_what_a_network_would_rather_take(network, expected):
    assert what_fits(network, fitting(), GREYS[:2]) == expected


def test_what_is_fixed_is_not_asked_for_again():
    assert what_fits(takes(channels=3), fitting(channels=1), GREYS[:2]) is None
    assert np.isfinite(fitting()(GREYS).numpy()).all()
