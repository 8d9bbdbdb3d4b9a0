"""Reading pickles of weights without running anything that they name.

A pickle is a program. This reader follows only those of its instructions that build strings, numbers, lists, dicts and
tuples; a name that it knows is replaced by a constructor of this module, never imported; any other name or instruction
ends the reading. Nothing else on the stack can be called, no method of a stored object is called, and every size is
held against the size of the file. `torch.load(weights_only=True)` is not used, as releases before 2.10 can be made to
corrupt memory (CVE-2026-24747), and as it knows nothing of pickles in which tensors lie as bytes.
"""

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import torch
from torch import Tensor

from medlat.core.errors import UserError

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Everything that damaged bytes can raise: from the reader, from tensors' checks of bounds, from the archive.
DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)


class Refused(Exception):
    """The file holds what it may not, or not what is needed; the text continues `FILE: `."""


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a UserError that begins with `where`."""
    try:
        yield
    except Refused as error:
        raise UserError(f"{where}: {error}") from error
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror or error})") from error
    except DAMAGE as error:
        reason = printable(str(error)) or type(error).__name__
        raise UserError(f"{where}: damaged, or not a file of weights ({reason})") from error


@dataclass(frozen=True)
class Module:
    """A network or layer of NVIDIA's files: the name of its class, and its attributes. Its source code is dropped."""

    class_name: str
    state: dict[str, Any]


class Inert:
    """Stands for an object that weights do not depend on. It holds nothing."""

    def __init__(self, *arguments: object) -> None:
        pass


class Named(Inert):
    """The same of an object that the reader knows nothing of but the name."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.name = name


@dataclass(frozen=True, eq=False)
class Known:
    """A name that a file may mention, and the constructor that takes its place."""

    make: Callable[..., object]


class Budget:
    """Bytes that may still be made into tensors: what the file holds, so that no byte is counted twice."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> None:
        if not 0 <= size <= self.left:
            raise EOFError("tensors larger than the file")
        self.left -= size


class Bounded:
    """A file that refuses to be read past its end, before room is made for what a length promises."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, start = file, file.tell()
        self.size = self.left = file.seek(0, io.SEEK_END) - start
        file.seek(start)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise EOFError("it ends too early")
        self.left -= size
        return self.file.read(size)

    def readline(self) -> bytes:
        line = self.file.readline(1024)
        self.left -= len(line)
        return line


def _module(meta: dict[str, Any]) -> Module:
    """`torch_utils.persistence._reconstruct_persistent_obj`, which would run `module_src`."""
    name, state = meta["class_name"], meta["state"]
    if not isinstance(name, str) or not isinstance(state, dict):
        raise TypeError("a layer without name or state")
    return Module(printable(name), state)


def _empty() -> dict:
    return {}


_DICT, _INERT = Known(_empty), Known(Inert)
KNOWN = {
    "collections.OrderedDict": _DICT,
    "dnnlib.util.EasyDict": _DICT,
    "torch_utils.persistence._reconstruct_persistent_obj": Known(_module),
    "torch._utils._rebuild_parameter": Known(lambda data, *_: data),
    "argparse.Namespace": _INERT,
    "builtins.set": _INERT,
    "__builtin__.set": _INERT,
    "_codecs.encode": _INERT,
    "numpy.dtype": _INERT,
    "numpy.ndarray": _INERT,
    **{
        f"numpy.{core}.{name}": _INERT
        for core in ("core", "_core")
        for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
    },
}
PLAIN = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST "
    "EMPTY_DICT BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID"
)


class _Instructions(dict):
    """Handlers by instruction; every other instruction is refused."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        known = pickletools.code2op.get(chr(code))  # type: ignore[attr-defined]
        if known is None:
            raise pickle.UnpicklingError(f"byte {code:#x} where an instruction should stand")
        raise Refused(f"holds the pickle instruction {known.name}, which a file of weights does not need; refused")


