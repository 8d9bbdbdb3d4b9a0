"""What a VAE minimises."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.classifiers.black_box import BlackBox, disagreement
from medlat.core.errors import ArgumentError, UserError
from medlat.core.ranges import NotNegative
from medlat.core.spaces import LatentModel, kl_per_dimension


class VAEObjective:
    """Reconstruction error + β · KL; a variant overrides `error` or `divergence`, or adds terms in `further`.

    reconstruction: "log_mse": logarithm of the mean squared error over the batch, as Schön et al. 2022 train (up to a
                    factor the likelihood of a Gaussian decoder with its best variance, Rybkin et al. 2021, arXiv
                    2006.13202); "mse"; "l1".
    beta:           weight of the KL divergence in nats, averaged over batch and latent dimensions, as Schön et al.
                    count it.
    """

    def __init__(self, reconstruction: Literal["log_mse", "mse", "l1"] = "log_mse", beta: NotNegative = 0.01) -> None:
        if beta < 0.0:
            raise ArgumentError("beta", "expected a number of at least 0", beta)
        self.reconstruction, self.beta = reconstruction, beta

    def __call__(self, network: Any, images: Tensor, noise: Tensor, rise: float = 1.0) -> dict[str, Tensor]:
        """Loss and its terms. images [N, C, H, W] in [-1, 1], noise [N, D] ~ N(0, 1); rise: factor of β in the warm-
        up.
        """
        reconstructed, mean, log_variance = network(images, noise)
        error = self.error(reconstructed, images)
        divergence = self.divergence(mean, log_variance)
        further = self.further(reconstructed, images)
        terms = {"reconstruction": error.detach(), "kl": divergence.detach()}
        terms |= {name: term.detach() for name, (_, term) in further.items()}
        loss = error + rise * self.beta * divergence
        return {"loss": loss + sum(weight * term for weight, term in further.values())} | terms

    def check(self, network: LatentModel) -> None:
        """Raises UserError for a generator that it cannot train."""
        if not network.can("posterior"):
            raise UserError(
                f"generator.module.objective: {type(self).__name__} needs a generator with a posterior, and "
                f"{type(network).__name__} has none; expected "
                f"_target_: {ReconstructionObjective.__module__}.{ReconstructionObjective.__name__}"
            )

    def error(self, reconstructed: Tensor, images: Tensor) -> Tensor:
        if self.reconstruction == "l1":
            return F.l1_loss(reconstructed, images)
        mse = F.mse_loss(reconstructed, images)
        return mse.log() if self.reconstruction == "log_mse" else mse

    def divergence(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        return kl_per_dimension(mean, log_variance).mean()

    def further(self, reconstructed: Tensor, images: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Terms beside the two: name -> weight and value."""
        return {}


class ReconstructionObjective(VAEObjective):
    """The reconstruction error alone, of what the encoder's codes are decoded to: for autoencoders whose codes have no
    spread. reconstruction: as above.
    """

    def __init__(self, reconstruction: Literal["log_mse", "mse", "l1"] = "log_mse") -> None:
        super().__init__(reconstruction, beta=0.0)

    def check(self, network: LatentModel) -> None:
        """An encoder is enough."""

    def __call__(self, network: Any, images: Tensor, noise: Tensor, rise: float = 1.0) -> dict[str, Tensor]:
        space = next(iter(network.spaces))
        error = self.error(network.decode(network.encode(images, space), space), images)
        return {"loss": error, "reconstruction": error.detach()}


class ClassifierGuidedObjective(VAEObjective):
    """A VAE's objective + weight · disagreement of a classifier on reconstruction and image.

    What the classifier looks at may be small, and is then the first thing that a VAE blurs away; its code holds it
    where the reconstruction has to be predicted alike, as in StylEx (Lang et al. 2021, arXiv 2104.13369: its
    classifier loss). The gradient goes through the classifier, whose weights stay as they are. A classifier that
    textures can fool is fooled: see `RobustClassifierModule`.

    classifier: with gradients in the images. weight: of the disagreement, in nats (see `disagreement`). The others are
    as above.
    """

    def __init__(
        self,
        classifier: BlackBox,
        reconstruction: Literal["log_mse", "mse", "l1"] = "log_mse",
        beta: NotNegative = 0.01,
        weight: NotNegative = 1.0,
    ) -> None:
        super().__init__(reconstruction, beta)
        if weight < 0.0:
            raise ArgumentError("weight", "expected a number of at least 0", weight)
        self.classifier, self.weight = classifier, weight

    def further(self, reconstructed: Tensor, images: Tensor) -> dict[str, tuple[float, Tensor]]:
        with torch.no_grad():
            wanted = self.classifier(images)
        return {"prediction": (self.weight, disagreement(self.classifier, self.classifier(reconstructed), wanted))}
