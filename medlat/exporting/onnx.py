"""The networks of a run in ONNX, which holds no code: a file each, and a README with what goes in and comes out."""

import json
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlat.core.errors import UserError
from medlat.exporting.networks import Network, images_of, made_with, networks_of, notes_of, tracing
from medlat.study.finished import Run

OPSET = 17
TOLERANCE = 1e-4

README = """\
# {name}

Networks of a run of medlat, in ONNX. N is the number of images, any.

{networks}

```python
import onnxruntime

images = onnxruntime.InferenceSession("decoder.onnx").run(None, {{"codes": codes}})[0]
values = {half:g} * (images + 1) + {low}  # {unit}
```

{notes}

Written by {made_with}. Each file gave what torch gives, to {tolerance:g}, on batches of 1 and 5. Its metadata say what
this page says.
"""


def write_onnx(run: Run, folder: Path) -> None:
    """Write decoder.onnx, and encoder.onnx, mapping.onnx and classifier.onnx as far as the run has them, and README.md.

    Raises UserError where ONNX has no such operation, onnxruntime finds other numbers than torch, or is not installed.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(f"--onnx: {' and '.join(missing)} not installed; pip install {' '.join(missing)}")
    networks, notes, spec = networks_of(run), notes_of(run), run.image
    for network in networks:
        _write(network, folder / f"{network.name}.onnx", _metadata(run, network, notes))
    lines = [f"- `{n.name}.onnx`\n  - in: {n.takes.sentence}\n  - out: {n.gives.sentence}" for n in networks]
    text = README.format(
        name=run.config.name,
        networks="\n".join(lines),
        half=spec.range / 2,
        low=f"{spec.low:g}" if spec.low >= 0.0 else f"({spec.low:g})",
        unit=spec.unit,
        notes="\n".join(f"> {note}" for note in notes),
        made_with=made_with(),
        tolerance=TOLERANCE,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _metadata(run: Run, network: Network, notes: Sequence[str]) -> dict[str, str]:
    """What stands in the file: texts, and numbers as JSON."""
    spec, window = run.image, list(run.look.window)
    found = {"run": str(run.config.name), "medlat": made_with(), "notes": " ".join(notes)}
    found |= {"input": network.takes.sentence, "output": network.gives.sentence}
    if images_of(run) in (network.takes, network.gives):
        found |= {"unit": spec.unit, "spacing_mm": json.dumps(spec.spacing_mm), "display_window": json.dumps(window)}
        found |= {"values_of_-1_and_1": json.dumps([spec.low, spec.high])}
    return found


def _write(network: Network, file: Path, metadata: dict[str, str]) -> None:
    onnx, runtime = import_module("onnx"), import_module("onnxruntime")
    takes, gives = network.takes.name, network.gives.name

    def answered(batch: Tensor) -> Tensor:
        found: Any = session.run([gives], {takes: np.ascontiguousarray(batch.numpy())})[0]
        return torch.from_numpy(found)

    with tracing(network):
        torch.onnx.export(
            network,
            (network.example,),
            str(file),
            dynamo=False,  # the newer of torch's exporters needs onnxscript
            opset_version=OPSET,
            input_names=[takes],
            output_names=[gives],
            dynamic_axes={takes: {0: "N"}, gives: {0: "N"}},
        )
        model = onnx.load(file)
        onnx.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        onnx.save(model, file)
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        network.check(answered, TOLERANCE)
