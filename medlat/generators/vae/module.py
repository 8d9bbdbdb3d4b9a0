"""Training of a VAE as a LightningModule."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medlat.classifiers.black_box import BlackBox
from medlat.core.errors import UserError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, Seed
from medlat.core.similarity import psnr
from medlat.core.spaces import LatentModel, kl_per_dimension
from medlat.generators.vae.networks import VAE
from medlat.generators.vae.objective import ClassifierGuidedObjective, VAEObjective
from medlat.training.averaged import AveragedModule
from medlat.training.loop import GeneratorModule
from medlat.training.optimisation import Optimisation


class VAEModule(AveragedModule, GeneratorModule):
    """Minimises the objective; the averaged weights are the result.

    network: the VAE, or another generator with an encoder that the objective can take. seed: decides the noise of every
    step. steps: training steps in all, the length of the schedule.
    """

    headline = ("validation/psnr", "validation PSNR {:.1f} dB")  # what a line of progress shows

    def __init__(
        self, network: LatentModel, seed: Seed, steps: Count, objective: VAEObjective, optimisation: Optimisation
    ) -> None:
        assert isinstance(network, nn.Module)
        if not network.can("encode"):
            raise UserError(
                f"generator.module: {type(self).__name__} trains encoder and decoder, and {type(network).__name__} has "
                f"no encoder; expected generator=dcgan, or a module of your own that trains a decoder"
            )
        objective.check(network)
        super().__init__(network, seed, steps, optimisation)
        self.objective = objective

    @property
    def decisive(self) -> str:
        return f"{super().decisive}, generator.module.objective.beta={self.objective.beta:g}"

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        step = self.global_step
        generator = generator_for(self.seed, "noise", step, self.global_rank)
        space = next(iter(self.network.spaces.values()))
        noise = torch.randn(len(images), *space.shape, generator=generator).to(self.device)
        terms = self.objective(self.network, images, noise, self.optimisation.rise(step, self.steps))
        loss = self.finite(terms)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(images))
        return loss

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        model, space = self.result, next(iter(self.result.spaces))
        if model.can("posterior"):
            codes, log_variance = model.posterior(images, space)
            further = {"validation/kl": kl_per_dimension(codes, log_variance).mean()}
        else:
            codes, further = model.encode(images, space), {}
        values = {"validation/psnr": psnr(model.decode(codes, space), images).mean()} | further
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
