import sys

import numpy as np
import pytest
import torch

from medlat.classifiers.adapters import (
    MedlatClassifier,
    ONNXClassifier,
    PythonClassifier,
    TorchScriptClassifier,
    check,
)
from medlat.classifiers.black_box import target_of
from medlat.classifiers.networks import ResNet
from medlat.classifiers.trained import Trained
from medlat.core.checkpoints import save_generator
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
TWO, THREE = ["normal", "tumour"], ["a", "b", "c"]


def greys(side=16):
    """[3, 1, side, side] of the values -1, 0, 1."""
    return torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1).repeat(1, 1, side, side)


def own(name, task="binary", classes=TWO, **arguments):
    return PythonClassifier(f"classifiers.own_functions:{name}", task, classes, **arguments)


class Linear(torch.nn.Module):
    """K outputs: multiples of the mean over pixels and channels."""

    def __init__(self, outputs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(1.0, outputs + 1))

    def forward(self, x):
        return x.mean(dim=(1, 2, 3))[:, None] * self.weight


class Colour(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1, 1)

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))


def scripted(tmp_path, module):
    torch.jit.script(module).save(str(tmp_path / "net.pt"))
    return tmp_path / "net.pt"


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["darkness", "as_array", "two_columns"])
def test_a_binary_function_may_return_one_or_two_columns(function):
    black_box = own(function, range=(0.0, 1.0))
    assert (black_box.task, black_box.outputs, black_box.differentiable) == ("binary", ("tumour",), False)
    found = black_box(greys())
    assert found.dtype == torch.float32
    assert torch.allclose(found, torch.tensor([[1.0], [0.5], [0.0]]))
    assert not black_box(greys().requires_grad_()).requires_grad, "it says that it has no gradients"


