"""Images that a finished run has not seen, explained by its own steps."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import predict
from medlat.config.build import plain
from medlat.core.errors import UserError
from medlat.core.spaces import Directions, LatentModel
from medlat.core.tables import read_table
from medlat.evaluation.naming import UNNAMED
from medlat.evaluation.semantics import read_semantics
from medlat.evaluation.traversal import traverse
from medlat.explain.likeness import Likeness
from medlat.explain.single import Counterfactual, Single, SingleExplained
from medlat.explain.verdict import what_moves
from medlat.inversion.encode import Encode, Exact
from medlat.inversion.inverter import Inverted, invert_all
from medlat.inversion.mapping import map_codes, map_directions
from medlat.report.explanation import Question
from medlat.report.given import Answer, Place
from medlat.steps import builders
from medlat.steps.base_codes import base_codes
from medlat.steps.classifier import load_target, predicted
from medlat.steps.directions import target_range
from medlat.steps.explained import Inquiry, series_of
from medlat.steps.explanation import compared_targets, explain
from medlat.steps.inversion import load_codes, load_encoder, spread, tune
from medlat.steps.measurements import load_measurements
from medlat.steps.step import Context, Step

LOOKED_AT = 2048  # training images, and held-out ones, that given images are compared with
COMPARED = 64  # held-out images whose inversion they are compared with, of a run that explains none itself
DIRECTIONS = 3  # that are shown without a classifier
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of these, in σ, as far as images stay near the data


class Known(Step):
    """Leaves what given images are held against: how far held-out images are from the training images; what the
    classifier predicts of these; and, in a run without one, how well held-out images come back.
    """

    folder = name = "known"

    def __init__(self, context: Context) -> None:
        read = ("images", "split", "generator", "encoder", "classifier", "inversion")
        self.needs = tuple(step for step in read if step in context.artifacts)

    def settings(self, config: DictConfig) -> dict[str, Any]:
        asked = plain(config.explain)
        return {name: asked[name] for name in ("target", "positive", "label")} | {"seed": config.seed}

    def run(self, context: Context, out: Path) -> None:
        parts, spec, opened = context.split, context.spec, context.images
        train, held_out = (spread(rows, LOOKED_AT) for rows in (parts.train, parts.test))
        arrays = Likeness.fit(*(opened.fetch(rows, spec) for rows in (train, held_out))).arrays()
        if "classifier" in context.artifacts:
            target = load_target(context.config, context.artifacts["classifier"], spec)
            rows = load_codes(context.artifacts["inversion"])[1]["fit_rows"]
            arrays["predictions"] = predicted(target, opened, rows, spec, context.device).numpy()
        else:
            arrays["psnr"] = inverted(context, opened.fetch(spread(parts.test, COMPARED), spec))[1].psnr.numpy()
        np.savez(out / "known.npz", **arrays)  # type: ignore[arg-type]


def answer(context: Context, images: Tensor) -> Answer:
    """Images [N, C, H, W] in [-1, 1], as the run's data were prepared -> what is found of them.

    Raises UserError where no image can be put into the generator's latent space.
    """
    known = known_of(context)
    model, found = inverted(context, images)
    singles = held_against(known, images, found.psnr)
    median = float(np.median(known["psnr"]))
    if "classifier" in context.artifacts:
        return _explained(context, model, images, found, singles, torch.from_numpy(known["predictions"]), median)
    return _walked(context, model, images, found, singles, median)


def known_of(context: Context) -> dict[str, np.ndarray]:
    """What given images are held against: what `Known` left, with how well held-out images come back, in dB."""
    with np.load(context.aside(Known(context)).path / "known.npz") as file:
        known = dict(file)
    return known if "psnr" in known else known | {"psnr": load_codes(context.artifacts["inversion"])[1]["psnr"]}


def held_against(known: Mapping[str, np.ndarray], images: Tensor, psnr: Tensor) -> list[Single]:
    """Images [N, C, H, W] in [-1, 1] that come back with a PSNR [N] in dB, held against those of the run."""
    likeness = Likeness.from_arrays(known)(images)
    worse = [float((known["psnr"] <= value).mean()) for value in psnr.tolist()]
    return [Single(*row) for row in zip(likeness, psnr.tolist(), worse, strict=True)]


def inverted(context: Context, images: Tensor) -> tuple[Any, Inverted]:
    """Images [N, C, H, W] in the space that the run puts images into, and the generator that decodes them: by the run's
    method, and in a run without a classifier by the generator's own encoder.
    """
    config, device, model = context.config, context.device, context.generator()
    space = builders.inversion_space(config, model)
    if "inversion" not in context.artifacts:
        if not model.can("encode"):
            raise UserError(
                f"{type(model).__name__} has no encoder, and the run trained none, so that no image can be put into "
                f"its latent space; expected a VAE, or the run of an experiment with a classifier"
            )
        method: Any = Exact(space) if model.can("invert") else Encode(space)
        return model, invert_all(method, model, [images], lambda x: model.encode(x, space), device)
    method = builders.inverter(config)
    encoder = load_encoder(context.artifacts["encoder"], model, space, device, context.named_classes)
    found = invert_all(method, model, [images], encoder, device)
    return tune(config, method, model, images, found, device) if method.tunes else (model, found)


def _explained(
    context: Context,
    model: LatentModel,
    images: Tensor,
    found: Inverted,
    singles: Sequence[Single],
    reference: Tensor,
    psnr: float,
) -> Answer:
    config, spec, device, untuned = context.config, context.spec, context.device, context.generator()
    target = load_target(config, context.artifacts["classifier"], spec)
    inquiry = Inquiry(
        context=context,
        spec=spec,
        measurements=builders.measurements(config),
        device=device,
        model=model,
        untuned=untuned,
        target=target,
        asked=target_range(config, target, reference),
        real=images,
        noise=found.noise,
        predictions=predict(target, images, device),
        reference_predictions=reference,
        others=compared_targets(context),
    )
    space, method = builders.inversion_space(config, untuned), context.main
    own = context.directions(method)
    directions, _ = map_directions(untuned, own, space)
    codes = map_codes(untuned, found.codes.to(device), space, directions.space.name).cpu()
    moved = explain(inquiry, directions, method, codes)
    every = np.arange(len(images))
    series = series_of(inquiry, moved, every, None, every)
    ways, before, after = moved.found[0], found.images, moved.traversals[0].images(moved.found[0].step)
    reach = math.nan
    if directions.space == own.space:
        editing = read_table(context.folder(f"semantics/{method.name}") / "editing.csv")
        reach = next((float(row["range"]) for row in editing if row["direction"] == moved.names[0]), math.nan)
    others = _others(inquiry, before, after)
    numbers = [x.tolist() for x in (inquiry.predictions, predict(target, before, device), *vars(ways).values())]
    explained = []
    for number, (single, prediction, inside, step, there, reached, _) in enumerate(zip(singles, *numbers, strict=True)):
        way = Counterfactual(step, there, reached, reach, {name: of[number] for name, of in others.items()})
        ends = (prediction, inside, inquiry.asked.threshold, way)
        explained.append(SingleExplained(single.likeness, single.psnr, single.worse, *ends))
    classes = target.black_box.outputs if len(target.black_box.outputs) > 1 else ()
    return Answer(
        explained,
        _moved(context, moved.names[0], images, before, after),
        spec.pictures(images),
        spec.pictures(before),
        psnr,
        found.noise is not None,
        of_run(context, moved.names[0]),
        Question(target.name, inquiry.asked.threshold, target.is_probability, tuple(classes)),
        series,
    )


def _others(inquiry: Inquiry, before: Tensor, after: Tensor) -> dict[str, list[tuple[float, float]]]:
    """What other classifiers say of inverted images and counterfactuals, by their names."""
    found = {}
    for name, other in inquiry.others.items():
        both = (predict(other, images, inquiry.device).tolist() for images in (before, after))
        found[name] = list(zip(*both, strict=True))
    return found


def _moved(
    context: Context, direction: str | None, real: Tensor, before: Tensor, after: Tensor | None
) -> list[list[dict[str, Any]]]:
    """Of each image a row for every measurement: of the image, as it comes back, of the counterfactual, and the change
    in standard deviations over real images, the largest first; with what the run found along the direction.
    """
    measurements, spec = builders.measurements(context.config), context.spec
    if not len(measurements):
        return [[] for _ in real]
    values = [measurements.of(images, spec) for images in (real, before, *([] if after is None else [after]))]
    quantities = load_measurements(context.folder("measurements")).quantities["measurement"]
    effects = read_semantics(context.folder(f"semantics/{context.main.name}") / "semantics.csv")
    of_run = {row["measurement"]: row for row in effects if row["direction"] == direction}
    found = []
    for number in range(len(real)):
        rows = []
        for place, quantity in enumerate(quantities):
            here = [float(each[number, place]) for each in values]
            row: dict[str, Any] = {"measurement": quantity.name, "unit": quantity.unit, "image": here[0]}
            row["inverted"] = here[1]
            if after is not None:
                row |= {"counterfactual": here[2], "change_in_sd": (here[2] - here[1]) / (quantity.std or math.nan)}
                effect = of_run.get(quantity.name, {})
                row |= {f"run_{name}": effect.get(name, math.nan) for name in ("effect", "effect_low", "effect_high")}
            rows.append(row)
        if after is not None:
            rows.sort(key=lambda row: -np.nan_to_num(abs(row["change_in_sd"]), nan=-1.0))
        found.append(rows)
    return found


def of_run(context: Context, direction: str | None) -> dict[str, str]:
    """What the run's own evidence says of the direction, and of its explanation."""
    rows = read_table(context.folder("evaluation") / "names.csv")
    row = next((row for row in rows if row["direction"] == direction), None)
    found = {"method": context.main.name, "direction": direction or ""}
    if row is not None:
        found |= {"name": row["name"], "why": row["why"] or ""}
        found["told"] = what_moves(row["name"], row["measurement"] or "", row["normalised"])
    if "explanation" in context.artifacts:
        links = json.loads((context.folder("explanation") / "explanation.json").read_text())["links"]
        least = min(links, key=lambda link: link["holds"])
        found["weakest"] = f"whether {least['name']} ({least['told']})"
    return found


