"""A generator in TorchScript files, which are programs that are run: see `medlat.core.external`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medlat.core.external import Culprit, TorchScriptFile
from medlat.core.spaces import ImageSpec
from medlat.generators.imported.brought import Brought, BroughtGenerator, Prior
from medlat.generators.imported.identify import what_is
from medlat.generators.imported.restricted import reading

TARGET = "medlat.generators.imported.torchscript.TorchScriptNetwork"
DOOR = "medlat.generators.imported.torchscript.TorchScriptGenerator"
DECODER, ENCODER = "path", "encoder"  # arguments that name files


class TorchScriptGenerator(BroughtGenerator):
    """Your own generator in TorchScript files (`torch.jit.script(network).save(FILE)`): take them from where you would
    take a program. They are tried in a process of their own first, and their bytes are kept in the store.

    path:    of the program that decodes.
    encoder: of the one that encodes, where it is another file; null: there is none, or `encode` says how.
    decode:  method of `path`: codes [N, *code] -> images [N, C, H, W].
    encode:  method of `encoder`, or of `path`: images -> codes; of a tuple the first is the code. null: "forward" of
             `encoder`; without that, it has no encoder.

    The others as of `BroughtGenerator`. Weights in it stay as they are: `inversion=pivotal` cannot tune them.
    """

    runs = True

    def __init__(
        self,
        path: str,
        code: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        encoder: str | None = None,
        decode: str = "forward",
        encode: str | None = None,
        prior: Prior | None = None,
    ) -> None:
        culprit = Culprit(self, DECODER, path)
        files = {DECODER: path} | ({} if encoder is None else {ENCODER: encoder})
        found = {argument: _program(Path(file).expanduser(), argument, self) for argument, file in files.items()}
        super().__init__(culprit, code, value_range, not (encoder is None and encode is None), prior=prior)
        if value_range is None:
            raise culprit.wrong("value_range", "null; expected the range of its images, e.g. [0, 1] or [-1, 1]")
        self.files = found
        self.names = (encode or "forward" if self.encodes else None, decode)

    def recipe(self, code: tuple[int, ...] | None, rank: int | None = None) -> dict[str, Any]:
        assert code is not None
        encode, decode = self.names
        sizes = {argument: file.stat().st_size for argument, file in self.files.items()}
        declared = {"code": list(code), "value_range": list(self.value_range or ()), "rank": rank}
        return {"_target_": TARGET, "program": DOOR, "sizes": sizes, "encode": encode, "decode": decode} | declared

    def network(self, image: ImageSpec, code: tuple[int, ...] | None) -> "TorchScriptNetwork":
        made = self.recipe(code or (1,))
        del made["_target_"]
        network = TorchScriptNetwork(image, **made)
        for argument, file in self.files.items():
            network.get_buffer(f"{argument}_bytes").copy_(torch.from_numpy(np.fromfile(file, dtype=np.uint8)))
        for program in (network.decoder, network.encoder):
            if program is not None:
                program.culprit = Culprit(self, program.argument, str(self.files[program.argument]))
        return network


class TorchScriptNetwork(Brought):
    """Programs, whose bytes lie among the weights: they are loaded at their first call.

    program: who runs it: the name of the class that the configuration must name, as running it is its choice.
    sizes:   bytes of "path", which decodes, and of "encoder" where that is another. encode (None: it has no encoder),
             decode: methods. The others as of `Brought`.
    """

    def __init__(
        self,
        image: ImageSpec,
        program: str,
        sizes: dict[str, int],
        encode: str | None,
        decode: str,
        code: Sequence[int],
        value_range: Sequence[float],
        rank: int | None = None,
    ) -> None:
        super().__init__(image, code, value_range, encode is not None, rank)
        for argument, size in sizes.items():
            self.register_buffer(f"{argument}_bytes", torch.zeros(size, dtype=torch.uint8))
        self.decoder = _Stored(self, DECODER, decode, "codes")
        source = ENCODER if ENCODER in sizes else DECODER
        self.encoder = None if encode is None else _Stored(self, source, encode, "images")

    def decoded(self, codes: Tensor) -> Any:
        return self.decoder(codes)

    def encoded(self, images: Tensor) -> Any:
        assert self.encoder is not None
        found = self.encoder(images)
        return found[0] if isinstance(found, tuple | list) else found


class _Stored(TorchScriptFile):
    """A program whose bytes lie in a buffer of a network."""

    def __init__(self, owner: nn.Module, argument: str, method: str, takes: str) -> None:
        self.owner, self.argument, self.method, self.takes = owner, argument, method, takes
        self.culprit, self.network = Culprit(None, argument, "the stored program"), None

    def _opened(self) -> io.BytesIO:
        return io.BytesIO(self.owner.get_buffer(f"{self.argument}_bytes").cpu().numpy().tobytes())


def _program(path: Path, argument: str, owner: Any) -> Path:
    """The file, by its list of contents. Raises UserError where it is missing, or something else, and says what."""
    culprit = Culprit(owner, argument, str(path))
    if path.exists():
        with reading(f"{argument}={path}"):
            found = what_is(path)
        if found.name != "torchscript":
            raise culprit.error(found.sentence(path))
    TorchScriptFile(path, culprit)
    return path
