"""Training of a diffusion autoencoder as a LightningModule."""

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, Seed
from medlat.core.similarity import psnr
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.training.averaged import AveragedModule
from medlat.training.loop import GeneratorModule
from medlat.training.optimisation import Optimisation


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
        found, wanted = self.network(images, *self._draw(len(images), generator))
        loss = self.finite({"loss": F.mse_loss(found, wanted)})
        self.log("train/loss", loss.detach(), batch_size=len(images))
        return loss

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        model = self.result
        found, wanted = model(images, *self._draw(len(images), generator_for("validation", batch_idx)))
        decoded = model.decode(model.encode(images))
        values = {"validation/loss": F.mse_loss(found, wanted), "validation/psnr": psnr(decoded, images).mean()}
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(images), prog_bar=True)

    def _draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noise [n, C, H, W], times [n] spread evenly over [0, 1] (Kingma et al. 2021, appendix I.1), blur [n, D]."""
        noise = torch.randn(n, *self.network.image.shape, generator=generator)
        time = (torch.rand(1, generator=generator) + torch.arange(n) / n) % 1.0
        blur = torch.randn(n, *self.network.spaces["z"].shape, generator=generator)
        return noise.to(self.device), time.to(self.device), blur.to(self.device)
