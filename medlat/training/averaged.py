"""Training of one network by Adam, whose averaged weights are the result."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from medlat.core.errors import UserError, key_in
from medlat.core.spaces import LatentModel
from medlat.training.loop import TrainedModule
from medlat.training.optimisation import Optimisation
from medlat.training.processes import share_mean


class AveragedModule(TrainedModule):
    """What VAE, encoder and classifier have in common; each adds its two steps.

    network: what is trained. seed: decides the random numbers of every step. steps: training steps in all, the length
    of the schedule.
    """

    network: Any
    averaged: AveragedModel

    def __init__(self, network: nn.Module, seed: int, steps: int, optimisation: Optimisation) -> None:
        super().__init__()
        self.network = network
        self.averaged = optimisation.averaged(network)
        self.seed, self.steps, self.optimisation = seed, steps, optimisation

    @property
    def result(self) -> Any:
        """The averaged network: what the training is for."""
        return self.averaged.module

    def finite(self, terms: dict[str, Tensor]) -> Tensor:
        """The term `loss`. Raises UserError where it is not finite, in one process or in another."""
        means = share_mean(torch.stack([value.detach().float() for value in terms.values()]))
        found = dict(zip(terms, means.tolist(), strict=True))
        if not math.isfinite(found["loss"]):
            raise self._diverged(found)
        return terms["loss"]

    @property
    def decisive(self) -> str:
        """The settings that a training which diverges may owe it to, with their keys."""
        return f"{key_in(self.optimisation, 'learning_rate')}={self.optimisation.learning_rate:g}"

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, self.optimisation.gradient_clip, "norm")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.averaged.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only good weights are saved: the loss of a step is finite before the update that breaks the weights."""
        if not all(torch.isfinite(p).all() for p in self.network.parameters()):
            raise self._diverged({})

    def configure_optimizers(self) -> Any:
        optimizer = self.optimisation.adam(self.network)
        factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optimisation.factor(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}

    def _diverged(self, terms: dict[str, float]) -> UserError:
        values = ", ".join(f"{name} {value:g}" for name, value in terms.items()) or "weights not finite"
        return UserError(
            f"training diverged at step {self.global_step} of {self.steps} ({values}) with {self.decisive}; the last "
            f"good checkpoint is kept. Lower the learning rate, or set trainer.precision=32-true"
        )


class OnGeneratorModule(AveragedModule):
    """What learns on a generator that is frozen and no part of the module's state. model: the generator."""

    def __init__(
        self, network: nn.Module, model: LatentModel, seed: int, steps: int, optimisation: Optimisation
    ) -> None:
        super().__init__(network, seed, steps, optimisation)
        assert isinstance(model, nn.Module)
        self._frozen = [model.eval().requires_grad_(False)]  # in a list, where no module's state is looked for

    @property
    def model(self) -> Any:
        """The generator, a `LatentModel`."""
        return self._frozen[0]

    def on_fit_start(self) -> None:
        self.model.to(self.device)
