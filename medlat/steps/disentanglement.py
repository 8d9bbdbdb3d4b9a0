"""MIG, DCI and SAP of directions: how the places of held-out images along them go with their true factors."""

import numpy as np
import torch

from medlat.core.spaces import Directions, LatentModel
from medlat.data.batches import in_batches
from medlat.directions.finder import encoded
from medlat.evaluation.disentanglement import all_metrics
from medlat.steps.generator import BATCH
from medlat.steps.step import Context


def disentanglement(context: Context, model: LatentModel, directions: Directions) -> dict[str, float]:
    """The five numbers over held-out images and all known factors; none where factors are not known, or the generator
    has no encoder into the directions' space.
    """
    space, factors, parts = directions.space.name, context.images.factors(), context.split
    if not factors or not model.can("encode") or space not in model.image_spaces:
        return {}

    def held_out() -> torch.Tensor:
        images = (context.images.fetch(rows, context.spec) for rows in in_batches(parts.test, BATCH))
        return encoded(model, images, space)

    codes = context.kept(f"codes of held-out images in {space}", held_out)
    vectors = directions.vectors.flatten(1).double()
    along = (codes @ torch.linalg.pinv(vectors)).numpy()  # of directions that are not orthogonal too
    truths = np.stack([values[parts.test] for values in factors.values()], axis=1)
    metrics = all_metrics(along, truths, context.images.patient[parts.test], context.config.seed)
    return {f"disentanglement/{directions.method}/{name}": value for name, value in metrics.items()}
