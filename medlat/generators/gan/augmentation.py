"""What the discriminator sees instead of the images, and how often: adaptive discriminator augmentation.

Karras et al. 2020, "Training generative adversarial networks with limited data" (arXiv 2006.06676). Real and generated
images pass through the same random transformations, each with probability p, and p follows a measure of overfitting.
Below a p of about 0.8 the generator does not learn to make transformed images (their section 2.2).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from medlat.core import colour
from medlat.core.errors import ArgumentError
from medlat.core.ranges import Angle, Count, NotNegative, Positive, Share, ShareBelowOne, Shift, Sign, Span
from medlat.core.spaces import ImageSpec
from medlat.generators.gan import geometry


class Pipeline(Protocol):
    """A family of random transformations.

    Called with images [B, C, H, W] in [-1, 1] (generated ones may exceed it), the probability p of each transformation
    for each image, a CPU generator and what the images are. Returns images of the same shape and type, differentiable
    twice in the images; with p = 0 the very same tensor. `check` raises UserError for images that it is not made for.
    """

    def __call__(self, images: Tensor, p: float, generator: torch.Generator, image: ImageSpec) -> Tensor: ...

    def check(self, image: ImageSpec) -> None: ...


class Transformations(ABC):
    """A `Pipeline` that computes in at least float32; what it does to the images is `apply`."""

    def __call__(self, images: Tensor, p: float, generator: torch.Generator, image: ImageSpec) -> Tensor:
        self.check(image)
        if p <= 0.0:
            return images
        # In half precision a place on the grid would be off by a pixel, and a CT value by several HU.
        with torch.autocast(images.device.type, enabled=False):
            precise = images if images.dtype == torch.float64 else images.float()
            return self.apply(precise, Draws(len(images), p, generator), image).to(images.dtype)

    @abstractmethod
    def check(self, image: ImageSpec) -> None:
        """Raises UserError for images that the transformations are not made for."""

    @abstractmethod
    def apply(self, images: Tensor, draws: "Draws", image: ImageSpec) -> Tensor: ...


class Published(Transformations):
    """The "bgc" operations of Karras et al. 2020 with their strengths (appendix B); for images of 1 or 3 channels.

    blit:     left-right flip, quarter turns (half turns where the image is not square), moves by whole pixels (up to
              1/8 of the side).
    geometry: scale, any rotation, stretch, move by fractions of a pixel (standard deviation 1/8 of the side).
    colour:   brightness, contrast, luma flip, hue, saturation; with 1 channel the first three.

    What comes in from outside mirrors the image. Flips, turns and luma flips give images no scanner gives: see `CT`.
    """

    def __init__(self, blit: bool = True, geometry: bool = True, colour: bool = True) -> None:
        if not (blit or geometry or colour):
            raise ArgumentError("blit", "expected true where geometry and colour are false as well", False)
        self.blit, self.geometry, self.colour = blit, geometry, colour

    def check(self, image: ImageSpec) -> None:
        if self.colour and image.channels not in (1, 3):
            raise ArgumentError("colour", f"expected images of 1 or 3 channels, found {image.channels}", True, of=self)

    def apply(self, images: Tensor, draws: "Draws", image: ImageSpec) -> Tensor:
        identity = torch.eye(3).expand(len(images), 3, 3)
        moves = draws.pixel_moves(image, flip=True, turns=True, shift=0.125) if self.blit else identity
        maps = self.maps(draws, image) if self.geometry else identity
        images = geometry.transform(images, moves, maps, "reflection")
        return colour.recolour(images, self.colours(draws, image)) if self.colour else images

    def maps(self, draws: "Draws", image: ImageSpec) -> Tensor:
        """Scale, rotation, stretch, rotation, move, in this order: [B, 3, 3]."""
        once = 1.0 - math.sqrt(1.0 - min(draws.p, 1.0))  # two rotations; either happens with probability p
        scale = draws.normal(0.2).exp2()
        before, after = (draws.uniform(-math.pi, math.pi, gate=draws.gate(once)) for _ in range(2))
        stretch = draws.normal(0.2).exp2()
        x, y = draws.normal(0.125, columns=2).unbind(1)
        return (
            geometry.magnification(scale, scale)
            @ geometry.rotation(before)
            @ geometry.magnification(stretch, 1.0 / stretch)
            @ geometry.rotation(after)
            @ geometry.translation(x * image.width, y * image.height)
        )

    def colours(self, draws: "Draws", image: ImageSpec) -> Tensor:
        """Brightness first: matrices [B, 4, 4]."""
        matrices = colour.contrast(draws.normal(0.5).exp2()) @ colour.brightness(draws.normal(0.2))
        matrices = colour.luma_flip(draws.coins()) @ matrices
        if image.channels == 1:
            return matrices
        matrices = colour.hue(draws.uniform(-math.pi, math.pi)) @ matrices
        return colour.saturation(draws.normal(1.0).exp2()) @ matrices


class CT(Transformations):
    """What another scan of the same patient could look like: position, calibration, noise. For images in HU.

    rotation_deg: at most, either way.
    scale:        smallest and largest magnification.
    shift:        at most, as a share of the side, either way in both directions.
    flip:         exchange left and right, which no anatomy survives: heart and liver would change sides.
    offset_hu:    at most, either way.
    gain:         of HU + 1000, at most 1 ± gain; air stays air.
    noise_hu:     standard deviation of white noise.

    What comes in from outside repeats the edge: there is air, or the patient goes on.
    """

    def __init__(
        self,
        rotation_deg: Angle = 10.0,
        scale: Span | None = None,
        shift: Shift = 0.05,
        flip: bool = False,
        offset_hu: NotNegative = 30.0,
        gain: ShareBelowOne = 0.05,
        noise_hu: NotNegative = 20.0,
    ) -> None:
        self.rotation, self.scale, self.shift = _checked_geometry(rotation_deg, scale or (0.9, 1.1), shift)
        _expect(0.0 <= offset_hu < math.inf, "offset_hu", offset_hu, "a number of HU of at least 0")
        _expect(0.0 <= gain < 1.0, "gain", gain, "a number from 0 to below 1")
        _expect(0.0 <= noise_hu < math.inf, "noise_hu", noise_hu, "a number of HU of at least 0")
        self.flip, self.offset_hu, self.gain, self.noise_hu = flip, offset_hu, gain, noise_hu

    def check(self, image: ImageSpec) -> None:
        if image.unit != "HU":
            raise ArgumentError("", f"expected images in HU, found {image.unit}", "CT", of=self)

    def apply(self, images: Tensor, draws: "Draws", image: ImageSpec) -> Tensor:
        moves = draws.pixel_moves(image, flip=self.flip)
        maps = draws.similarity(image, self.rotation, self.scale, self.shift)
        gain = draws.uniform(1.0 - self.gain, 1.0 + self.gain, 1.0)
        offset = draws.uniform(-self.offset_hu, self.offset_hu)
        images = geometry.transform(images, moves, maps, "border")
        images = colour.rescale_hu(images, gain, offset, image)
        return draws.noisy(images, 2.0 * self.noise_hu / image.range) if self.noise_hu > 0.0 else images


class Histology(Transformations):
    """Another cut, laid otherwise and stained on another day. For RGB images of haematoxylin and eosin.

    flip, turns:  left-right flip; quarter turns (half turns where the image is not square): tissue has no up.
    rotation_deg: at most, either way.
    scale:        smallest and largest magnification.
    shift:        at most, as a share of the side, either way in both directions.
    stain_scale:  the concentration of each stain is multiplied by at most 1 ± stain_scale,
    stain_shift:  and raised by at most ± stain_shift (optical density), each stain on its own. Tellez et al. 2019
                  (arXiv 1902.06543) do so to all three channels of HED; here what neither stain explains is left alone.
    """

    def __init__(
        self,
        flip: bool = True,
        turns: bool = True,
        rotation_deg: Angle = 180.0,
        scale: Span | None = None,
        shift: Shift = 0.1,
        stain_scale: ShareBelowOne = 0.1,
        stain_shift: NotNegative = 0.02,
    ) -> None:
        self.rotation, self.scale, self.shift = _checked_geometry(rotation_deg, scale or (0.8, 1.25), shift)
        _expect(0.0 <= stain_scale < 1.0, "stain_scale", stain_scale, "a number from 0 to below 1")
        _expect(0.0 <= stain_shift <= 1.0, "stain_shift", stain_shift, "an optical density from 0 to 1")
        self.flip, self.turns, self.stain_scale, self.stain_shift = flip, turns, stain_scale, stain_shift

    def check(self, image: ImageSpec) -> None:
        if image.channels != 3:
            raise ArgumentError(
                "", f"expected images of 3 channels (RGB), found {image.channels}", "Histology", of=self
            )

    def apply(self, images: Tensor, draws: "Draws", image: ImageSpec) -> Tensor:
        moves = draws.pixel_moves(image, flip=self.flip, turns=self.turns)
        maps = draws.similarity(image, self.rotation, self.scale, self.shift)
        stained = draws.gate() & (self.stain_scale > 0.0 or self.stain_shift > 0.0)  # one decision for both stains
        scale = draws.uniform(1.0 - self.stain_scale, 1.0 + self.stain_scale, 1.0, columns=2, gate=stained)
        shift = draws.uniform(-self.stain_shift, self.stain_shift, columns=2, gate=stained)
        images = geometry.transform(images, moves, maps, "reflection")
        return geometry.some(images, stained, lambda part: colour.restain(part, scale[stained], shift[stained]))


class Adaptive:
    """How often: p moves until the discriminator is as sure of the real images as it should be.

    The measure of overfitting is r_t = E[sign(D(real))] (Karras et al. 2020, eq. 1): 0 for a discriminator that knows
    nothing, 1 for one that has learnt the training images by heart.

    pipeline:    what is done to the images; in a configuration null: what their modality names.
    target:      r_t to hold, above -1 and below 1; null: p stays as it is, at `initial`.
    initial:     p at the start.
    ramp_images: images over which p can move by 1. interval: training steps between two updates of p.
    maximum:     of p. Above 0.8 transformations leak into what the generator makes.
    """

    def __init__(
        self,
        pipeline: Pipeline | None,
        target: Sign | None = 0.6,
        initial: Share = 0.0,
        ramp_images: Positive = 500_000,
        interval: Count = 4,
        maximum: Share = 0.8,
    ) -> None:
        _expect(target is None or -1.0 < target < 1.0, "target", target, "a number between -1 and 1, or null")
        _expect(0.0 < maximum <= 1.0, "maximum", maximum, "a probability above 0")
        _expect(0.0 <= initial <= maximum, "initial", initial, f"a probability from 0 to maximum={maximum:g}")
        _expect(0.0 < ramp_images < math.inf, "ramp_images", ramp_images, "a number of images above 0")
        _expect(interval >= 1 and interval == int(interval), "interval", interval, "a whole number of at least 1")
        self.pipeline: Pipeline = pipeline  # type: ignore[assignment]  # null is filled in before anything uses it
        self.target, self.initial = target, initial
        self.ramp_images, self.interval, self.maximum = ramp_images, interval, maximum

    @property
    def used(self) -> bool:
        """Whether p is, or may become, more than 0."""
        return self.target is not None or self.initial > 0.0

    def updated(self, p: float, sign: float, images: int) -> float:
        """p after `images` more images with mean sign(D(real)) `sign`: up or down at constant speed."""
        if self.target is None:
            return p
        step = images / self.ramp_images
        move = step * ((sign > self.target) - (sign < self.target))
        return min(max(p + move, 0.0), self.maximum)


class Draws:
    """The random numbers for a batch of n images, on the CPU.

    How many are drawn does not depend on p (but for noise, which comes last). An image whose gate is shut, with
    probability 1 - p, gets the neutral value.
    """

    def __init__(self, n: int, p: float, generator: torch.Generator) -> None:
        self.n, self.p, self.generator = n, p, generator

    def gate(self, p: float | None = None) -> Tensor:
        """[n] bool; p: where other than the batch's."""
        return torch.rand(self.n, generator=self.generator) < (self.p if p is None else p)

    def coins(self) -> Tensor:
        """[n] bool: heads half of the times that the gate is open."""
        return self.gate() & (torch.rand(self.n, generator=self.generator) < 0.5)

    def uniform(
        self, low: float, high: float, neutral: float = 0.0, columns: int | None = None, gate: Tensor | None = None
    ) -> Tensor:
        """[n], or [n, columns] that share a gate."""
        gate = self.gate() if gate is None else gate
        values = torch.rand(self.n, columns or 1, generator=self.generator) * (high - low) + low
        values = torch.where(gate[:, None], values, neutral)
        return values if columns else values[:, 0]

    def normal(self, deviation: float, columns: int | None = None) -> Tensor:
        """[n], or [n, columns] that share a gate; the neutral value is the mean, 0."""
        gate = self.gate()
        values = torch.randn(self.n, columns or 1, generator=self.generator) * deviation
        values = torch.where(gate[:, None], values, 0.0)
        return values if columns else values[:, 0]

    def pixel_moves(self, image: ImageSpec, flip: bool = False, turns: bool = False, shift: float = 0.0) -> Tensor:
        """Maps [n, 3, 3] of the pixel moves asked for, each drawn evenly. shift: at most, as a share of the side."""
        flips = self.coins() & flip
        step, ways = (1, 4) if image.height == image.width else (2, 2)
        quarter = self.uniform(0.0, ways).long().clamp(max=ways - 1) * step * turns
        sides = torch.tensor([image.width, image.height])
        shifts = (self.uniform(-shift, shift, columns=2) * sides).round().long()
        return geometry.pixel_moves(flips, quarter, shifts)

    def similarity(self, image: ImageSpec, angle: float, scale: tuple[float, float], shift: float) -> Tensor:
        """Maps [n, 3, 3]: magnification (log-uniform), rotation by up to angle in radians, move by up to a share."""
        factor = self.uniform(math.log2(scale[0]), math.log2(scale[1])).exp2()
        turn = self.uniform(-angle, angle)
        x, y = self.uniform(-shift, shift, columns=2).unbind(1)
        maps = geometry.magnification(factor, factor) @ geometry.rotation(turn)
        return maps @ geometry.translation(x * image.width, y * image.height)

    def noisy(self, images: Tensor, deviation: float) -> Tensor:
        """White noise on images [n, C, H, W] whose gate is open; last, for its draws depend on how many these are."""
        rows = self.gate().nonzero()[:, 0]
        noise = torch.randn(len(rows), *images.shape[1:], generator=self.generator) * deviation
        return images.index_add(0, rows.to(images.device), noise.to(device=images.device, dtype=images.dtype))


def _checked_geometry(
    rotation_deg: float, scale: Sequence[float], shift: float
) -> tuple[float, tuple[float, float], float]:
    """The largest angle in radians, the two magnifications, the largest shift."""
    _expect(0.0 <= rotation_deg <= 180.0, "rotation_deg", rotation_deg, "degrees from 0 to 180")
    rising = len(scale) == 2 and 0.0 < scale[0] <= scale[1] < math.inf
    _expect(rising, "scale", list(scale), "two rising numbers above 0")
    _expect(0.0 <= shift < 0.5, "shift", shift, "a share from 0 to below 0.5")
    return math.radians(rotation_deg), (scale[0], scale[1]), shift


def _expect(fine: bool, key: str, value: object, expected: str) -> None:
    if not fine:
        raise ArgumentError(key, f"expected {expected}", value)
