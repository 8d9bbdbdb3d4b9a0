"""Several processes that train one generator: how they begin and end, and the sums that keep them equal."""

import signal
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerStatus
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException

from medlat.core.digests import DAMAGED, DamagedFile
from medlat.core.errors import UserError


class EqualProcesses(DDPStrategy):
    """Lightning's DDP without the wrapper that averages gradients during each backward pass: a GAN's step has several,
    some of them of gradients. `share_gradients` averages once, when all are summed up.

    begin: what each process does first, given its number; as it is sent to the process, it must be picklable.
    """

    def __init__(self, begin: Callable[[int], None]) -> None:
        super().__init__(start_method="spawn")
        self._begin = begin

    def setup_environment(self) -> None:
        self._begin(self.local_rank)
        super().setup_environment()

    def configure_ddp(self) -> None:
        assert self.model is not None
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            dist.broadcast(tensor.detach(), 0)

    def teardown(self) -> None:
        super().teardown()
        if not dist.is_initialized():
            return
        # Threads of gloo that still hold a tensor when the interpreter ends abort the process (pytorch/pytorch#179291);
        # the barrier: none hangs up on another's last sum. After an error the others may wait for this process in vain.
        assert self.lightning_module is not None
        if self.lightning_module.trainer.state.status == TrainerStatus.RUNNING:
            self.barrier()
            dist.destroy_process_group()


def end_with_parent() -> None:
    """Have the system kill this process when its parent dies. torch asks for a SIGINT, which is ignored by what a
    script starts in the background: it would train on beside the run that replaces it.
    """
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]


def user_error(error: ProcessException) -> UserError | None:
    """The UserError that ended a process, if one did: all that is left of it is the end of a traceback."""
    for kind in (UserError, DamagedFile):
        _, found, message = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
        if found and kind is DamagedFile:
            return DamagedFile(Path(message.partition(f": {DAMAGED}")[0]))
        if found:
            return UserError(message.strip())
    return None


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
    buffers = [b for b in network.buffers() if b.is_floating_point()]
    if _alone() or not buffers:
        return
    # In float64 the mean of equal numbers is that number, for any number of processes: constants stay what they are.
    flat = torch.cat([b.flatten().double() for b in buffers])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for buffer, part in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(part.view_as(buffer))


def share_mean(value: Tensor) -> Tensor:
    """The mean of all processes' values."""
    if _alone():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
