"""Hostile and damaged files: refused with a message that names the file, and nothing in them runs."""

import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from generators.imported.foreign_files import (
    random_state,
    rosinality_state,
    storage_bytes,
    their_modules,
    write_nvidia,
    write_rosinality,
)

from medlat.core.checkpoints import save_generator
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.generators.imported.convert import read_foreign
from medlat.generators.imported.layout import recipe_of
from medlat.generators.vae.networks import VAE


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def text(word: str) -> bytes:
    return pickle.SHORT_BINUNICODE + struct.pack("<B", len(word.encode())) + word.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + pickle.STACK_GLOBAL


def program(*instructions: bytes) -> bytes:
    return pickle.PROTO + b"\x04" + b"".join(instructions) + pickle.STOP


def tensor(size: bytes, storage: bytes) -> bytes:
    """`_rebuild_tensor_v2` of a storage with offset 0, a size and strides that follow."""
    return name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + storage + size + pickle.TUPLE + pickle.REDUCE


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """The file that hostile code would make; it must not exist when the test ends."""
    path = tmp_path / "trace"
    monkeypatch.chdir(tmp_path)
    yield path
    assert not path.exists()


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_foreign(path)
    assert str(caught.value).startswith(f"generator.weights={path}: ")


MADE_BY_PICKLE = {
    "system": lambda trace: Calls(os.system, f"touch {trace}"),
    "eval": lambda trace: Calls(eval, f"open({str(trace)!r}, 'w')"),
    "exec": lambda trace: Calls(exec, f"open({str(trace)!r}, 'w')"),
    "open": lambda trace: Calls(open, str(trace), "w"),
    "getattr": lambda trace: Calls(getattr, Calls(__import__, "os"), "system"),
    "torch.load": lambda trace: Calls(torch.load, str(trace)),
    "a class": lambda trace: Calls(Path, str(trace)),
    "a setter": lambda trace: Calls(torch.nn.Linear, 1, 1, state={"forward": Calls(os.system, f"touch {trace}")}),
    "a reader": lambda trace: Calls(torch.jit.load, str(trace)),
    "numpy": lambda trace: Calls(__import__("numpy").load, str(trace)),
}


UNNEEDED = r"names \S+, which a file of weights does not need; refused"
WHOLE = r"a whole object \(\S+\) in a pickle, which would be run; save its weights"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", MADE_BY_PICKLE)
def test_calls_are_refused(tmp_path, trace, kind, protocol):
    content = {"G_ema": MADE_BY_PICKLE[kind](trace)}
    message = f"{UNNEEDED}|{WHOLE}" if protocol >= 2 else "not a file of weights that medlat reads|: text; expected"
    refused(tmp_path / "n.pkl", pickle.dumps(content, protocol), message)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", MADE_BY_PICKLE)
def test_calls_in_files_of_torch_are_refused(tmp_path, trace, kind, legacy):
    content = {"g_ema": {}, "x": MADE_BY_PICKLE[kind](trace)}
    torch.save(content, tmp_path / "n", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / "n.pt", (tmp_path / "n").read_bytes(), UNNEEDED)


def test_source_code_in_a_file_is_not_run(tmp_path, trace):
    path = write_nvidia(tmp_path / "n.pkl", random_state(), source=f"open({str(trace)!r}, 'w')")
    assert str(trace).encode() in path.read_bytes()
    assert recipe_of(read_foreign(path))[1] == (1, 16, 16)


def test_a_pickle_in_the_bytes_of_a_storage_is_refused(tmp_path, trace):
    bomb = Calls(os.system, f"touch {trace}")
    for hidden in (pickle.dumps(bomb), storage_bytes(bomb), storage_bytes({"x": bomb})):
        content = {"G_ema": Calls(torch.storage._load_from_bytes, hidden)}
        refused(tmp_path / "n.pkl", pickle.dumps(content), "refused|damaged")
    nested = storage_bytes(Calls(torch.storage._load_from_bytes, storage_bytes(torch.zeros(1))))
    content = {"G_ema": Calls(torch.storage._load_from_bytes, nested)}
    refused(tmp_path / "n.pkl", pickle.dumps(content), r"names torch\.storage\._load_from_bytes")


