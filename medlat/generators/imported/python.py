"""A generator that a Python function makes."""

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from medlat.core.checkpoints import weights_digest
from medlat.core.errors import ConfigErrors, UserError, did_you_mean
from medlat.core.external import Culprit, imported, last_line
from medlat.core.spaces import ImageSpec, LatentModel, missing_parts
from medlat.generators.imported.brought import Brought, BroughtGenerator, Prior

TARGET = "medlat.generators.imported.python.python_network"
DECODE, ENCODE = "decode", "encode"


class PythonGenerator(BroughtGenerator):
    """Your own generator, made by a function or a class. It is imported and run, as any code of yours.

    function:  "package.module:function", imported from where Python looks, or from the folder of the command. It
               returns a `torch.nn.Module`: a network with the methods below, or a `LatentModel`, which says itself what
               it has: then `code`, `value_range`, `prior`, `encode` and `decode` stay as they are.
    arguments: of the function, by name. One called `image` is the data's `ImageSpec` where it is not given.
    encode:    name of its method images [N, C, H, W] -> codes [N, *code]; of a tuple the first is the code, as the mean
               of a posterior is. null: it has none.
    decode:    name of its method codes -> images; "forward": the module itself.

    The others as of `BroughtGenerator`. Without `weights`, the function has to give the same ones at each call.
    """

    def __init__(
        self,
        function: str,
        arguments: dict[str, Any] | None = None,
        code: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        weights: str | None = None,
        prefix: str = "",
        encode: str | None = ENCODE,
        decode: str = DECODE,
        prior: Prior | None = None,
    ) -> None:
        culprit = Culprit(self, "function", function)
        super().__init__(culprit, code, value_range, encode is not None, weights, prefix, prior)
        said: dict[str, Any] = {"code": code, "value_range": value_range, "prior": prior}
        said |= {"encode": None if encode == ENCODE else encode, "decode": None if decode == DECODE else decode}
        self.said = [name for name, value in said.items() if value is not None] + ["encode"] * (encode is None)
        self.function, self.arguments, self.names = function, dict(arguments or {}), (encode, decode)
        imported(function, culprit)

    def fingerprints(self) -> dict[str, str]:
        """Where the function itself loads its weights, these too, as far as it needs no image to be called."""
        found = super().fingerprints()
        if "weights" not in found and not takes_image(self.function, self.arguments, self.culprit):
            with suppress(UserError):  # it is said where the generator is tried
                found["weights"] = weights_digest(make(self.function, self.arguments, None, self.culprit))
        return found

    def recipe(self, code: tuple[int, ...] | None, rank: int | None = None) -> dict[str, Any]:
        encode, decode = self.names
        declared = {"code": code and list(code), "value_range": self.value_range and list(self.value_range)}
        named = {"_target_": TARGET, "function": self.function, "arguments": self.arguments}
        return named | declared | {"encode": encode, "decode": decode, "rank": rank}

    def network(self, image: ImageSpec, code: tuple[int, ...] | None) -> Any:
        made = make(self.function, self.arguments, image, self.culprit)
        if isinstance(made, LatentModel):
            if self.said:
                problem = "it is a LatentModel, which says so itself; expected no value here"
                raise self.culprit.wrong(self.said[0], problem)
            return made
        wrong = []
        if self.value_range is None:
            null = "null; expected the range of its images, e.g. [0, 1] or [-1, 1]"
            wrong.append(self.culprit.wrong("value_range", null))
        for argument, name in zip((ENCODE, DECODE), self.names, strict=True):
            if name is not None and not callable(getattr(made, name, None)):
                known = [key for key in dir(made) if not key.startswith("_") and key not in dir(nn.Module)]
                none = f"; expected {argument}=null where it has none" if argument == ENCODE else ""
                method = f"{name}: {type(made).__name__} has no such method{did_you_mean(name, known)}{none}"
                wrong.append(self.culprit.wrong(argument, method))
        if wrong or self.value_range is None:
            raise wrong[0] if len(wrong) == 1 else ConfigErrors(map(str, wrong), "what is said of the generator")
        return PythonNetwork(image, made, code, self.value_range, *self.names)

    def model(self, image: ImageSpec) -> Any:
        found: Any = super().model(image)
        if "weights" not in self.files:
            state = found.state_dict()
            again = self.network(image, found.spaces["z"].shape if isinstance(found, Brought) else None).state_dict()
            if any(not torch.equal(value, again[name]) for name, value in state.items()):
                raise self.culprit.error(
                    "it gives other weights at each call; expected weights=FILE, or always the same"
                )
        return found

    def _said_by_encoder(self, image: ImageSpec) -> tuple[int, ...]:
        made = self.network(image, None)
        return super()._said_by_encoder(image) if isinstance(made, Brought) else ()


class PythonNetwork(Brought):
    """A module of somebody's, and the names of its methods: `encode` (None: it has none) and `decode`.

    The other arguments as of `Brought`.
    """

    def __init__(
        self,
        image: ImageSpec,
        network: nn.Module,
        code: Sequence[int] | None,
        value_range: Sequence[float],
        encode: str | None,
        decode: str,
        rank: int | None = None,
    ) -> None:
        super().__init__(image, code, value_range, encode is not None, rank)
        self.network, self.names = network, (encode, decode)

    def decoded(self, codes: Tensor) -> Any:
        return self._method(self.names[1])(codes)

    def encoded(self, images: Tensor) -> Any:
        found = self._method(self.names[0])(images)
        return found[0] if isinstance(found, tuple | list) else found

    def _method(self, name: str | None) -> Any:
        assert name is not None
        return self.network if name == "forward" else getattr(self.network, name)


def python_network(
    image: ImageSpec,
    function: str,
    arguments: dict[str, Any],
    code: Sequence[int] | None,
    value_range: Sequence[float] | None,
    encode: str | None,
    decode: str,
    rank: int | None,
) -> Any:
    """What a checkpoint's recipe describes: the `LatentModel` that the function makes, or a network that is one."""
    made = make(function, arguments, image, Culprit(None, "function", function))
    if isinstance(made, LatentModel):
        return made
    assert value_range is not None
    return PythonNetwork(image, made, code, value_range, encode, decode, rank)


def takes_image(function: str, arguments: dict[str, Any], culprit: Culprit) -> bool:
    """Whether the function wants the data's `ImageSpec`."""
    try:
        return "image" in inspect.signature(imported(function, culprit)).parameters and "image" not in arguments
    except (TypeError, ValueError):  # of what has no signature
        return False


def make(function: str, arguments: dict[str, Any], image: ImageSpec | None, culprit: Culprit) -> nn.Module:
    """What the function returns. image: where it takes one. Raises UserError where it fails, or that is no network."""
    found, takes = imported(function, culprit), takes_image(function, arguments, culprit)
    try:
        made = found(**arguments, **({"image": image} if takes else {}))
    except Exception as error:  # whatever the user's code raises
        raise culprit.error(f"it raises {type(error).__name__} ({last_line(error)})") from error
    if not isinstance(made, nn.Module):
        raise culprit.error(f"it returns a {type(made).__name__}; expected a torch.nn.Module")
    if isinstance(made, LatentModel) and (lacking := missing_parts(made)):
        raise culprit.error(f"{type(made).__name__} lacks {', '.join(lacking)}")
    return made
