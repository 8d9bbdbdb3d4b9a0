import pytest
import torch

from medlat.classifiers.networks import NARROWEST, DenseNet, ResNet, outputs_of
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.explain.saliency import grad_cam

SMALL = {DenseNet: {"growth_rate": 2, "init_features": 4, "blocks": [1, 1]}, ResNet: {"width": 8}}
TASKS = [
    ("binary", ["no", "yes"], ("yes",)),
    ("multiclass", ["a", "b", "c"], ("a", "b", "c")),
    ("ordinal", ["1", "2", "3", "4"], ("1", "2", "3", "4")),
    ("regression", ["age"], ("age",)),
]


def image(side=32, channels=1):
    return ImageSpec(channels, side, side, -1000.0, 2000.0, "HU", 400 / side)


def made(kind, spec=None, task="binary", classes=("no", "yes"), **arguments):
    torch.manual_seed(0)
    return kind(spec or image(), task, list(classes), **(SMALL[kind] | arguments)).eval()


@pytest.mark.parametrize("kind", [DenseNet, ResNet])
@pytest.mark.parametrize(("task", "classes", "outputs"), TASKS)
def test_one_raw_output_for_each_prediction(kind, task, classes, outputs):
    network = made(kind, image(channels=3), task, classes)
    assert network.outputs == outputs
    found = network(torch.rand(2, 3, 32, 32))
    assert found.shape == (2, len(outputs))
    assert found.dtype == torch.float32


@pytest.mark.parametrize(("kind", "places"), [(DenseNet, 8), (ResNet, 4)])
def test_the_last_layer_with_places_can_be_named(kind, places):
    """DenseNet with its own blocks, at 64x64; and Grad-CAM, which hooks into the layer, is possible."""
    network = made(kind, image(64), **({"blocks": None} if kind is DenseNet else {}))
    shapes = []
    layer = network.get_submodule(network.cam_layer)
    layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[2:]))
    images = torch.rand(2, 1, 64, 64)
    network(images)
    assert shapes == [(places, places)]
    maps = grad_cam(network, network.cam_layer, images, 0)
    assert maps.shape == (2, 64, 64)
    assert torch.isfinite(maps).all()


@pytest.mark.parametrize("kind", [DenseNet, ResNet])
def test_a_coarse_stem_halves_the_places(kind):
    shapes = []
    for stride in (2, 4):
        network = made(kind, image(64), stem_stride=stride)
        layer = network.get_submodule(network.cam_layer)
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[-1]))
        network(torch.rand(1, 1, 64, 64))
    assert shapes[0] == 2 * shapes[1]


@pytest.mark.parametrize("kind", [DenseNet, ResNet])
def test_the_same_seed_gives_the_same_network(kind):
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(made(kind)(images), made(kind)(images))


def test_the_scale_of_a_target():
    network = made(ResNet, task="regression", classes=["age"])
    network.set_target_scale(50.0, 10.0)
    assert (network.centre.item(), network.scale.item(), network.temperature.item()) == (50.0, 10.0, 1.0)
    network.set_target_scale(50.0, 0.0)
    assert network.scale.item() == 1.0, "a target that does not vary"


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (DenseNet, {"growth_rate": 0}, "growth_rate=0: expected a whole number"),
        (DenseNet, {"init_features": -1}, "init_features=-1"),
        (DenseNet, {"blocks": []}, r"blocks=\[\]: expected whole numbers"),
        (DenseNet, {"blocks": [2, 0]}, r"blocks=\[2, 0\]"),
        (DenseNet, {"stem_stride": 3}, "stem_stride=3: expected 2 or 4"),
        (ResNet, {"width": 7}, "width=7: expected a whole number of at least 8"),
        (ResNet, {"layers": [1, 1]}, r"layers=\[1, 1\]: expected 4 numbers"),
        (ResNet, {"layers": [1, 1, 1, 0]}, r"layers=\[1, 1, 1, 0\]: expected whole numbers of at least 1"),
        (ResNet, {"stem_stride": 1}, "stem_stride=1"),
    ],
)
def test_bad_arguments_are_named(kind, arguments, message):
    with pytest.raises(UserError, match=rf"^{message}"):
        made(kind, **arguments)


def test_an_image_too_small_is_named():
    with pytest.raises(UserError, match=r"^image_size=8: .*needs 16$"):
        made(ResNet, image(8))
    assert made(ResNet, image(16))(torch.rand(1, 1, 16, 16)).shape == (1, 1)


@pytest.mark.parametrize(
    ("task", "classes", "message"),
    [
        ("binary", ["a", "b", "c"], "task binary expected two classes"),
        ("binary", ["a", "a"], "each named once"),
        ("multiclass", ["a"], "expected at least two classes"),
        ("regression", ["a", "b"], "expected one name"),
        ("binry", ["a", "b"], r"task=binry: no such task; did you mean 'binary'\?"),
    ],
)
def test_classes_that_do_not_go_with_the_task(task, classes, message):
    with pytest.raises(UserError, match=message):
        outputs_of(task, classes)


def test_gradients_of_the_narrowest_resnet_do_not_depend_on_the_memory_format():
    """A wrong kernel for few channels shows here, where it is wrong."""
    spec = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 1.0)
    network, images = ResNet(spec, "binary", ["no", "yes"], width=NARROWEST), torch.randn(8, 1, 32, 32)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network.to(memory_format=layout).zero_grad()
        network(images.to(memory_format=layout)).square().mean().backward()
        found.append([p.grad.clone() for p in network.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()) + 1e-7)