REFUSED_PROGRAMS = {
    "dotted name": (program(name("builtins", "getattr.__call__")), "names builtins.getattr.__call__"),
    "dotted name below a known one": (
        program(name("collections", "OrderedDict.__init__.__globals__")),
        "names collections.OrderedDict.__init__.__globals__",
    ),
    "name with control signs": (program(name("os\x1b[2J", "system")), r"names os\\x1b\[2J\.system"),
    "a network of TensorFlow": (program(name("dnnlib.tflib.network", "Network")), "network of TensorFlow"),
    "extension registry": (program(pickle.EXT1 + b"\x01"), "instruction EXT1"),
    "class with arguments": (program(pickle.MARK, pickle.INST + b"os\nsystem\n"), "instruction INST"),
    "object": (program(pickle.MARK, pickle.OBJ), "instruction OBJ"),
    "keyword constructor": (program(pickle.NEWOBJ_EX), "instruction NEWOBJ_EX"),
    "byte array": (program(pickle.BYTEARRAY8, struct.pack("<Q", 2**40)), "instruction BYTEARRAY8"),
    "persistent id": (program(text("x"), pickle.BINPERSID), "refers to data outside"),
    "persistent id of protocol 0": (program(pickle.PERSID, b"x\n"), "instruction PERSID"),
    "call of text": (program(text("x"), pickle.EMPTY_TUPLE, pickle.REDUCE), "calls what it may not"),
    "call of a type": (
        program(name("torch", "FloatStorage"), pickle.EMPTY_TUPLE, pickle.REDUCE),
        "calls what it may not",
    ),
    "call of a result": (
        program(name("numpy", "dtype"), pickle.EMPTY_TUPLE, pickle.REDUCE, pickle.EMPTY_TUPLE, pickle.REDUCE),
        "calls what it may not",
    ),
    "state of a name": (program(name("numpy", "dtype"), pickle.EMPTY_DICT, pickle.BUILD), "sets the state"),
    "state of a list": (program(pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.BUILD), "sets the state"),
    "item of a list": (program(pickle.EMPTY_LIST, text("a"), text("b"), pickle.SETITEM), "writes where it may not"),
    "nested key": (
        program(pickle.EMPTY_DICT, pickle.EMPTY_TUPLE, pickle.NONE, pickle.SETITEM),
        "writes where it may not",
    ),
    "appended to a dict": (program(pickle.EMPTY_DICT, pickle.NONE, pickle.APPEND), "writes where it may not"),
    "added to a dict": (program(pickle.EMPTY_DICT, pickle.MARK, text("a"), pickle.ADDITEMS), "writes where it may not"),
    "text for a tensor": (program(tensor(pickle.EMPTY_TUPLE, text("x"))), "damaged"),
    "endless text": (program(pickle.BINUNICODE8, struct.pack("<Q", 2**62)), "ends too early"),
    "endless bytes": (program(pickle.BINBYTES8, struct.pack("<Q", 2**40)), "ends too early"),
    "endless frame": (program(pickle.FRAME, struct.pack("<Q", 2**40)), "ends too early"),
    "nothing to stop with": (program(), "damaged"),
    "not an instruction": (program(b"\xff"), "byte 0xff where an instruction should stand"),
}


@pytest.mark.parametrize("kind", REFUSED_PROGRAMS)
def test_instructions_that_weights_do_not_need(tmp_path, trace, kind):
    content, message = REFUSED_PROGRAMS[kind]
    refused(tmp_path / "n.pkl", content, message)


def test_far_places_in_the_memo_take_no_memory(tmp_path):
    content = program(pickle.NONE, pickle.LONG_BINPUT + b"\xff\xff\xff\x7f")
    refused(tmp_path / "n.pkl", content, "holds no G_ema")


