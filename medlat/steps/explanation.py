"""The explanation: real held-out images moved along every method's direction, and the scorecard of it all."""

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import Target, predict
from medlat.classifiers.trained import Trained
from medlat.core.errors import UserError
from medlat.core.progress import track
from medlat.core.randomness import generator_for
from medlat.core.spaces import Directions, ImageSpec, LatentModel
from medlat.core.tables import write_table
from medlat.directions.finder import is_supervised
from medlat.evaluation.readout import centre_and_scale
from medlat.evaluation.reconstruction import ms_ssim
from medlat.evaluation.semantics import Effect, read_semantics
from medlat.explain import scorecard
from medlat.explain.audit import exposure, planted
from medlat.explain.saliency import grad_cam, occlusion
from medlat.explain.series import (
    Counterfactuals,
    Walk,
    Wanted,
    chosen_direction,
    counterfactuals,
    monotonicity,
    sigma_along,
)
from medlat.inversion.carry import lift
from medlat.measure.rulers import ruler
from medlat.report.rendering import Look
from medlat.steps import builders
from medlat.steps.classifier import Label, label_of, load_target, predicted
from medlat.steps.data import Made, load_data
from medlat.steps.directions import (
    FILE,
    SIGMA_SAMPLES,
    evidence_for,
    real_codes,
    space_sigma,
    wanted_of,
)
from medlat.steps.generator import load_generator
from medlat.steps.inversion import explained_generator, load_codes
from medlat.study.places import ORACLE, is_control, judge_of


@dataclass
class _Subject:
    """What the explanations of all methods share.

    real: [N, C, H, W] in [-1, 1], the images explained; predictions [N] of them; groups [N]: whose they are.
    reference: measurements [R, M] of training images in standard deviations; reference_predictions [R] of them.
    """

    config: DictConfig
    made: Made
    spec: ImageSpec
    device: torch.device
    model: LatentModel  # that decodes: the tuned generator where there is one
    untuned: LatentModel  # that directions were found in
    target: Target
    wanted: Wanted
    real: Tensor
    predictions: Tensor
    label: Label | None
    rows: np.ndarray  # of the images in the slice store
    groups: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    reference: np.ndarray
    reference_predictions: Tensor
    oracle: Target | None  # the same number of another classifier

    @property
    def steps(self) -> list[float]:
        return [float(step) for step in self.config.explain.steps]

    def measured(self, images: Tensor) -> np.ndarray:
        """Measurements of network images in standard deviations over real ones, [N, M]."""
        values = ruler(self.spec.unit).measure(self.spec.pictures(images), self.spec.spacing_mm)
        return (values - self.centre) / self.scale


@dataclass
class _Explained:
    """The explanation by one method: for each of its directions a walk, its predictions [N, S] and counterfactuals."""

    walks: list[Walk]
    series: list[Tensor]
    found: list[Counterfactuals]
    seconds: float


def explanation(config: DictConfig, methods: Mapping[str, DictConfig], made: Made, out: Path) -> None:
    """Reads classifier, codes and directions; leaves the scorecard, the series of the main method, and the numbers."""
    subject = _subject(config, made)
    inverted = builders.inversion_space(config, subject.untuned)
    rows: list[scorecard.Row] = []
    responses: dict[str, np.ndarray] = {}
    curves: list[scorecard.Response] = []
    main: tuple[Directions, _Explained] | None = None
    for place, section in methods.items():
        found = lift(subject.untuned, Directions.load(made[place].path / FILE), inverted)
        control = is_control(place)
        explained = _explain(subject, found, section, place)
        values, groups = _judge(subject, explained)
        rows += scorecard.rows(found.method, values, groups, control, subject.spec.unit, config.seed)
        responses[found.method] = explained.series[0].numpy()
        curves += scorecard.responses(found.method, responses[found.method], subject.steps, subject.groups)
        main = main or (found, explained)
    assert main is not None
    write_table(out / "scorecard.csv", [row.row() for row in rows])
    write_table(out / "response_curves.csv", [row.row() for row in curves])
    np.savez(out / "responses.npz", **(responses | {"steps": np.array(subject.steps)}))  # type: ignore[arg-type]
    _save_series(subject, main[1], out)
    _save_mean_effect(subject, main[1].walks[0], out)
    _save_inversion(subject, main[1], out)
    numbers, exposed, sentence = _exposed(subject, main[0].names[0])
    flips = next(row for row in rows if row.score == "flip_rate")
    info = {
        "method": main[0].method,
        "target": subject.target.name,
        "probability": subject.target.is_probability,
        "threshold": subject.wanted.threshold,
        "classes": (subject.label.classes if subject.label else None) or [],
        "controls": list(dict.fromkeys(row.method for row in rows if row.control)),
        "exposed": exposed,
        "sentence": _finding(subject, main[0].method, flips) + " " + sentence,
    }
    (out / "explanation.json").write_text(json.dumps(info, indent=2) + "\n")
    numbers["fit"] = float(main[0].scores[0])
    (out / "metrics.json").write_text(json.dumps(numbers, indent=2) + "\n")


