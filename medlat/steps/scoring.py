"""The scores of an explanation: of what was moved, of images put back and forth, and of the method asked otherwise."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medlat.classifiers.black_box import predict, target_of
from medlat.classifiers.trained import Trained
from medlat.core.randomness import derive_seed
from medlat.core.similarity import ms_ssim
from medlat.core.spaces import decode_in_parts
from medlat.core.statistics import UNKNOWN, bootstrap, spearman_of_rows
from medlat.explain import scorecard, scores
from medlat.explain.alignment import relative_change
from medlat.explain.counterfactuals import Traversal, counterfactuals, further_directions, monotonicity
from medlat.explain.cycles import changes, composition, mean_change, reversibility
from medlat.explain.scorecard import Flips, Row
from medlat.explain.scores import FURTHER
from medlat.inversion.mapping import map_codes, map_directions
from medlat.steps import builders
from medlat.steps.base_codes import base_codes
from medlat.steps.directions import found_by, real_codes, space_sigma
from medlat.steps.explained import Explained, Subject
from medlat.steps.methods import Method

ORTHOGONAL = 0.01  # |cosine| up to which two directions count as such
ASKED = 1000  # training images that give the direction of a classifier of random weights


@dataclass(frozen=True)
class Scored:
    """Of one direction. values: key -> [N]. far: [N] shares of the editing range at which images flip, None where the
    range is not known. features: [N, F] of counterfactuals, NaN where there is none. reached: [R] numbers of the images
    that have one; flips [R], changes [R, M]: what became of their side, and of every measurement's side of the real
    median.
    """

    values: dict[str, np.ndarray]
    far: np.ndarray | None
    features: np.ndarray
    reached: np.ndarray
    flips: np.ndarray
    changes: np.ndarray


def score(
    subject: Subject, method: Method, explained: Explained, ranges: Mapping[str, float], name: str
) -> tuple[list[Row], list[Flips]]:
    """Rows of the scorecard, and of the curve of flips against the share of the editing range. ranges: in σ, of every
    direction whose range is known in the space that it is followed in. name: of the method in tables.
    """
    config, control, unit = subject.context.config, method.role == "control", subject.spec.unit
    parts = [
        _of_direction(subject, explained, number, ranges.get(direction))
        for number, direction in enumerate(explained.names)
    ]
    columns = [part.values for part in parts]
    columns[0] |= _of_first(subject, method, explained, [part.features for part in parts])
    nothing, groups = np.full(len(subject.groups), np.nan), np.tile(subject.groups, len(parts))
    values = {key: np.concatenate([column.get(key, nothing) for column in columns]) for key in columns[0]}
    rows = scorecard.rows(name, values, groups, control, unit, config.seed)
    rows += _correlation_difference(subject, name, control, parts)
    far = [part.far for part in parts if part.far is not None]
    whose = np.tile(subject.groups, len(far))
    return rows, scorecard.flip_curve(name, np.concatenate(far), whose) if far else []


def _of_direction(subject: Subject, explained: Explained, number: int, reach: float | None) -> Scored:
    traversal, predictions, found = explained.traversals[number], explained.predictions[number], explained.found[number]
    start, steps, target = subject.beginning(traversal), subject.steps, subject.target
    inverted = predictions[:, int(np.abs(steps).argmin())]
    logits = target.linear(predictions).numpy()
    values = {
        "flip_rate": found.flipped.double().numpy(),
        "reach_rate": found.reached.double().numpy(),
        "monotonicity": monotonicity(logits, steps),
        "inversion_drift": (inverted - subject.predictions).abs().numpy(),
        "seconds": np.full(len(predictions), explained.seconds),
    } | _composition(subject, traversal)
    values |= {f"drift/{name}": np.abs(then - first) for name, (first, then) in start.others.items()}
    far = None
    if reach is not None:
        reach = min(reach, -steps[0], steps[-1])
        flips = scores.first_flip(logits, steps, float(target.linear(torch.tensor(subject.asked.threshold))))
        values["flips_in_range"], values["flip_area"] = scores.flips_within(flips, reach)
        far = flips / reach if reach > 0.0 else np.full(len(flips), np.inf)
    rows = found.reached.nonzero()[:, 0]
    rising = (inverted <= subject.asked.threshold).numpy()
    own, features, moved = _of_reached(subject, traversal, found.step, rows, rising)
    at = rows.numpy()
    return Scored(values | own, far, features, at, np.where(rising[at], 1.0, -1.0), moved)


def _of_reached(
    subject: Subject, traversal: Traversal, step: Tensor, rows: Tensor, rising: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Scores [N] of the counterfactuals of some rows, NaN for all others; their features [N, F] likewise; and what
    became of each measurement's side of the real median, [R, M].
    """
    start, at, count = subject.beginning(traversal), rows.numpy(), len(rising)
    values = {key: np.full(count, np.nan) for key in _keys_of_reached(subject)}
    features = np.full((count, start.features.shape[1]), np.nan)
    if not len(rows):
        return values, features, np.zeros((0, len(subject.measurements)))
    some, step, before, up = traversal.of(rows), step[rows], start.images[rows], rising[at]
    after = some.images(step)
    measured, seen = (start.measured[at], subject.measured(after)), (start.features[at], subject.features(after))
    found = _of_images(subject, before, after) | _of_measurements(subject, *measured, up)
    found["feature_distance"] = scores.feature_distance(*seen, subject.features.unit)
    found["minimality"] = scores.minimality(*seen, ~up, subject.features.real, subject.features.upper)
    if subject.target.is_probability:
        found["cout"] = scores.cout(before, after, up, lambda x: predict(subject.target, x, subject.device))
    if subject.invert is not None:
        back = reversibility(some, after, step, subject.real[rows], partial(_inverted, subject, traversal.space))
        found["reversibility"] = back.numpy() * subject.spec.range / 2.0
    own = [predict(subject.target, x, subject.device).numpy() for x in (before, after)] if subject.others else []
    for name, other in subject.others.items():
        first, then = start.others[name][1][at], predict(other, after, subject.device).numpy()
        found[f"agreement/{name}"] = scores.crossed(first, then, up, subject.asked.threshold)
        found[f"effectiveness/{name}"] = np.abs(then - np.where(up, subject.asked.high, subject.asked.low))
        found[f"alignment/{name}"] = relative_change(then - first, own[1] - own[0])
    assert found.keys() == values.keys()
    for key, known in found.items():
        values[key][at] = known
    features[at] = seen[1]
    first, then = (np.nan_to_num(x) > 0.0 for x in measured)
    return values, features, then.astype(float) - first