def test_logits_become_probabilities(tmp_path):
    net = scripted(tmp_path, Linear(1))
    one = TorchScriptClassifier(net, "binary", TWO, output="logits")(greys())
    assert torch.allclose(one[:, 0], torch.tensor([-1.0, 0.0, 1.0]).sigmoid())
    net = scripted(tmp_path, Linear(2))
    two = TorchScriptClassifier(net, "binary", TWO, output="logits")(greys())
    assert torch.allclose(two, one), "of two logits the difference counts, which is the mean again"
    net = scripted(tmp_path, Linear(3))
    three = TorchScriptClassifier(net, "multiclass", THREE, output="logits")
    assert three.outputs == ("a", "b", "c")
    expected = torch.softmax(torch.tensor([[-1.0, -2.0, -3.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]), dim=1)
    assert torch.allclose(three(greys()), expected)


def test_values_of_a_regression_stay_as_they_are(tmp_path):
    net = scripted(tmp_path, Linear(1))
    black_box = TorchScriptClassifier(net, "regression", ["age"], range=(0.0, 100.0))
    assert torch.allclose(black_box(greys()), torch.tensor([[0.0], [50.0], [100.0]]))
    assert black_box.outputs == ("age",)
    assert torch.allclose(own("counts", "regression", ["n"])(greys()), torch.full((3, 1), 3.0)), "[N] will do"


def test_probabilities_of_half_precision_are_brought_to_a_sum_of_one():
    found = own("half", "ordinal", THREE)(greys())
    assert torch.allclose(found.sum(dim=1), torch.ones(3), atol=1e-6)


def test_a_layer_for_grad_cam_is_one_of_a_network_with_gradients(tmp_path):
    layered = own("network", "multiclass", TWO, output="logits", differentiable=True, layer="0")
    assert layered.watched is not None
    assert layered.watched[1] == "0"
    assert layered(greys()).shape == (3, 2)
    for function, more, message in (
        (
            "network",
            {"layer": "1.x", "differentiable": True},
            r"layer: 1.x, and the network has no such layer; did you mean '1'",
        ),
        ("network", {"layer": "0"}, r"layer: 0, which takes gradients; expected null, or differentiable=true"),
        ("two_columns", {"layer": "0", "differentiable": True}, r"layer: 0, but the function is no torch.nn.Module"),
    ):
        with pytest.raises(UserError, match=message):
            own(function, "multiclass", TWO, output="logits", **more)
    with pytest.raises(UserError, match=r"layer: 0, but torch watches no layer of a TorchScript program"):
        TorchScriptClassifier(scripted(tmp_path, Linear(1)), "binary", TWO, layer="0")


def test_grades_by_thresholds():
    """Of black, grey and white the second grade or a higher one has 1, 0.5, 0, and the third half of that."""
    black_box = own("thresholds", "ordinal", THREE, range=(0.0, 1.0))
    expected = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(black_box(greys()), expected)
    torch.testing.assert_close(target_of(black_box, "b or more")(greys()), torch.tensor([1.0, 0.5, 0.0]))
    torch.testing.assert_close(target_of(black_box, None)(greys()), torch.tensor([1.5, 0.75, 0.0]))
    logits = own("thresholds", "ordinal", THREE, output="logits", range=(0.0, 1.0))(greys())
    torch.testing.assert_close(logits[0, 2], torch.tensor(0.5).sigmoid())
    with pytest.raises(UserError, match=r"^task: ordinal, .* b or more has 0.25 and c or more 1; expected no rise, or"):
        own("rising_thresholds", "ordinal", THREE, range=(0.0, 1.0))(greys())


def test_images_are_fitted_and_come_in_batches():
    assert own("shapes", size=8, channels=3, range=(0.0, 255.0))(greys()).tolist() == [[1.0]] * 3
    assert own("counts", "regression", ["n"], batch=2)(greys()).tolist() == [[2.0], [2.0], [1.0]]


def test_a_function_may_write_into_its_images():
    images = greys()
    assert own("writes_into_its_images", channels=3)(images).tolist() == [[0.5]] * 3
    assert torch.equal(images, greys())


def test_gradients_in_the_images(tmp_path):
    """d sigmoid(mean) / d pixel at 0: a quarter, shared by the pixels."""
    net = scripted(tmp_path, Linear(1))
    images = torch.zeros(1, 1, 4, 4, requires_grad=True)
    TorchScriptClassifier(net, "binary", TWO, output="logits")(images).sum().backward()
    assert torch.allclose(images.grad, torch.full((1, 1, 4, 4), 0.25 / 16))
    without = TorchScriptClassifier(net, "binary", TWO, output="logits", differentiable=False)
    assert not without(images).requires_grad
    assert own("darkness", range=(0.0, 1.0), differentiable=True)(images).requires_grad


@pytest.mark.parametrize("n", ["N", 2])
def test_onnx_predicts_what_it_should(tmp_path, n):
    """The mean over pixels as a logit; n: the number of images that the file asks for."""
    pytest.importorskip("onnxruntime")
    onnx, helper = pytest.importorskip("onnx"), pytest.importorskip("onnx.helper")
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [n, 1, "H", "W"])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [n, 1])
    axes = {"axes": [2, 3], "keepdims": 1}
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], **axes), helper.make_node("Flatten", ["m"], ["y"])]
    opset = helper.make_opsetid("", 17)
    graph = helper.make_graph(nodes, "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "net.onnx")
    black_box = ONNXClassifier(tmp_path / "net.onnx", "binary", TWO, output="logits")
    assert not black_box.differentiable
    found = black_box(greys().requires_grad_())
    assert torch.allclose(found[:, 0], torch.tensor([-1.0, 0.0, 1.0]).sigmoid())
    assert not found.requires_grad
    check(black_box, SPEC)


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", r"it raises ValueError on images \[3, 1, 16, 16\] \(in the user's code\)"),
        ("as_list", r"it returns a list; expected one tensor \[N, K\]"),
        ("undefined", "it returns NaN or infinity for 3 of 3 images"),
    ],
)
def test_functions_that_go_wrong(function, message):
    with pytest.raises(UserError, match=rf"^function=classifiers\.own_functions:{function}: {message}"):
        own(function, channels=1)(greys())


