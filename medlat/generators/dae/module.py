"""Training of a diffusion autoencoder as a LightningModule."""

import logging
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.classifiers.black_box import BlackBox, disagreement
from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, NotNegative, Seed
from medlat.core.similarity import psnr
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.training.averaged import AveragedModule
from medlat.training.loop import GeneratorModule
from medlat.training.optimisation import Optimisation

log = logging.getLogger(__name__)


class DiffusionAutoencoderModule(AveragedModule, GeneratorModule):
    """Minimises the squared error of the velocity (Liu et al. 2023, equation 1), with the encoder in it: what helps to
    undo noise is what codes hold. The averaged weights are the result.

    network, seed, steps, optimisation: see `AveragedModule`.
    """

    network: DiffusionAutoencoder
    headline = ("validation/psnr", "validation PSNR of the code alone {:.1f} dB")

    def __init__(self, network: DiffusionAutoencoder, seed: Seed, steps: Count, optimisation: Optimisation) -> None:
        super().__init__(network, seed, steps, optimisation)

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        generator = generator_for(self.seed, "noise", self.global_step, self.global_rank)
        noise, time, blur = self._draw(len(images), generator)
        found, wanted = self.network(images, noise, time, blur)
        # What the image would be if it went on straight from where it is: x(t) - t·v, where x(t) = x + t·(noise - x).
        ahead = images + time[:, None, None, None] * (wanted - found)
        terms = self.terms(images, F.mse_loss(found, wanted), ahead)
        loss = self.finite(terms)
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=len(images))
        return loss

    def terms(self, images: Tensor, error: Tensor, ahead: Tensor) -> dict[str, Tensor]:
        """`loss`, which is minimised, and what it is made of. images, ahead: [N, C, H, W], real ones and what the
        velocities found lead to; error: of the velocities.
        """
        return {"loss": error}

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        model = self.result
        found, wanted = model(images, *self._draw(len(images), generator_for("validation", batch_idx)))
        decoded = model.decode(model.encode(images))
        values = {"validation/loss": F.mse_loss(found, wanted), "validation/psnr": psnr(decoded, images).mean()}
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(images), prog_bar=True)

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
    """Adds weight · disagreement of a classifier on what velocities lead to and the image, at all times alike: where
    noise has covered what the classifier looks at, only the code can say it (after StylEx, Lang et al. 2021,
    arXiv 2104.13369, its classifier loss).

    classifier: with gradients in the images; no part of the module's state. weight: in nats. Others as above.
    """

    def __init__(
        self,
        network: DiffusionAutoencoder,
        classifier: BlackBox,
        seed: Seed,
        steps: Count,
        optimisation: Optimisation,
        weight: NotNegative = 0.05,
    ) -> None:
        super().__init__(network, seed, steps, optimisation)
        if weight < 0.0:
            raise ArgumentError("weight", "expected a number of at least 0", weight)
        self.classifier, self.weight = classifier, weight

    def terms(self, images: Tensor, error: Tensor, ahead: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = self.classifier(images)
        prediction = disagreement(self.classifier, self.classifier(ahead.clamp(-1.0, 1.0)), wanted)
        return {"loss": error + self.weight * prediction, "velocity": error, "prediction": prediction}
