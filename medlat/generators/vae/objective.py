"""What a VAE minimises."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from medlat.errors import UserError
from medlat.generators.vae.networks import VAE, kl_per_dimension


class VAEObjective:
    """Reconstruction error + β · KL; a variant overrides `error` or `divergence`.

    reconstruction: "log_mse": logarithm of the mean squared error over the batch, as Schön et al. 2022 train (up to a
                    factor the likelihood of a Gaussian decoder with its best variance, Rybkin et al. 2021, arXiv
                    2006.13202); "mse"; "l1".
    beta:           weight of the KL divergence in nats, averaged over batch and latent dimensions, as Schön et al.
                    count it.
    """

    def __init__(self, reconstruction: Literal["log_mse", "mse", "l1"] = "log_mse", beta: float = 0.01) -> None:
        if beta < 0.0:
            raise UserError(f"generator.module.objective.beta={beta:g}: expected a number of at least 0")
        self.reconstruction, self.beta = reconstruction, beta

    def __call__(self, network: VAE, images: Tensor, noise: Tensor, rise: float = 1.0) -> dict[str, Tensor]:
        """Loss and its terms. images [N, C, H, W] in [-1, 1], noise [N, D] ~ N(0, 1); rise: factor of β in the warm-
        up.
        """
        reconstructed, mean, log_variance = network(images, noise)
        error = self.error(reconstructed, images)
        divergence = self.divergence(mean, log_variance)
        return {
            "loss": error + rise * self.beta * divergence,
            "reconstruction": error.detach(),
            "kl": divergence.detach(),
        }

    def error(self, reconstructed: Tensor, images: Tensor) -> Tensor:
        if self.reconstruction == "l1":
            return F.l1_loss(reconstructed, images)
        mse = F.mse_loss(reconstructed, images)
        return mse.log() if self.reconstruction == "log_mse" else mse

    def divergence(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        return kl_per_dimension(mean, log_variance).mean()
