"""What a file is that was taken for a network, told by its first bytes and its contents' names. Nothing in it is run,
and of a pickle only the names that it would call are read (`pickletools`), not one is called.
"""

import pickletools
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MOST_BYTES = 64 * 2**20  # of a pickle of names: weights lie beside it
MOST_OPERATIONS = 2_000_000
TORCHSCRIPT = ("constants.pkl", "data.pkl", "code/")  # what every archive of torch.jit.save holds
LIGHTNING = "pytorch-lightning_version"
PLAIN = ("collections ", "torch._utils ", "torch.storage ", "torch._tensor ", "numpy", "builtins ", "argparse ")
SCRIPTED = "expected what torch.jit.script(network).save(FILE) writes"
FIRST_BYTES = (  # what a file begins with, what it is, and what would be right
    (b"\x89HDF", "an HDF5 file, as Keras writes", "expected the network exported to ONNX (classifier=onnx)"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "git lfs pull fetches it"),
    (b"\x80", "a pickle, which could run code; not opened", SCRIPTED),
)


def what_it_is(path: Path) -> tuple[str, str] | None:
    """What a file is, and what would be right in its place; None where nothing is known of it."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
        if zipfile.is_zipfile(path):
            return _archive(path)
    except Exception:  # it cannot be read, or whatever damaged bytes lead to
        return None
    for begins, what, right in FIRST_BYTES:
        if head.startswith(begins):
            return what, right
    if head[8:10] in (b'{"', b"{ ") and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors: weights without their network", SCRIPTED
    if len(head) > 3 and head[0] == 8 and head[1] < 32 and head[2] in (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42):
        return "an ONNX file", "expected `onnx` in the place of `torchscript`"
    return None


def _archive(path: Path) -> tuple[str, str] | None:
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] or name for name in archive.namelist()}
        if all(any(name.startswith(part) for name in names) for part in TORCHSCRIPT):
            return "a TorchScript file", "expected `torchscript` in the place of `onnx`"
        if any("exported_program" in name or name.startswith("models/") for name in names):
            return "a program of torch.export", f"{SCRIPTED}, or torch.onnx.export (ONNX)"
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1 or archive.getinfo(pickles[0]).file_size > MOST_BYTES:
            return None
        return _pickled(archive.read(pickles[0]))


def _pickled(content: bytes) -> tuple[str, str] | None:
    """Of what torch.save writes."""
    names, texts = [], set()
    try:
        for kind, text in pickled_names(content):
            names.append(text) if kind == "global" else texts.add(text)
    except Exception:  # whatever damaged bytes lead to
        return None
    if LIGHTNING in texts:
        return "a Lightning checkpoint: weights without their network", "expected what its to_torchscript(FILE) writes"
    own = [name for name in names if not name.startswith(PLAIN) and not _of_tensors(name)]
    if own:
        found = own[0].replace(" ", ".")
        return f"a pickled object ({found}), which could run code; not opened", SCRIPTED
    return "a state dict: weights without their network", SCRIPTED


def _of_tensors(name: str) -> bool:
    """Whether it is what tensors are written with: `torch FloatStorage`, `torch Size`."""
    module, _, rest = name.partition(" ")
    return module == "torch" and "." not in rest


def pickled_names(content: bytes) -> Iterator[tuple[str, str]]:
    """The names of classes and functions in a pickle ("global", "module name"), and its texts ("text", ...)."""
    recent: list[str] = []
    for opcode, argument, _ in islice(pickletools.genops(content), MOST_OPERATIONS):
        if opcode.name == "GLOBAL":
            yield "global", str(argument)
        elif opcode.name == "STACK_GLOBAL" and len(recent) > 1:
            yield "global", " ".join(recent[-2:])
        elif isinstance(argument, str):
            recent = [*recent[-1:], argument]
            yield "text", argument
