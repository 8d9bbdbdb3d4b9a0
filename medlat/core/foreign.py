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
HEAD = 512  # bytes that tell a format
TORCHSCRIPT = ("constants.pkl", "data.pkl", "code/")  # what every archive of torch.jit.save holds
LIGHTNING = "pytorch-lightning_version"
PLAIN = ("collections ", "torch._utils ", "torch.storage ", "torch._tensor ", "numpy", "builtins ", "argparse ")
FORMATS = (  # what a file begins with, what it is, of which sort
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras saves weights", "network"),
    (b"\x89PNG", "a PNG image", "image"),
    (b"\xff\xd8\xff", "a JPEG image", "image"),
    (b"II*\x00", "a TIFF image", "image"),
    (b"MM\x00*", "a TIFF image", "image"),
    (b"NRRD", "an NRRD volume", "volume"),
    (b"\x93NUMPY", "a NumPy array", "array"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "pointer"),
    (b"\x1f\x8b", "a gzip archive", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "archive"),
    (b"Rar!", "a RAR archive", "archive"),
    (b"GGUF", "a GGUF file of a language model", "language"),
    (b"%PDF", "a PDF", "page"),
)
SCRIPTED = "expected what torch.jit.script(network).save(FILE) writes"
ELSE = (
    "or torch.onnx.export; a classifier can also be a Python function that makes its network and loads it "
    "(classifier=python)"
)
EXPORTED = f"{SCRIPTED}, {ELSE}"
AGAIN = "download the file again"
RIGHT = {  # where a network is expected that runs: what to do with a file of a sort
    "network": "expected the network exported to ONNX",
    "image": "images are data: data=image_folder data.root=DIR",
    "slice": "images are data: data=radiographs data.root=DIR, or data=ct_dicom",
    "volume": "volumes are data: data=ct_nifti data.root=DIR",
    "array": EXPORTED,
    "pointer": "fetch the file: git lfs pull",
    "archive": "unpack it, and name the file of the network in it",
    "language": "expected a network of images",
    "page": AGAIN,
    "empty": AGAIN,
    "settings": EXPORTED,
    "text": EXPORTED,
}


def format_of(head: bytes) -> tuple[str, str] | None:
    """What a file is by its first bytes, up to `HEAD` of them, and of which sort, one of `RIGHT`; None where they tell
    nothing.
    """
    if not head:
        return "an empty file", "empty"
    for begins, what, sort in FORMATS:
        if head.startswith(begins):
            return what, sort
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page, as a download gives that needs a login", "page"
    if head[128:132] == b"DICM":
        return "a DICOM file", "slice"
    if head[344:347] in (b"n+1", b"ni1"):
        return "a NIfTI volume", "volume"
    if head[257:262] == b"ustar":
        return "a tar archive", "archive"
    if text.startswith((b"{", b"[")):
        return "JSON text, without weights", "settings"
    return ("text", "text") if b"\x00" not in head and head[:1] != b"\x80" and text.isascii() else None


def what_it_is(path: Path) -> tuple[str, str] | None:
    """What a file is, and what would be right in its place; None where nothing is known of it."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
        if zipfile.is_zipfile(path):
            return _archive(path)
    except Exception:  # it cannot be read, or whatever damaged bytes lead to
        return None
    if head[8:10] in (b'{"', b"{ ") and int.from_bytes(head[:8], "little") < 2**32:
        if b'"medlat"' in head:
            return "weights of medlat's own", "expected an exported network; of a classifier, classifier=medlat"
        return "safetensors: weights without their network", EXPORTED
    if head.startswith(b"\x80"):
        return "a pickle, which could run code; not opened", EXPORTED
    if head.startswith(b"PK\x03\x04"):
        return "a damaged or truncated zip archive", AGAIN
    if len(head) > 3 and head[0] == 8 and head[1] < 32 and head[2] in (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42):
        return "an ONNX file", "expected `onnx` in the place of `torchscript`"
    if path.suffix == ".safetensors":
        return "a damaged safetensors file", AGAIN
    found = format_of(head)
    return None if found is None else (found[0], RIGHT[found[1]])


def _archive(path: Path) -> tuple[str, str] | None:
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] or name for name in archive.namelist()}
        if all(any(name.startswith(part) for name in names) for part in TORCHSCRIPT):
            return "a TorchScript file", "expected `torchscript` in the place of `onnx`"
        if any("exported_program" in name or name.startswith("models/") for name in names):
            return "a program of torch.export", f"{SCRIPTED}, or torch.onnx.export (ONNX)"
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            return f"a zip archive of {len(names)} file{'s' * (len(names) != 1)}", RIGHT["archive"]
        if archive.getinfo(pickles[0]).file_size > MOST_BYTES:
            return "a zip archive of a pickle too large to be of a network; not opened", SCRIPTED
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
        return (
            "a Lightning checkpoint: weights without their network",
            f"expected what its to_torchscript(FILE) writes, {ELSE}",
        )
    own = [name for name in names if not name.startswith(PLAIN) and not _of_tensors(name)]
    if own:
        found = own[0].replace(" ", ".")
        return f"a pickled object ({found}), which could run code; not opened", EXPORTED
    return "a state dict: weights without their network", EXPORTED


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
