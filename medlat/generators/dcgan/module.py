"""Training of DCGAN."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count, Seed, Width
from medlat.generators.dcgan.networks import DCGAN
from medlat.generators.gan.augmentation import Adaptive
from medlat.generators.gan.module import GANModule
from medlat.training.optimisation import Adam, Averaging


class DCGANModule(GANModule):
    """Cross-entropy with soft labels for real images.

    real_labels: [low, high] that the target of each real image is drawn from (Schön et al. 2022: 0.9 to 1; one-sided
                 smoothing: Salimans et al. 2016, arXiv 1606.03498, section 3.4).
    """

    def __init__(
        self,
        network: DCGAN,
        seed: Seed,
        steps: Count,
        discriminator: Callable[..., nn.Module],
        generator_adam: Adam,
        discriminator_adam: Adam,
        averaging: Averaging | None = None,
        augmentation: Adaptive | None = None,
        accumulate: Width = 1,
        real_labels: tuple[float, float] = (0.9, 1.0),
    ) -> None:
        adams = (generator_adam, discriminator_adam)
        super().__init__(network, seed, steps, discriminator, *adams, averaging, augmentation, accumulate)
        low, high = real_labels
        if not 0.0 < low <= high <= 1.0:
            raise ArgumentError("real_labels", "expected two rising numbers above 0, up to 1", [low, high])
        self.real_labels = (low, high)

    def discriminator_loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self.real_labels
        target = low + (high - low) * torch.rand(len(real), generator=generator, device=generator.device)
        loss = F.binary_cross_entropy_with_logits
        return loss(real, target) + loss(fake, torch.zeros_like(fake))
