"""The audit: what the classifier uses, by how it answers to each quantity alone, beside random changes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import Target, predict_each
from medlat.core.tables import read_table, write_table
from medlat.evaluation.semantics import per_person
from medlat.explain.audit import Response, responses
from medlat.steps.base_codes import Base, along_axes, base_codes
from medlat.steps.classifier import load_target
from medlat.steps.measurements import load_measurements
from medlat.steps.methods import Method
from medlat.steps.step import Context, Step

FILE = "audit.csv"


class Audit(Step):
    """Leaves audit.csv, a row for each quantity: known factors where there are any, else measurements. Codes are those
    of the space of the main method's directions, which are measured already.
    """

    name = "audit"
    version = 3

    def __init__(self, method: Method) -> None:
        self.method = method
        self.needs = ("images", "split", "classifier", "generator", "encoder", "measurements", method.step)

    def settings(self, config: DictConfig) -> dict[str, Any]:
        return {"base_codes": config.evaluation.base_codes, "seed": config.seed, "target": config.explain.target}

    def run(self, context: Context, out: Path) -> None:
        target = load_target(context.config, context.artifacts["classifier"], context.spec)
        if rows := audited(context, target, context.directions(self.method).space.name):
            write_table(out / FILE, [row.row() for row in rows])


def load_audit(context: Context) -> list[Response]:
    path = context.folder("audit") / FILE
    return [Response(**row) for row in read_table(path, Response)] if path.exists() else []


def audited(context: Context, target: Target, space: str) -> list[Response]:
    """How a target answers to each quantity, the surest first; [] where nothing is measured."""
    model, base = context.generator(), base_codes(context, space)
    quantities = load_measurements(context.folder("measurements")).quantities
    if not base.answers:
        return []
    kind = "factor" if "factor" in base.answers else "measurement"
    asked = slopes(model, space, base, base.answers[kind].axes, target, context.device)
    return responses(asked, base.answers[kind], quantities[kind], base.people, context.config.seed)


def slopes(model: Any, space: str, base: Base, axes: np.ndarray, target: Target, device: torch.device) -> np.ndarray:
    """How predictions rise along each of the axes [A, D], for a unit of the code: [G, A] of patients."""
    lengths: list[float] = []

    def both_ends() -> Iterator[Tensor]:
        for length, images in along_axes(model, space, base.codes, base.noise, axes, base.spread[: len(axes)]):
            lengths.append(length)
            yield images.flatten(0, 1)

    found = []
    for length, predictions in zip(lengths, predict_each(target.black_box, both_ends(), device), strict=True):
        ends = target.linear(target.of(predictions)).double().numpy().reshape(-1, 2)
        found.append(per_person((ends[:, 1] - ends[:, 0]) / (2.0 * length), base.owners))
    return np.stack(found, axis=1)
