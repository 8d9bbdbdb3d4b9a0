"""What only a machine with a GPU can tell, in one table.

    python experiments/gpu/check.py [--parts precision resume] [--reference CHECKOUT]

`precision`: every generator trained in float32, TF32, bf16 and fp16. `compile`: the GANs with torch.compile. `several`:
on two GPUs. `resume`: killed and continued, beside one that ran through. `large`: StyleGAN2 and the diffusion
autoencoder at 128² and 256². `reference` (where CHECKOUT is a clone of NVlabs/stylegan2-ada-pytorch, whose compiled
operations this builds and runs): a training step of StyleGAN2 at 256² beside theirs.

Each training is a process of its own, of slices of the CT phantom. Prints a table and writes results.csv beside this
file; without a GPU it says so and ends. `--tiny` tries each part on any machine, with one generator at a size that says
nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from medlat.core.records import Record, read_records
from medlat.core.tables import write_table

RESULTS = Path(__file__).with_name("results.csv")
BESIDE = Path(__file__).parents[1] / "throughput" / "beside.py"
SCORES = ("validation/psnr", "validation/spread", "validation/loss")  # the last of the first that there is
TF32 = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
Row = dict[str, Any]


class Lab:
    """Trainings of one size. folder: for their stores; images: shown in each."""

    def __init__(self, folder: Path, tiny: bool) -> None:
        self.folder, self.tiny, self.images = folder, tiny, 192 if tiny else 20_000
        self.generators = ("vae",) if tiny else ("vae", "dcgan", "stylegan2", "dae")

    def settings(self, generator: str, *further: str) -> list[str]:
        scale = ["scale=tiny", "trainer.accelerator=cpu"] if self.tiny else ["scale=laptop"]
        shown = f"generator.training.images={self.images}"
        return ["+experiment=ct_vae_sefa", f"generator={generator}", *scale, shown, *further]

    def start(self, name: str, overrides: list[str], **environment: str) -> subprocess.Popen:
        """A training in a process of its own; the same name continues it."""
        line = [sys.executable, __file__, "--child", f"store={self.folder / name}", *overrides]
        where = {**os.environ, **environment}
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=where)

    def train(self, name: str, overrides: list[str], **environment: str) -> Row:
        """Columns of the table, or the reason why there are none."""
        out, err = (process := self.start(name, overrides, **environment)).communicate()
        if process.returncode:
            return {"note": f"failed: {(err.strip().splitlines() or ['without a word'])[-1]}"}
        return json.loads(out.splitlines()[-1])


def precision(lab: Lab) -> Iterator[Row]:
    for generator in lab.generators:
        for setting in ("32-true", "tf32", "bf16-mixed", "16-mixed"):
            own = "32-true" if setting == "tf32" else setting
            overrides = lab.settings(generator, f"trainer.precision={own}")
            if lab.tiny and setting == "16-mixed":
                overrides = lab.settings(generator, "trainer.precision=bf16-mixed")  # CPUs have no fp16 that trains
            found = lab.train(f"{generator}_{setting}", overrides, **(TF32 if setting == "tf32" else {}))
            yield {"part": "precision", "what": generator, "setting": setting} | found


def compiled(lab: Lab) -> Iterator[Row]:
    for generator in ("dcgan",) if lab.tiny else ("dcgan", "stylegan2"):
        for setting in (False, True):
            found = lab.train(f"{generator}_{setting}", lab.settings(generator, f"trainer.compile={setting}"))
            yield {"part": "compile", "what": generator, "setting": f"compile={setting}"} | found


def several(lab: Lab) -> Iterator[Row]:
    if not lab.tiny and torch.cuda.device_count() < 2:
        yield {"part": "several", "note": "one GPU here, two are needed"}
        return
    for generator in ("dae",) if lab.tiny else ("dcgan", "stylegan2", "dae"):
        for devices in (1, 2):
            found = lab.train(f"{generator}_{devices}", lab.settings(generator, f"trainer.devices={devices}"))
            yield {"part": "several", "what": generator, "setting": f"devices={devices}"} | found


def resume(lab: Lab) -> Iterator[Row]:
    """The largest difference of any weight between a training that ran through, one that was killed, and another that
    ran through: on a GPU two of the same differ too.
    """
    often = "generator.training.checkpoint_every_s=0.2"
    for generator in lab.generators:
        overrides = lab.settings(generator, often)
        first, again = (lab.train(f"{generator}_{name}", overrides) for name in ("through", "again"))
        process = lab.start(f"{generator}_killed", overrides)
        while process.poll() is None and not list((lab.folder / f"{generator}_killed").glob("generator/*/progress/*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed = lab.train(f"{generator}_killed", overrides)
        for name, other in (("killed and continued", killed), ("the same once more", again)):
            row = {"part": "resume", "what": generator, "setting": name}
            if failed := next((r["note"] for r in (first, other) if "weights" not in r), None):
                yield row | {"note": failed}
                continue
            ours, theirs = (load_file(r["weights"]) for r in (first, other))
            apart = max(float((ours[k].double() - theirs[k].double()).abs().max()) for k in ours)
            yield row | {"score": "largest difference of a weight", "value": apart}


def large(lab: Lab) -> Iterator[Row]:
    for generator in ("dae",) if lab.tiny else ("stylegan2", "dae"):
        for side in (32,) if lab.tiny else (128, 256):
            size = [f"data.image_size={side}", f"data.source.size={2 * side}", "data.source.patients=40"]
            size += [] if lab.tiny else ["scale=paper"]
            found = lab.train(f"{generator}_{side}", lab.settings(generator, *size))
            yield {"part": "large", "what": generator, "setting": f"{side}²"} | found


PARTS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "precision": precision,
    "compile": compiled,
    "several": several,
    "resume": resume,
    "large": large,
}


def reference(checkout: Path) -> Iterator[Row]:
    size = ["--device", "cuda", "--size", "256", "--base", "16384", "--max", "512", "--batch", "16"]
    line = [sys.executable, str(BESIDE), "stylegan2", str(checkout), *size]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        yield {"part": "reference", "note": f"failed: {(done.stderr.strip().splitlines() or [''])[-1]}"}
    for cells in (text.strip("| ").split(" | ") for text in done.stdout.splitlines() if text.startswith("| ")):
        if len(cells) == 4 and cells[2].replace(".", "").isdigit():
            yield {"part": "reference", "what": "stylegan2, 256²", "setting": cells[0], "images_per_s": float(cells[2])}


# --- the training of a process ---------------------------------------------------------------------------------------


def child(overrides: list[str]) -> None:
    """Train a generator, and print its columns as JSON in the last line."""
    from hydra import compose, initialize_config_dir

    from medlat.config.locate import config_dir
    from medlat.steps.data import Division, Images
    from medlat.steps.generator import Generator, curves
    from medlat.study.pipeline import plan

    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("config", overrides=overrides)
    context = plan(config).context
    for step in (Images(), Division(), Generator(config)):
        context.made(step)
    made = context.artifacts["generator"]
    records = read_records(curves(made))
    row: Row = {"images_per_s": speed(records), "weights": str(made.path / "generator.safetensors")}
    if torch.cuda.is_available():
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    for name in SCORES:
        values = [record.value for record in records if record.name == name]
        if values:
            row |= {"score": name, "value": values[-1]}
            break
    print(json.dumps(row))


def speed(records: list[Record]) -> float:
    """Images a second in the second half of the training; NaN where it ended too soon."""
    late = [record for record in records if record.step >= records[-1].step / 2]
    took = late[-1].time - late[0].time
    return (late[-1].step - late[0].step) / took if took > 0.0 else float("nan")


def check(parts: list[str], tiny: bool, checkout: Path | None) -> list[Row]:
    rows = []
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            for row in PARTS[part](Lab(Path(folder), tiny)):
                row.pop("weights", None)
                print(row, flush=True)
                rows.append(row)
    return rows + (list(reference(checkout)) if checkout else [])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--reference", type=Path, help="clone of NVlabs/stylegan2-ada-pytorch")
    parser.add_argument("--tiny", action="store_true", help="each part, on any machine, at a size that says nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if not torch.cuda.is_available() and not asked.tiny:
        print("no GPU: nothing is checked")
        return
    columns = ("part", "what", "setting", "images_per_s", "peak_gib", "score", "value", "note")
    rows = check(asked.parts, asked.tiny, asked.reference)
    write_table(asked.out, [{name: row.get(name, "") for name in columns} for row in rows])
    where = "CPU" if not torch.cuda.is_available() else torch.cuda.get_device_name()
    print(f"{asked.out}: {len(rows)} rows; {where}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
