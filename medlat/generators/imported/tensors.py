"""The formats in which torch and NVIDIA's repositories keep tensors, read by the restricted unpickler."""

import io
import sys
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch import Tensor

from medlat.generators.imported.restricted import Bounded, Budget, Refused, Unpickler

TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first object of torch's format before version 1.6
TORCH_PROTOCOL = 1001


def read_pickle(file: BinaryIO) -> object:
    """A plain pickle with tensors as bytes, as NVIDIA's repositories write them."""
    source = Bounded(file)
    budget = Budget(source.size)

    def from_bytes(data: bytes) -> object:
        if not isinstance(data, bytes):
            raise TypeError("a storage that is not bytes")
        budget.take(len(data))
        return _read_legacy(Bounded(io.BytesIO(data)))

    return Unpickler(source, source.size, from_bytes=from_bytes).load()


def read_torch(file: BinaryIO, passes: bool = False, shapes: bool = False) -> object:
    """A file of `torch.save`, of today's format (a zip archive) or of the one before 1.6.

    passes: as of `Unpickler`. shapes: whether the numbers are left out: tensors are on the device "meta".
    """
    archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    source = Bounded(file)
    return _read_archive(file, source.size, passes, shapes) if archive else _read_legacy(source, passes, shapes)


def _read_legacy(source: Bounded, passes: bool = False, shapes: bool = False) -> object:
    """torch's format before 1.6: magic number, version, byte order, the object, the keys of its storages, their
    data.
    """

    def following(storage: Callable[[Any], Tensor] | None = None) -> Any:
        return Unpickler(source, source.size, storage, passes=passes).load()

    budget = Budget(source.size)
    storages: dict[str, Tensor] = {}

    def storage(pid: Any) -> Tensor:
        _, dtype, key, _, count, view = _storage_id(pid, 6)
        if view is not None:
            raise Refused("holds a view of a storage, as only very old releases of torch wrote; save it again")
        if key not in storages:
            budget.take(count * dtype.itemsize)
            storages[key] = torch.empty(count, dtype=dtype, device="meta" if shapes else None)
        return storages[key]

    if following() != TORCH_MAGIC or following() != TORCH_PROTOCOL:
        raise ValueError("it does not begin like a file of torch")
    if following().get("little_endian") is not True:
        raise Refused("was written on a big-endian machine, which is not supported")
    result = following(storage)
    if shapes:
        return result
    keys = following()
    if not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError("the list of its storages is wrong")
    for key in keys:
        place = storages[key]
        if int.from_bytes(source.read(8), "little") != place.numel():
            raise ValueError("a storage of another length than announced")
        _fill(place, source.read(place.nbytes))
    return result


def _read_archive(file: BinaryIO, size: int, passes: bool, shapes: bool) -> object:
    """torch's format since 1.6: `NAME/data.pkl`, and `NAME/data/KEY` for each storage, not compressed."""
    budget = Budget(size)
    storages: dict[str, Tensor] = {}
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        found = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(found) != 1:
            raise Refused("a zip archive without data.pkl: not a file of torch.save")
        folder = found[0].removesuffix("data.pkl")

        def content(name: str) -> bytes:
            entry = entries[folder + name]
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
                raise Refused("a compressed archive, which torch.save does not write; refused")
            return archive.read(entry)

        def storage(pid: Any) -> Tensor:
            _, dtype, key, _, count = _storage_id(pid, 5)
            if key not in storages:
                budget.take(count * dtype.itemsize)
                place = torch.empty(count, dtype=dtype, device="meta" if shapes else None)
                storages[key] = place if shapes else _fill(place, content(f"data/{key}"))
            return storages[key]

        if folder + "byteorder" in entries and content("byteorder") != b"little":
            raise Refused("was written on a big-endian machine, which is not supported")
        return Unpickler(Bounded(io.BytesIO(content("data.pkl"))), size, storage, passes=passes).load()


def _storage_id(pid: Any, length: int) -> tuple:
    """("storage", dtype, key, device, count[, view]), checked."""
    kinds = (str, torch.dtype, str, str, int)
    if not isinstance(pid, tuple) or len(pid) != length or not all(map(isinstance, pid, kinds)) or pid[0] != "storage":
        raise ValueError("a storage without type or length")
    return pid


def _fill(place: Tensor, data: bytes) -> Tensor:
    assert sys.byteorder == "little"
    if len(data) != place.nbytes:
        raise ValueError("a storage of another length than announced")
    if data:
        place.view(torch.uint8).numpy()[:] = memoryview(data)
    return place