def _finding(subject: _Subject, method: str, flips: scorecard.Row) -> str:
    """The finding in a sentence."""
    asked = f"the prediction of {subject.target.name}"
    return (
        f"Along the direction that {method} found, {asked} crosses {subject.wanted.threshold:.2g} in "
        f"{flips.value:.0%} [{flips.low:.0%}, {flips.high:.0%}] of {flips.images} held-out images."
    )


def _exposed(subject: _Subject, direction: str) -> tuple[dict[str, float], dict[str, Any] | None, str]:
    """What moves with the prediction, by name, from the measured semantics; and whether that is what was planted."""
    rows = [Effect.from_row(row) for row in read_semantics(subject.made["evaluation"].path / "semantics.csv")]
    moved = exposure(rows, direction)
    most = moved.moved[0] if moved.moved else None
    exposed = None if most is None else {"moves most": most.measurement, "share": most.share, "R²": most.r2}
    bias = None if builders.is_own_classifier(subject.config) else subject.config.classifier.bias
    rulers = {m.name: m.factor for m in ruler(subject.spec.unit).measurements}
    name = None if bias is None else planted(rulers, bias.column)
    if name is None or exposed is None:
        return {}, exposed, moved.sentence
    words = "names it" if moved.names(name) else "does NOT name it first"
    exposed |= {"planted": name, "named": moved.names(name)}
    sentence = f"The classifier was trained with a planted shortcut, {name.replace('_', ' ')}: the explanation {words}."
    return {"bias_exposed": float(moved.names(name))}, exposed, f"{moved.sentence} {sentence}"


def _subject(config: DictConfig, made: Made) -> _Subject:
    opened, _, spec = load_data(config, made)
    device = builders.hardware(config).device
    target = load_target(config, made["classifier"], spec)
    arrays = load_codes(made["inversion"])[1]
    rows, fit_rows = arrays["explained_rows"], arrays["fit_rows"]
    reference = predicted(target, opened, fit_rows, spec, device)
    measured = ruler(spec.unit).measure(opened.physical(fit_rows, spec), spec.spacing_mm)
    centre, scale = centre_and_scale(measured)
    real = opened.fetch(rows, spec)
    return _Subject(
        config=config,
        made=made,
        spec=spec,
        device=device,
        model=explained_generator(made, device),
        untuned=load_generator(made["generator"], device),
        target=target,
        wanted=wanted_of(config, target, reference),
        real=real,
        predictions=predict(target, real, device),
        label=label_of(config, opened),
        rows=rows,
        groups=opened.patient[rows],
        centre=centre,
        scale=scale,
        reference=(measured - centre) / scale,
        reference_predictions=reference,
        oracle=_oracle(config, made, spec, target),
    )


def _oracle(config: DictConfig, made: Made, spec: ImageSpec, target: Target) -> Target | None:
    """What the oracle says of the same; None without one. Raises UserError where it predicts something else."""
    if ORACLE not in made:
        return None
    found = load_target(builders.of_oracle(config), made[ORACLE], spec)
    if (found.name, found.is_probability) != (target.name, target.is_probability):
        raise UserError(f"oracle: it predicts {found.name}, expected {target.name}, which is explained")
    return found


def _explain(subject: _Subject, found: Directions, section: DictConfig, place: str) -> _Explained:
    space = found.space.name
    codes, _ = real_codes(subject.config, subject.made, subject.untuned, space, "explained")
    start = time.monotonic()
    walks, series, shifted = [], [], []
    moves = list(_moves(subject, found, section, codes, place))
    for move in track(moves, f"explaining by {found.method}", len(moves)):
        walk = Walk(subject.model, space, codes, move, subject.target, subject.device)
        walks.append(walk)
        series.append(walk.series(subject.steps))
        shifted.append(counterfactuals(walk, subject.steps, series[-1], subject.wanted))
    return _Explained(walks, series, shifted, (time.monotonic() - start) / len(codes) / len(walks))