def test_output_of_another_shape():
    message = r"^classes: \['normal', 'tumour'\] with task binary, but it returns \[3, 3\] for 3 images; "
    with pytest.raises(UserError, match=message + r"expected \[3, 1\] or \[3, 2\]$"):
        own("three")(greys())
    with pytest.raises(UserError, match=r"returns \[3\] for 3 images; expected \[3, 3\]$"):
        own("darkness", "multiclass", THREE)(greys())


@pytest.mark.parametrize(
    ("function", "task", "classes", "output", "message"),
    [
        (
            "large",
            "multiclass",
            THREE,
            "probabilities",
            r"^output: probabilities, but .* from -3 to 4; .* before its softm",
        ),
        (
            "large",
            "multilabel",
            THREE,
            "probabilities",
            r"^output: probabilities, but .* before its sigmoid, output=logits$",
        ),
        (
            "ones",
            "multiclass",
            THREE,
            "probabilities",
            r"^task: multiclass, but .* sum to 3; .* the task is multilabel$",
        ),
        ("ones", "ordinal", THREE, "probabilities", r"^task: ordinal, but .* sum to 3; .* the task is multilabel$"),
        (
            "two_ones",
            "binary",
            TWO,
            "probabilities",
            r"^task: binary, but .* or one column, the probability of tumour$",
        ),
        ("three", "multiclass", THREE, "logits", r"^output: logits, but .* probabilities already: .*expected probab"),
        ("two_columns", "binary", TWO, "logits", r"^output: logits, but .* probabilities already"),
    ],
)
def test_output_that_is_not_what_is_said_of_it(function, task, classes, output, message):
    """What would change the numbers and not their name is no advice: logits of what sums to 3."""
    with pytest.raises(UserError, match=message) as caught:
        own(function, task, classes, output=output, range=(0.0, 1.0))(greys())
    assert ("output=logits" in str(caught.value)) == (function == "large")


def test_findings_that_are_each_predicted_for_themselves():
    found = own("findings", "multilabel", THREE, range=(0.0, 1.0))(greys())
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0, 0.485], [0.5, 0.5, 0.485], [1.0, 0.0, 0.485]]))
    logits = own("large", "multilabel", THREE, output="logits")
    torch.testing.assert_close(logits(greys())[0], torch.tensor([4.0, -3.0, 0.0]).sigmoid())
    assert logits.outputs == ("a", "b", "c")
    with pytest.raises(UserError, match=r"^target=null: the classifier has several findings; choose from a, b, c$"):
        target_of(logits, None)
    assert target_of(logits, "b")(greys()).tolist() == pytest.approx([1.0 / (1.0 + np.exp(3.0))] * 3)


def test_no_network_is_trained_for_several_findings_here():
    with pytest.raises(UserError, match=r"^task=multilabel: "):
        ResNet(SPEC, "multilabel", TWO, width=8)


def test_channels_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match=r"^channels: 1, but the images have 3; expected 1$"):
        own("darkness", channels=1)(greys().repeat(1, 3, 1, 1))
    net = scripted(tmp_path, Colour())
    message = r"^path=.*net\.pt: the network fails on images \[2, 1, 16, 16\] .*; it answers with channels=3$"
    with pytest.raises(UserError, match=message):
        check(TorchScriptClassifier(net, "binary", TWO, output="logits"), SPEC)
    assert TorchScriptClassifier(net, "binary", TWO, output="logits", channels=3)(greys()).shape == (3, 1)


@pytest.mark.parametrize("kind", [TorchScriptClassifier, ONNXClassifier])
def test_files_that_are_missing(tmp_path, kind):
    scripted(tmp_path, Linear(1))
    with pytest.raises(UserError, match=r"^path=.*nett\.pt: no such file; did you mean '.*net\.pt'\?$"):
        kind(tmp_path / "nett.pt", "binary", TWO)
    with pytest.raises(UserError, match=r"^batch: 0, expected"):
        kind(tmp_path / "net.pt", "binary", TWO, batch=0)


