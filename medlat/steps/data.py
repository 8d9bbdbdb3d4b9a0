"""Slices and split: from files to what training reads."""

import logging
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from medlat.config import build
from medlat.core.machine import cores
from medlat.core.spaces import ImageSpec
from medlat.core.store import Artifact, Store
from medlat.data.duplicates import refuse_leaks
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.source import SliceSource
from medlat.data.splits import Split
from medlat.data.splits import split as divide
from medlat.steps import builders

log = logging.getLogger(__name__)

Made = Mapping[str, Artifact]


def slices(config: DictConfig, source: SliceSource, store: Store, out: Path) -> None:
    """Reads files; leaves the slice store."""
    data = config.data
    salt = data.salt or store.salt()
    workers = config.workers or cores()
    settings = {name: data[name] for name in ("image_size", "field_of_view_mm", "max_damaged", "damaged_list")}
    how = build.make(Preparation, data, **settings, salt=salt, workers=workers)
    with build.naming(data.source):
        prepare(source, how, out)


def split(config: DictConfig, made: Made, source: SliceSource, out: Path) -> None:
    """Reads the slice store; leaves the indices of training, validation and test slices, after a look for images that
    stand in two of them.
    """
    opened = ImageStore.open(made["slices"].path)
    given = opened.columns.get("split")
    with build.naming(config.data.split):
        parts = divide(opened.patient, opened.columns["position_mm"], **build.plain(config.data.split), given=given)
    with build.naming(config.data):
        refuse_leaks(opened, parts, source)
    parts.save(out / "split.json")
    log.info(
        "split: %d training, %d validation, %d test slices", len(parts.train), len(parts.validation), len(parts.test)
    )


def load_data(config: DictConfig, made: Made) -> tuple[ImageStore, Split, ImageSpec]:
    """The slices, how they are divided, and what an image of them means."""
    opened = ImageStore.open(made["slices"].path)
    return opened, Split.load(made["split"].path / "split.json"), opened.spec(builders.window(config))