def _moves(subject: _Subject, found: Directions, section: DictConfig, codes: Tensor, place: str) -> Iterator[Tensor]:
    """[N, *shape] for each direction that is followed: one step of it, towards higher predictions.

    A supervised method says itself which way. Of the others the direction is taken that goes best with the predictions
    of training images; for controls nothing is chosen but the sign, and several are followed.
    """
    model, config = subject.untuned, subject.config
    sampled = model.sample(SIGMA_SAMPLES, found.space.name, generator_for("sigma")).cpu()
    finder: Any = builders.finder(section)
    if hasattr(finder, "directions_at"):
        evidence = evidence_for(config, finder, subject.made, model, judge_of(place))
        vectors = finder.directions_at(model, evidence, codes).cpu()
        sigma = _sigma(found, sampled, vectors)
        yield vectors * sigma.reshape(-1, *[1] * (vectors.dim() - 1))
        return
    vectors = found.vectors[:1] if is_supervised(finder) else found.vectors
    if not is_supervised(finder):
        fit, _ = real_codes(config, subject.made, model, found.space.name, "fit")
        spread = space_sigma(model, found.space.name)
        values = subject.target.linear(subject.reference_predictions)
        signs, strength = chosen_direction((vectors * spread).flatten(1), (fit / spread).flatten(1), values)
        vectors = vectors * signs.reshape(-1, *[1] * (vectors.dim() - 1))
        control = is_control(place)
        vectors = vectors[: config.explain.controls] if control else vectors[strength.argmax()][None]
    for vector, sigma in zip(vectors, _sigma(found, sampled, vectors), strict=True):
        yield (sigma * vector).expand_as(codes)


def _sigma(found: Directions, sampled: Tensor, vectors: Tensor) -> Tensor:
    """The length of a step along each vector: the space's standard deviation there."""
    return torch.ones(len(vectors)) if found.space.prior == "normal" else sigma_along(sampled, vectors)


def _judge(subject: _Subject, explained: _Explained) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every score of every image and direction: key -> [K·N]; and whose image each is."""
    columns: list[dict[str, np.ndarray]] = []
    stays = scorecard.unrelated(subject.reference, subject.reference_predictions.numpy())
    for walk, series, found in zip(explained.walks, explained.series, explained.found, strict=True):
        zero = int(np.abs(subject.steps).argmin())
        before, after = walk.images(torch.zeros(len(series))), walk.images(found.step)
        measured_before, measured_after = subject.measured(before), subject.measured(after)
        reached = found.reached.numpy()

        def of_reached(values: np.ndarray, reached: np.ndarray = reached) -> np.ndarray:
            return np.where(reached, values, np.nan)

        change = (after - before).abs().mean(dim=(1, 2, 3)).numpy() * subject.spec.range / 2.0
        rising = (series[:, zero] <= subject.wanted.threshold).numpy()
        columns.append(
            {
                "flip_rate": found.flipped.double().numpy(),
                "reach_rate": found.reached.double().numpy(),
                "monotonicity": monotonicity(subject.target.linear(series).numpy(), subject.steps),
                "proximity": of_reached(change),
                "ms_ssim": of_reached(ms_ssim(after, before).numpy()),
                "sparsity": of_reached(scorecard.sparsity(before.numpy(), after.numpy())),
                "realism": of_reached(_realism(subject, series[:, zero], measured_after)),
                "identity": of_reached(scorecard.identity(measured_before[:, stays], measured_after[:, stays])),
                "inversion_drift": (series[:, zero] - subject.predictions).abs().numpy(),
                "seconds": np.full(len(series), explained.seconds),
            }
        )
        if subject.oracle is not None:
            convinced, drift = _asked(subject.oracle, subject, before, after, rising)
            columns[-1] |= {"oracle_rate": of_reached(convinced), "oracle_drift": drift}
    values = {key: np.concatenate([column[key] for column in columns]) for key in columns[0]}
    return values, np.tile(subject.groups, len(columns))


def _asked(
    oracle: Target, subject: _Subject, before: Tensor, after: Tensor, rising: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What another classifier says of inverted images and counterfactuals [N, C, H, W]: whether it saw the threshold
    crossed in the asked sense, and how far its prediction moved by inversion alone; both [N].
    """
    real, first, then = (predict(oracle, images, subject.device).numpy() for images in (subject.real, before, after))
    return scorecard.crossed(first, then, rising, subject.wanted.threshold), np.abs(first - real)


