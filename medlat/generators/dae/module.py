"""Training of a diffusion autoencoder as a LightningModule."""

import logging
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.classifiers.black_box import BlackBox, disagreement
from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, NotNegative, Seed, Share
from medlat.core.similarity import psnr
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.training.averaged import AveragedModule
from medlat.training.loop import GeneratorModule
from medlat.training.optimisation import Optimisation
from medlat.training.processes import share_buffers, share_gradients

log = logging.getLogger(__name__)


class DiffusionAutoencoderModule(AveragedModule, GeneratorModule):
    """Minimises the squared error of the velocity (Liu et al. 2023, equation 1), with the encoder in it: what helps to
    undo noise is what codes hold. The averaged weights are the result.

    network, seed, steps, optimisation: see `AveragedModule`.
    """

    network: DiffusionAutoencoder
    several_processes = True
    headline = ("validation/psnr", "validation PSNR of the code alone {:.1f} dB")

    def __init__(self, network: DiffusionAutoencoder, seed: Seed, steps: Count, optimisation: Optimisation) -> None:
        super().__init__(network, seed, steps, optimisation)

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        generator = generator_for(self.seed, "noise", self.global_step, self.global_rank)
        noise, time, blur = self._draw(len(images), generator)
        found, wanted, features = self.network(images, noise, time, blur)
        # What the image would be if it went on straight from where it is: x(t) - t·v, where x(t) = x + t·(noise - x).
        ahead = images + time[:, None, None, None] * (wanted - found)
        terms = self.terms(images, features, F.mse_loss(found, wanted), ahead)
        loss = self.finite(terms)
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=len(images))
        return loss

    def terms(self, images: Tensor, features: Tensor, error: Tensor, ahead: Tensor) -> dict[str, Tensor]:
        """`loss`, which is minimised, and what it is made of. images, ahead: [N, C, H, W], real ones and what the
        velocities found lead to; features: [N, D] that these were given; error: of the velocities.
        """
        return {"loss": error}

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        model = self.result
        found, wanted, _ = model(images, *self._draw(len(images), generator_for("validation", batch_idx)))
        decoded = model.decode(model.encode(images))
        values = {"validation/loss": F.mse_loss(found, wanted), "validation/psnr": psnr(decoded, images).mean()}
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(images), prog_bar=True, sync_dist=True)

    def on_after_backward(self) -> None:
        share_gradients(self.network)
        share_buffers(self.network)  # of the codes' normalisation, which the forward pass has moved

    def settle(self, images: Iterable[Tensor]) -> None:
        model = self.result
        device = model.noise.device
        was = model.training
        model.eval().settle(batch.to(device) for batch in images)
        model.train(was)
        log.info("codes use %d of %d dimensions", model.dimensions, model.spaces["z"].size)

    def _draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noise [n, C, H, W], times [n] spread evenly over [0, 1] (Kingma et al. 2021, appendix I.1), blur [n, D]."""
        noise = torch.randn(n, *self.network.image.shape, generator=generator)
        time = (torch.rand(1, generator=generator) + torch.arange(n) / n) % 1.0
        blur = torch.randn(n, *self.network.spaces["z"].shape, generator=generator)
        return noise.to(self.device), time.to(self.device), blur.to(self.device)


class ClassifierGuidedDiffusionAutoencoderModule(DiffusionAutoencoderModule):
    """Asks a classifier too, after the classifier loss of StylEx (Lang et al. 2021, arXiv 2104.13369): two terms, each
    the classifier's disagreement on an image and on what stands for it, in nats.

    weight:          of what velocities lead to, at all times alike: where noise has covered what the classifier looks
                     at, only the code can say it.
    rendered_weight: of images that are rendered from the code alone, half of them from the common noise, half from
                     fresh noise. What velocities lead to is a mean over images, and no image: a classifier sees
                     something else in it than in one that is rendered.
    rendered_from:   share of the training after which that second term is asked for, as it costs as much again.
    classifier: with gradients in the images; no part of the module's state. Others as above.
    """

    several_processes = False  # how much of the common noise there is, is told by one batch
    RENDERED = 8  # images of a batch
    RENDERING_STEPS = 4  # of the solver

    def __init__(
        self,
        network: DiffusionAutoencoder,
        classifier: BlackBox,
        seed: Seed,
        steps: Count,
        optimisation: Optimisation,
        weight: NotNegative = 0.05,
        rendered_weight: NotNegative = 0.3,
        rendered_from: Share = 0.7,
    ) -> None:
        super().__init__(network, seed, steps, optimisation)
        for name, value in {"weight": weight, "rendered_weight": rendered_weight}.items():
            if value < 0.0:
                raise ArgumentError(name, "expected a number of at least 0", value)
        if not 0.0 <= rendered_from <= 1.0:
            raise ArgumentError("rendered_from", "expected a share from 0 to 1", rendered_from)
        self.classifier, self.weight, self.rendered_weight = classifier, weight, rendered_weight
        self.first_rendered = math.ceil(rendered_from * steps)

    def terms(self, images: Tensor, features: Tensor, error: Tensor, ahead: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = self.classifier(images)
        prediction = disagreement(self.classifier, self.classifier(ahead.clamp(-1.0, 1.0)), wanted)
        loss, found = error + self.weight * prediction, {"velocity": error, "prediction": prediction}
        if self.rendered_weight > 0.0 and self.global_step >= self.first_rendered:
            if self.global_step == self.first_rendered:
                self.network.weigh_noise(self.network.own_noise(images, features.detach()))
            rendered = self._rendered(features[: self.RENDERED])
            found["rendered"] = disagreement(self.classifier, self.classifier(rendered), wanted[: self.RENDERED])
            loss = loss + self.rendered_weight * found["rendered"]
        return {"loss": loss} | found

    def _rendered(self, features: Tensor) -> Tensor:
        """Features [N, D] -> images [N, C, H, W]."""
        common = self.network.noise.expand(len(features), -1, -1, -1)
        generator = generator_for(self.seed, "rendering", self.global_step, self.global_rank)
        fresh = torch.randn(common.shape, generator=generator).to(self.device) * common.square().mean().sqrt()
        first = torch.arange(len(features), device=self.device)[:, None, None, None] % 2 == 0
        return self.network.render(features, torch.where(first, common, fresh), self.RENDERING_STEPS)
