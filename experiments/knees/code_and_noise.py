"""What the code of a diffusion autoencoder holds, and what an image's noise:
`python experiments/knees/code_and_noise.py RUN`, of a finished run with generator=dae and a binary classifier.

Held-out images that the run explains: how well they come back by solver steps, and whether the classifier says the same
of what code and noise are decoded to, alone and together. Writes code_and_noise.csv beside this file.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import medlat
from medlat.core.similarity import ms_ssim, psnr
from medlat.core.statistics import grouped_mean
from medlat.core.tables import write_table
from medlat.data.image_store import ImageStore

STEPS = (2, 3, 4, 6, 8, 12)
THRESHOLD = 0.5


def main(folder: str) -> None:
    run = medlat.load(folder)
    store = ImageStore.open(run.artifacts["images"].path)
    with np.load(run.artifacts["inversion"].path / "inversion.npz") as arrays:
        rows = arrays["explained_rows"]
    images, groups = store.fetch(rows, run.image), store.patient[rows]
    print(f"{len(images)} held-out images of {len(np.unique(groups))} people\n")
    table = [*by_steps(run, images), *by_part(run, images, groups)]
    write_table(Path(__file__).with_name("code_and_noise.csv"), table)


def by_steps(run: medlat.Run, images: Tensor) -> list[dict]:
    """How well images come back by the number of solver steps, and what it costs."""
    model, own = run.generator, run.generator.steps
    print("| solver steps | PSNR, dB | MS-SSIM | of the code alone, dB | s an image, there and back |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    found, codes = [], run.encode(images)
    for steps in STEPS:
        model.steps, begin = steps, time.perf_counter()
        back = run.decode(codes, noise=run.noise(images, codes))
        seconds = (time.perf_counter() - begin) / len(images)
        row = {
            "what": f"{steps} steps",
            "psnr": float(psnr(back, images).mean()),
            "ms_ssim": float(ms_ssim(back, images).mean()),
            "psnr_alone": float(psnr(run.decode(codes), images).mean()),
            "seconds": seconds,
        }
        found.append(row)
        mark = " (chosen)" if steps == own else ""
        print(
            f"| {steps}{mark} | {row['psnr']:.1f} | {row['ms_ssim']:.4f} | {row['psnr_alone']:.1f} | {seconds:.3f} |",
            flush=True,
        )
    model.steps = own
    return found


def by_part(run: medlat.Run, images: Tensor, groups: np.ndarray) -> list[dict]:
    """Whether the classifier stays on its side, by what an image is decoded from."""
    generator = torch.Generator().manual_seed(0)
    codes = run.encode(images)
    noise, said = run.noise(images, codes), run.predict(images)[:, 0]
    others = torch.randperm(len(images), generator=generator)
    fresh = torch.randn(noise.shape, generator=generator)
    parts = {
        "code and own noise": run.decode(codes, noise=noise),
        "code and the common noise": run.decode(codes),
        "code and fresh noise": run.decode(codes, noise=fresh),
        "mean code and own noise": run.decode(torch.zeros_like(codes), noise=noise),
        "another's code and own noise": run.decode(codes[others], noise=noise),
        "own code and another's noise": run.decode(codes, noise=noise[others]),
    }
    print("\n| decoded from | side kept | correlation of logits |\n| --- | ---: | ---: |")
    found = []
    for name, decoded in parts.items():
        now = run.predict(decoded)[:, 0]
        same = ((now > THRESHOLD) == (said > THRESHOLD)).double().numpy()
        mean, low, high = grouped_mean(same, groups)
        r = float(torch.corrcoef(torch.stack([said.logit(eps=1e-4), now.logit(eps=1e-4)]))[0, 1])
        print(f"| {name} | {mean:.0%} [{low:.0%}, {high:.0%}] | {r:.2f} |", flush=True)
        found.append({"what": name, "side_kept": mean, "low": low, "high": high, "correlation": r, "n": len(images)})
    return found


if __name__ == "__main__":
    main(sys.argv[1])
