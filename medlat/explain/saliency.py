"""Where a classifier looks, by the usual methods: Grad-CAM, Grad-CAM++ and occlusion, MONAI's, and integrated
gradients, Captum's.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medlat.classifiers.black_box import Target

MASKS = 8  # occluding patches along a side
STEPS = 50  # of the way from the baseline
TOGETHER = 64  # images on that way that are asked together


def grad_cam(network: nn.Module, layer: str, images: Tensor, column: int, plus: bool = False) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017) or Grad-CAM++ (Chattopadhay et al. 2018) of one output.

    layer: name of the network's last layer of features. images: [N, C, H, W] in [-1, 1] -> [N, H, W], from 0 up.
    """
    from monai.visualize import GradCAM, GradCAMpp

    cam = (GradCAMpp if plus else GradCAM)(nn_module=network, target_layers=layer, postprocessing=lambda x: x)
    with modes_kept(network), torch.enable_grad():
        leaves = [image[None].clone().requires_grad_(True) for image in images]  # the network may be frozen
        maps = torch.cat([cam(x=leaf, class_idx=column) for leaf in leaves])
    return maps[:, 0].detach().float().clamp_min(0.0).cpu()


@contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """Every layer is in training mode or not as it was: MONAI puts back what it finds at the top, for all below."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def grad_cam_of_own(target: Target, network: nn.Module, layer: str, images: Tensor, plus: bool = False) -> Tensor:
    """The same of a target whose black box asks a network of the user's own: of the logit of a probability, or of
    another prediction as it is. layer: of that network.
    """
    return grad_cam(_Column(target, network), f"watched.{layer}", images, 0, plus)


def occlusion(target: Target, images: Tensor) -> Tensor:
    """How much the prediction falls where a patch is hidden: [N, C, H, W] in [-1, 1] -> [N, H, W], signed.

    The patch is replaced by the image's mean; patches overlap by half.
    """
    from monai.visualize import OcclusionSensitivity

    side = images.shape[-1]
    size = max(2, side // MASKS)
    occlude = OcclusionSensitivity(
        nn_module=_Column(target), mask_size=size, n_batch=64, verbose=False, mode="mean_img", overlap=0.5,
        activate=False,
    )  # fmt: skip
    maps = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence")  # MONAI's way of indexing
        for image in images:
            hidden, _ = occlude(image[None])
            change = target(image[None]) - hidden.as_tensor().reshape(side, -1)
            maps.append(change.float().cpu())
    return torch.stack(maps)


def integrated_gradients(target: Target, images: Tensor) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365, equation 1) of the logit of a probability, or
    of another prediction as it is: [N, C, H, W] in [-1, 1] -> [N, H, W], signed, the sum over channels.

    The baseline is an image that is as grey as the image is on average. All pixels together are what the prediction has
    more than there (completeness), as far as `STEPS` steps of Gauss and Legendre say it.

    Raises ImportError without Captum.
    """
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(lambda x: target.linear(target(x)), multiply_by_inputs=True)
    baselines = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    with torch.enable_grad():
        found = method.attribute(images, baselines, n_steps=STEPS, internal_batch_size=TOGETHER)
    return found.sum(dim=1).detach().float().cpu()


class _Column(nn.Module):
    """A target as a network with one output: what MONAI asks. watched: its own network, with the layers to look at."""

    def __init__(self, target: Target, watched: nn.Module | None = None) -> None:
        super().__init__()
        self.target, self.watched = target, watched

    def forward(self, images: Tensor) -> Tensor:
        found = self.target(images)[:, None]
        return found if self.watched is None else self.target.linear(found)
