"""Training of a VAE as a LightningModule."""

from typing import Any

import torch
from torch import Tensor

from medlat.errors import UserError
from medlat.evaluation.reconstruction import psnr
from medlat.generators.vae.networks import VAE, kl_per_dimension
from medlat.generators.vae.objective import VAEObjective
from medlat.randomness import generator_for
from medlat.training.loop import GeneratorModule
from medlat.training.optimisation import Optimisation


class VAEModule(GeneratorModule):
    """Minimises the objective; the averaged weights are the result.

    network: the VAE. seed: decides the noise of every step. steps: training steps in all, the length of the schedule.
    """

    headline = ("validation/psnr", "validation PSNR {:.1f} dB")  # what a line of progress shows

    def __init__(
        self, network: VAE, seed: int, steps: int, objective: VAEObjective, optimisation: Optimisation
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = optimisation.averaged(network)
        self.seed, self.steps = seed, steps
        self.objective, self.optimisation = objective, optimisation

    @property
    def result(self) -> VAE:
        """The averaged network: what the training is for."""
        network = self.averaged.module
        assert isinstance(network, VAE)
        return network

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        step = self.global_step
        generator = generator_for(self.seed, "noise", step, self.global_rank)
        noise = torch.randn(len(images), self.network.spaces["z"].size, generator=generator).to(self.device)
        terms = self.objective(self.network, images, noise, self.optimisation.rise(step, self.steps))
        if not torch.isfinite(terms["loss"]):
            raise diverged(self, {name: value.item() for name, value in terms.items()})
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(images))
        return terms["loss"]

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, self.optimisation.gradient_clip, "norm")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.averaged.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only good weights are saved: the loss of a step is finite before the update that breaks the weights."""
        if not all(torch.isfinite(p).all() for p in self.network.parameters()):
            raise diverged(self, {})

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        mean, log_variance = self.result.encode(images)
        values = {
            "validation/psnr": psnr(self.result.decode(mean), images).mean(),
            "validation/kl": kl_per_dimension(mean, log_variance).mean(),
        }
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(images), prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimisation.adam(self.network)
        factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optimisation.factor(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}


def diverged(module: VAEModule, terms: dict[str, float]) -> UserError:
    """The message of a training that ran into NaN or infinity."""
    values = ", ".join(f"{name} {value:g}" for name, value in terms.items()) or "weights not finite"
    return UserError(
        f"training diverged at step {module.global_step} of {module.steps} ({values}) with "
        f"generator.module.optimisation.learning_rate={module.optimisation.learning_rate:g}, "
        f"generator.module.objective.beta={module.objective.beta:g}; the last good checkpoint is kept. "
        f"Lower the learning rate, or set trainer.precision=32-true"
    )