def _walked(
    context: Context, model: LatentModel, images: Tensor, found: Inverted, singles: Sequence[Single], psnr: float
) -> Answer:
    """Without a classifier: the named directions of the main method from each image; where none has a name, those with
    most evidence.
    """
    config, spec, method = context.config, context.spec, context.main
    rows = [row for row in read_table(context.folder("evaluation") / "names.csv") if row["method"] == method.name]
    rows.sort(key=lambda row: (row["name"] == UNNAMED, row["rank"]))
    named = [row for row in rows if row["name"] != UNNAMED]
    chosen = (named or rows)[:DIRECTIONS]
    own, space = context.directions(method), builders.inversion_space(config, model)
    directions, lengths = map_directions(model, own, space)
    base = base_codes(context, own.space.name)
    sigma = base.sigma(own.vectors) * lengths
    codes = map_codes(model, found.codes.to(context.device), space, directions.space.name).cpu()
    walks = []
    for row in chosen:
        number = directions.names.index(row["direction"])
        one = slice(number, number + 1)
        only = replace(
            directions, vectors=directions.vectors[one], scores=directions.scores[one], names=directions.names[one]
        )
        steps = [step for step in STEPS if abs(step) <= max(row["range"], 1.0)]
        walked = next(iter(traverse(model, only, codes, steps, sigma[one], found.noise)))
        name = row["name"] if row["name"] != UNNAMED else f"unnamed: {row['why']}"
        walks.append((row["direction"], name, steps, np.stack([spec.pictures(series) for series in walked])))
    told = "" if named else f"None of the directions of {method.name} has a name; shown are those with most evidence."
    run = {"method": method.name, "told": told}
    moved = _moved(context, None, images, found.images, None)
    pictures = (spec.pictures(images), spec.pictures(found.images))
    positions = _positions(directions, codes, base.codes, sigma, rows) if directions.space == own.space else ()
    return Answer(singles, moved, *pictures, psnr, found.noise is not None, run, walks=walks, positions=positions)


def _positions(
    directions: Directions, codes: Tensor, held_out: Tensor, sigma: Tensor, rows: Sequence[Mapping[str, Any]]
) -> list[list[Place]]:
    """Of codes [N, *shape] where they lie along each direction that `rows` of names.csv have, beside those of held-out
    images [M, *shape]. sigma: [K], the length of a step.
    """
    axes = (directions.vectors / sigma.reshape(-1, *[1] * (codes.dim() - 1))).flatten(1)
    others = held_out.flatten(1) @ axes.T  # [M, K]
    along, others = codes.flatten(1) @ axes.T - others.mean(0), others - others.mean(0)
    lower = (others[None] < along[:, None]).sum(1)  # [N, K]
    at = [(directions.names.index(row["direction"]), row["direction"], row["name"]) for row in rows]
    return [
        [Place(name, said, float(along[n, k]), int(lower[n, k]), len(others)) for k, name, said in at]
        for n in range(len(codes))
    ]
