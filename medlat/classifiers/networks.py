"""Classifiers to train here: MONAI's DenseNet and ResNet, made small enough for a laptop."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from medlat.classifiers.black_box import Task
from medlat.core.errors import ArgumentError, did_you_mean
from medlat.core.ranges import Width, Widths
from medlat.core.spaces import ImageSpec

# Channels of a ResNet's first feature map. The 1x1 convolution of stride 2 beside its blocks takes them in, and with
# fewer than 8 oneDNN 3.12 (torch 2.13) on a CPU with AVX2 alone writes wrong gradients, and beyond their end, in
# channels_last.
NARROWEST = 8


def outputs_of(task: Task, classes: list[str]) -> tuple[str, ...]:
    """Names of a task's predictions: binary the second class, regression the value, else every class.

    Raises UserError for classes that do not go with the task.
    """
    if task not in get_args(Task):
        raise ArgumentError("task", f"no such task{did_you_mean(task, get_args(Task))}", task)
    expected = {"binary": "two classes", "regression": "one name, that of the value"}.get(task, "at least two classes")
    fits = {"binary": len(classes) == 2, "regression": len(classes) == 1}.get(task, len(classes) >= 2)
    if not fits or len(set(classes)) < len(classes):
        raise ArgumentError("classes", f"with task {task} expected {expected}, each named once", classes)
    return (classes[1],) if task == "binary" else tuple(classes)


class ClassifierNetwork(nn.Module):
    """What classifiers trained here share: raw outputs of a `body`, and the numbers that make predictions of them.

    image:   what the images are. task, classes: what it says of them; see `BlackBox`. For ordinal classes are in rising
             order; for regression the name of the value.
    outputs: a name for each of the K raw outputs.

    centre, scale: mean and standard deviation of a regression's target, which raw outputs are in units of.
    temperature:   that logits are divided by (Guo et al. 2017, arXiv 1706.04599); 1 until it is fitted.
    """

    cam_layer: str  # the last layer with places in it, for Grad-CAM
    body: nn.Module
    centre: Tensor
    scale: Tensor
    temperature: Tensor

    def __init__(self, image: ImageSpec, task: Task, classes: list[str]) -> None:
        super().__init__()
        if task == "multilabel":
            raise ArgumentError("task", "a network that is trained here has one label; expected another task", task)
        self.image, self.task, self.classes = image, task, list(classes)
        self.outputs = outputs_of(task, self.classes)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("temperature", torch.ones(()))

    def set_target_scale(self, centre: float, scale: float) -> None:
        """Mean and standard deviation of a regression's target; a target that does not vary keeps the scale 1."""
        self.centre.fill_(centre)
        self.scale.fill_(scale if scale > 0.0 else 1.0)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> raw outputs [N, K] float32: logits; for regression standardised values."""
        return self.body(images.contiguous(memory_format=torch.channels_last)).float()

    def finish(self, body: nn.Module) -> None:
        """Take the body, images [N, C, H, W] -> raw outputs [N, K]; a subclass calls it last in its constructor."""
        for module in body.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # Grad-CAM's hooks need what goes into it
        self.body = body
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class DenseNet(ClassifierNetwork):
    """MONAI's DenseNet (Huang et al. 2017, arXiv 1608.06993); image, task and classes as above.

    growth_rate:   channels that each layer adds.
    init_features: channels of the first feature map.
    blocks:        layers in each block; the resolution is halved between blocks. null: [2, 4, 4], which ends with 8x8
                   places for an image of 64x64.
    stem_stride:   side of the pixel blocks that a first feature stands for: 2, or 4 (cheaper; for large images).
    """

    cam_layer = "body.features.norm5"

    def __init__(
        self,
        image: ImageSpec,
        task: Task,
        classes: list[str],
        growth_rate: Width = 12,
        init_features: Width = 16,
        blocks: Widths | None = None,
        stem_stride: Literal[2, 4] = 2,
    ) -> None:
        from monai.networks.nets import DenseNet as MonaiDenseNet

        super().__init__(image, task, classes)
        blocks = [2, 4, 4] if blocks is None else blocks
        _check_positive("growth_rate", growth_rate)
        _check_positive("init_features", init_features)
        _check_layers("blocks", blocks)
        _check_size(image, stem_stride, halvings=len(blocks) - 1)
        body = MonaiDenseNet(2, image.channels, len(self.outputs), init_features, growth_rate, blocks)
        if stem_stride == 2:
            body.features.pool0 = nn.Identity()
        self.finish(body)


class ResNet(ClassifierNetwork):
    """MONAI's ResNet of basic blocks (He et al. 2016, arXiv 1512.03385); image, task and classes as above.

    width:       channels of the first feature map, at least 8; doubled at each halving.
    layers:      blocks at each of the four resolutions. null: [1, 1, 1, 1].
    stem_stride: side of the pixel blocks that a first feature stands for: 2, or 4 (cheaper; for large images). An image
                 of 64x64 ends with 4x4 places at 2.
    """

    cam_layer = "body.layer4"
    STAGES = 4

    def __init__(
        self,
        image: ImageSpec,
        task: Task,
        classes: list[str],
        width: Width = 16,
        layers: Widths | None = None,
        stem_stride: Literal[2, 4] = 2,
    ) -> None:
        from monai.networks.nets import ResNet as MonaiResNet

        super().__init__(image, task, classes)
        layers = [1] * self.STAGES if layers is None else layers
        if width < NARROWEST:
            raise ArgumentError("width", f"expected a whole number of at least {NARROWEST}", width)
        _check_layers("layers", layers)
        if len(layers) != self.STAGES:
            raise ArgumentError("layers", f"expected {self.STAGES} numbers", layers)
        _check_size(image, stem_stride, halvings=self.STAGES - 1)
        widths = [width * 2**i for i in range(self.STAGES)]
        arguments: dict[str, Any] = {"conv1_t_stride": 2, "no_max_pool": stem_stride == 2, "bias_downsample": False}
        counts = {"n_input_channels": image.channels, "num_classes": len(self.outputs)}
        self.finish(MonaiResNet("basic", layers, widths, spatial_dims=2, **counts, **arguments))


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ArgumentError(name, "expected a whole number of at least 1", value)


def _check_layers(name: str, values: list[int]) -> None:
    if not values or min(values) < 1:
        raise ArgumentError(name, "expected whole numbers of at least 1", values)


def _check_size(image: ImageSpec, stem_stride: int, halvings: int) -> None:
    """Raises UserError where nothing is left of the image."""
    if stem_stride not in (2, 4):
        raise ArgumentError("stem_stride", "expected 2 or 4", stem_stride)
    shorter, needed = min(image.height, image.width), stem_stride * 2**halvings
    if shorter < needed:
        raise ArgumentError("image_size", f"the classifier's network halves it to nothing; needs {needed}", shorter)
