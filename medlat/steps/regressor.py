"""The data set's own regressor of its known factors, whose features distances are taken over."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.core.store import Artifact
from medlat.data.batches import ShuffledBatches
from medlat.data.image_store import ImageStore
from medlat.evaluation.regressor import FactorRegressor, r2, train_regressor
from medlat.steps import builders
from medlat.steps.step import Context, Step

log = logging.getLogger(__name__)

BATCH = 64
FILE = "regressor.safetensors"


class Regressor(Step):
    """Leaves the regressor and its R² on held-out patients, or nothing where no factors are known. The seed of the run
    has no say: the features are the same for all generators of a data set.
    """

    name = "regressor"
    needs = ("images", "split")

    def settings(self, config: DictConfig) -> dict[str, Any]:
        return {"steps": config.evaluation.regressor_steps, "intensity_range": builders.intensity_range(config)}

    def run(self, context: Context, out: Path) -> None:
        opened, parts, spec = context.images, context.split, context.spec
        targets = _targets(opened)
        scores: dict[str, float] = {}
        if targets:
            steps = context.config.evaluation.regressor_steps
            sampler = ShuffledBatches(parts.train, BATCH, steps, seed=0)
            table = torch.from_numpy(np.stack(list(targets.values()), axis=1)).float()

            def fetch(step: int) -> tuple[Tensor, Tensor]:
                rows = sampler.batch(step)
                return opened.fetch(rows, spec), table[torch.from_numpy(rows)]

            seen = {name: values[parts.train] for name, values in targets.items()}
            network = train_regressor(fetch, spec, seen, steps, device=context.device)
            held_out = {name: values[parts.test] for name, values in targets.items()}
            scores = r2(network, opened.fetch(parts.test, spec), held_out)
            network.save(out / FILE)
            log.info("regressor: mean R² of %d factors %.2f", len(scores), np.nanmean(list(scores.values())))
        (out / "r2.json").write_text(json.dumps(scores, indent=2) + "\n")


def load_regressor(artifact: Artifact, device: torch.device) -> FactorRegressor | None:
    """The trained network, or None where the data have no known factors."""
    path = artifact.path / FILE
    return FactorRegressor.load(path).to(device) if path.exists() else None


def _targets(opened: ImageStore) -> dict[str, np.ndarray]:
    """Known factors and labels of every slice, by name."""
    labels = {name: values for name, values in opened.columns.items() if name.startswith("label.")}
    return opened.factors() | {name.removeprefix("label."): values for name, values in labels.items()}
