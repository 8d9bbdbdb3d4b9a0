import math
import resource

import pytest
import torch
from safetensors.torch import save_file

from medlat.classifiers.networks import DenseNet, ResNet
from medlat.classifiers.trained import TEMPERATURES, Trained, fit_temperature, load
from medlat.core.checkpoints import save_generator
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.generators.vae.networks import VAE

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "ordinal": ["1", "2", "3"], "regression": ["age"]}


def network(task="binary", kind=ResNet):
    torch.manual_seed(0)
    return kind(SPEC, task, CLASSES[task], **({"width": 8} if kind is ResNet else {"blocks": [1, 1]}))


def images(n=3):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def recipe(net):
    kind = {"_target_": f"{type(net).__module__}.{type(net).__qualname__}", "task": net.task, "classes": net.classes}
    return kind | ({"width": 8} if isinstance(net, ResNet) else {"blocks": [1, 1]})


@pytest.mark.parametrize("task", CLASSES)
def test_predictions_are_what_the_task_says(task):
    net = network(task)
    net.set_target_scale(50.0, 10.0)
    net.temperature.fill_(2.0)
    black_box = Trained(net)
    predictions, logits = black_box(images()), black_box.logits(images())
    assert (black_box.task, black_box.outputs) == (task, net.outputs)
    assert predictions.shape == (3, len(net.outputs))
    expected = {"binary": lambda x: torch.sigmoid(x / 2.0), "regression": lambda x: 50.0 + 10.0 * x}
    assert torch.allclose(predictions, expected.get(task, lambda x: torch.softmax(x / 2.0, dim=1))(logits))
    if task in ("multiclass", "ordinal"):
        assert torch.allclose(predictions.sum(dim=1), torch.ones(3))


def test_images_are_judged_one_by_one_and_have_gradients():
    """In evaluation mode, whatever it was before: batch normalisation does not mix images."""
    black_box = Trained(network().train())
    given = images().requires_grad_()
    predictions = black_box(given)
    assert torch.allclose(predictions, torch.cat([black_box(image[None]) for image in given]), atol=1e-6)
    predictions[0].sum().backward()
    assert given.grad[0].abs().max() > 0.0
    assert given.grad[1:].abs().max() == 0.0
    assert not black_box(images()).requires_grad, "weights are frozen"
    assert black_box.network.get_submodule(black_box.cam_layer) is black_box.network.body.layer4


@pytest.mark.parametrize(("share", "size"), [(0.75, 3.0), (0.9, 0.5)])
def test_temperature_in_closed_form(share, size):
    """Logits of one size, of which a share is right: the best temperature makes the sigmoid that share."""
    net, each = network(), 400
    right = torch.arange(each) < share * each
    positive = torch.where(right, size, -size)
    logits, targets = torch.cat([positive, -positive])[:, None], torch.arange(2).flip(0).repeat_interleave(each)
    own = (each + 1) / (each + 2)  # Platt's target
    wanted = share * own + (1 - share) * (1 - own)
    found = fit_temperature(net, logits, targets.double())
    assert found == pytest.approx(size / math.log(wanted / (1 - wanted)), rel=1e-3)
    assert net.temperature.item() == found


def test_temperature_undoes_a_scale():
    """Of three classes with calibrated logits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5000, 3, generator=generator)
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    net = network("multiclass")
    assert fit_temperature(net, logits, targets) == pytest.approx(1.0, abs=0.1)
    assert fit_temperature(net, 5.0 * logits, targets) == pytest.approx(5.0, abs=0.5)


def test_temperature_of_degenerate_predictions():
    targets = torch.tensor([0.0, 1.0])
    assert fit_temperature(network(), torch.ones(2, 1), torch.ones(2)) == 1.0, "one class only: nothing to learn"
    perfect = fit_temperature(network(), torch.tensor([[-1.0], [1.0]]), targets)
    assert perfect == pytest.approx(1.0 / math.log(2.0), rel=1e-3), "two of two right say 2/3, not 1"
    wrong = fit_temperature(network(), torch.tensor([[1.0], [-1.0]]), targets)
    assert wrong == pytest.approx(TEMPERATURES[1], rel=1e-3)


@pytest.mark.parametrize("kind", [DenseNet, ResNet])
@pytest.mark.parametrize("task", CLASSES)
def test_reloaded_it_predicts_the_same(tmp_path, kind, task):
    net = network(task, kind)
    net.set_target_scale(50.0, 10.0)
    net.temperature.fill_(3.0)
    expected = Trained(net)(images())
    save_generator(tmp_path / "c.safetensors", net, recipe(net), SPEC)
    black_box = load(tmp_path / "c.safetensors")
    assert black_box.network.image == SPEC
    assert torch.equal(black_box(images()), expected)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "c.safetensors"
    vae = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 2, "capacity": 4}
    save_generator(path, VAE(ImageSpec(1, 32, 32, 0.0, 1.0, "HU", 1.0), 2, 4), vae, SPEC)
    with pytest.raises(UserError, match=r"holds a medlat\.generators\.vae\.networks\.VAE, expected a classifier"):
        load(path)
    net = network()
    for name in ("outputs_of", "nn.Module", "Nothing"):
        save_generator(path, net, recipe(net) | {"_target_": f"medlat.classifiers.networks.{name}"}, SPEC)
        with pytest.raises(UserError, match="expected a classifier"):
            load(path)
    save_generator(path, net, recipe(net) | {"width": 9}, SPEC)
    with pytest.raises(UserError, match="damaged checkpoint"):
        load(path)
    save_generator(path, net, recipe(net) | {"_target_": "os.system"}, SPEC)
    with pytest.raises(UserError, match=r"only medlat\.\* and classes that the configuration names"):
        load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="damaged checkpoint"):
        load(path)


@pytest.mark.parametrize(
    "absurd",
    [
        {"growth_rate": 10**7},
        {"growth_rate": 10**30},
        {"init_features": 10**9},
        {"blocks": [1, 10**9]},
        {"blocks": [1, 1, 1]},
        {"blocks": "x"},
        {"stem_stride": []},
        {"classes": 3},
        {"task": {}},
    ],
    ids=str,
)
def test_a_network_larger_than_its_weights_takes_no_memory(tmp_path, absurd):
    path, net = tmp_path / "c.safetensors", network(kind=DenseNet)
    save_generator(path, net, recipe(net) | absurd, SPEC)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "kilobytes"