def _realism(subject: _Subject, before: Tensor, measured: np.ndarray) -> np.ndarray:
    """Each counterfactual against real images of the side that it was moved to."""
    threshold = subject.wanted.threshold
    upper = (subject.reference_predictions > threshold).numpy()
    rising = (before <= threshold).numpy()
    result = np.full(len(measured), np.nan)
    for side in (True, False):
        result[rising == side] = scorecard.realism(measured[rising == side], subject.reference[upper == side])
    return result


def _shown(subject: _Subject) -> np.ndarray:
    """Images for the figure, evenly spread over the order of their predictions."""
    order = np.argsort(subject.predictions.numpy(), kind="stable")
    count = min(subject.config.explain.shown, len(order))
    return order[np.linspace(0, len(order) - 1, count).round().astype(int)]


def _save_series(subject: _Subject, explained: _Explained, out: Path) -> None:
    walk, found, chosen = explained.walks[0], explained.found[0], _shown(subject)
    some = Walk(walk.model, walk.space, walk.codes[chosen], walk.moves[chosen], walk.target, walk.device)
    images = [subject.spec.pictures(some.images(torch.full((len(chosen),), step))) for step in subject.steps]
    arrays = {
        "images": np.stack(images, axis=1),
        "steps": np.array(subject.steps),
        "predictions": explained.series[0][chosen].numpy(),
        "real": subject.spec.pictures(subject.real[chosen]),
        "real_prediction": subject.predictions[chosen].numpy(),
        "label": np.full(len(chosen), np.nan) if subject.label is None else subject.label.values[subject.rows[chosen]],
        "counterfactual": subject.spec.pictures(some.images(found.step[chosen])),
        "counterfactual_step": found.step[chosen].numpy(),
        "counterfactual_prediction": found.prediction[chosen].numpy(),
        "reached": found.reached[chosen].numpy(),
    }
    arrays |= _saliency(subject, subject.real[chosen])
    np.savez(out / "series.npz", **arrays)  # type: ignore[arg-type]


def _saliency(subject: _Subject, images: Tensor) -> dict[str, np.ndarray]:
    """Maps beside the counterfactuals, as far as the classifier allows: Grad-CAM looks into it, occlusion does not."""
    images, target = images.to(subject.device), subject.target
    maps = {"saliency_occlusion": occlusion(target, images).numpy()}
    if isinstance(target.black_box, Trained) and target.column is not None:
        network, layer = target.black_box.network, target.black_box.cam_layer
        for name, plus in (("saliency_gradcam", False), ("saliency_gradcampp", True)):
            maps[name] = grad_cam(network, layer, images, target.column, plus).numpy()
    return maps


def _save_mean_effect(subject: _Subject, walk: Walk, out: Path) -> None:
    look = Look(subject.spec.unit, (subject.spec.low, subject.spec.high))
    base = look.scalar(subject.spec.pictures(walk.images(torch.zeros(len(walk.codes)))))
    images, change = [], []
    for step in subject.steps:
        moved = subject.spec.pictures(walk.images(torch.full((len(walk.codes),), step)))
        images.append(moved.mean(axis=0))
        change.append((look.scalar(moved) - base).mean(axis=0))
    np.savez(out / "mean_effect.npz", images=np.stack(images), difference=np.stack(change))


def _save_inversion(subject: _Subject, explained: _Explained, out: Path) -> None:
    """The table of inversion methods, with the drift of the one in use, and what it gave."""
    walk, place = explained.walks[0], subject.made["inversion"].path
    arrays = load_codes(subject.made["inversion"])[1]
    decoded = walk.images(torch.zeros(len(walk.codes)))
    inverted = predict(subject.target, decoded, subject.device)
    drift = float((inverted - subject.predictions).abs().mean())
    with open(place / "methods.csv", newline="") as file:
        table: Sequence[dict[str, Any]] = list(csv.DictReader(file))
    write_table(out / "inversion.csv", [row | {"drift": drift if i == 0 else ""} for i, row in enumerate(table)])
    np.savez(
        out / "inversion.npz",
        real=subject.spec.pictures(subject.real),
        decoded=subject.spec.pictures(decoded),
        psnr=arrays["psnr"],
        ms_ssim=arrays["ms_ssim"],
        prediction_real=subject.predictions.numpy(),
        prediction_decoded=inverted.numpy(),
    )
