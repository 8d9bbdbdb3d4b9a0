"""What the two networks of a GAN minimise, and the penalties on their gradients."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_logistic(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, -log σ(real) - log(1 - σ(fake)), of logits [N] (Goodfellow et al. 2014, eq. 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_logistic(fake: Tensor) -> Tensor:
    """The generator's non-saturating loss, -log σ(fake), of logits [N] (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake).mean()


def gradient_penalty(discriminate: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """R1 without its factor γ/2: the mean squared norm of the discriminator's gradient at real images (Mescheder et al.
    2018, arXiv 1801.04406, eq. 9). images [N, C, H, W]; differentiable in the discriminator's weights.
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(images).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(images: Tensor, codes: Tensor, noise: Tensor) -> Tensor:
    """|Jᵀ y| of each image, y ~ N(0, 1/(H·W)) (Karras et al. 2020, eq. 4 and appendix B): [N].

    images [N, C, H, W] made from codes [N, L, D] (of w+), noise [N, C, H, W] ~ N(0, 1). Over the L codes the squares
    are averaged; differentiable in the generator's weights.
    """
    y = noise / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images * y).sum(), codes, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).clamp_min(1e-16).sqrt()  # the root has no derivative at 0
