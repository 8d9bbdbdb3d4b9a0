"""What medlat reads of each folder of real images: how many, of whom, which values, which labels, and what is left out.

    python experiments/data/table.py --data ../shared/data [--sets knees wsi]

Each set is composed and prepared as a run does it, at 64², into a store of its own that is thrown away; then it is
divided as the configuration says. Writes table.csv beside this file; rows of sets that are not asked for stay.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from medlat.config.locate import config_dir
from medlat.core.errors import UserError
from medlat.core.tables import read_table, write_table
from medlat.data.account import account_of
from medlat.data.image_store import ImageStore
from medlat.steps.data import Division, Images
from medlat.study.pipeline import plan

TABLE = Path(__file__).with_name("table.csv")
SETS = {
    "ct_tcga_luad": "data=ct_dicom data.root={data}/ct_tcga_luad",
    "ct_lidc": "data=lidc_idri data.root={data}/ct_lidc",
    "ct_lung_dx": "data=ct_dicom data.root={data}/ct_lung_dx data.split.by=slab",
    "all three": "data=ct_dicom data.root={data}",
    "histology_lc25000": "data=image_folder data.root={data}/histology_lc25000",
    "wsi": "data=slides data.root={data}/wsi data.max_tiles=null",
    "knee_oa": "data=radiographs data.root={data}/knee_oa",
    "pneumoniamnist": "data=medmnist data.root={data}/medmnist/pneumoniamnist.npz data.duplicates=drop",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the real images")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    asked = parser.parse_args()
    kept = {row["set"]: row for row in read_table(TABLE)} if TABLE.exists() else {}
    for name in asked.sets:
        said = SETS[name].format(data="DIR")
        kept[name] = {"set": name, "options": said} | measured(SETS[name].format(data=Path(asked.data).resolve()))
        print(kept[name], flush=True)
    write_table(TABLE, [kept[name] for name in SETS if name in kept])


class Said(logging.Handler):
    """The warnings of a preparation."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def measured(options: str) -> dict[str, Any]:
    """The columns of one set."""
    said = Said()
    logging.getLogger("medlat").addHandler(said)
    try:
        return prepared(options) | {"warnings": "; ".join(dict.fromkeys(said.lines))}
    finally:
        logging.getLogger("medlat").removeHandler(said)


def prepared(options: str) -> dict[str, Any]:
    """A set in the store, as it is counted there."""
    with tempfile.TemporaryDirectory() as store, initialize_config_dir(config_dir(), version_base="1.3"):
        overrides = ["+experiment=ct_vae_sefa", *options.split(), "data.image_size=64", f"store={store}"]
        context = plan(compose("config", overrides=overrides)).context
        began = time.monotonic()
        context.made(Images())
        seconds, images = time.monotonic() - began, context.images
        try:
            context.made(Division())
            parts = context.split
            divided = f"{len(parts.train)}, {len(parts.validation)}, {len(parts.test)}"
            copies = len(parts.copies)
        except UserError as error:
            divided, copies = str(error).splitlines()[0], 0
        lines = [f"{line.what}: {line.number} {line.reason}" for line in account_of(images.info, copies)]
        return {
            "images": len(images),
            "groups": len(images.patients),
            "low": float(images.images[:].min()),
            "high": float(images.images[:].max()),
            "unit": images.modality.unit,
            "labels": labels(images),
            "training, validation, test": divided,
            "left out": "; ".join(lines),
            "seconds": round(seconds, 1),
        }


def labels(images: ImageStore) -> str:
    """Each label with the number of images of each of its classes, or its range."""
    found = []
    for name, values in images.labels().items():
        classes = images.classes(name)
        if classes is None:
            found.append(f"{name} from {values.min():g} to {values.max():g}")
        else:
            counts = np.bincount(values.astype(int), minlength=len(classes))
            found.append(f"{name}: " + ", ".join(f"{n} {one}" for one, n in zip(classes, counts, strict=True)))
    return "; ".join(found)


if __name__ == "__main__":
    main()
