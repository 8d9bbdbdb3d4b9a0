"""Training of a classifier as a LightningModule."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.classifiers.networks import ClassifierNetwork
from medlat.core.colour import restain
from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, NotNegative, Positive, Seed, ShareBelowOne
from medlat.core.statistics import auc, mean_auc, r2
from medlat.training.averaged import AveragedModule
from medlat.training.optimisation import Optimisation

REACH = 3.0  # standard deviations of a Gaussian that count
SHARP = 0.1  # pixels: a Gaussian this narrow has no neighbours

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W] in [-1, 1], targets [B] float64


class ClassifierModule(AveragedModule):
    """Minimises the log loss (ordinal too: the order of classes is used when the classifier is judged, not here), for
    regression the squared error of the standardised target; the averaged weights are the result.

    network: the classifier. seed: decides how much images are blurred. steps: training steps in all, the length of the
    schedule. label_smoothing: share of a target that goes to all classes alike (Szegedy et al. 2016, arXiv 1512.00567);
    not for regression.
    blur: pixels; training images are blurred, each with a Gaussian of its own standard deviation between 0 and this.
    Generators lose detail, and a classifier that has seen sharp images alone may not know again what they still show.
    stain: share; of each training image in RGB the concentration of haematoxylin, of eosin and of the rest is scaled by
    1 ± this and shifted by ± this, in units of optical density, uniformly (Tellez et al. 2018, *Whole-slide mitosis
    detection in H&E breast histology*), so that how an image was stained says less. 0.05 is light, 0.2 strong.
    """

    section = "classifier"

    def __init__(
        self,
        network: ClassifierNetwork,
        seed: Seed,
        steps: Count,
        optimisation: Optimisation,
        label_smoothing: ShareBelowOne = 0.0,
        blur: NotNegative = 0.0,
        stain: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__(network, seed, steps, optimisation)
        if not 0.0 <= label_smoothing < 1.0:
            raise ArgumentError("label_smoothing", "expected a share from 0 to below 1", label_smoothing)
        if not 0.0 <= blur < math.inf:
            raise ArgumentError("blur", "expected a number of pixels of at least 0", blur)
        if not 0.0 <= stain < 1.0:
            raise ArgumentError("stain", "expected a share from 0 to below 1", stain)
        if stain > 0.0 and network.image.channels != 3:
            raise ArgumentError("stain", "these images have no colour; expected 0", stain)
        self.label_smoothing, self.blur, self.stain = label_smoothing, blur, stain
        value, words = ("r2", "R²") if network.task == "regression" else ("auc", "AUC")
        self.headline = (f"validation/{value}", f"validation {words} {{:.3f}}")  # what a line of progress shows
        self._held_out: list[Batch] = []  # raw outputs and targets of one validation

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Raw outputs [B, K], targets [B] (class numbers, or values) -> the mean loss."""
        smoothing, network = self.label_smoothing, self.network
        if network.task == "regression":
            return F.mse_loss(outputs[:, 0], ((targets - network.centre) / network.scale).to(outputs.dtype))
        if network.task == "binary":
            wanted = targets.to(outputs.dtype) * (1.0 - smoothing) + smoothing / 2.0
            return F.binary_cross_entropy_with_logits(outputs[:, 0], wanted)
        return F.cross_entropy(outputs, targets.long(), label_smoothing=smoothing)

    def shown(self, images: Tensor, targets: Tensor) -> Tensor:
        """What a step learns from, in place of the images [B, C, H, W]; a variant overrides this."""
        if self.stain > 0.0:
            generator = generator_for(self.seed, "stain", self.global_step, self.global_rank)
            draws = (self.stain * (2.0 * torch.rand(2, len(images), 3, generator=generator) - 1.0)).to(images.device)
            images = restain(images, 1.0 + draws[0], draws[1]).clamp(-1.0, 1.0)
        if self.blur > 0.0:
            generator = generator_for(self.seed, "blur", self.global_step, self.global_rank)
            images = blurred(images, (self.blur * torch.rand(len(images), generator=generator)).to(images.device))
        return images

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        loss = self.finite({"loss": self.loss(self.network(self.shown(images, targets)), targets)})
        self.log("train/loss", loss, batch_size=len(images))
        return loss

    def on_validation_epoch_start(self) -> None:
        self._held_out = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        self._held_out.append((self.result(images), targets))

    def on_validation_epoch_end(self) -> None:
        """Over all validation images together. An AUC where only one class occurs, or an R² where nothing varies, is
        left out.
        """
        outputs, targets = (torch.cat(parts) for parts in zip(*self._held_out, strict=True))
        task, truth = self.network.task, targets.cpu().double().numpy()
        self._held_out = []
        values = {"validation/loss": float(self.loss(outputs, targets))}
        if task == "regression":
            predicted = (outputs[:, 0] * self.network.scale + self.network.centre).cpu().double().numpy()
            values |= {"validation/r2": r2(truth, predicted), "validation/mae": float(abs(predicted - truth).mean())}
        else:
            scores = (outputs if task == "binary" else outputs.softmax(dim=1)).cpu().double().numpy()
            score = auc(truth == 1, scores[:, 0]) if task == "binary" else mean_auc(truth.astype(int), scores)
            values["validation/auc"] = score
        self.log_dict({name: value for name, value in values.items() if math.isfinite(value)}, prog_bar=True)


