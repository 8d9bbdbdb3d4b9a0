"""Tiny data and GANs that several tests train; in a module of its own, so that started processes can import it."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from medlat.classifiers.networks import ResNet
from medlat.classifiers.trained import Trained
from medlat.core.spaces import ImageSpec, LatentSpace
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.module import SliceData
from medlat.data.splits import split
from medlat.generators.dae.module import DiffusionAutoencoderModule
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.generators.dcgan.module import DCGANModule
from medlat.generators.dcgan.networks import DCGAN, DCGANDiscriminator
from medlat.generators.gan.augmentation import CT, Adaptive
from medlat.generators.gan.losses import gradient_penalty, path_lengths
from medlat.generators.gan.module import GANModule, Terms
from medlat.generators.stylegan2.classifier_guided import ClassifierGuidedStyleGAN2Module
from medlat.generators.stylegan2.discriminator import Discriminator
from medlat.generators.stylegan2.module import StyleGAN2Module
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.phantoms.ct.source import CTPhantom
from medlat.training.loop import train
from medlat.training.optimisation import Adam, Averaging, Optimisation
from medlat.training.processes import share_buffers, share_gradients, share_mean
from medlat.training.settings import Hardware, Schedule

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)
BATCH = 4
CPU = Hardware(accelerator="cpu", precision="32-true")
CHANNELS = {"channel_base": 64, "channel_max": 8}


class Stopped(Exception):
    """What interrupts a training."""


class Stopping:
    """Beside a GANModule: stops before the training step or in the validation given; at the end, says what it has."""

    stop_at: int | None = None  # a step
    stop_validation: int | None = None  # the one after so many steps
    witness: Path | None = None  # a folder: each process leaves a digest of its state
    diverge: tuple[int, int] | None = None  # a step and a process whose images are NaN

    def training_step(self, images: torch.Tensor, batch_idx: int) -> Any:
        if self.steps_done == self.stop_at:
            raise Stopped
        if (self.steps_done, self.global_rank) == self.diverge:
            images = images * torch.nan
        return super().training_step(images, batch_idx)

    def on_validation_epoch_end(self) -> None:
        if self.steps_done == self.stop_validation:
            raise Stopped
        super().on_validation_epoch_end()

    def teardown(self, stage: str) -> None:
        super().teardown(stage)
        if self.witness is not None:
            values = {
                "digest": digest(self),
                "world": self.trainer.world_size,
                "threads": torch.get_num_threads(),
                "connected": dist.is_initialized(),
            }
            (self.witness / f"{self.global_rank}.json").write_text(json.dumps(values))


class Toy(nn.Module):
    """A generator without anything random in it but its codes: tanh of a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.spaces = SPEC, {"z": LatentSpace("z", (3,))}
        self.linear = nn.Linear(3, SPEC.height * SPEC.width)

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(n, 3, generator=generator)

    def decode(self, codes: torch.Tensor, space: str = "z") -> torch.Tensor:
        return torch.tanh(self.linear(codes)).unflatten(1, SPEC.shape)


class ToyJudge(nn.Module):
    """A discriminator that sees each image by itself."""

    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.Softplus(), nn.Linear(4, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)[:, 0]


class ToyGAN(Stopping, GANModule):
    """Always generates from the same codes, so that a batch means the same however it is divided."""

    def __init__(self, steps: int, accumulate: int = 1) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Toy()
        super().__init__(network, 5, steps, ToyJudge, Adam(1e-2), Adam(1e-2), accumulate=accumulate)
        self.gradients: list[dict[str, torch.Tensor]] = []  # of each turn

    def generate(self, n: int, generator: torch.Generator) -> torch.Tensor:
        return self.network.decode(torch.tensor([[0.5, -1.0, 1.5]]).expand(n, 3))

    def discriminator_penalty(self, images: torch.Tensor, step: int, part: int) -> Terms:
        yield "r1", gradient_penalty(lambda x: self.discriminate(x, "real", step, part), images)

    def generator_penalty(self, n: int, step: int, part: int) -> Terms:
        codes = torch.tensor([[[1.0, 2.0, 3.0]]]).expand(n, 1, 3).requires_grad_()
        images = self.network.decode(codes[:, 0])
        yield "path_length", path_lengths(images, codes, torch.ones_like(images)).mean()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        named = self.named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named if p.requires_grad and p.grad is not None})


class StoppingStyleGAN2(Stopping, StyleGAN2Module):
    pass


class StoppingDCGAN(Stopping, DCGANModule):
    pass


class StoppingGuided(Stopping, ClassifierGuidedStyleGAN2Module):
    pass


