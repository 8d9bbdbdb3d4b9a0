"""Where a classifier looks, by the usual methods: Grad-CAM, Grad-CAM++ and occlusion, all MONAI's."""

import warnings

import torch
from torch import Tensor, nn

from medlat.classifiers.black_box import Target

MASKS = 8  # occluding patches along a side


def grad_cam(network: nn.Module, layer: str, images: Tensor, column: int, plus: bool = False) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017) or Grad-CAM++ (Chattopadhay et al. 2018) of one output.

    layer: name of the network's last layer of features. images: [N, C, H, W] in [-1, 1] -> [N, H, W], from 0 up.
    """
    from monai.visualize import GradCAM, GradCAMpp

    cam = (GradCAMpp if plus else GradCAM)(nn_module=network, target_layers=layer, postprocessing=lambda x: x)
    with torch.enable_grad():
        leaves = [image[None].clone().requires_grad_(True) for image in images]  # the network may be frozen
        maps = torch.cat([cam(x=leaf, class_idx=column) for leaf in leaves])
    return maps[:, 0].detach().float().clamp_min(0.0).cpu()


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


class _Column(nn.Module):
    """A target as a network with one output: what MONAI asks."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, images: Tensor) -> Tensor:
        return self.target(images)[:, None]
