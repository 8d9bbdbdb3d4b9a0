"""Images and split: from files to what training reads."""

import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medlat.config.build import make, naming, plain
from medlat.core.machine import cores
from medlat.core.store import Artifact, hash_of
from medlat.data.account import copy_lines
from medlat.data.duplicates import refuse_leaks, without_copies
from medlat.data.groups import is_table
from medlat.data.image_store import Preparation, prepare
from medlat.data.splits import check_undivided
from medlat.data.splits import split as divide
from medlat.steps import builders
from medlat.steps.step import Context, Step, without

log = logging.getLogger(__name__)

PATHS = ("root", "path", "labels", "annotations", "mpp_table", "datalist")  # whose content the fingerprint tells


class Images(Step):
    """Reads files; leaves the image store. Those that read it know it by its content: the same images from elsewhere
    are the same.
    """

    name = "images"
    version = 4

    def settings(self, config: DictConfig) -> dict[str, Any]:
        data = plain(config.data)
        source = without(data["source"], *PATHS)
        if source.get("group_column") == data["group"]:  # it is said once, below
            source.pop("group_column", None)
        found = {"source": source, "salt": data["salt"] and hash_of(data["salt"])}
        found |= {name: data[name] for name in ("image_size", "field_of_view_mm")}
        if data["group"] is not None:  # of a CSV the fingerprint tells the content
            found["group"] = "CSV" if is_table(data["group"]) else data["group"]
        return found | {"modality": builders.modality(config).to_dict()}

    def inputs(self, context: Context) -> dict[str, str]:
        return {"files": context.source.fingerprint()}

    def identity(self, artifact: Artifact) -> str:
        return json.loads((artifact.path / "slices.json").read_text())["digest"]

    def run(self, context: Context, out: Path) -> None:
        data = context.config.data
        salt = data.salt or context.store.salt()
        workers = context.config.workers or cores()
        names = ("image_size", "field_of_view_mm", "max_damaged", "damaged_list")
        how = make(Preparation, data, **{name: data[name] for name in names}, salt=salt, workers=workers)
        with naming(data.source):
            prepare(context.source, how, out)


class Division(Step):
    """Leaves the indices of training, validation and test images, after a look for images that stand in two of them:
    those are refused, or left out where that was asked for.
    """

    name = "split"
    needs = ("images",)

    def settings(self, config: DictConfig) -> dict[str, Any]:
        drops = {"duplicates": "drop"} if config.data.duplicates == "drop" else {}
        return plain(config.data.split) | drops

    def run(self, context: Context, out: Path) -> None:
        opened = context.images
        given = opened.columns.get("split")
        section = context.config.data.split
        with naming(section):
            known = {"given": given, "studies": opened.info["studies"]}
            parts = divide(opened.patient, opened.columns["position_mm"], **plain(section), **known)
        if context.config.data.duplicates == "drop":
            parts = without_copies(opened.images, parts)
            for line in copy_lines(len(parts.copies)):
                log.info("split: %s", line)
        with naming(context.config.data):
            refuse_leaks(opened, parts, context.source)
        with naming(section):
            if section.by == "given":
                check_undivided(opened.patient, parts)
        parts.save(out / "split.json")
        sizes = (len(parts.train), len(parts.validation), len(parts.test))
        between = len(opened) - sum(sizes) - len(parts.copies)
        gap = f"; {between} beside held-out ones are left out" if between else ""
        log.info("split: %d training, %d validation, %d test %s%s", *sizes, opened.modality.nouns, gap)