class StoppingDAE(Stopping, DiffusionAutoencoderModule):
    @property
    def steps_done(self) -> int:
        return self.global_step


def dae(steps: int) -> StoppingDAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DiffusionAutoencoder(SPEC, 4, [16, 16], encoder_capacity=4)
    return StoppingDAE(network, 5, steps, Optimisation(1e-3, ema_decay=0.9, gradient_clip=1.0))


def stylegan2(steps: int, base: tuple[int, int] = (4, 4), **arguments: Any) -> StoppingStyleGAN2:
    """With all that a step can do: mixing, augmentation that moves, both penalties, averaging."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _network(base=base)
    discriminator, adam = partial(Discriminator, base=base, **CHANNELS), Adam(2e-3, [0.0, 0.99])
    return StoppingStyleGAN2(network, 5, steps, discriminator, adam, adam, **(_all() | arguments))


def explaining(steps: int, encoder: bool = True, **arguments: Any) -> StoppingGuided:
    """With an encoder and a small classifier, and all else that a step can do but mixing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _network(encoder=encoder)
        classifier = Trained(ResNet(SPEC, "binary", ["no", "yes"], width=8))
    adam = Adam(2e-3, [0.0, 0.99])
    given = _all() | {"style_mixing": 0.0} | arguments
    return StoppingGuided(network, classifier, 5, steps, partial(Discriminator, **CHANNELS), adam, adam, **given)


def _network(**arguments: Any) -> StyleGAN2:
    return StyleGAN2(SPEC, z_dim=4, w_dim=4, mapping_layers=2, mapping_lr_multiplier=0.1, **CHANNELS, **arguments)


def _all() -> dict[str, Any]:
    return {
        "averaging": Averaging(half_life=20.0, ramp_up=0.5),
        "augmentation": Adaptive(CT(), target=0.6, initial=0.3, ramp_images=80, interval=2),
        "style_mixing": 0.5,
        "r1_every": 2,
        "path_length": 2.0,
        "path_every": 3,
    }


def dcgan(steps: int, **arguments: Any) -> StoppingDCGAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DCGAN(SPEC, latent_dim=4, capacity=4)
    adam = Adam(2e-3, [0.5, 0.999])
    return StoppingDCGAN(network, 5, steps, partial(DCGANDiscriminator, capacity=4), adam, adam, **arguments)


def store(folder: Path) -> ImageStore:
    """32 slices of 8 phantoms."""
    prepare(CTPhantom(8, 4, SPEC.height), Preparation(SPEC.height, 400.0, 0.0, "salt", 1), folder)
    return ImageStore.open(folder)


def slices(opened: ImageStore, steps: int, batch: int = BATCH) -> SliceData:
    parts = split(opened.patient, opened.columns["position_mm"], 0.2, 0.2, 0)
    return SliceData(opened, parts, SPEC, batch, steps, seed=7)


def run(
    module: Any,
    opened: ImageStore,
    folder: Path,
    hardware: Hardware = CPU,
    every_s: float = 0.0,
    validations: int = 2,
    batch: int = BATCH,
    report: Any = lambda records: None,
) -> Any:
    """Train the module to its end in `folder`, with a checkpoint at every step."""
    folder.mkdir(exist_ok=True)
    schedule = Schedule(module.steps * batch, batch, every_s, validations)
    train(module, slices(opened, module.steps, batch), schedule, hardware, folder, report)
    return module


def digest(module: torch.nn.Module) -> str:
    """Of all weights and buffers, bit for bit."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def curves(folder: Path) -> list[tuple[str, int, float]]:
    """All values but the time."""
    entries = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(entry["name"], entry["step"], entry["value"]) for entry in entries]


def grids(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "grid").iterdir()}


def exchange(rank: int, folder: Path) -> None:
    """In one of two processes: what `processes` makes of numbers that differ between them; left as `<rank>.pt`."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    network = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Linear(1, 1)).to(
        memory_format=torch.channels_last
    )
    network[1].running_mean.fill_(rank)
    network[1].running_var.fill_(1.1)
    network[1].num_batches_tracked.fill_(7)
    for number, parameter in enumerate([*network[0].parameters(), *network[1].parameters()]):
        parameter.grad = torch.full_like(parameter, number + 10.0 * rank)  # none for the last layer
    share_gradients(network)
    share_buffers(network)
    mean = share_mean(torch.tensor([1.0, 3.0]) * (rank + 1))
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    torch.save({"gradients": gradients, "buffers": dict(network.named_buffers()), "mean": mean}, folder / f"{rank}.pt")
    dist.destroy_process_group()