def _keys_of_reached(subject: Subject) -> list[str]:
    """The scores of counterfactuals that this run can have."""
    keys = ["proximity", "ms_ssim", "sparsity", "realism", "identity", "feature_distance", "minimality"]
    keys += ["cout"] if subject.target.is_probability else []
    keys += ["reversibility"] if subject.invert is not None else []
    return keys + [f"{key}/{name}" for name in subject.others for key in ("agreement", "effectiveness", "alignment")]


def _of_images(subject: Subject, before: Tensor, after: Tensor) -> dict[str, np.ndarray]:
    return {
        "proximity": mean_change(after, before).numpy() * subject.spec.range / 2.0,
        "ms_ssim": ms_ssim(after, before).numpy(),
        "sparsity": scores.sparsity(before.numpy(), after.numpy()),
    }


def _of_measurements(
    subject: Subject, before: np.ndarray, after: np.ndarray, rising: np.ndarray
) -> dict[str, np.ndarray]:
    """Realism against real images of the side that each was moved to, and what else moved."""
    predictions, realism = subject.reference_predictions.numpy(), np.full(len(after), np.nan)
    upper = predictions > subject.asked.threshold
    for side in (True, False):
        realism[rising == side] = scores.realism(after[rising == side], subject.reference[upper == side])
    stays = scores.unrelated(subject.reference, predictions)
    return {"realism": realism, "identity": scores.identity(before[:, stays], after[:, stays])}


def _composition(subject: Subject, traversal: Traversal) -> dict[str, np.ndarray]:
    """Of the inversion and the generator alone: the same for all directions of a space."""
    config, model = subject.context.config, subject.untuned

    def again(images: Tensor) -> Tensor:
        assert subject.invert is not None
        codes, noise = subject.invert(images)
        return decode_in_parts(model, codes.to(subject.device), builders.inversion_space(config, model), noise)

    def make() -> dict[str, np.ndarray]:
        first = subject.beginning(traversal).images
        found = composition(subject.real, first, None if subject.invert is None else again)
        return {f"composition_{m}": change.numpy() * subject.spec.range / 2.0 for m, change in found.items()}

    return subject.context.kept(f"composition in {traversal.space}", make)


