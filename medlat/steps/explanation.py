"""The explanation: real held-out images moved along every method's direction, and the scorecard of it all."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import Target, predict
from medlat.config.build import plain
from medlat.core.progress import track
from medlat.core.spaces import Directions
from medlat.core.tables import read_table, write_table
from medlat.data.batches import in_batches
from medlat.evaluation.readout import centre_and_scale
from medlat.explain import scorecard
from medlat.explain.counterfactuals import Traversal, chosen_direction, counterfactuals
from medlat.explain.cycles import Invert
from medlat.explain.scores import unit_distance
from medlat.inversion.inverter import codes_and_noise
from medlat.inversion.mapping import map_directions
from medlat.steps import builders
from medlat.steps.base_codes import base_codes
from medlat.steps.classifier import config_of, files_of, load_target, predicted, target_among
from medlat.steps.directions import real_codes, space_sigma, supervision_for, target_range
from medlat.steps.explained import (
    BY_CATCH,
    Explained,
    FeatureSpace,
    Inquiry,
    Subject,
    others_of,
    save_inversion,
    save_mean_effect,
    save_series,
)
from medlat.steps.fidelity import feature_settings
from medlat.steps.generator import BATCH
from medlat.steps.inversion import explained_generator, load_codes, load_encoder
from medlat.steps.labels import label_of
from medlat.steps.methods import Method, classifier_step
from medlat.steps.scoring import score
from medlat.steps.semantics import features
from medlat.steps.step import Context, Step

SEEN = 1000  # training images whose features say how far apart real images are


class ExplanationBy(Step):
    """The explanation by one method: held-out images moved along its directions. Leaves which these are and their
    editing ranges, the scores, the predictions along the first direction, the curve of flips within the range, and of
    the main method what figures show.
    """

    folder = "explanation_by"
    version = 8

    def __init__(self, method: Method, others: Sequence[str] = ()) -> None:
        self.method, self.name = method, f"explanation/{method.name}"
        self.measured = f"semantics/{method.name}"
        self.needs = ("images", "split", "classifier", "generator", "encoder", "inversion", "regressor", "measurements")
        self.needs += (method.step, self.measured)
        if method.classifier != "classifier":
            self.needs += (method.classifier,)
        self.needs += tuple(classifier_step(name) for name in others)

    def settings(self, config: DictConfig) -> dict[str, Any]:
        found = {"seed": config.seed, "method": self.method.name, "role": self.method.role}
        found |= {"measure": builders.measured_by(config), "features": feature_settings(config)}
        return plain(config.explain) | found

    def inputs(self, context: Context) -> dict[str, str]:
        found = super().inputs(context)
        return found | {"directions": found.pop(self.method.step), "semantics": found.pop(self.measured)}

    def run(self, context: Context, out: Path) -> None:
        subject: Subject = context.kept("subject of explanations", lambda: subject_of(context))
        inverted, own = builders.inversion_space(context.config, subject.untuned), context.directions(self.method)
        found, _ = map_directions(subject.untuned, own, inverted)
        explained = explained_by(subject, found, self.method)
        editing = read_table(context.folder(self.measured) / "editing.csv") if found.space == own.space else []
        ranges = {row["direction"]: float(row["range"]) for row in editing}
        rows, flips = score(subject, self.method, explained, ranges, found.method)
        write_table(out / "scorecard.csv", [row.row() for row in rows])
        write_table(out / "flip_curve.csv", [row.row() for row in flips])
        followed = [{"direction": name, "range": ranges.get(name)} for name in explained.names]
        write_table(out / "followed.csv", followed)
        if others := others_of(subject, self.method, explained, ranges, found.method):
            write_table(out / BY_CATCH, [row.row() for row in others])
        predictions = explained.predictions[0].numpy()
        np.save(out / "predictions.npy", predictions)
        curve = scorecard.responses(found.method, predictions, subject.steps, subject.groups)
        write_table(out / "response_curve.csv", [row.row() for row in curve])
        if self.method.role == "main":
            save_series(subject, explained, out)
            save_mean_effect(subject, explained.traversals[0], out)
            save_inversion(subject, explained, out)
            moved, threshold = explained.found[0], np.array(subject.asked.threshold)
            np.savez(out / "counterfactuals.npz", step=moved.step, reached=moved.reached, threshold=threshold)
            info = {
                "target": subject.target.name,
                "features": subject.features.name,
                "probability": subject.target.is_probability,
                "threshold": subject.asked.threshold,
                "classes": (subject.label.classes if subject.label else None) or [],
            }
            (out / "question.json").write_text(json.dumps(info, indent=2) + "\n")


def subject_of(context: Context) -> Subject:
    """What the explanations of all methods share."""
    config, opened, spec, device = context.config, context.images, context.spec, context.device
    target = load_target(config, context.artifacts["classifier"], spec)
    codes, arrays = load_codes(context.artifacts["inversion"])
    rows, fit_rows = arrays["explained_rows"], arrays["fit_rows"]
    reference = predicted(target, opened, fit_rows, spec, device)
    measurements = builders.measurements(config)
    measured = measurements.measure(opened.physical(fit_rows, spec), spec.spacing_mm)
    centre, scale = centre_and_scale(measured)
    real, asked = opened.fetch(rows, spec), target_range(config, target, reference)
    return Subject(
        context=context,
        spec=spec,
        measurements=measurements,
        device=device,
        model=explained_generator(context),
        untuned=context.generator(),
        target=target,
        asked=asked,
        real=real,
        noise=codes.get("noise"),
        predictions=predict(target, real, device),
        label=label_of(config, opened),
        rows=rows,
        groups=opened.patient[rows],
        centre=centre,
        scale=scale,
        reference=(measured - centre) / scale,
        reference_predictions=reference,
        others=compared_targets(context),
        features=_features(context, fit_rows, (reference > asked.threshold).numpy()),
        invert=_invert(context),
    )


def _features(context: Context, rows: np.ndarray, upper: np.ndarray) -> FeatureSpace:
    """rows [R] of training images, upper [R]: whether what is predicted of them lies above the threshold."""
    some = np.linspace(0, len(rows) - 1, min(len(rows), SEEN)).astype(int)
    name, see = features(context)
    seen = np.concatenate([see(context.images.fetch(part, context.spec)) for part in in_batches(rows[some], BATCH)])
    scale = np.where(seen.std(axis=0) > 0.0, seen.std(axis=0), 1.0)
    return FeatureSpace(name, see, scale, seen / scale, upper[some], unit_distance(seen / scale, context.config.seed))


def _invert(context: Context) -> Invert | None:
    """What inverts images once more; None where that would be an optimisation of each."""
    method, model = builders.inverter(context.config), context.generator()
    if not method.one_pass:
        return None
    space = builders.inversion_space(context.config, model)
    encoder = load_encoder(context.artifacts["encoder"], model, space, context.device, context.named_classes)
    return lambda images: codes_and_noise(method, model, images, encoder, context.device)


def compared_targets(context: Context) -> dict[str, Target]:
    """What each compared classifier says of the same, by its name."""
    names = builders.compared_classifiers(context.config)
    return {name: target_among(context, classifier_step(name)) for name in names}


def explained_by(subject: Subject, found: Directions, method: Method) -> Explained:
    """Held-out images moved along directions that a method found, in the space of these."""
    codes, _ = real_codes(subject.context, subject.untuned, found.space.name, "explained")
    return explain(subject, found, method, codes)


def explain(subject: Inquiry, found: Directions, method: Method, codes: Tensor) -> Explained:
    """The images, by their codes [N, *shape] in the space of the directions, moved along each that is followed."""
    space, start = found.space.name, time.monotonic()
    traversals, predictions, shifted, outputs = [], [], [], []
    names, moves = zip(*_moves(subject, found, method, codes), strict=True)
    for move in track(moves, f"explaining by {found.method}", len(moves)):
        traversal = Traversal(subject.model, space, codes, move, subject.target, subject.device, subject.noise)
        traversals.append(traversal)
        outputs.append(traversal.outputs_at(subject.steps))
        predictions.append(subject.target.of(outputs[-1]))
        shifted.append(counterfactuals(traversal, subject.steps, predictions[-1], subject.asked))
    seconds = (time.monotonic() - start) / len(codes) / len(traversals)
    return Explained(traversals, predictions, shifted, list(names), seconds, outputs)


def _moves(subject: Inquiry, found: Directions, method: Method, codes: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each direction that is followed, by name: [N, *shape], one step of it, towards higher predictions.

    A supervised method says itself which way. Of the others the direction is taken that goes best with the predictions
    of training images. For controls nothing is chosen but the sign, by the same rule for all of them, those that learnt
    from permuted labels too; several are followed, so that a control's n is images times directions.
    """
    model, context = subject.untuned, subject.context
    base = base_codes(context, found.space.name)
    finder, supervised = method.finder(), "supervision" in method.needs
    control = method.role == "control"
    if getattr(finder, "per_image", False):
        left = context.artifacts[method.classifier]
        config = config_of(context.config, method.classifier)
        for name, file in zip(found.names, files_of(config, method.classifier), strict=False):
            target = load_target(config, left, context.spec, file)
            supervision = supervision_for(context, finder, model, target)
            vectors = finder.directions_at(model, supervision, codes).cpu()
            if control:
                vectors = vectors * signs_of(subject, found.space.name, vectors.mean(dim=0, keepdim=True))[0][0]
            yield name, vectors * base.sigma(vectors).reshape(-1, *[1] * (vectors.dim() - 1))
        return
    vectors, names = found.vectors[:1] if supervised and not control else found.vectors, found.names
    if control or not supervised:
        signs, strength = signs_of(subject, found.space.name, vectors)
        vectors = vectors * signs.reshape(-1, *[1] * (vectors.dim() - 1))
        followed = len(vectors) if supervised else context.config.explain.control_directions
        chosen = np.arange(min(followed, len(vectors))) if control else [int(strength.argmax())]
        vectors, names = vectors[chosen], [names[number] for number in chosen]
    for name, vector, sigma in zip(names, vectors, base.sigma(vectors), strict=False):
        yield name, (sigma * vector).expand_as(codes)


def signs_of(subject: Inquiry, space: str, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Signs [K] by which vectors [K, *shape] raise the predictions of training images, and how strongly [K] they go
    with them.
    """
    model = subject.untuned
    fit, _ = real_codes(subject.context, model, space, "fit")
    spread = space_sigma(model, space)
    values = subject.target.linear(subject.reference_predictions)
    return chosen_direction((vectors * spread).flatten(1), (fit / spread).flatten(1), values)
