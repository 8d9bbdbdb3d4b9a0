"""What the samples of a diffusion autoencoder owe to the prior of codes, and what to the noise:

    python experiments/real_images/samples.py --data ../shared/data --store outputs/store --sets tiles [--images 65000]

Codes drawn from the Gaussian, near training images' codes, or training images' own; decoded from the common noise, or
each from noise of its own. Distances to held-out images, in samples.csv beside this file.
"""

from pathlib import Path

import numpy as np
import torch
from study import asked_for, composed, made, parser
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.core.spaces import decode_in_parts
from medlat.core.tables import write_table
from medlat.data.batches import in_batches
from medlat.steps import builders, distances
from medlat.steps.measurements import load_measurements
from medlat.steps.step import Context

KNOWN = 2048  # training images
SAMPLES = 512
NEIGHBOURS = 5  # of a code, on the way to one of which a new one is drawn (SMOTE, Chawla et al. 2002)
BATCH = 128


def main() -> None:
    asked = parser(__doc__).parse_args()
    rows = []
    for name in asked.sets:
        context, _ = made(composed([*asked_for(name, "dae", asked), "inversion=exact"]))
        rows += of_set(context, name)
    write_table(Path(__file__).with_name("samples.csv"), rows)


def of_set(context: Context, name: str) -> list[dict]:
    model, split, spec = context.generator(), context.split, context.spec
    chosen = np.random.default_rng(0).choice(split.train, min(KNOWN, len(split.train)), replace=False)
    codes = torch.cat([model.encode(context.images.fetch(rows, spec), "z") for rows in in_batches(chosen, BATCH)])
    generator = generator_for("samples of", name)
    kinds = {
        "Gaussian": model.sample(SAMPLES, "z", generator),
        "between neighbours": between(codes, generator),
        "training images'": codes[torch.randint(len(codes), (SAMPLES,), generator=generator)],
    }
    own = model.sample_noise(SAMPLES, generator)
    measured = load_measurements(context.folder("measurements")).test
    rows = []
    for kind, drawn in kinds.items():
        for noise, given in (("common", None), ("own", own)):
            images = decode_in_parts(model, drawn, "z", given)
            values = builders.measurements(context.config).of(images, spec)
            compared = distances.compare(context.images, split, spec, images, values, measured)
            assert compared is not None
            found = distances.all_distances(compared, model, [], seed=0)
            row = {"set": name, "codes": kind, "noise": noise, "images": compared.n}
            row |= {key.removeprefix("distance/"): value for key, value in distances.numbers(found).items()}
            print(row, flush=True)
            rows.append(row)
    return rows


def between(codes: Tensor, generator: torch.Generator) -> Tensor:
    """SAMPLES codes on the way from one of codes [N, D] to one of its nearest."""
    near = torch.cdist(codes, codes).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]
    first = torch.randint(len(codes), (SAMPLES,), generator=generator)
    second = near[first, torch.randint(NEIGHBOURS, (SAMPLES,), generator=generator)]
    return torch.lerp(codes[first], codes[second], torch.rand(SAMPLES, 1, generator=generator))


if __name__ == "__main__":
    main()
