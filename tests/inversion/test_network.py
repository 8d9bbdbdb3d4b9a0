import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.inversion.network import CodeEncoder


def image(height, width, channels=1):
    return ImageSpec(channels, height, width, -1000.0, 2000.0, "HU", 1.0)


@pytest.mark.parametrize(
    ("spec", "shape", "arguments"),
    [
        (image(32, 32), [6], {"stem_stride": 1}),
        (image(64, 32, 3), [5, 4], {"stem_stride": 2, "norm": "none"}),
        (image(16, 16), [3], {"stem_stride": 4}),
        (image(40, 56), [2, 3], {"stem_stride": 2, "max_width": 1}),
    ],
)
def test_shapes(spec, shape, arguments):
    encoder = CodeEncoder(spec, shape, capacity=4, **arguments)
    codes = encoder(torch.randn(2, *spec.shape))
    assert codes.shape == (2, *shape)
    assert codes.dtype == torch.float32


def test_codes_are_so_many_deviations_from_the_mean():
    encoder = CodeEncoder(image(16, 16), [2, 3], capacity=4).eval()
    images = torch.randn(4, 1, 16, 16)
    bare = encoder(images)
    mean, scale = torch.randn(2, 3), torch.rand(2, 3)
    encoder.calibrate(mean, scale)
    assert torch.allclose(encoder(images), mean + scale * bare)
    assert {"mean", "scale"} <= encoder.state_dict().keys()


@pytest.mark.parametrize("arguments", [{"capacity": 0}, {"max_width": 0}, {"stem_stride": 3}, {"stem_stride": 4}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UserError, match=rf"{next(iter(arguments))}={next(iter(arguments.values()))}:"):
        CodeEncoder(image(8, 16), [3], **arguments)
