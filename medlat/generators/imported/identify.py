"""What a file is, by its first bytes and its list of contents, and the line that would use it. Nothing in it is run."""

import json
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from medlat.core.checkpoints import is_safetensors
from medlat.core.foreign import AGAIN, HEAD, TORCHSCRIPT, format_of, pickled_names
from medlat.generators.imported.restricted import DAMAGE, Named, Refused, printable
from medlat.generators.imported.tensors import TORCH_MAGIC, read_torch

LEGACY_TORCH = b"\x80\x02\x8a\x0a" + TORCH_MAGIC.to_bytes(10, "little")
PICKLE_HEAD = 2**20  # bytes of a pickle that are looked through for names
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".nii", ".nii.gz", ".svs")
WEIGHTS = ("state", "safetensors", "lightning", "rosinality")  # kinds with weights for a network that one names

PYTHON = "use generator=python generator.function=package.module:function generator.weights={path}"
MONAI = "use generator=monai generator.network={network} generator.weights={path}"
SCRIPT = "use generator=torchscript generator.path={path}"
OWN_LOADING = (
    "use generator=python generator.function=package.module:function, a function that loads {what} from {path}"
)
PRETRAINED = "use generator=pretrained generator.weights={path}"
SAVE = "save its weights, torch.save(model.state_dict(), FILE), and " + PYTHON.replace("{path}", "FILE")
EXPORT = "no door for it; export the generator as TorchScript, and use generator=torchscript generator.path=FILE"
UNPACK = "unpack it, and name the file of weights in it"
DATA = "images are data: data=image_folder data.root=DIR"

USES = {  # what to do with a file of a sort that `format_of` knows
    "network": EXPORT,
    "image": DATA,
    "slice": "images are data: data=radiographs data.root=DIR, or data=ct_dicom",
    "volume": "volumes are data: data=ct_nifti data.root=DIR",
    "array": "weights are read from .safetensors, .pt and .ckpt",
    "pointer": "fetch the file: git lfs pull",
    "archive": UNPACK,
    "language": "expected a generator of images",
    "page": AGAIN,
    "empty": AGAIN,
    "settings": "a bundle's configuration goes with generator=monai generator.bundle={path}",
    "text": "expected a file of weights; a Python file is named generator=python generator.function=module:name",
}
MARKS = {  # ends of names that only weights of these networks have
    "AutoencoderKL": ("quant_conv_mu.conv.weight", "post_quant_conv.conv.weight"),
    "VarAutoEncoder": ("decodeL.weight", "logvar.weight"),
    "VQVAE": ("quantizer.quantizer.embedding.weight",),
}
LUCIDRAINS = ("SE.net.0.weight", "GE.initial_conv.weight")  # the averages of its mapping and its synthesis


@dataclass(frozen=True)
class Kind:
    """name: of the kind; what: the same in words; use: the line that would use it, with {path} for the file."""

    name: str
    what: str
    use: str = ""

    def sentence(self, path: Path) -> str:
        """What a refusal says."""
        return self.what + (f"; {self.use.format(path=path)}" if self.use else "")


def what_is(path: Path) -> Kind:
    """What a file or folder is. Raises Refused where there is none, OSError where it cannot be read."""
    if path.is_dir():
        return _folder(path)
    if path.is_symlink() and not path.exists():
        return Kind("link", "a link that leads nowhere")
    if path.exists() and not path.is_file():
        return Kind("device", "no file, but a device or a pipe")
    if not path.is_file():
        raise Refused("no such file")
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if is_safetensors(path):
        return _safetensors(path)
    if head.startswith(LEGACY_TORCH):
        return _torch(path)
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return _pickle(path)
    return _other(path, head)


# --- weights -----------------------------------------------------------------------------------------------------


