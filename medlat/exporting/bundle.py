"""A MONAI bundle of a run's networks in TorchScript, which MONAI loads and runs without medlat
(https://docs.monai.io/en/stable/mb_specification.html).
"""

import io
import json
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medlat.core.errors import UserError
from medlat.exporting.networks import PURPOSE, Network, TensorFormat, made_with, networks_of, notes_of, tracing
from medlat.study.finished import Run

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
TOLERANCE = 1e-5
CARD = "model_card.md"
OF_THIS_MACHINE = "- command: "  # of the card: it may name places here
KINDS = {"images": ("image", "magnitude"), "predictions": ("probabilities", "classes")}  # others are codes
LICENSE = """\
The networks' code in models/*.ts was traced from medlat, which is under the Apache License 2.0
(http://www.apache.org/licenses/LICENSE-2.0).

Of the weights nobody has said under which licence they are. They were learnt from the data that docs/README.md
describes, and the terms of these data may hold for them. Who hands this folder on puts the licence here.
"""


def write_bundle(run: Run, folder: Path) -> None:
    """Write configs/, models/model.ts, which decodes, and the run's other networks beside it, docs/ and LICENSE.

    Raises UserError where a network cannot be traced, the trace gives other numbers, or the run has no model card.
    """
    networks, card = networks_of(run), run.folder / CARD
    if not card.is_file():
        raise UserError(f"{card}: not there; expected the model card that a finished run leaves")
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    for network in networks:
        _write(network, folder / "models" / _file(network))
    _json(folder / "configs" / "metadata.json", _metadata(run, networks))
    _json(folder / "configs" / "inference.json", _inference(run, networks))
    kept = [line for line in card.read_text(encoding="utf-8").splitlines() if not line.startswith(OF_THIS_MACHINE)]
    (folder / "docs" / "README.md").write_text("\n".join(kept) + "\n", encoding="utf-8")
    (folder / "LICENSE").write_text(LICENSE, encoding="utf-8")


def _file(network: Network) -> str:
    return "model.ts" if network.name == "decoder" else f"{network.name}.ts"


def _write(network: Network, file: Path) -> None:
    with tracing(network):
        traced = torch.jit.trace(network, (network.example,), check_trace=False)
        # Frozen, the file holds what this function needs of the network alone.
        frozen = torch.jit.freeze(traced.eval(), optimize_numerics=False)
        torch.jit.save(frozen, whole := io.BytesIO())
        with zipfile.ZipFile(whole) as given, zipfile.ZipFile(file, "w") as kept:
            for name in given.namelist():
                if not name.endswith(".debug_pkl"):  # where each line stood on this machine
                    kept.writestr(name, given.read(name))
        network.check(torch.jit.load(str(file)), TOLERANCE)


def _metadata(run: Run, networks: Sequence[Network]) -> dict[str, Any]:
    spec, look, decoder = run.image, run.look, networks[0]
    packages = ("monai", "torch", "numpy")
    found = {"schema": SCHEMA, "version": "1.0.0", "changelog": {"1.0.0": f"written by {made_with()}"}}
    found |= {f"{'pytorch' if name == 'torch' else name}_version": version(name) for name in packages}
    found |= {
        "required_packages_version": {},
        "task": f"Make {look.nouns} ({look.modality.name}) of codes of a latent space",
        "description": f"Networks of the run {run.config.name}. {' '.join(notes_of(run))}",
        "authors": "not said",
        "copyright": "not said; see LICENSE",
        "intended_use": PURPOSE,
        "intensity": {
            "unit": spec.unit,
            "values_of_-1_and_1": [spec.low, spec.high],
            "display_window": list(look.window),
            "spacing_mm": spec.spacing_mm,
        },
        "network_data_format": _data_format(run, decoder),
    }
    return found | {f"{network.name}_data_format": _data_format(run, network) for network in networks[1:]}


def _data_format(run: Run, network: Network) -> dict[str, Any]:
    ends = {"inputs": network.takes, "outputs": network.gives}
    return {end: {of.name: _tensor(of, run.look.modality.name)} for end, of in ends.items()}


def _tensor(of: TensorFormat, modality: str) -> dict[str, Any]:
    kind, form = KINDS.get(of.name, ("tuples", "latent"))
    return {
        "type": kind,
        "format": form,
        "modality": modality if kind == "image" else "n/a",
        "num_channels": of.shape[0],
        "spatial_shape": list(of.shape[1:]),
        "dtype": "float32",
        "value_range": list(of.value_range or ()),
        "is_patch_data": False,
        "channel_def": {str(i): name for i, name in enumerate(of.channels)},
        "description": of.what,
    }


def _inference(run: Run, networks: Sequence[Network]) -> dict[str, Any]:
    """Samples of the prior -> images, in their unit, in a file of NumPy."""
    half, low = run.image.range / 2, run.image.low
    found: dict[str, Any] = {
        "imports": ["$import numpy", "$import torch"],
        "bundle_root": ".",
        "output": "$@bundle_root + '/samples.npy'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "count": 4,
        "seed": 0,
    }
    for network in networks:
        key = "network" if network.name == "decoder" else network.name
        path = f"@bundle_root + '/models/{_file(network)}'"
        found[key] = f"$torch.jit.load({path}, map_location=@device).eval()"
    return (
        found
        | _codes(run, networks)
        | {
            "images": "$@network(@codes)",
            "values": f"$(@images + 1) * {half!r} + {low!r}",
            "run": ["$numpy.save(@output, @values.cpu().numpy())"],
        }
    )


def _codes(run: Run, networks: Sequence[Network]) -> dict[str, Any]:
    """Where codes come from: drawn, or mapped from what is drawn; of a prior that no formula gives, some of its own."""
    mapping = next((network for network in networks if network.name == "mapping"), None)
    shape = (networks[0] if mapping is None else mapping).takes.shape
    drawn = f"torch.randn(@count, *{list(shape)}, generator=torch.Generator().manual_seed(@seed)).to(@device)"
    if mapping is not None:
        return {"codes": f"$@mapping({drawn})"}
    if run.space.prior == "normal":
        return {"codes": f"${drawn}"}
    own = run.generator.sample(4, run.space.name, torch.Generator().manual_seed(0))
    return {"count": len(own), "drawn": own.tolist(), "codes": "$torch.tensor(@drawn).to(@device)"}


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
