"""Several processes that train one GAN: the sums that keep them equal, and Lightning's strategy without its wrapper."""

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn


class EqualProcesses(DDPStrategy):
    """Lightning's DDP without the wrapper that averages gradients during each backward pass: a GAN's step has several,
    some of them of gradients. `share_gradients` averages once, when all are summed up.
    """

    def configure_ddp(self) -> None:
        assert self.model is not None
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            dist.broadcast(tensor.detach(), 0)


def share_gradients(network: nn.Module) -> None:
    """Every process gets the mean of all processes' gradients."""
    if _alone():
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def share_buffers(network: nn.Module) -> None:
    """Every process gets the mean of all processes' floating-point buffers (running means)."""
    if _alone():
        return
    for buffer in network.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()


def share_mean(value: Tensor) -> Tensor:
    """The mean of all processes' values."""
    if _alone():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