class RobustClassifierModule(ClassifierModule):
    """Learns from images that are moved against it: what no one would see does not change such a classifier, and its
    gradients point to things rather than to textures (Madry et al. 2018, arXiv 1706.06083; Santurkar et al. 2019, arXiv
    1906.09453).

    One step of the gradient from a random place, within a ball (Wong et al. 2020, arXiv 2001.03994, here Euclidean).

    strength: root mean square, over the pixels, of the largest move, in network range; it rises over the first half of
              the steps. Others as above.
    """

    def __init__(
        self,
        network: ClassifierNetwork,
        seed: Seed,
        steps: Count,
        optimisation: Optimisation,
        label_smoothing: ShareBelowOne = 0.0,
        blur: NotNegative = 0.0,
        stain: ShareBelowOne = 0.0,
        strength: Positive = 0.008,
    ) -> None:
        super().__init__(network, seed, steps, optimisation, label_smoothing, blur, stain)
        if strength <= 0.0:
            raise ArgumentError("strength", "expected a number above 0", strength)
        self.strength = strength

    def shown(self, images: Tensor, targets: Tensor) -> Tensor:
        """Images [B, C, H, W] as far as `strength` from the ones above, where the loss is larger."""
        images = super().shown(images, targets)
        rise = min(1.0, 2.0 * (self.global_step + 1) / self.steps)
        radius = rise * self.strength * math.sqrt(images[0].numel())
        generator = generator_for(self.seed, "moves", self.global_step, self.global_rank)
        start = torch.randn(images.shape, generator=generator).to(images.device)
        length = torch.rand(len(images), generator=generator).to(images.device)
        move = (_unit(start) * (radius * length).reshape(-1, 1, 1, 1)).requires_grad_(True)
        loss = self.loss(self.network(images + move), targets) * len(images)  # each image's own, not its share
        (slope,) = torch.autograd.grad(loss, move)
        move = move.detach() + radius * _unit(slope)
        return images + move * (radius / _norm(move)).clamp_max(1.0)


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Each of the images [B, C, H, W] under a Gaussian of its own width, sigma [B] in pixels, at least 0."""
    reach = math.ceil(REACH * float(sigma.max()))
    places = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-0.5 * (places / sigma.clamp_min(SHARP)[:, None]).square())
    kernels = (kernels / kernels.sum(dim=1, keepdim=True))[:, None, None]
    x = F.pad(images, (reach,) * 4, mode="replicate").transpose(0, 1)  # images as the channels of a grouped convolution
    for kernel in (kernels, kernels.transpose(2, 3)):
        x = F.conv2d(x, kernel.to(x.dtype), groups=len(images))
    return x.transpose(0, 1).contiguous()


def _norm(x: Tensor) -> Tensor:
    """Euclidean, of each image: [B, C, H, W] -> [B, 1, 1, 1]."""
    return x.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)


def _unit(x: Tensor) -> Tensor:
    return x / _norm(x)