def test_what_stands_for_objects_holds_no_state(tmp_path, trace):
    """A set state would be read back by the code that uses the object; here it is dropped."""
    made = name("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    setter = program(made, pickle.EMPTY_DICT, text("__class__"), text("x"), pickle.SETITEM, pickle.BUILD)
    refused(tmp_path / "n.pkl", setter, "holds no G_ema")


def nvidia_tensor(data: bytes, size: tuple, stride: tuple, offset: int = 0) -> bytes:
    storage = Calls(torch.storage._load_from_bytes, data)
    return pickle.dumps({"x": Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, None)})


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((5,), (1,), 0),
        ((4,), (2,), 0),
        ((4, 4), (0, 0), 0),
        ((4,), (1,), 1),
        ((1 << 40,), (0,), 0),
        ((-1,), (1,), 0),
        ((2,), (-1,), 3),
        (("a", 9), (1,), 0),
    ],
)
def test_tensors_beyond_their_storage(tmp_path, size, stride, offset):
    data = storage_bytes(torch.zeros(4)._typed_storage())
    refused(tmp_path / "n.pkl", nvidia_tensor(data, size, stride, offset), "damaged")
    refused(tmp_path / "n.pkl", nvidia_tensor(data, (2, 2), (1, 2)), "holds no G_ema")


def test_one_storage_is_not_multiplied(tmp_path):
    storage = Calls(torch.storage._load_from_bytes, storage_bytes(torch.zeros(1000)._typed_storage()))
    tensors = [Calls(torch._utils._rebuild_tensor_v2, storage, 0, (1000,), (1,), False, None) for _ in range(100)]
    refused(tmp_path / "n.pkl", pickle.dumps(tensors[:1]), "holds no G_ema")
    refused(tmp_path / "n.pkl", pickle.dumps(tensors), "larger than the file")
    data = storage_bytes(torch.zeros(1000)._typed_storage())
    storages = [Calls(torch.storage._load_from_bytes, data) for _ in range(100)]
    refused(tmp_path / "n.pkl", pickle.dumps(storages), "larger than the file")


def test_storages_of_another_length(tmp_path):
    good = storage_bytes({"x": torch.zeros(300)})
    assert good.count(struct.pack("<H", 300)) >= 2
    place = good.index(pickle.BININT2 + struct.pack("<H", 300))
    announced = good[: place + 1] + struct.pack("<H", 299) + good[place + 3 :]
    refused(tmp_path / "n.pt", announced, "damaged")
    huge = good[:place] + pickle.BININT + struct.pack("<i", 2**31 - 1) + good[place + 3 :]
    refused(tmp_path / "n.pt", huge, "larger than the file")


def test_archives_that_torch_does_not_write(tmp_path, trace):
    path = tmp_path / "n.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", program(pickle.EMPTY_DICT) + b"\0" * 10**6)
    refused(path, path.read_bytes(), "compressed archive")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "x")
    refused(path, path.read_bytes(), "a zip archive of 1 file; unpack it")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program(pickle.EMPTY_DICT))
        archive.writestr("archive/byteorder", "big")
    refused(path, path.read_bytes(), "big-endian")


def their_files(folder: Path) -> dict[str, bytes]:
    state = random_state(base=32, most=4)
    write_nvidia(folder / "a", state)
    write_rosinality(folder / "b", rosinality_state(state))
    write_rosinality(folder / "c", rosinality_state(state), legacy=True)
    recipe = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 2, "capacity": 2}
    spec = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 1.0)
    save_generator(folder / "d", VAE(spec, latent_dim=2, capacity=2), recipe, spec)
    return {file: (folder / file).read_bytes() for file in "abcd"}


def test_truncated_files_are_named(tmp_path):
    for content in their_files(tmp_path).values():
        for length in (20, 300, len(content) // 2, len(content) - 1):
            refused(tmp_path / "short", content[:length], "damaged|not a file of weights")


def test_changed_bytes_never_end_in_a_traceback(tmp_path):
    """Each file with bytes changed at random is read (the change was in a number), or refused by name."""
    draw, messages = random.Random(0), []
    for content in their_files(tmp_path).values():
        for _ in range(60):
            changed = bytearray(content)
            for _ in range(3):
                changed[draw.randrange(16, len(changed))] = draw.randrange(256)
            (tmp_path / "changed").write_bytes(changed)
            try:
                read_foreign(tmp_path / "changed")
            except UserError as error:
                messages.append(str(error))
    assert len(messages) > 50
    assert all(f"{tmp_path / 'changed'}: " in message for message in messages)


def test_modules_of_the_files_are_not_imported(tmp_path):
    import sys

    read_foreign(write_nvidia(tmp_path / "n.pkl", random_state()))
    assert not {"dnnlib", "torch_utils"} & set(sys.modules)
    with their_modules():  # nor called where they exist
        assert recipe_of(read_foreign(tmp_path / "n.pkl"))[1] == (1, 16, 16)