class Unpickler(pickle._Unpickler):
    """Python's own reader (its memo is a dict: the C reader's is an array as long as the file says) with fewer
    instructions.

    size:       bytes of the whole file, which bounds the tensors.
    storage:    the storage of a persistent id; None: there are none.
    from_bytes: what lies as bytes in `torch.storage._load_from_bytes`; None: nothing does.
    passes:     whether names that weights do not need are passed over, as a checkpoint has settings and the state of an
                optimiser beside them: a `Named` stands for what they would make, and is never called. Else such a name
                ends the reading.
    """

    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        source: Bounded,
        size: int,
        storage: Callable[[Any], Tensor] | None = None,
        from_bytes: Callable[[bytes], object] | None = None,
        passes: bool = False,
    ) -> None:
        super().__init__(source)
        self.storage, self.from_bytes, self.passes = storage, from_bytes, passes
        self.tensors = Budget(4 * size)  # some may share a storage, as the network and its average do

    def find_class(self, module: str, name: str) -> object:
        path = f"{module}.{name}"
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if path == "torch.storage._load_from_bytes" and self.from_bytes is not None:
            return Known(self.from_bytes)
        if path == "torch._utils._rebuild_tensor_v2":
            return Known(self._tensor)
        if path in KNOWN:
            return KNOWN[path]
        if self.passes:
            return Known(partial(Named, printable(path)))
        if module.startswith("dnnlib.tflib"):
            raise Refused(
                f"names {printable(path)}: a network of TensorFlow; convert it with legacy.py of the StyleGAN2-ADA "
                "repository first"
            )
        raise Refused(f"names {printable(path)}, which a file of weights does not need; refused")

    def persistent_load(self, pid: Any) -> Tensor:
        if self.storage is None:
            raise Refused("refers to data outside of it, which a file of weights does not need; refused")
        return self.storage(pid)

    def _tensor(self, storage: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
        """Within the bounds of the storage, which torch's own function would enlarge."""
        limit = storage.numel()
        if not all(type(n) is int and 0 <= n <= limit for n in size) or math.prod(size) > limit:
            raise ValueError("a tensor larger than its storage")
        self.tensors.take(math.prod(size) * storage.itemsize)
        return storage.as_strided(size, stride, offset)

    def _reduce(self) -> None:  # also for NEWOBJ: the stack holds the callable, then its arguments
        arguments, function = self.stack.pop(), self.stack.pop()
        if self.passes and isinstance(function, Inert):
            self.append(function)
            return
        if not isinstance(function, Known) or not isinstance(arguments, tuple):
            raise Refused("calls what it may not; refused")
        self.append(function.make(*arguments))

    def _build(self) -> None:
        self.stack.pop()  # the state: of nothing that is kept
        if not isinstance(self.stack[-1], dict | Inert):
            raise Refused("sets the state of what has none; refused")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _set_items(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, items: list) -> None:
        target = self.stack[-1]
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if self.passes:
            if isinstance(target, Inert):
                return
            pairs = [(key, value) for key, value in pairs if isinstance(key, str | int | float | None)]
        if not isinstance(target, dict) or not all(isinstance(key, str | int | float | None) for key, _ in pairs):
            raise Refused("writes where it may not; refused")
        target.update(pairs)

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list) -> None:
        if self.passes and isinstance(self.stack[-1], Inert):
            return
        if not isinstance(self.stack[-1], list):
            raise Refused("writes where it may not; refused")
        self.stack[-1].extend(items)

    def _empty_set(self) -> None:
        self.append(Inert())

    def _add_items(self) -> None:
        self.pop_mark()
        if not isinstance(self.stack[-1], Inert):
            raise Refused("writes where it may not; refused")

    dispatch = _Instructions(
        {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in PLAIN.split()}
        | {pickle.REDUCE[0]: _reduce, pickle.NEWOBJ[0]: _reduce, pickle.BUILD[0]: _build}
        | {pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items}
        | {pickle.APPEND[0]: _append, pickle.APPENDS[0]: _appends}
        | {pickle.EMPTY_SET[0]: _empty_set, pickle.ADDITEMS[0]: _add_items}
    )


def printable(text: str) -> str:
    """Text of a file as it may be shown on a terminal."""
    shown = text[:100].encode("unicode_escape").decode()
    return shown if len(text) <= 100 else shown + "…"
