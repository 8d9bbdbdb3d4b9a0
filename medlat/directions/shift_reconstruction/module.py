"""Training of directions and what tells them apart, as a LightningModule."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlat.core.randomness import generator_for
from medlat.core.spaces import LatentModel
from medlat.directions.shift_reconstruction.accuracy import Accuracy, accuracy
from medlat.directions.shift_reconstruction.deformators import Deformator
from medlat.directions.shift_reconstruction.reconstructors import Reconstructor
from medlat.training.averaged import OnGeneratorModule
from medlat.training.optimisation import Optimisation

VALIDATION = 8  # batches of fresh codes


class DirectionNetwork(nn.Module):
    """What one optimiser trains: directions, what trains them, and a held-out reconstructor."""

    def __init__(self, deformator: Deformator, reconstructor: Reconstructor, held_out: Reconstructor) -> None:
        super().__init__()
        self.deformator, self.reconstructor, self.held_out = deformator, reconstructor, held_out


class ShiftReconstructionModule(OnGeneratorModule):
    """Fresh codes are decoded, moved by a random step along a random direction and decoded again; the reconstructor
    says which direction it was, and how far (Voynov & Babenko 2020, arXiv 2002.03754, eq. 1). The generator is frozen.
    A second reconstructor, held out, learns the same from the same pairs, which are not moved for its sake.

    network:      deformator, reconstructor and the held-out one; their averaged weights are the result.
    model:        the generator. space: of the codes. sigma: the length of a step of 1 in that space.
    shift_scale:  steps are uniform in ± this, in σ; shift_min: and at least this large.
    shift_weight: of the error of the step, beside the cross-entropy of the direction.
    batch_size:   pairs in a step.
    """

    headline = ("validation/rca", "reconstruction accuracy {:.2f}")
    section = "directions"

    def __init__(
        self,
        network: DirectionNetwork,
        model: LatentModel,
        space: str,
        sigma: float,
        seed: int,
        steps: int,
        optimisation: Optimisation,
        batch_size: int,
        shift_scale: float,
        shift_min: float,
        shift_weight: float,
    ) -> None:
        super().__init__(network, model, seed, steps, optimisation)
        self.space, self.sigma, self.batch_size = space, sigma, batch_size
        self.shift_scale, self.shift_min, self.shift_weight = shift_scale, shift_min, shift_weight

    @property
    def decisive(self) -> str:
        return f"{self.section}.optimisation.learning_rate={self.optimisation.learning_rate:g}"

    def training_step(self, step: Tensor, batch_idx: int) -> Tensor:
        codes, index, shift = self.draw("pairs", self.global_step)
        image, moved = self.pairs(self.network, codes, index, shift)
        terms = self._errors(self.network.reconstructor(image, moved), index, shift)
        held_out = self._errors(self.network.held_out(image, moved.detach()), index, shift)
        terms["loss"] = terms["loss"] + held_out["loss"]
        loss = self.finite(terms)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(codes))
        return loss

    def _errors(self, found: tuple[Tensor, Tensor], index: Tensor, shift: Tensor) -> dict[str, Tensor]:
        logits, steps = found
        terms = {"cross_entropy": F.cross_entropy(logits, index), "shift_l1": (steps - shift).abs().mean()}
        return terms | {"loss": terms["cross_entropy"] + self.shift_weight * terms["shift_l1"]}

    def pairs(self, network: DirectionNetwork, codes: Tensor, index: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Images of codes [N, *shape], and of those moved by steps [N] along directions [N]: [N, C, H, W] each."""
        with torch.autocast(self.device.type, enabled=False):
            moves = self.sigma * network.deformator(index, shift).reshape(codes.shape)
        with torch.no_grad():  # only the moved image depends on what is learnt
            image = self.model.decode(codes, self.space)
        return image, self.model.decode(codes + moves, self.space)

    def draw(self, purpose: str, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Codes [N, *shape], directions [N] and steps [N], a function of the seed, the purpose and a number."""
        generator = generator_for(self.seed, "shift reconstruction", purpose, number)
        n, k = self.batch_size, self.network.deformator.count
        codes = self.model.sample(n, self.space, generator).to(self.device)
        index = torch.randint(k, (n,), generator=generator).to(self.device)
        shift = self.shift_scale * (2.0 * torch.rand(n, generator=generator) - 1.0)
        shift = torch.where(shift < 0.0, -1.0, 1.0) * shift.abs().clamp_min(self.shift_min)
        return codes, index, shift.to(self.device)

    def validation_step(self, number: Tensor, batch_idx: int) -> None:
        """All fresh pairs at once, whatever the step's number."""
        own, held_out, _ = self.on_fresh_codes(VALIDATION, "validation")
        values = own.numbers() | {f"held_out_{name}": value for name, value in held_out.numbers().items()}
        self.log_dict({f"validation/{name}": value for name, value in values.items()}, on_epoch=True, on_step=False)

    @torch.no_grad()
    def on_fresh_codes(self, batches: int, purpose: str = "fresh") -> tuple[Accuracy, Accuracy, Tensor]:
        """On fresh codes: the accuracy of the reconstructor, that of the held-out one, and the share of each
        direction's pairs that the held-out one recognises, [K].
        """
        network, seen = self.result.eval(), []
        for number in range(batches):
            codes, index, shift = self.draw(purpose, number)
            pair = self.pairs(network, codes, index, shift)
            seen.append((index, shift, *network.reconstructor(*pair), *network.held_out(*pair)))
        index, shift, logits, steps, held_out_logits, held_out_steps = (
            torch.cat(parts).cpu() for parts in zip(*seen, strict=True)
        )
        right = (held_out_logits.argmax(dim=1) == index).float()
        asked = torch.bincount(index, minlength=logits.shape[1])
        recognised = torch.bincount(index, right, minlength=logits.shape[1]) / asked.clamp_min(1)
        own = accuracy(logits, index, shift, steps)
        return own, accuracy(held_out_logits, index, shift, held_out_steps), recognised
