"""Training of an encoder for a frozen generator as a LightningModule."""

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, NotNegative, Positive, Seed
from medlat.core.similarity import psnr, pyramid_error
from medlat.core.spaces import LatentModel
from medlat.inversion.mapping import code_statistics
from medlat.inversion.network import CodeEncoder
from medlat.inversion.objective import SAMPLES
from medlat.training.averaged import OnGeneratorModule
from medlat.training.optimisation import Optimisation


class EncoderModule(OnGeneratorModule):
    """Samples, whose codes are known, teach the encoder where codes lie; real images, decoded again by the generator,
    what the codes are for (Zhu et al. 2020, arXiv 2004.00049, section 3.1, without a discriminator).

    network:      the encoder; the averaged weights are the result.
    model:        the generator; it is frozen, and no part of the module's state.
    space:        of the codes.
    seed:         decides the samples of every step. steps: training steps in all, the length of the schedule.
    code_weight:  of the mean squared error of samples' codes, in σ² of each coordinate.
    image_weight: of the logarithm of the mean squared error of reconstructed real images, over a pyramid.
    sample_share: samples in a step, relative to its real images.
    """

    headline = ("validation/psnr", "validation PSNR {:.1f} dB")
    section = "inversion.encoder"

    def __init__(
        self,
        network: CodeEncoder,
        model: LatentModel,
        space: str,
        seed: Seed,
        steps: Count,
        optimisation: Optimisation,
        code_weight: NotNegative = 1.0,
        image_weight: NotNegative = 1.0,
        sample_share: Positive = 0.5,
    ) -> None:
        weights = {"code_weight": code_weight, "image_weight": image_weight, "sample_share": sample_share}
        for name, value in weights.items():
            if not (value >= 0.0 if name == "code_weight" else value > 0.0):
                least = "of at least 0" if name == "code_weight" else "above 0"
                raise ArgumentError(name, f"expected a number {least}", value)
        # Before the average of the network is begun.
        network.calibrate(*code_statistics(model, space, SAMPLES, generator_for("inversion", "statistics")))
        super().__init__(network, model, seed, steps, optimisation)
        self.space = space
        self.code_weight, self.image_weight, self.sample_share = code_weight, image_weight, sample_share

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        codes, made = self._samples(max(1, round(self.sample_share * len(images))), "samples", self.global_step)
        found = self.network(torch.cat([images, made]))
        terms = {
            "code": self._code_error(found[len(images) :], codes),
            "image": pyramid_error(self.model.decode(found[: len(images)], self.space), images).mean(),
        }
        terms["loss"] = self.code_weight * terms["code"] + self.image_weight * terms["image"].log()
        loss = self.finite(terms)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(images))
        return loss

    def _samples(self, n: int, purpose: str, number: int) -> tuple[Tensor, Tensor]:
        """Codes [n, *shape] and their images [n, C, H, W]."""
        generator = generator_for(self.seed, purpose, number, self.global_rank)
        with torch.no_grad():
            codes = self.model.sample(n, self.space, generator).to(self.device)
            return codes, self.model.decode(codes, self.space)

    def _code_error(self, found: Tensor, codes: Tensor) -> Tensor:
        """Mean squared, in σ²."""
        return ((found - codes) / self.network.scale).square().mean()

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        codes, made = self._samples(len(images), "validation", batch_idx)
        values = {
            "validation/psnr": psnr(self.model.decode(self.result(images), self.space), images).mean(),
            "validation/code": self._code_error(self.result(made), codes),
        }
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(images), prog_bar=True)
