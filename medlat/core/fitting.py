"""Images as a network of the user's own takes them: size, channels, range, standardisation, layout, type, batch."""

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.core.errors import ArgumentError, key_in
from medlat.core.external import Culprit
from medlat.core.ranges import Finite, Interval, Positive
from medlat.core.spaces import ImageSpec

Layout = Literal["NCHW", "NHWC"]
Kind = Literal["float32", "float16", "uint8"]
Range = Interval | Literal["data"]
Mean = Finite | list[Finite] | Literal["imagenet"] | None
Deviation = Positive | list[Positive] | Literal["imagenet"] | None

# Of the red, green and blue of ImageNet's images in [0, 1], as torchvision's networks take them.
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
BYTES = (0.0, 255.0)
SIZES = (28, 32, 64, 96, 128, 192, 224, 256, 299, 320, 384, 512)  # that networks are known to take
BATCHES = (1, 4, 8, 16, 32, 64)
SEARCH_S = 15.0  # that what a network takes is looked for
DATA = "data"  # the range of the data's own unit, e.g. HU


class Fitting:
    """Brings images to what a network takes.

    size:        pixels a side that images are resized to (bilinear, antialiased); None: as they are.
    channels:    that the network takes: greyscale is repeated; None: as many as the images have.
    range:       what the network takes for -1 and +1: [0, 1], [0, 255], ...; "data": the values in the data's own unit
                 that they stand for, e.g. HU (`for_images` says which).
    mean, std:   what is subtracted then, and what is divided by: a number, one for each channel, or "imagenet".
    layout:      NCHW, or NHWC.
    dtype:       float32, float16, or uint8, whole numbers in a range within [0, 255].
    batch:       images at a time. fixed_batch: it takes no other number: the last part is filled up.

    Raises UserError for arguments that make no sense and, when called, where images do not fit.
    """

    def __init__(
        self,
        culprit: Culprit,
        size: int | None = None,
        channels: int | None = None,
        range: Range = (-1.0, 1.0),
        mean: Mean = None,
        std: Deviation = None,
        layout: Layout = "NCHW",
        dtype: Kind = "float32",
        batch: int = 64,
        fixed_batch: bool = False,
    ) -> None:
        self.culprit, self.size, self.channels = culprit, size, channels
        self.layout, self.dtype, self.batch, self.fixed_batch = layout, dtype, batch, fixed_batch
        for argument, value in (("size", size), ("channels", channels), ("batch", batch)):
            if value is not None and value < 1:
                raise culprit.wrong(argument, f"{value}, expected a whole number of at least 1")
        self.range: Sequence[float] | None = None if range == DATA else self._checked(range)
        if (mean is None) != (std is None):
            missing, given = ("mean", "std") if mean is None else ("std", "mean")
            raise culprit.wrong(missing, f"null, but {given} is given; expected both, or neither")
        self.standards = None if mean is None else (self._standard("mean", mean), self._standard("std", std))
        if dtype == "uint8":
            self._check_bytes()

    def _checked(self, range: Any) -> Sequence[float]:
        low, high = range
        if not low < high:
            raise self.culprit.wrong("range", f"[{low:g}, {high:g}], expected two rising numbers")
        return float(low), float(high)

    def _standard(self, argument: str, given: Any) -> Tensor:
        if given == "imagenet":
            if self.range is None or tuple(self.range) != (0.0, 1.0):
                problem = f"imagenet, which is of values in [0, 1]; the range is {self._range()}"
                raise self.culprit.wrong(argument, problem)
            given = IMAGENET[argument]
        values = [given] if isinstance(given, int | float) else list(given)
        if len(values) not in ({1, self.channels} if self.channels else {1, 3}):
            expected = f"1 or {self.channels}" if self.channels else "1 or 3"
            raise self.culprit.wrong(argument, f"{len(values)} numbers, expected {expected}, one for each channel")
        return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)

    def _check_bytes(self) -> None:
        low, high = self.range or BYTES
        if low < BYTES[0] or high > BYTES[1] or high - low <= 1.0 or self.standards is not None:
            also = " of mean 0 and deviation 1" if self.standards is not None else ""
            raise self.culprit.wrong("dtype", f"uint8, whole numbers from 0 to 255; the range is {self._range()}{also}")

    def _range(self) -> str:
        return DATA if self.range is None else f"[{self.range[0]:g}, {self.range[1]:g}]"

    def for_images(self, image: ImageSpec) -> None:
        """What -1 and +1 stand for, where the network takes the data's own unit."""
        if self.range is None:
            self.range = image.low, image.high
            if self.dtype == "uint8":
                self._check_bytes()

    def shape(self, image: ImageSpec) -> tuple[int, ...]:
        """Of one image of the data as the network gets it."""
        channels = self.channels or image.channels
        height, width = (self.size, self.size) if self.size else (image.height, image.width)
        return (height, width, channels) if self.layout == "NHWC" else (channels, height, width)

    def batches(self, images: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Images [N, C, H, W] in [-1, 1] -> fitted parts of at most `batch`, and how many of each are images: what lies
        behind these fills a fixed batch up.
        """
        assert images.dim() == 4, images.shape
        assert len(images), "no images"
        for part in images.split(self.batch):
            missing = self.batch - len(part) if self.fixed_batch else 0
            yield self(torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part), len(part)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> [N, channels, size, size], or with the channels last; differentiable, but
        for whole numbers.
        """
        channels = self.channels or images.shape[1]
        if images.shape[1] not in (1, channels):
            expected = "1" if channels == 1 else f"1 or {channels}"
            raise self.culprit.wrong(
                "channels", f"{channels}, but the images have {images.shape[1]}; expected {expected}"
            )
        assert self.range is not None, "for_images() says what the data's unit is"
        low, high = self.range
        x = (images.float() + 1.0) * ((high - low) / 2.0) + low
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        x = x.expand(-1, channels, -1, -1)
        if self.standards is not None:
            x = self._standardised(x)
        x = x.round() if self.dtype == "uint8" else x
        return (x.permute(0, 2, 3, 1) if self.layout == "NHWC" else x).to(getattr(torch, self.dtype))

    def _standardised(self, x: Tensor) -> Tensor:
        assert self.standards is not None
        for argument, values in zip(("mean", "std"), self.standards, strict=True):
            if len(values) not in (1, x.shape[1]):
                raise self.culprit.wrong(argument, f"{len(values)} numbers, but images of {x.shape[1]} channel(s)")
        mean, std = (values.to(x.device) for values in self.standards)
        return (x - mean) / std


def takes_bytes(fitting: Fitting, differentiable: bool) -> None:
    """Raises ArgumentError where gradients are asked for and whole numbers cut them off."""
    if differentiable and fitting.dtype == "uint8":
        problem = "whole numbers (dtype=uint8) have no gradients; expected false"
        raise ArgumentError("differentiable", problem, True, of=fitting.culprit.owner)


def what_fits(network: Callable[[Tensor], Any], fitting: Fitting, images: Tensor) -> str | None:
    """What a network that fails on fitted images would rather take, found by trying: the fewest of its arguments that
    make it answer, in words; None where nothing does.

    images: [N, C, H, W] in [-1, 1], one or two.
    """
    ends = time.monotonic() + SEARCH_S
    for changed in _changes(fitting, images.shape[1]):
        if time.monotonic() > ends:
            return None
        if not _answers(network, _changed(fitting, changed), images):
            continue
        tried = SIZES if "size" in changed else ()
        sizes = [size for size in tried if _answers_at(network, fitting, changed, size, images, ends)]
        texts = changed | ({"size": " or ".join(map(str, sizes))} if len(sizes) > 1 else {})
        keys = ", ".join(f"{key_in(fitting.culprit.owner, name)}={value}" for name, value in texts.items())
        which = ", the size that it was trained with" if len(sizes) > 1 else ""
        return f"it answers with {keys}{which}"
    return None


def _changes(fitting: Fitting, channels: int) -> Iterator[dict[str, Any]]:
    """Other arguments, the fewest first."""
    choices: dict[str, list[Any]] = {
        "channels": [3] if channels == 1 and fitting.channels is None else [],
        "layout": [layout for layout in get_args(Layout) if layout != fitting.layout],
        "dtype": [kind for kind in get_args(Kind) if kind != fitting.dtype],
        "size": [size for size in SIZES if size != fitting.size],
    }
    for count in range(1, len(choices) + 1):
        for names in itertools.combinations(choices, count):
            for values in itertools.product(*(choices[name] for name in names)):
                yield dict(zip(names, values, strict=True))
        if count == 1:
            yield from ({"batch": batch, "fixed_batch": "true"} for batch in BATCHES)


def _changed(fitting: Fitting, changed: dict[str, Any]) -> Fitting:
    found = copy.copy(fitting)
    vars(found).update(changed)
    if found.dtype == "uint8":
        found.range, found.standards = BYTES, None
    return found


def _answers(network: Callable[[Tensor], Any], fitting: Fitting, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            for part, _ in fitting.batches(images):
                network(part)
    except Exception:  # whatever it raises on what it does not take
        return False
    return True


def _answers_at(
    network: Callable[[Tensor], Any], fitting: Fitting, changed: dict[str, Any], size: int, images: Tensor, ends: float
) -> bool:
    in_time = time.monotonic() < ends
    return in_time and _answers(network, _changed(fitting, changed | {"size": size}), images)
