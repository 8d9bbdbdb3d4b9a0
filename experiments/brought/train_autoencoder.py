"""A MONAI AutoencoderKL of knee radiographs, trained without medlat, as somebody who brings one has done.

python experiments/brought/train_autoencoder.py DATA OUT [SECONDS]

DATA: a folder with labels.csv (path, label, group) and its pictures. Half of the people are trained on. Leaves
OUT/autoencoder.pt, a plain state dict; OUT/unseen.csv, the rows of everybody else, for `data.labels=`; OUT/log.txt.
"""

import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import AutoencoderKL
from PIL import Image

SIDE, BATCH, KL_WEIGHT, LEARNING_RATE = 64, 16, 1e-6, 2e-3
ARGUMENTS = {  # the same that generator.arguments= says
    "spatial_dims": 2,
    "channels": [8, 16, 32, 32],
    "num_res_blocks": 1,
    "attention_levels": [False, False, False, False],
    "with_encoder_nonlocal_attn": False,  # attention needs einops
    "with_decoder_nonlocal_attn": False,
    "latent_channels": 4,
    "norm_num_groups": 8,
}


def main(data: Path, out: Path, seconds: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    with open(data / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    people = sorted({row["group"] for row in rows})
    seen = set(np.random.default_rng(0).permutation(people)[: len(people) // 2])
    with open(out / "unseen.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["group"] not in seen)
    images = torch.stack([read(data / row["path"]) for row in rows if row["group"] in seen])
    network = AutoencoderKL(**ARGUMENTS)
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    began, step = time.monotonic(), 0
    log = open(out / "log.txt", "w")  # noqa: SIM115 (until the end)
    while (spent := time.monotonic() - began) < seconds:
        for group in adam.param_groups:
            group["lr"] = LEARNING_RATE * (1.0 - spent / seconds) ** 0.5
        batch = images[torch.randint(len(images), (BATCH,))].float() / 255.0
        made, mean, sigma = network(batch)
        kl = 0.5 * (mean**2 + sigma**2 - 2.0 * sigma.log() - 1.0).sum(dim=(1, 2, 3)).mean()
        loss = (made - batch).abs().mean() + KL_WEIGHT * kl
        adam.zero_grad()
        loss.backward()
        adam.step()
        step += 1
        if step % 50 == 0:
            psnr = -10.0 * torch.log10((made - batch).square().mean()).item()
            print(f"{spent:6.0f} s, step {step}, loss {loss.item():.4f}, PSNR {psnr:.1f} dB", file=log, flush=True)
    torch.save(network.state_dict(), out / "autoencoder.pt")


def read(path: Path) -> torch.Tensor:
    """[1, SIDE, SIDE] uint8."""
    picture = Image.open(path).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(picture).copy())[None]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 560.0)
