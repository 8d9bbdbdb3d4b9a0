"""What the code of a diffusion autoencoder holds, and what an image's noise:
`python experiments/knees/code_and_noise.py RUN`, of a finished run with generator=dae and a binary classifier.

Held-out images that the run explains: what solver steps change, how much of the prediction a line through the codes
tells, and whether the classifier says the same of what code and noise are decoded to, alone and together. Writes
code_and_noise.csv beside this file.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import medlat
from medlat.core.similarity import ms_ssim, psnr
from medlat.core.statistics import grouped_mean, ridge_with_intercept
from medlat.core.tables import write_table
from medlat.data.image_store import ImageStore

STEPS = (2, 4, 6, 8, 12, 16)
MANY = 64  # steps whose error does not count
FAR = 3.0  # σ that codes are moved, along a random direction each
THRESHOLD = 0.5


def main(folder: str) -> None:
    run = medlat.load(folder)
    store = ImageStore.open(run.artifacts["images"].path)
    with np.load(run.artifacts["inversion"].path / "inversion.npz") as arrays:
        rows, fit_rows = arrays["explained_rows"], arrays["fit_rows"]
    images, groups = store.fetch(rows, run.image), store.patient[rows]
    print(f"{len(images)} held-out images of {len(np.unique(groups))} people\n")
    table = [*by_steps(run, images), by_line(run, images, store.fetch(fit_rows, run.image), groups)]
    write_table(Path(__file__).with_name("code_and_noise.csv"), [*table, *by_part(run, images, groups)])


def by_steps(run: medlat.Run, images: Tensor) -> list[dict]:
    """What more solver steps change, and what they cost. An image comes back whatever their number: what differs is the
    image of a moved code with the image's own noise, and of a code with the common noise.
    """
    model, own = run.generator, run.generator.steps
    codes = run.encode(images)
    moves = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    moved = codes + FAR * torch.nn.functional.normalize(moves, dim=1)

    def decoded() -> tuple[Tensor, Tensor, Tensor]:
        noise = run.noise(images, codes)
        return run.decode(codes, noise=noise), run.decode(moved, noise=noise), run.decode(codes)

    model.steps = MANY
    _, moved_well, alone_well = decoded()
    print("dB to what stands in brackets:\n")
    print("| solver steps | back (image) | moved (64 steps) | code (64 steps) | code (image) | s an image |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    found = []
    for model.steps in STEPS:
        begin = time.perf_counter()
        run.noise(images, codes)
        seconds = (time.perf_counter() - begin) / len(images)
        back, there, alone = decoded()
        pairs = {"back": (back, images), "moved": (there, moved_well), "alone": (alone, alone_well)}
        row: dict = {"what": f"{model.steps} steps"}
        row |= {name: float(psnr(*pair).mean()) for name, pair in pairs.items()}
        row |= {"to_image": float(psnr(alone, images).mean()), "ms_ssim": float(ms_ssim(back, images).mean())}
        found.append(row | {"seconds": seconds})
        values = " | ".join(f"{row[name]:.1f}" for name in ("back", "moved", "alone", "to_image"))
        mark = " (the default)" if model.steps == own else ""
        print(f"| {model.steps}{mark} | {values} | {seconds:.3f} |", flush=True)
    model.steps = own
    return found


def by_line(run: medlat.Run, images: Tensor, training: Tensor, groups: np.ndarray) -> dict:
    """How much of the prediction a ridge through the codes of training images tells of held-out ones."""
    x, y = run.encode(training).numpy(), run.predict(training)[:, 0].logit(eps=1e-4).numpy()
    weights = ridge_with_intercept(x.astype(np.float64), y.astype(np.float64), 1e-2)
    told = run.encode(images).numpy() @ weights[:-1] + weights[-1]
    said = run.predict(images)[:, 0]
    r = float(np.corrcoef(told, said.logit(eps=1e-4).numpy())[0, 1])
    mean, low, high = grouped_mean(((told > 0) == (said > THRESHOLD).numpy()).astype(float), groups)
    print(f"\na line through the codes: r {r:.2f} of the logit, the side in {mean:.0%} [{low:.0%}, {high:.0%}]")
    return {"what": "a line through the codes", "side_kept": mean, "low": low, "high": high, "correlation": r}


def by_part(run: medlat.Run, images: Tensor, groups: np.ndarray) -> list[dict]:
    """Whether the classifier stays on its side, by what an image is decoded from."""
    generator = torch.Generator().manual_seed(0)
    codes = run.encode(images)
    noise, said = run.noise(images, codes), run.predict(images)[:, 0]
    others = torch.randperm(len(images), generator=generator)
    fresh = run.generator.sample_noise(len(images), generator)
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
