"""What there is to run: the configuration groups' options, each with the first comment of its file, for `--help`."""

import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

WIDTH = 100
GROUPS = {
    "experiment": "Experiments (+experiment=NAME)",
    "data": "Data sources (data=NAME)",
    "generator": "Generators (generator=NAME)",
    "ada": "Augmentation in the training of GANs (ada@generator.module.augmentation=NAME)",
    "classifier": "Classifiers to explain (classifier=NAME; more beside it: +classifier@compared.ANY=NAME)",
    "inversion": "From real images to codes (inversion=NAME)",
    "measure": "Sets of measurements (measure=NAME, or several: measure=[NAME,NAME])",
    "directions": "Direction methods (directions=NAME; more beside it: +directions@compared.ANY=NAME)",
    "directions/deformator": "Of shift_reconstruction: what moves codes (directions/deformator=NAME)",
    "directions/reconstructor": "Of shift_reconstruction: what tells moves apart (directions/reconstructor=NAME)",
    "features": "Feature extractors for distances (+features@evaluation.features.ANY=NAME)",
    "scale": "Scales (scale=NAME)",
    "logger": "What mirrors the record of a run (logger=NAME)",
}
_HEAD = """\
What has a network learnt? Train a generator on medical images, find directions in its latent space,
and measure what each of them means, or why a classifier says what it says.

Usage: python -m medlat.run +experiment=NAME [KEY=VALUE ...] [-m] [--config-dir DIR]
"""
_TAIL = """\
Any value can be overridden: KEY=VALUE, e.g. seed=3. `-m` runs every combination of comma-separated
values. `dry_run=true` prints the plan and stops; `--cfg job` prints the configuration.

Examples:
  python -m medlat.run +experiment=ct_vae_sefa scale=tiny
  python -m medlat.run +experiment=histology_vae_linear data=image_folder data.root=DIR
  python -m medlat.run -m +experiment=ct_vae_sefa directions=sefa,random seed=1,2,3
"""


def help_text(config_dirs: Sequence[str]) -> str:
    """The page that `--help` prints, within 100 columns.

    config_dirs: the program's own configuration and the user's (`--config-dir`); where both have an option of the
    same name, the first is the one that runs.
    """
    groups = {group: options(config_dirs, group) for group in GROUPS}
    indent = 4 + max((len(name) for found in groups.values() for name in found), default=0)
    sections = [_HEAD]
    for group, found in groups.items():
        if found:
            lines = [_line(name, text, indent) for name, text in found.items()]
            sections.append("\n".join([f"{GROUPS[group]}:", *lines, ""]))
    return "\n".join([*sections, _TAIL])


def options(config_dirs: Sequence[str], group: str) -> dict[str, str]:
    """name -> description of a group's options, subfolders included ("schon2022/vae_ortho_lenet"), sorted.

    What other options are built on (`is_base`) is left out.
    """
    found: dict[str, str] = {}
    for folder in config_dirs:
        for path in sorted(Path(folder, group).rglob("*.yaml")):
            name = path.relative_to(Path(folder, group)).with_suffix("").as_posix()
            if not is_base(name) and f"{group}/{name}".rpartition("/")[0] not in set(GROUPS) - {group}:
                found.setdefault(name, _description(path))
    return dict(sorted(found.items()))


def is_base(option: str) -> bool:
    """Whether an option is only what others are built on, by its name: `base`, `ct_base`, `_anything`."""
    name = option.rpartition("/")[2]
    return name.startswith("_") or name.rpartition("_")[2] == "base"


def _description(path: Path) -> str:
    """The first comment line of a file that is not meant for Hydra (`# @package _global_`)."""
    return next((line for line in _comments(path) if not line.startswith("@package")), "")


def _comments(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                return
            yield from filter(None, [line.strip(f"# {os.linesep}\n")])


def _line(name: str, text: str, indent: int) -> str:
    start = f"  {name}".ljust(indent)
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * indent) if text else start.rstrip()
