"""Weights & Biases. No module but this one imports wandb.

Nothing is sent unless `logger.mode=online`, and W&B's telemetry never.
"""

import contextlib
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medlat.core.ranges import Name
from medlat.core.records import Record
from medlat.study.mirrors.mirror import columns_of, flattened

log = logging.getLogger(__name__)

ONLINE_WITHIN_S = 20.0  # that W&B may take to answer, before the run goes on without it
UPLOADED_WITHIN_S = 300.0  # at the end of a run, before the rest is left to `wandb sync`

# Of W&B itself: it measures its own work and sends that to a host of its own, whatever the mode of a run. It reads this
# when it is imported, and when it starts the process beside ours.
os.environ["WANDB_ERROR_REPORTING"] = "false"


class WandB:
    """mode: offline: `wandb sync` uploads the run later; online; or disabled. project, entity: as W&B has them."""

    def __init__(
        self, mode: Literal["offline", "online", "disabled"], project: Name, entity: str | None = None
    ) -> None:
        self.mode, self.project, self.entity = mode, project, entity

    def start(
        self, folder: Path, config: Mapping[str, Any], name: str, job_type: str | None, group: str | None
    ) -> "WandBMirror | None":
        """The configuration is shown with dotted keys, by which runs can be sorted and filtered."""
        if self.mode == "disabled":
            return None
        # W&B keeps data and caches below the run folder, and must not copy what was typed or printed: paths hold names.
        os.environ.update({f"WANDB_{kind}_DIR": str(folder / "wandb" / kind.lower()) for kind in ("CACHE", "CONFIG")})
        os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        quiet = wandb.Settings(
            console="off",
            x_disable_meta=True,
            x_disable_stats=True,
            disable_git=True,
            save_code=False,
            disable_code=True,
            host="",  # else the machine's name
            program="medlat",  # else what was typed, or the path of the script
            silent=True,
            init_timeout=ONLINE_WITHIN_S,
            finish_timeout=UPLOADED_WITHIN_S,
        )
        what: dict[str, Any] = {"project": self.project, "entity": self.entity, "name": name, "dir": str(folder)}
        what |= {"config": flattened(config), "settings": quiet, "job_type": job_type, "group": group}
        if self.mode == "online":
            if os.environ.get("WANDB_API_KEY") or _logged_in():
                with contextlib.suppress(wandb.errors.Error):
                    return WandBMirror(wandb.init(mode="online", **what))
            log.warning("W&B cannot be reached, or there is no key: offline; `wandb sync` uploads the run later")
        return WandBMirror(wandb.init(mode="offline", **what))


class WandBMirror:
    """run: of W&B."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def curves(self, records: Sequence[Record]) -> None:
        by_step: dict[int, dict[str, float]] = {}
        for record in records:
            by_step.setdefault(record.step, {})[record.name] = record.value
        for step, values in by_step.items():
            self.run.log(values | {"images": step})

    def figures(self, name: str, paths: Sequence[Path]) -> None:
        import wandb

        kind = {".gif": lambda p: wandb.Video(p, format="gif"), ".png": lambda p: wandb.Image(p)}
        self.run.log({f"{name}/{path.stem}": kind[path.suffix](str(path)) for path in paths})

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        import wandb

        self.run.log({name: wandb.Image((255.0 * pixels).astype(np.uint8)), "images": step})

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        import wandb

        columns = columns_of(rows)
        data = [[_cell(row.get(column)) for column in columns] for row in rows]
        self.run.log({name: wandb.Table(columns=columns, data=data)})

    def file(self, name: str, kind: str, path: Path) -> None:
        import wandb

        artifact = wandb.Artifact(re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:128], type=kind)  # all that W&B takes
        artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def finish(self, final: Mapping[str, float], exit_code: int) -> None:
        self.run.summary.update(dict(final))
        self.run.finish(exit_code=exit_code)


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _logged_in() -> bool:
    """Whether `wandb login` has left a key; W&B would ask for one, and a job has nobody to answer."""
    import netrc

    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return any("wandb" in host for host in netrc.netrc().hosts)
    return False
