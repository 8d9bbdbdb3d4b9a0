"""Training of a StyleGAN2 that keeps what a classifier sees (after StylEx, Lang et al. 2021, arXiv 2104.13369)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medlat.classifiers.black_box import BlackBox, disagreement
from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count, NotNegative, PositiveShare, Seed, Share, Width
from medlat.core.similarity import psnr, pyramid_error
from medlat.generators.gan.augmentation import Adaptive
from medlat.generators.gan.module import Terms
from medlat.generators.stylegan2.module import StyleGAN2Module, saturate
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.training.optimisation import Adam, Averaging


class ClassifierGuidedStyleGAN2Module(StyleGAN2Module):
    """StyleGAN2 and its encoder learn together: half of what the discriminator judges is made of random codes, half of
    the encoder's codes of real images, which have to come back as they were and be predicted alike.

    A GAN that is trained alone has no code for many a real image, and what an inversion finds far from the codes that
    it knows, moves as it likes. Here real images have their codes where the generator is at home, in w.

    Beside the adversarial loss stand, weighted:
    image_weight:      the logarithm of the mean squared error of real images that come back, over a pyramid.
    prediction_weight: the classifier's disagreement on those and the real ones (`disagreement`, nats).
    code_weight:       the mean squared error of the codes that the encoder finds in samples, in their variances.

    network: with an encoder. classifier: with gradients in the images; no part of the module's state.
    style_mixing: 0, as the encoder gives one code for all layers. The others are as of `StyleGAN2Module`.
    """

    several_processes = False

    def __init__(
        self,
        network: StyleGAN2,
        classifier: BlackBox,
        seed: Seed,
        steps: Count,
        discriminator: Callable[..., nn.Module],
        generator_adam: Adam,
        discriminator_adam: Adam,
        averaging: Averaging | None = None,
        augmentation: Adaptive | None = None,
        accumulate: Width = 1,
        style_mixing: Share = 0.0,
        r1: NotNegative = 1.0,
        r1_every: Count = 16,
        path_length: NotNegative = 0.0,
        path_every: Count = 4,
        path_share: PositiveShare = 0.5,
        image_weight: NotNegative = 10.0,
        prediction_weight: NotNegative = 3.0,
        code_weight: NotNegative = 1.0,
    ) -> None:
        super().__init__(
            network,
            seed,
            steps,
            discriminator,
            generator_adam,
            discriminator_adam,
            averaging,
            augmentation,
            accumulate,
            style_mixing,
            r1,
            r1_every,
            path_length,
            path_every,
            path_share,
        )
        if network.encoder is None:
            raise ArgumentError("encoder", f"{type(self).__name__} trains one; expected true", False, of=network)
        if style_mixing != 0.0:
            raise ArgumentError("style_mixing", "expected 0, as an encoder gives one code for all layers", style_mixing)
        self.weights = {"image": image_weight, "prediction": prediction_weight, "code": code_weight}
        for name, weight in self.weights.items():
            if weight < 0.0:
                raise ArgumentError(f"{name}_weight", "expected a number of at least 0", weight)
        self.classifier = classifier

    def fakes(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self._make(images, generator)[0]

    def _make(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Of n real images: n generated ones [n, C, H, W], the codes of the samples among them [m, w_dim], and m; the
        others are the last n - m real images as they come back.
        """
        samples = max(1, len(images) // 2)
        codes = self._codes(samples, generator)
        found = self.network.broadcast(self.network.encode(images[samples:]))
        return saturate(self._synthesise(torch.cat([codes, found]), generator)), codes[:, 0], samples

    def _generator_terms(self, images: Tensor, step: int, part: int) -> Terms:
        made, codes, samples = self._make(images, self.random("generator", step, part))
        loss = self.generator_loss(self.discriminate(made, "generator", step, part))
        terms = self._further(made[samples:], images[samples:], made[:samples].detach(), codes.detach())
        self._latest |= {name: float(term.detach()) for name, term in terms.items()}
        yield "generator", loss + sum(self.weights[name] * term for name, term in terms.items())
        yield from self.generator_penalty(len(images), step, part)

    def _further(self, again: Tensor, real: Tensor, sampled: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """The terms beside the adversarial loss: of real images [N, C, H, W] and what came back of them, and of samples
        and their codes [M, w_dim].
        """
        with torch.no_grad():
            wanted = self.classifier(real)
        missed = (self.network.encode(sampled) - codes).square().mean()
        variance = (codes - self.network.w_mean).square().mean()
        return {
            "image": pyramid_error(again, real).mean().log(),
            "prediction": disagreement(self.classifier, self.classifier(again), wanted),
            "code": missed / variance,
        }

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        super().validation_step(images, batch_idx)
        again = self.result.decode(self.result.encode(images), "w")
        values = {
            "validation/psnr": psnr(again, images).mean(),
            "validation/prediction": disagreement(self.classifier, self.classifier(again), self.classifier(images)),
        }
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(images))