def _safetensors(path: Path) -> Kind:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("medlat", "{}"))
            names = list(file.keys())
    except (SafetensorError, ValueError) as error:
        return Kind("damaged", f"a damaged safetensors file ({printable(str(error))})", AGAIN)
    if isinstance(header, dict) and isinstance(header.get("recipe"), dict):
        return Kind("medlat", f"medlat's checkpoint of a {header['recipe'].get('_target_')}", PRETRAINED)
    if header:
        return Kind(
            "other", "a file of medlat's that holds no network, but directions", "expected generator.safetensors"
        )
    known = _known(names)
    return known or Kind("safetensors", "weights in safetensors, without a recipe of their network", PYTHON)


def _known(names: Iterable[str]) -> Kind | None:
    """Weights of a network that medlat can build."""
    names = list(names)
    for network, marks in MARKS.items():
        first = next((name for name in names if name.endswith(marks[0])), None)
        if first is None or not all(any(name.endswith(mark) for name in names) for mark in marks):
            continue
        prefix = first.removesuffix(marks[0])
        use = MONAI.replace("{network}", network) + (f" generator.prefix={prefix}" if prefix else "")
        return Kind("state", f"the weights of a MONAI {network}", use)
    if "quant_conv.weight" in names and any(name.startswith("decoder.mid_block.") for name in names):
        return Kind("state", "the weights of a diffusers AutoencoderKL", PYTHON)
    return None


def _torch(path: Path) -> Kind:
    """A file of torch.save: no more than its pickle is read."""
    try:
        with open(path, "rb") as file:
            content = read_torch(file, passes=True, shapes=True)
    except (Refused, *DAMAGE) as error:
        return Kind("torch", f"a file of torch.save that cannot be read ({printable(str(error))})", AGAIN)
    if isinstance(content, Named):
        return Kind("module", f"a whole object ({content.name}) pickled by torch.save, which would be run", SAVE)
    if isinstance(content, Mapping) and "g_ema" in content:
        return Kind("rosinality", "a checkpoint of rosinality's stylegan2-pytorch", PRETRAINED)
    names = list(_names(content))
    if all(f"GAN.{name}" in names for name in LUCIDRAINS):
        what = "a checkpoint of lucidrains' stylegan2-pytorch, whose network is another than NVIDIA's"
        return Kind("lucidrains", what, OWN_LOADING.replace("{what}", "its SE and GE"))
    if not names:
        what = "one tensor" if isinstance(content, Tensor) else "no tensors by name"
        return Kind("other", f"a file of torch.save that holds {what}", SAVE)
    assert isinstance(content, Mapping)
    if "pytorch-lightning_version" in content:
        inner = content.get("state_dict")
        known = _known(_names(inner))
        groups = sorted({name.partition(".")[0] + "." for name in _names(inner)})[:6]
        what = f"a checkpoint of Lightning, with weights of {', '.join(groups)}"
        use = known.use if known else f"{PYTHON} generator.prefix={groups[0] if groups else 'PREFIX.'}"
        return Kind("lightning", what if known is None else f"{what} ({known.what})", use)
    if set(content) == {"state", "param_groups"}:
        return Kind(
            "optimiser", "the state of an optimiser, without weights", "expected the file of the model beside it"
        )
    return _known(_names(content)) or Kind("state", "a state dict, without a recipe of its network", PYTHON)


def _names(content: Any, above: str = "") -> Iterable[str]:
    """Of the tensors of nested dicts, with dots; `state_dict` alone where there is one."""
    if not isinstance(content, Mapping):
        return
    inner = content.get("state_dict")
    for name, value in (inner if isinstance(inner, Mapping) else content).items():
        if isinstance(value, Tensor):
            yield f"{above}{name}"
        else:
            yield from _names(value, f"{above}{name}.")


