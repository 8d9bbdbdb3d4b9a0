"""The finder: what is trained, how, and the directions that come of it."""

from collections.abc import Callable
from typing import Any

import torch

from medlat.core.errors import ArgumentError
from medlat.core.randomness import derive_seed, generator_for
from medlat.core.ranges import Count, NotNegative, Positive, Seed, Width
from medlat.core.spaces import Directions, LatentModel, chosen_space
from medlat.directions.shift_reconstruction.deformators import Deformator
from medlat.directions.shift_reconstruction.reconstructors import Reconstructor
from medlat.inversion.mapping import code_statistics
from medlat.training.optimisation import Optimisation
from medlat.training.settings import Schedule

FRESH = 64  # batches of fresh codes that an accuracy is taken over
SAMPLES = 4096


class ShiftReconstruction:
    """Directions that a second network can tell apart by their effect on images (Voynov & Babenko 2020).

    The score of a direction is the share of its fresh pairs that a reconstructor recognises which the deformator was
    not trained with.

    deformator:    size of a code -> what is trained to move codes; see `deformators`.
    reconstructor: image and number of directions -> what is trained to tell; see `reconstructors`.
    held_out:      the same for the held-out reconstructor: it learns from the same pairs, and nothing learns from it.
    images:        pairs shown in all. batch_size: pairs in a step.
    optimisation:  of both networks.
    shift_scale, shift_min, shift_weight: as of `ShiftReconstructionModule`; the paper's settings.
    space:         name of the latent space; null: the generator's default.
    seed:          of first weights and pairs.
    """

    name = "shift_reconstruction"
    needs = frozenset({"training"})

    def __init__(
        self,
        deformator: Callable[..., Deformator],
        reconstructor: Callable[..., Reconstructor],
        held_out: Callable[..., Reconstructor],
        images: Count,
        batch_size: Width,
        optimisation: Optimisation,
        shift_scale: Positive = 6.0,
        shift_min: NotNegative = 0.5,
        shift_weight: NotNegative = 0.25,
        space: str | None = None,
        checkpoint_every_s: NotNegative = 60.0,
        seed: Seed = 0,
    ) -> None:
        if not 0.0 <= shift_min < shift_scale:
            raise ArgumentError(
                "shift_min", f"expected at least 0 and less than shift_scale={shift_scale:g}", shift_min
            )
        if not shift_weight >= 0.0:
            raise ArgumentError("shift_weight", "expected a number of at least 0", shift_weight)
        for name, value in {"images": images, "batch_size": batch_size}.items():
            if value < 1:
                raise ArgumentError(name, "expected a whole number of at least 1", value)
        self.deformator, self.reconstructor, self.held_out = deformator, reconstructor, held_out
        self.schedule = Schedule(images, batch_size, checkpoint_every_s, 10)
        self.optimisation, self.space, self.seed = optimisation, space, seed
        self.shifts = {"shift_scale": shift_scale, "shift_min": shift_min, "shift_weight": shift_weight}

    def check(self, model: LatentModel) -> None:
        """Raises UserError where the parts do not fit the generator, whose numbers need not be there."""
        deformator = self.deformator(chosen_space(model, self.space).size)
        for make in (self.reconstructor, self.held_out):
            make(model.image, deformator.count)

    def module(self, model: LatentModel) -> Any:
        """What trains the directions: a LightningModule."""
        from medlat.directions.shift_reconstruction.module import DirectionNetwork, ShiftReconstructionModule

        space = chosen_space(model, self.space)
        spread = code_statistics(model, space.name, SAMPLES, generator_for("sigma"))[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "directions"))
            deformator = self.deformator(space.size)
            tellers = [make(model.image, deformator.count) for make in (self.reconstructor, self.held_out)]
        return ShiftReconstructionModule(
            DirectionNetwork(deformator, *tellers),
            model,
            space.name,
            sigma=float(spread.square().mean().sqrt()),
            seed=self.seed,
            steps=self.schedule.steps,
            optimisation=self.optimisation,
            batch_size=self.schedule.batch_size,
            **self.shifts,
        )

    def directions(self, model: LatentModel, module: Any) -> tuple[Directions, dict[str, float]]:
        """The directions of a trained module, and how well its reconstructors tell them apart on fresh codes."""
        own, held_out, recognised = module.on_fresh_codes(FRESH)
        with torch.no_grad():
            columns = module.result.deformator.columns().cpu()
        space = chosen_space(model, self.space)
        found = Directions.ranked(columns.reshape(-1, *space.shape), recognised, self.name, space)
        return found, own.numbers() | {f"held_out_{name}": value for name, value in held_out.numbers().items()}