def _inverted(subject: Subject, space: str, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Images [N, C, H, W] anew as codes of the space, and noise."""
    assert subject.invert is not None
    codes, noise = subject.invert(images)
    inverted = builders.inversion_space(subject.context.config, subject.untuned)
    return map_codes(subject.untuned, codes.to(subject.device), inverted, space).cpu(), noise


def _correlation_difference(subject: Subject, name: str, control: bool, parts: Sequence[Scored]) -> list[Row]:
    """Of all counterfactuals together: attributes are whether measurements lie above the real median."""
    if not len(subject.measurements):
        return []
    query = subject.reference_predictions.numpy() > subject.asked.threshold
    real = scores.correlations_with(query.astype(float), (np.nan_to_num(subject.reference) > 0.0).astype(float))
    flips, changed = (np.concatenate([getattr(part, x) for part in parts]) for x in ("flips", "changes"))
    whose = np.concatenate([subject.groups[part.reached] for part in parts])
    interval = UNKNOWN
    if len(flips) > 1:
        difference = partial(scores.correlation_difference, correlations=real)
        interval = bootstrap(difference, flips, changed, whose, subject.context.config.seed)
    return [scorecard.row(name, "correlation_difference", interval, control, subject.spec.unit, len(flips))]


def _of_first(
    subject: Subject, method: Method, explained: Explained, seen: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """What takes other directions beside the first: diversity [N] and randomisation [N], as far as they are defined."""
    control, per_image = method.role == "control", getattr(method.finder(), "per_image", False)
    found = {}
    several = list(seen[: FURTHER + 1]) if control else []
    if not control and not per_image:
        several = [seen[0], *_further(subject, explained.traversals[0])]
    if len(several) > 1 and (not control or _orthogonal(explained.traversals[: FURTHER + 1])):
        found["diversity"] = scores.diversity(several, subject.features.unit)
    other = explained.traversals[1] if control and len(explained.traversals) > 1 else None
    if method.role == "main" and not per_image and _asks_network(subject, method):
        other = _randomised(subject, method, explained.traversals[0])
    if other is not None:
        first, second = (changes(x).numpy() for x in (explained.traversals[0], other))
        found["randomisation"] = np.abs(spearman_of_rows(first, second))
    return found


def _orthogonal(traversals: Sequence[Traversal]) -> bool:
    vectors = torch.stack([torch.nn.functional.normalize(x.moves[0].flatten(), dim=0) for x in traversals])
    return float((vectors @ vectors.T - torch.eye(len(vectors))).abs().max()) < ORTHOGONAL


def _further(subject: Subject, first: Traversal) -> list[np.ndarray]:
    """Features [N, F] of the counterfactuals along further directions, NaN where there is none."""
    context, model, space = subject.context, subject.untuned, first.space
    spread = space_sigma(model, space)
    codes = (real_codes(context, model, space, "fit")[0] / spread).flatten(1).double().numpy()
    values = subject.target.linear(subject.reference_predictions).double().numpy()
    known = (first.moves[0] / spread).flatten().double().numpy()
    weights = torch.from_numpy(further_directions(known, codes, values, FURTHER)).float()
    found = []
    for weight in weights:
        vector = torch.nn.functional.normalize((weight.reshape(spread.shape) * spread).flatten(), dim=0)
        moved = _along(subject, first, vector.reshape(spread.shape))
        reached = counterfactuals(moved, subject.steps, moved.predictions_at(subject.steps), subject.asked)
        rows = reached.reached.nonzero()[:, 0]
        found.append(np.full((len(moved.codes), subject.features.real.shape[1]), np.nan))
        if len(rows):
            found[-1][rows.numpy()] = subject.features(moved.of(rows).images(reached.step[rows]))
    return found


def _along(subject: Subject, traversal: Traversal, vector: Tensor) -> Traversal:
    """The same codes along another unit direction [*shape]; a step is a σ of real images' codes along it."""
    sigma = base_codes(subject.context, traversal.space).sigma(vector[None])
    return replace(traversal, moves=(float(sigma) * vector).expand_as(traversal.codes))


def _asks_network(subject: Subject, method: Method) -> bool:
    """Whether the direction comes from a classifier that medlat can draw new weights for."""
    trained = isinstance(subject.target.black_box, Trained) and subject.label is not None
    own = builders.is_own_classifier(subject.context.config)
    return trained and not own and subject.target.is_probability and "supervision" in method.needs


def _randomised(subject: Subject, method: Method, first: Traversal) -> Traversal | None:
    """The same codes along the direction that the method finds for the same classifier with random weights (Adebayo et
    al. 2018, arXiv 1810.03292, "model parameter randomization"); None where that lies in another space.
    """
    context, model, label = subject.context, subject.untuned, subject.label
    assert label is not None
    config = copy.deepcopy(context.config)
    config.seed = derive_seed(config.seed, "random weights")
    box = subject.target.black_box
    network = builders.classifier_network(config, subject.spec, box.task, label.classes or [label.name])
    target = target_of(Trained(network.to(subject.device)), context.config.explain.target)
    found = found_by(context, method, model, target, ASKED)
    found, _ = map_directions(model, found, builders.inversion_space(context.config, model))
    return _along(subject, first, found.vectors[0]) if found.space.name == first.space else None