def test_arguments_that_make_no_sense(tmp_path):
    path = scripted(tmp_path, Linear(1))
    with pytest.raises(UserError, match=r"^classes=\[a\]: with task binary expected two classes"):
        TorchScriptClassifier(path, "binary", ["a"])
    with pytest.raises(UserError, match=r"^output: 'odds', expected probabilities or logits"):
        TorchScriptClassifier(path, "binary", TWO, output="odds")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_colon", 'expected "package.module:function"'),
        ("classifiers.own_functions:", 'expected "package.module:function"'),
        ("classifiers.own_functions:darknes", "has no function 'darknes'; did you mean 'darkness'?"),
        ("classifiers.own_functions:NOT_A_FUNCTION", "has no function 'NOT_A_FUNCTION'"),
        (
            "classifiers.own_function:f",
            "no module 'classifiers.own_function'; did you mean 'classifiers.own_functions'?",
        ),
        ("numpyy:f", "no module 'numpyy'; did you mean 'numpy'?"),
        ("qqqqzzzz.x:f", "no module 'qqqqzzzz'"),
        ("classifiers.broken_module:f", "importing classifiers.broken_module fails (RuntimeError: no licence)"),
    ],
)
def test_functions_that_cannot_be_imported(function, message):
    with pytest.raises(UserError) as caught:
        PythonClassifier(function, "binary", TWO)
    assert str(caught.value).startswith(f"function={function}: ")
    assert message in str(caught.value)


