"""The networks of a run, each a function of one batch of tensors, for programs without medlat: what goes into them and
comes out, and whether a file of one says the same as it does.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medlat.classifiers.trained import Trained
from medlat.core.errors import UserError
from medlat.core.external import first_line
from medlat.core.spaces import LatentSpace
from medlat.core.version import __version__
from medlat.evaluation import copying
from medlat.steps import builders
from medlat.steps.report import PHANTOM
from medlat.study.finished import Run

EXAMPLES = 2  # batch size that is traced
FRESH = (1, 5)  # that are tried
IMAGES = (-1.0, 1.0)
PURPOSE = "Research only: neither diagnosis nor any decision about a patient."


@dataclass(frozen=True)
class TensorFormat:
    """A batch of float32 tensors.

    name:        "codes", "normal_codes", "images" or "predictions".
    shape:       of one.
    value_range: None where there are no bounds.
    what:        they are, in words.
    channels:    what each is, along the first axis of the shape, where that is known.
    """

    name: str
    shape: tuple[int, ...]
    value_range: tuple[float, float] | None
    what: str
    channels: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        bounds = "" if self.value_range is None else " in [{:g}, {:g}]".format(*self.value_range)
        return f"`{self.name}` float32 [{', '.join(map(str, ('N', *self.shape)))}]{bounds}: {self.what}"


class Differs(UserError):
    """A file says something else than the network that it was written of."""


class Network(nn.Module):
    """A function of one batch.

    name:        "decoder", "encoder", "mapping" or "classifier".
    takes:       what goes in; gives: what comes out.
    function:    itself; holder: the network with its weights.
    draw:        n -> a batch of n to try it on: `example` is traced, `fresh` are of other sizes.
    """

    def __init__(
        self,
        name: str,
        takes: TensorFormat,
        gives: TensorFormat,
        function: Callable[[Tensor], Tensor],
        holder: nn.Module,
        draw: Callable[[int], Tensor],
    ) -> None:
        super().__init__()
        self.name, self.takes, self.gives, self.function, self.holder = name, takes, gives, function, holder
        self.example, self.fresh = draw(EXAMPLES), [draw(n) for n in FRESH]
        self.eval()

    def forward(self, batch: Tensor) -> Tensor:
        return self.function(batch)

    def check(self, written: Callable[[Tensor], Tensor], tolerance: float) -> None:
        """Raises Differs where what was written says something else, on batches that were not traced.

        tolerance: absolute, and beside it relative to each value.
        """
        with torch.no_grad():
            for batch in self.fresh:
                wanted = self(batch)
                found = written(batch)
                if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=tolerance, atol=tolerance):
                    raise Differs(f"{self.name}: what was exported gives other {self.gives.name} for the same input")


def networks_of(run: Run) -> list[Network]:
    """The decoder; the encoder, where the generator has one or the run trained one; the mapping from normal codes,
    where the generator knows one; and a classifier that was trained with medlat.

    Raises UserError where no single network makes the images.
    """
    model: Any = run.generator
    space, kind = run.space, type(model).__name__
    if model.can("invert"):
        raise UserError(
            f"{run.folder}: its generator, {kind}, makes images by a solver, from codes and the noise that belongs to "
            f"each, which is no single network; expected a VAE, DCGAN or StyleGAN2, or FILE.safetensors"
        )
    images, codes = images_of(run), codes_of(space)

    def drawn(n: int) -> Tensor:
        return model.sample(n, space.name, torch.Generator().manual_seed(n))

    def decode(batch: Tensor) -> Tensor:
        return model.decode(batch, space.name)

    @torch.no_grad()
    def pictures(n: int) -> Tensor:
        return decode(drawn(n))

    found = [Network("decoder", codes, images, decode, model, drawn)]
    if (encoder := run.encoder) is not None:
        holder = encoder if isinstance(encoder, nn.Module) else model
        found.append(Network("encoder", images, codes, encoder, holder, pictures))
    for source in model.spaces.values():
        if source.prior == "normal" and space.name in model.reached(source.name):
            found.append(_mapping(model, source, space))
    if isinstance(run.classifier, Trained):
        found.append(_classifier(run.classifier, images, pictures))
    return found


def _mapping(model: Any, source: LatentSpace, space: LatentSpace) -> Network:
    def map_codes(batch: Tensor) -> Tensor:
        return model.map_codes(batch, source.name, space.name)

    def drawn(n: int) -> Tensor:
        return model.sample(n, source.name, torch.Generator().manual_seed(n))

    return Network("mapping", codes_of(source, "normal_codes"), codes_of(space), map_codes, model, drawn)


def _classifier(classifier: Trained, images: TensorFormat, pictures: Callable[[int], Tensor]) -> Network:
    says = "probabilities of" if classifier.task != "regression" else "values of"
    bounds = (0.0, 1.0) if classifier.task != "regression" else None
    what = f"{says} {', '.join(classifier.outputs)} ({classifier.task})"
    gives = TensorFormat("predictions", (len(classifier.outputs),), bounds, what, tuple(classifier.outputs))
    return Network("classifier", images, gives, classifier, classifier.network, pictures)


def codes_of(space: LatentSpace, name: str = "codes") -> TensorFormat:
    """Codes of a latent space, as a format."""
    prior = {"normal": "standard normal", "empirical": "not known in closed form"}[space.prior]
    return TensorFormat(name, space.shape, None, f"codes of the latent space {space.name}, whose prior is {prior}")


def images_of(run: Run) -> TensorFormat:
    """The run's images, as a format."""
    spec, look = run.image, run.look
    channels = ("red", "green", "blue") if look.colour else (spec.unit,)
    window = "" if look.colour else f", shown as black and white {look.window[0]:g} and {look.window[1]:g}"
    what = (
        f"{look.nouns} ({look.modality.name}), -1 is {spec.low:g} and 1 is {spec.high:g} {spec.unit}{window}; "
        f"{spec.spacing_mm:g} mm between pixels"
    )
    return TensorFormat("images", spec.shape, IMAGES, what, channels)


def notes_of(run: Run) -> list[str]:
    """What who gets something of the run must know, in sentences."""
    phantom = PHANTOM if builders.is_phantom(run.config) else None
    copies = copying.warning(run.metrics, run.look.modality.noun)
    if not copying.was_measured(run.metrics):
        copies = "Whether the generator copies its training data was not measured."
    return [*filter(None, [phantom, copies]), PURPOSE]


def made_with() -> str:
    """Versions, in a few words."""
    return f"medlat {__version__}, torch {torch.__version__}"


@contextmanager
def tracing(network: Network) -> Iterator[None]:
    """Whatever writing and running it raises becomes a UserError that names the network. Torch's warnings, that batches
    of other sizes may go wrong, are left to `Network.check`.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except (Differs, OSError):  # the second of the disk, which `writing` explains
        raise
    except Exception as error:  # of operations that a format has not, and of somebody's network, whatever they raise
        raise UserError(
            f"{network.name}: {type(network.holder).__name__} cannot be written in this format ({first_line(error)})"
        ) from error
