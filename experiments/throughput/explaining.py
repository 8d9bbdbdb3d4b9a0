"""How fast images are inverted, followed along directions and judged: `python experiments/throughput/explaining.py`.

Generators and classifier have the sizes of the laptop scale and random weights, which decide no time. Every number
stands beside the floor that limits it, the generator alone. Writes explaining.csv beside this file.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from medlat.classifiers.black_box import Target
from medlat.classifiers.trained import Trained
from medlat.config import build
from medlat.config.locate import config_dir
from medlat.core.spaces import ImageSpec, chosen_space, decode_in_parts
from medlat.core.tables import write_table
from medlat.explain.counterfactuals import TargetRange, Traversal, counterfactuals
from medlat.inversion.encode import own_encoder
from medlat.steps import builders

SPEC = ImageSpec(3, 64, 64, 0.0, 255.0, "RGB", 0.001)
IMAGES = 16
STEPS = [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
CPU = torch.device("cpu")


def main() -> None:
    rows = [row for name in ("vae", "stylegan2") for row in rows_of(name)]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| generator | what | images/s | of decoding alone |\n| --- | --- | ---: | ---: |")
    for row in rows:
        print(f"| {row['generator']} | {row['what']} | {row['images_per_s']:.3g} | {row['of_decoding']:.3g} |")
    write_table(Path(__file__).with_name("explaining.csv"), rows)


def rows_of(name: str) -> list[dict[str, Any]]:
    """Decoding, every method of inversion, and a series with its counterfactual, for one generator."""
    config = composed(name, "inversion=compare")
    model = builders.network(config, SPEC).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    space = chosen_space(model, None, for_images=True)
    target = Target(Trained(builders.classifier_network(config, SPEC, "binary", ["no", "yes"])))
    encoder = own_encoder(model, space.name)
    if encoder is None:
        encoder = builders.encoder_network(config, model, space.name).eval().requires_grad_(False)
    codes = model.sample(256, space.name, torch.Generator().manual_seed(0))
    images = decode_in_parts(model, codes[:IMAGES], space.name)
    traversal = Traversal(model, space.name, codes[:64], torch.randn_like(codes[:64]), target, CPU)

    def follow() -> int:
        series = traversal.predictions_at(STEPS)
        counterfactuals(traversal, STEPS, series, TargetRange(0.5, 0.45, 0.55))
        return 64

    found = [("decoding alone", rate(lambda: len(decode_in_parts(model, codes, space.name))))]
    found.append(("decoding and predicting, along a series", rate(lambda: traversal.predictions_at(STEPS).numel())))
    for method, section in config.inversion.compared.items():
        inverter = build.build(section)
        found.append((f"inversion: {method}", rate(lambda i=inverter: len(i.invert(model, images, encoder)), 1)))
    found.append(("series of 9 steps and counterfactual", rate(follow)))
    alone = found[0][1]
    return [{"generator": name, "what": w, "images_per_s": v, "of_decoding": v / alone} for w, v in found]


def composed(generator: str, *overrides: str) -> Any:
    """The configuration of an explanation with that generator."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        more = [f"generator={generator}", "ada@generator.module.augmentation=none"] if generator != "vae" else []
        return compose("config", ["+experiment=histology_vae_linear", *more, *overrides])


def rate(work: Callable[[], int], repeats: int = 5) -> float:
    """Images per second: the best of several tries, after a first that does not count."""
    if repeats > 1:
        work()
    speeds = []
    for _ in range(repeats):
        start = time.perf_counter()
        speeds.append(work() / (time.perf_counter() - start))
    return max(speeds)


if __name__ == "__main__":
    main()