def test_a_function_beside_the_command(tmp_path, monkeypatch):
    (tmp_path / "beside_the_command.py").write_text("import missing_dependency_x\n")
    (tmp_path / "mine_beside.py").write_text("def grey(images):\n    return images.mean(dim=(1, 2, 3)) * 0 + 0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert PythonClassifier("mine_beside:grey", "binary", TWO)(greys()).tolist() == [[0.5]] * 3
    with pytest.raises(UserError, match=r"importing beside_the_command fails .*No module named 'missing_dependency_x'"):
        PythonClassifier("beside_the_command:f", "binary", TWO)


# --- before any data are read -----------------------------------------------------------------------------------------


def test_check_runs_it_on_two_images():
    check(own("darkness", range=(0.0, 1.0)), SPEC)
    check(own("darkness", range=(0.0, 1.0), differentiable=True), SPEC)
    with pytest.raises(UserError, match="raises ValueError"):
        check(own("fails"), SPEC)
    with pytest.raises(UserError, match=r"^channels: 1, but the images have 3"):
        check(own("darkness", channels=1), ImageSpec(3, 16, 16, 0.0, 255.0, "RGB", 1.0))


def test_check_finds_gradients_that_are_not_there():
    with pytest.raises(UserError, match=r"^differentiable=true: .* no gradient .*; expected false$"):
        check(own("three", "multiclass", THREE, differentiable=True), SPEC)


class Flat(torch.nn.Module):
    """Takes bytes of colour images of 32x32 with the channels last, eight at a time."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(32 * 32 * 3, 1)

    def forward(self, x):
        assert x.dtype == torch.uint8
        return self.line(x.float().reshape(8, 32 * 32 * 3) / 255.0).sigmoid()


def test_a_network_that_takes_bytes_channels_last_and_eight_at_a_time(tmp_path):
    net = scripted(tmp_path, flat := Flat())
    given = {"size": 32, "channels": 3, "range": (0.0, 255.0), "layout": "NHWC", "dtype": "uint8"}
    given |= {"batch": 8, "fixed_batch": True}
    black_box = TorchScriptClassifier(net, "binary", TWO, **given, differentiable=False)
    check(black_box, SPEC)
    found = black_box(greys().repeat(3, 1, 1, 1))
    assert found.shape == (9, 1)
    weight, bias = flat.line.weight.sum(), flat.line.bias
    levels = torch.tensor([0.0, 128.0 / 255.0, 1.0]).repeat(3)
    torch.testing.assert_close(found[:, 0], (levels * weight + bias).sigmoid().detach(), atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"^differentiable=true: whole numbers .* have no gradients; expected false$"):
        TorchScriptClassifier(net, "binary", TWO, **given)


def test_values_in_the_data_unit(tmp_path):
    black_box = TorchScriptClassifier(scripted(tmp_path, Linear(1)), "regression", ["HU"], range="data")
    check(black_box, SPEC)
    assert black_box(greys())[:, 0].tolist() == [-1000.0, 500.0, 2000.0]


# --- what answers differently each time -------------------------------------------------------------------------------


def test_what_answers_differently_is_found_by_asking_twice():
    steady = own("darkness", range=(0.0, 1.0))
    check(steady, SPEC)
    assert (steady.differs, steady.repeats) == (0.0, 1)
    drawn = own("dropout", range=(0.0, 1.0))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    check(drawn, SPEC)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's draws change"
    assert drawn.differs > 0.01
    assert drawn.repeats == 8
    given = own("dropout", range=(0.0, 1.0), repeats=3)
    check(given, SPEC)
    assert given.repeats == 3


def test_the_mean_of_several_answers():
    """Of a grey of 0.5 the mean of n is 0.5 with a spread that falls with the root of n; the same in every run."""
    grey = torch.zeros(200, 1, 16, 16)
    spread = {n: float(own("dropout", range=(0.0, 1.0), repeats=n)(grey).std()) for n in (2, 8, 32)}
    assert spread[2] == pytest.approx(0.5 * 3.0 / 16.0 / 2.0**0.5, rel=0.2)  # of 256 pixels, each 10 with p = 0.1
    assert spread[8] == pytest.approx(spread[2] / 2.0, rel=0.25)
    assert spread[32] == pytest.approx(spread[2] / 4.0, rel=0.25)
    many = own("dropout", range=(0.0, 1.0), repeats=8)
    first = many(grey)
    torch.manual_seed(9)
    assert torch.equal(many(grey), first)
    assert float(first.mean()) == pytest.approx(0.5, abs=0.01)


# --- medlat's own -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = ResNet(SPEC, "binary", TWO, width=8)
    network.temperature.fill_(2.0)
    recipe = {"_target_": "medlat.classifiers.networks.ResNet", "task": "binary", "classes": TWO, "width": 8}
    save_generator(tmp_path / "classifier.safetensors", network, recipe, SPEC)
    return tmp_path / "classifier.safetensors", Trained(network)


def test_a_classifier_that_medlat_trained(checkpoint):
    path, expected = checkpoint
    black_box = MedlatClassifier(str(path))
    assert isinstance(black_box, Trained)
    assert (black_box.outputs, black_box.differentiable, black_box.cam_layer) == (("tumour",), True, "body.layer4")
    assert torch.equal(black_box(greys()), expected(greys()))
    check(black_box, SPEC)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            ImageSpec(3, 16, 16, 0.0, 255.0, "RGB", 1.0),
            r"images of 1 channel\(s\) of HU; data gives 3 channel\(s\) of RGB",
        ),
        (ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 1.0), "of 16x16; data.image_size gives 32x32"),
        (
            ImageSpec(1, 16, 16, -1000.0, 400.0, "HU", 1.0),
            r"of \[-1000, 2000\]; data.intensity_range gives \[-1000, 400\]",
        ),
    ],
)
def test_images_that_medlats_classifier_was_not_trained_on(checkpoint, image, message):
    with pytest.raises(UserError, match=rf"^path=.*classifier\.safetensors: it was trained on .*{message}"):
        check(MedlatClassifier(checkpoint[0]), image)


def test_files_that_medlat_did_not_make(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"no such file; did you mean '.*classifier\.safetensors'"):
        MedlatClassifier(tmp_path / "classifier.safetensor")
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"^path=.*x\.safetensors: .*damaged checkpoint"):
        MedlatClassifier(tmp_path / "x.safetensors")
    np.savez(tmp_path / "y.npz", x=np.zeros(1))
    with pytest.raises(UserError, match="holds a pickle, which could run code; refused"):
        MedlatClassifier(tmp_path / "y.npz")
