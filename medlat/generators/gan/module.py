"""Training of any GAN as a LightningModule."""

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from medlat.core.errors import ArgumentError, UserError, key_in
from medlat.core.randomness import derive_seed, generator_for
from medlat.core.ranges import Count, Seed, Width
from medlat.core.spaces import decode_in_parts
from medlat.evaluation.distance import patch_distance
from medlat.generators.gan.augmentation import Adaptive
from medlat.generators.gan.collapse import COLLAPSED, relative_spread
from medlat.generators.gan.losses import discriminator_logistic, generator_logistic
from medlat.training.loop import GeneratorModule
from medlat.training.optimisation import Adam, Averaging
from medlat.training.processes import share_buffers, share_gradients, share_mean

log = logging.getLogger(__name__)

Terms = Iterator[tuple[str, Tensor]]  # losses by name, each of which is differentiated by itself


class GANModule(GeneratorModule):
    """Alternates between discriminator and generator, a step of each per batch; the averaged generator is the result.

    A variant overrides what it does differently: `generate`, `fakes`, the two losses, the two penalties.

    network:        the generator, a `LatentModel`. seed: decides every random number. steps: of the whole training.
    discriminator:  makes the discriminator (images -> logits [N]) when called with `image`, the generator's ImageSpec.
    generator_adam, discriminator_adam: the optimisers. averaging: of the generator's weights; None: the last weights
                    are the result.
    augmentation:   of real and generated images before the discriminator; None: none.
    accumulate:     parts that a batch is divided into to save memory; their gradients are added up.
    """

    optimisers = 2
    several_processes = True
    compiles = True
    headline = ("validation/patch_distance", "patch distance {:.0f}")  # what a line of progress shows

    def __init__(
        self,
        network: nn.Module,
        seed: Seed,
        steps: Count,
        discriminator: Callable[..., nn.Module],
        generator_adam: Adam,
        discriminator_adam: Adam,
        averaging: Averaging | None = None,
        augmentation: Adaptive | None = None,
        accumulate: Width = 1,
    ) -> None:
        super().__init__()
        image: Any = network.image
        if accumulate < 1:
            raise ArgumentError("accumulate", "expected a whole number of at least 1", accumulate)
        if augmentation is not None and augmentation.used:
            augmentation.pipeline.check(image)
        self.automatic_optimization = False
        self.network: Any = network
        self.seed, self.steps, self.accumulate = seed, steps, accumulate
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "discriminator"))
            self.discriminator = discriminator(image=image)
        self.averaged = None if averaging is None else copy.deepcopy(network).requires_grad_(False)
        self.generator_adam, self.discriminator_adam = generator_adam, discriminator_adam
        self.averaging, self.augmentation = averaging, augmentation
        initial = augmentation.initial if augmentation else 0.0
        self.register_buffer("augment_p", torch.tensor(initial, dtype=torch.float64))
        self.register_buffer("signs", torch.zeros(2, dtype=torch.float64))  # sum and number since p last moved
        self.augment_p: Tensor
        self.signs: Tensor
        self._held_out: list[Tensor] = []
        self._latest: dict[str, float] = {}  # losses; some are not computed at every step

    @property
    def result(self) -> Any:
        """The generator that the training is for."""
        return self.network if self.averaged is None else self.averaged

    @property
    def steps_done(self) -> int:
        return self.trainer.global_step // self.optimisers  # Lightning counts the steps of every optimiser

    # --- what a variant overrides --------------------------------------------------------------------------------

    def generate(self, n: int, generator: torch.Generator) -> Tensor:
        """n images for training, [n, C, H, W]; differentiable in the generator's weights."""
        name, space = next(iter(self.network.spaces.items()))
        return self.network.decode(torch.randn(n, *space.shape, generator=generator, device=generator.device), name)

    def fakes(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the discriminator is to tell from a batch of real images: as many [n, C, H, W], without gradients."""
        return self.generate(len(images), generator)

    def discriminator_loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """Of the logits [N] of real and generated images."""
        return discriminator_logistic(real, fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Of the logits [N] of generated images."""
        return generator_logistic(fake)

    def discriminator_penalty(self, images: Tensor, step: int, part: int) -> Terms:
        """Further losses of the discriminator on real images [N, C, H, W]."""
        yield from ()

    def generator_penalty(self, n: int, step: int, part: int) -> Terms:
        """Further losses of the generator, for a batch of n."""
        yield from ()

    # --- a step --------------------------------------------------------------------------------------------------

    def training_step(self, images: Tensor, batch_idx: int) -> None:
        step, parts = self.steps_done, images.chunk(self.accumulate)
        generator_optimiser, discriminator_optimiser = cast(list[Any], self.optimizers())
        values = self._turn(self.discriminator, discriminator_optimiser, self._discriminator_terms, parts, step)
        values |= self._turn(self.network, generator_optimiser, self._generator_terms, parts, step)
        means = share_mean(torch.stack([value.float() for value in values.values()]))
        self._latest |= zip(values, means.tolist(), strict=True)
        self._refuse_nan(self._latest)
        share_buffers(self.discriminator)
        share_buffers(self.network)
        shown = len(images) * self.trainer.world_size
        if self.averaging is not None and self.averaged is not None:
            self.averaging.update(self.averaged, self.network, self.averaging.decay(step * shown, shown))
        if self.augmentation is not None:
            if (step + 1) % self.augmentation.interval == 0:
                self._adapt(self.augmentation, shown)
            self._latest["augment_p"] = float(self.augment_p)
        self.log_dict({f"train/{k}": v for k, v in self._latest.items()}, batch_size=len(images))

    def random(self, purpose: str, step: int, part: int) -> torch.Generator:
        """The random numbers of a purpose at a step, on the module's device."""
        return generator_for(self.seed, purpose, step, part, self.global_rank, device=self.device)

    def discriminate(self, images: Tensor, purpose: str, step: int, part: int) -> Tensor:
        """Logits [N] of augmented images."""
        p = float(self.augment_p)
        if self.augmentation is not None and p > 0.0:
            draws = generator_for(self.seed, "augment", purpose, step, part, self.global_rank)
            images = self.augmentation.pipeline(images, p, draws, self.network.image)
        return self.discriminator(images)

    def _turn(
        self, network: nn.Module, optimiser: Any, terms: Callable[[Tensor, int, int], Terms], parts: Any, step: int
    ) -> dict[str, Tensor]:
        """A step of one optimiser, with the gradients of all parts. Returns its losses."""
        self.discriminator.requires_grad_(network is self.discriminator)
        self.network.requires_grad_(network is self.network)
        optimiser.zero_grad(set_to_none=True)
        values: dict[str, Tensor] = {}
        images = sum(map(len, parts))
        for number, part in enumerate(parts):
            share = len(part) / images
            for name, loss in terms(part, step, number):
                # Outside autocast: derivatives keep the precision that the forward pass had.
                with torch.autocast(self.device.type, enabled=False):
                    self.manual_backward(loss * share)
                values[name] = values.get(name, 0.0) + loss.detach() * share
        share_gradients(network)
        optimiser.step()
        return values

    def _discriminator_terms(self, images: Tensor, step: int, part: int) -> Terms:
        with torch.no_grad():
            fakes = self.fakes(images, self.random("fakes", step, part))
        fake, real = self.discriminate(fakes, "fakes", step, part), self.discriminate(images, "real", step, part)
        self.signs += share_mean(torch.stack([real.detach().sign().sum(), real.new_tensor(len(real))]))
        yield "discriminator", self.discriminator_loss(real, fake, self.random("labels", step, part))
        yield from self.discriminator_penalty(images, step, part)

    def _generator_terms(self, images: Tensor, step: int, part: int) -> Terms:
        fakes = self.generate(len(images), self.random("generator", step, part))
        yield "generator", self.generator_loss(self.discriminate(fakes, "generator", step, part))
        yield from self.generator_penalty(len(images), step, part)

    def _adapt(self, augmentation: Adaptive, shown: int) -> None:
        """Move p by the share of real images that the discriminator knows as such."""
        total, number = self.signs.tolist()
        self.augment_p.fill_(augmentation.updated(float(self.augment_p), total / number, shown * augmentation.interval))
        self.signs.zero_()

    def _refuse_nan(self, values: dict[str, float]) -> None:
        if all(abs(value) < float("inf") for value in values.values()):
            return
        found = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise UserError(
            f"training diverged at step {self.steps_done} of {self.steps} ({found}) with "
            f"{key_in(self.generator_adam, 'learning_rate')}={self.generator_adam.learning_rate:g}, "
            f"{key_in(self.discriminator_adam, 'learning_rate')}={self.discriminator_adam.learning_rate:g}; the last "
            f"good checkpoint is kept. Lower the learning rates, or set trainer.precision=32-true"
        )

    def on_train_end(self) -> None:
        self._refuse_broken_weights()

    def _refuse_broken_weights(self) -> None:
        """The losses of a step are finite before the update that breaks the weights."""
        if not all(torch.isfinite(tensor).all() for tensor in self.state_dict().values()):
            self._refuse_nan({"weights": float("nan")})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._refuse_broken_weights()
        checkpoint["latest"] = self._latest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._latest = checkpoint["latest"]

    # --- validation ----------------------------------------------------------------------------------------------

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        self._held_out.append(images.float())

    def on_validation_epoch_end(self) -> None:
        """Distance of samples to held-out images, and whether the samples still differ from each other."""
        real, self._held_out = torch.cat(self._held_out), []
        space = next(iter(self.result.spaces))
        codes = self.result.sample(len(real), space, generator_for(self.seed, "validation"))
        fake = decode_in_parts(self.result, codes.to(self.device), space)
        logits = torch.cat([self.discriminator(part) for part in real.split(64)])
        real = real.cpu()
        distances = patch_distance(fake, real)
        spread = relative_spread(fake, real)
        values: dict[str, Any] = {
            "patch_distance": sum(distances.values()) / len(distances),
            "spread": spread,
            "discriminator_real": logits.mean(),
        }
        self.log_dict({f"validation/{k}": v for k, v in values.items()}, prog_bar=True, sync_dist=True)
        if spread < COLLAPSED and self.steps_done > self.steps // 10:
            log.warning("training: the generator is collapsing: its images differ by %.2f of what real ones do", spread)

    def compile_networks(self) -> None:
        """Let torch.compile make the networks faster; the penalties, which differentiate twice, go without."""
        for part in (self.discriminator, *self.network.children()):
            part.compile()

    def configure_optimizers(self) -> Any:
        return [self.generator_adam.of(self.network), self.discriminator_adam.of(self.discriminator)], []
