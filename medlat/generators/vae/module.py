"""Training of a VAE as a LightningModule."""

from collections.abc import Callable

import torch
from torch import Tensor

from medlat.classifiers.black_box import BlackBox
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, Seed
from medlat.evaluation.reconstruction import psnr
from medlat.generators.vae.networks import VAE, kl_per_dimension
from medlat.generators.vae.objective import ClassifierGuidedObjective, VAEObjective
from medlat.training.averaged import AveragedModule
from medlat.training.loop import GeneratorModule
from medlat.training.optimisation import Optimisation


class VAEModule(AveragedModule, GeneratorModule):
    """Minimises the objective; the averaged weights are the result.

    network: the VAE. seed: decides the noise of every step. steps: training steps in all, the length of the schedule.
    """

    headline = ("validation/psnr", "validation PSNR {:.1f} dB")  # what a line of progress shows

    def __init__(
        self, network: VAE, seed: Seed, steps: Count, objective: VAEObjective, optimisation: Optimisation
    ) -> None:
        super().__init__(network, seed, steps, optimisation)
        self.objective = objective

    @property
    def decisive(self) -> str:
        return f"{super().decisive}, generator.module.objective.beta={self.objective.beta:g}"

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        step = self.global_step
        generator = generator_for(self.seed, "noise", step, self.global_rank)
        noise = torch.randn(len(images), self.network.spaces["z"].size, generator=generator).to(self.device)
        terms = self.objective(self.network, images, noise, self.optimisation.rise(step, self.steps))
        loss = self.finite(terms)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(images))
        return loss

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        mean, log_variance = self.result.encode(images)
        values = {
            "validation/psnr": psnr(self.result.decode(mean), images).mean(),
            "validation/kl": kl_per_dimension(mean, log_variance).mean(),
        }
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(images), prog_bar=True)


class ClassifierGuidedVAEModule(VAEModule):
    """A VAE whose objective asks a classifier. classifier: no part of the module's state; others as above.

    objective: all but its classifier.
    """

    def __init__(
        self,
        network: VAE,
        classifier: BlackBox,
        seed: Seed,
        steps: Count,
        objective: Callable[..., ClassifierGuidedObjective],
        optimisation: Optimisation,
    ) -> None:
        super().__init__(network, seed, steps, objective(classifier=classifier), optimisation)
