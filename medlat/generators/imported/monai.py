"""Generators of MONAI: an architecture and its arguments, from the configuration or a bundle, and their weights.

| network | codes |
| --- | --- |
| `AutoencoderKL` | a map of features, with a posterior |
| `VarAutoEncoder` | a vector, with a posterior |
| `VQVAE` | the map of features before quantisation, which is continuous |

`decode` of a VQVAE quantises first (van den Oord et al. 2017, arXiv 1711.00937): its images change in steps, a small
move of a code may change nothing, and gradients pass straight through.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import Tensor

from medlat.core.errors import did_you_mean
from medlat.core.external import Culprit, first_line
from medlat.core.spaces import ImageSpec
from medlat.generators.imported.brought import Brought, BroughtGenerator, Prior
from medlat.generators.imported.bundle import Bundle

Network = Literal["AutoencoderKL", "VarAutoEncoder", "VQVAE"]
TARGET = "medlat.generators.imported.monai.MonaiNetwork"
SMALLEST_SIGMA = 1e-15  # AutoencoderKL gives a standard deviation of exp(-15) at least


class MonaiGenerator(BroughtGenerator):
    """A generator of MONAI, of two dimensions.

    network:     AutoencoderKL, VarAutoEncoder or VQVAE; null: the one that the bundle describes.
    arguments:   of MONAI's class; those given here come before the bundle's.
    bundle:      folder of a MONAI bundle, or its configuration (JSON or YAML). Plain values are taken from it; an
                 expression (`$...`, `@...`, `%...`) is not evaluated: its value is given in `arguments`.
    value_range: as of `BroughtGenerator`; null: as the bundle's metadata.json says of its images.
    weights:     as of `BroughtGenerator`; null: the one file of weights in the bundle's `models/`.

    The others as of `BroughtGenerator`.
    """

    def __init__(
        self,
        network: Network | None = None,
        arguments: dict[str, Any] | None = None,
        bundle: str | None = None,
        value_range: Sequence[float] | None = None,
        weights: str | None = None,
        prefix: str = "",
        code: Sequence[int] | None = None,
        prior: Prior | None = None,
    ) -> None:
        culprit = Culprit(self, "network", str(network))
        given, found = dict(arguments or {}), None
        if bundle is not None:
            found = Bundle(Path(bundle).expanduser(), Culprit(self, "bundle", bundle), get_args(Network))
            described, theirs = found.network(network)
            network, given = cast(Network, described), found.plain(theirs, given)
            culprit = Culprit(self, "bundle", bundle)
            value_range, weights = value_range or found.value_range(), weights or found.weights()
        if network is None:
            raise culprit.wrong("network", f"null, and there is no bundle; expected {', '.join(get_args(Network))}")
        if network not in get_args(Network):
            raise culprit.error(f"no such network{did_you_mean(str(network), get_args(Network))}")
        if value_range is None:
            raise culprit.wrong("value_range", "null; expected the range of its images, e.g. [0, 1] or [-1, 1]")
        if weights is None:
            raise culprit.wrong("weights", "null; expected the file of its weights")
        super().__init__(culprit, code, value_range, True, weights, prefix, prior)
        self.kind, self.arguments = network, given
        if found is not None:
            self.files["bundle"] = found.path

    @property
    def origin(self) -> str:
        return f"{self.kind} of {self.files['weights']}"

    def recipe(self, code: tuple[int, ...] | None, rank: int | None = None) -> dict[str, Any]:
        declared = {"code": code and list(code), "value_range": list(self.value_range or ()), "rank": rank}
        return {"_target_": TARGET, "network": self.kind, "arguments": self.arguments} | declared

    def network(self, image: ImageSpec, code: tuple[int, ...] | None) -> "MonaiNetwork":
        _check_arguments(self.kind, self.arguments, image, self.culprit)
        try:
            return MonaiNetwork(image, self.kind, self.arguments, code, self.value_range or ())
        except Exception as error:  # whatever MONAI raises for arguments that do not go together
            hint = "; pip install einops, which attention needs" if "einops" in str(error) else ""
            problem = f"{self.kind} refuses them ({first_line(error)}){hint}"
            raise self.culprit.wrong("arguments", problem) from error


class MonaiNetwork(Brought):
    """network: the name of MONAI's class; arguments: of it. The others as of `Brought`."""

    def __init__(
        self,
        image: ImageSpec,
        network: Network,
        arguments: dict[str, Any],
        code: Sequence[int] | None,
        value_range: Sequence[float],
        rank: int | None = None,
    ) -> None:
        from monai.networks import nets

        super().__init__(image, code, value_range, True, rank)
        self.kind = network
        self.network: Any = getattr(nets, network)(**arguments)

    @property
    def capabilities(self) -> frozenset[str]:
        return super().capabilities - ({"posterior"} if self.kind == "VQVAE" else frozenset())

    def posterior(self, images: Tensor, space: str = "z") -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] in [-1, 1] -> mean and log variance [N, *code]."""
        x = self.in_range(images)
        if self.kind == "VarAutoEncoder":
            mean, log_variance = self.network.encode_forward(x)
            return mean.float(), log_variance.float()
        mean, sigma = self.network.encode(x)
        return mean.float(), 2.0 * sigma.float().clamp_min(SMALLEST_SIGMA).log()

    def encoded(self, images: Tensor) -> Any:
        if self.kind == "VQVAE":
            return self.network.encode(images)
        return (self.network.encode_forward if self.kind == "VarAutoEncoder" else self.network.encode)(images)[0]

    def decoded(self, codes: Tensor) -> Any:
        if self.kind == "VarAutoEncoder":
            return self.network.decode_forward(codes, self.network.use_sigmoid)
        return self.network.decode(self.network.quantize(codes)[0] if self.kind == "VQVAE" else codes)


def _check_arguments(network: str, arguments: dict[str, Any], image: ImageSpec, culprit: Culprit) -> None:
    from monai.networks import nets

    known = inspect.signature(getattr(nets, network)).parameters
    for name in arguments:
        if name not in known:
            raise culprit.wrong(f"arguments.{name}", f"{network} has no such argument{did_you_mean(name, known)}")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in arguments]
    if missing:
        raise culprit.wrong("arguments", f"{network} needs {', '.join(missing)}, too")
    if arguments["spatial_dims"] != 2:
        raise culprit.wrong("arguments.spatial_dims", f"{arguments['spatial_dims']}, a network of volumes; expected 2")
    channels = [arguments.get(name, known[name].default) for name in ("in_channels", "out_channels") if name in known]
    if any(count != image.channels for count in channels):
        raise culprit.wrong(
            "arguments",
            f"images of {max(channels)} channels, the data's have {image.channels}; expected such a network",
        )