def _pickle(path: Path) -> Kind:
    """By the names that it would import. One of networks is left to the reader of NVIDIA's."""
    with open(path, "rb") as file:
        head, names = file.read(PICKLE_HEAD), []
    with suppress(*DAMAGE):
        for kind, text in pickled_names(head):
            if kind == "global":
                names.append(text.replace(" ", "."))
    first = printable(names[0]) if names else ""
    packages = {"sklearn": "scikit-learn", "joblib": "joblib", "xgboost": "XGBoost", "pandas": "pandas"}
    if (package := first.partition(".")[0]) in packages:
        return Kind("pickle", f"a pickle of {packages[package]} ({first})", "expected a generator of images")
    if package in ("__main__", "monai", "torchvision", "diffusers") or first.startswith("torch.nn."):
        return Kind("module", f"a whole object ({first}) in a pickle, which would be run", SAVE)
    return Kind("nvidia", "a pickle, as of NVIDIA's StyleGAN2", PRETRAINED)


# --- archives, folders and all else --------------------------------------------------------------------------------


def _zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGE as error:
        return Kind("damaged", f"a damaged or truncated zip archive ({printable(str(error))})", AGAIN)
    inner = [name.partition("/")[2] for name in names]
    if all(any(name.startswith(part) for name in inner) for part in TORCHSCRIPT):
        return Kind("torchscript", "a TorchScript program", SCRIPT)
    if any(name.endswith("data.pkl") for name in names):
        return _torch(path)
    ends = [name.lower() for name in names if not name.endswith("/")]
    if any(name.endswith(("archive_format", "models/model.json")) for name in ends):
        return Kind("pt2", "a program of torch.export", EXPORT)
    if ends and all(name.endswith(".npy") for name in ends):
        return Kind("npz", "NumPy arrays (.npz)", "weights are read from .safetensors, .pt and .ckpt")
    if any(name.endswith("model.weights.h5") for name in ends):
        return Kind("keras", "a Keras model", EXPORT)
    if any(name.endswith("configs/metadata.json") for name in ends):
        return Kind("zip", "a MONAI bundle, packed", "unpack it, and use generator=monai generator.bundle=DIR")
    pictures = sum(name.endswith(PICTURES) for name in ends)
    if pictures > len(ends) // 2:
        return Kind("zip", f"a zip archive of {pictures} images", f"unpack it; {DATA}")
    return Kind("zip", f"a zip archive of {len(ends)} file{'s' * (len(ends) != 1)}", UNPACK)


def _folder(path: Path) -> Kind:
    names = {found.name for found in path.iterdir()}
    if "configs" in names:
        return Kind("bundle", "the folder of a MONAI bundle", "use generator=monai generator.bundle={path}")
    if "saved_model.pb" in names:
        return Kind("folder", "a TensorFlow SavedModel", EXPORT)
    if any(name.endswith(".index") for name in names) and any(".data-" in name for name in names):
        return Kind("folder", "a checkpoint of TensorFlow", EXPORT)
    if names & {"model_index.json", "diffusion_pytorch_model.safetensors"}:
        return Kind(
            "folder", "a diffusers model", PYTHON.replace("{path}", "{path}/diffusion_pytorch_model.safetensors")
        )
    files = sorted(name for name in names if name.endswith((".pt", ".pth", ".ckpt", ".safetensors", ".pkl")))
    return Kind("folder", "a folder, not a file", f"did you mean '{path / files[0]}'?" if files else "expected a file")


def _other(path: Path, head: bytes) -> Kind:
    if _is_onnx(path, head):
        return Kind("onnx", "a network in ONNX, which gives no gradients", EXPORT)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    found = format_of(head)
    if found is None:
        return Kind("unknown", "not a file of weights that medlat reads")
    return Kind(found[1], found[0], USES[found[1]])


def _is_onnx(path: Path, head: bytes) -> bool:
    """A protobuf of onnx's ModelProto begins with the version of its representation and its producer's name."""
    version = head[:1] == b"\x08" and 0 < head[1] < 32 if len(head) > 2 else False
    return version and (path.suffix == ".onnx" or head[2:3] == b"\x12" or b"onnx" in head)
