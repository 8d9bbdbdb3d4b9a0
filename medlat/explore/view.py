"""What is looked at: an image and how far it is moved along which directions; and what is computed of that."""

import json
import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlat.classifiers.black_box import Target, predict
from medlat.core.errors import UserError, did_you_mean
from medlat.core.spaces import LatentModel, decode_in_parts
from medlat.core.tables import read_table
from medlat.evaluation.editing import limit_from
from medlat.explain.counterfactuals import TargetRange, Traversal, counterfactuals
from medlat.explain.likeness import Likeness
from medlat.explain.single import Counterfactual, Single, SingleExplained
from medlat.explore.slider import Slider, sliders_of
from medlat.inversion.mapping import layer_space, map_codes, moved_in_layers
from medlat.measure.measurement import MeasurementSet
from medlat.report.rendering import Look, differences, symmetric_limit, zero_index
from medlat.steps import builders
from medlat.steps.classifier import load_target
from medlat.steps.explanation import compared_targets
from medlat.steps.given import held_against, known_of
from medlat.steps.measurements import load_measurements
from medlat.steps.semantics import Subject, subject_of
from medlat.study.finished import Run

STARTS = ("image", "sample", "upload")
PLACE = re.compile(rf"({'|'.join(STARTS)}) (\d{{1,9}})")
FARTHEST = 100.0  # σ that a view may ask for
REMEMBERED = 32  # images whose codes are kept
DECODED = 8  # views whose images are kept: a frame and its numbers are asked for apart
UPLOADS = 16  # that are kept, in memory alone
LEFT = "It has left the data: images so far out say little."
NEAR = "It is near the data."
TRIED = 33  # steps to find where a prediction crosses a value


@dataclass(frozen=True)
class View:
    """start: "image N", the N-th held-out image from 0; "sample SEED"; or "upload N". steps: σ along directions, by
    their names, without those of 0. window: the name of a display window, or its two ends; None: the run's own. layers:
    the first and the last of the generator's layers, from 0, that are moved; None: all.
    """

    start: str = "image 0"
    steps: Mapping[str, float] = field(default_factory=dict)
    window: str | tuple[float, float] | None = None
    layers: tuple[int, int] | None = None

    @classmethod
    def of(cls, plain: Any) -> "View":
        """From JSON. Raises UserError where it is none."""
        if not isinstance(plain, dict) or (unknown := set(plain) - set(cls.__dataclass_fields__)):
            found = ", ".join(sorted(map(str, unknown))) if isinstance(plain, dict) else type(plain).__name__
            raise UserError(f"view: found {found}; expected {', '.join(cls.__dataclass_fields__)}")
        start, steps, window = plain.get("start", "image 0"), plain.get("steps", {}), plain.get("window")
        if not isinstance(start, str) or not PLACE.fullmatch(start):
            raise UserError(f"start={start}: expected 'image N', 'sample SEED' or 'upload N'")
        if isinstance(window, list) and len(window) == 2 and all(map(_is_number, window)):
            window = (float(window[0]), float(window[1]))
        elif window is not None and not isinstance(window, str):
            raise UserError(f"window={window}: expected the name of one, or its two ends")
        if not isinstance(steps, dict):
            raise UserError("steps: expected a number for each direction")
        for name, step in steps.items():
            if not _is_number(step) or abs(step) > FARTHEST:
                raise UserError(f"steps: {name}={step}, expected a number from -{FARTHEST:g} to {FARTHEST:g}")
        layers = plain.get("layers")
        if isinstance(layers, list) and len(layers) == 2 and all(type(one) is int for one in layers):
            layers = (layers[0], layers[1])
        elif layers is not None:
            raise UserError(f"layers={layers}: expected the first and the last one")
        return cls(start, {name: float(step) for name, step in steps.items() if step}, window, layers)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    )  # NaN is not, either


@dataclass(frozen=True)
class Start:
    """Where moves begin: one code [1, *shape] in the space of the moves, the generator that decodes it, and the noise
    that belongs to it. real: the image itself, images: what the code is decoded to, both [1, C, H, W] in [-1, 1].
    notes: what is to be said of it; psnr: in dB, how near the image comes back. found: numbers of both, once they were
    asked for.
    """

    generator: LatentModel
    code: Tensor
    noise: Tensor | None
    real: Tensor | None
    images: Tensor
    notes: Sequence[str] = ()
    psnr: Tensor | None = None  # [1]
    found: dict[str, Any] = field(default_factory=dict)


class Explorer:
    """A finished run, opened to look at. `lock` is for those who compute in several threads, with several runs too: one
    after another, so that they do not take each other's cores.

    Raises UserError where the run cannot be explored: it has no directions, or those are of no use in its space.
    """

    def __init__(self, run: Run, lock: "Lock | None" = None) -> None:
        self.run, self.image, self.look = run, run.image, run.look
        self.lock = lock or Lock()
        self.held_out: np.ndarray = run.context.split.test
        self.space, self.sliders, self.left_out = sliders_of(run)
        self._starts: OrderedDict[str, Start] = OrderedDict()
        self._moved: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()
        self._uploads: OrderedDict[str, tuple[Tensor, Sequence[str]]] = OrderedDict()
        self._uploaded = 0

    # --- what is moved ---------------------------------------------------------------------------------------------

    def start(self, view: View) -> Start:
        """Raises UserError where there is no such image, or none can be put into the latent space."""
        if view.start not in self._starts:
            self._starts[view.start] = self._begin(view.start)
            if len(self._starts) > REMEMBERED:
                self._starts.popitem(last=False)
        self._starts.move_to_end(view.start)
        return self._starts[view.start]

    def moved(self, view: View) -> Tensor:
        """The image of a view, [1, C, H, W] in [-1, 1] on the CPU. Raises UserError for a direction there is not."""
        key = (view.start, view.layers, *sorted(view.steps.items()))
        if key not in self._moved:
            self._moved[key] = self._decoded(view)
            if len(self._moved) > DECODED:
                self._moved.popitem(last=False)
        return self._moved[key]

    def code(self, view: View) -> tuple[Tensor, str]:
        """The code that is decoded, [1, *shape], and its space: `space`, or that of single layers."""
        start = self.start(view)
        move = sum(
            (step * self.slider(name).move for name, step in view.steps.items()), torch.zeros_like(start.code[0])
        )
        if view.layers is None:
            return start.code + move, self.space
        device = self.run.device
        code, space = moved_in_layers(start.generator, start.code.to(device), move.to(device), self.space, view.layers)
        return code.cpu(), space

    def _decoded(self, view: View) -> Tensor:
        start, (code, space) = self.start(view), self.code(view)
        return decode_in_parts(start.generator, code.to(self.run.device), space, start.noise)

    @cached_property
    def layers(self) -> int:
        """How many layers of the generator can be moved one without another; 0: none."""
        wide = layer_space(self.run.generator, self.space)
        return 0 if wide is None else self.run.generator.spaces[wide].shape[0]

    def traversal(self, view: View, shares: Sequence[float]) -> Tensor:
        """The images [S, C, H, W] on the straight way to a view: 0 is where moves begin, 1 the view itself."""
        parts = [replace(view, steps={name: share * step for name, step in view.steps.items()}) for share in shares]
        return torch.cat([self._decoded(part) for part in parts])

    def slider(self, name: str) -> Slider:
        if name not in self.sliders:
            raise UserError(f"direction: the run has no '{name}'{did_you_mean(name, self.sliders)}")
        return self.sliders[name]

    def upload(self, images: Tensor, notes: Sequence[str]) -> str:
        """An image [1, C, H, W] in [-1, 1] that a user brought -> its `View.start`. It is kept in memory alone."""
        found = Likeness.from_arrays(known_of(self.run.context))(images)[0]
        name, self._uploaded = f"upload {self._uploaded}", self._uploaded + 1
        self._uploads[name] = (images, [found.told(self.look.nouns), *(f"Of this file: {note}." for note in notes)])
        if len(self._uploads) > UPLOADS:
            self._starts.pop(self._uploads.popitem(last=False)[0], None)
        return name

    def _begin(self, start: str) -> Start:
        kind, _, text = start.partition(" ")
        number, notes = int(text), list[str]()
        if kind == "sample":
            return self._sample(number)
        if kind == "image":
            if number >= len(self.held_out):
                last = len(self.held_out) - 1
                raise UserError(f"start={start}: there is no such held-out {self._noun}; expected 0 to {last}")
            real = self.run.context.images.fetch(self.held_out[[number]], self.image)
        else:
            if start not in self._uploads:
                raise UserError(f"start={start}: it was kept in memory alone, and is gone; expected to be sent again")
            real, notes = self._uploads[start][0], list(self._uploads[start][1])
        generator, found = self.run.invert(real)
        source = self.run.space.name
        code = map_codes(generator, found.codes.to(self.run.device), source, self.space).cpu()
        notes.append(f"The generator gives it back with {float(found.psnr[0]):.1f} dB PSNR.")
        return Start(generator, code, found.noise, real, found.images, notes, found.psnr)

    def _sample(self, seed: int) -> Start:
        model, source = self.run.generator, self.run.space.name
        codes = model.sample(1, source, torch.Generator().manual_seed(seed))
        code = map_codes(model, codes, source, self.space).cpu()
        noise = model.sample_noise(1, torch.Generator().manual_seed(seed)) if model.can("sample_noise") else None
        images = decode_in_parts(model, code.to(self.run.device), self.space, noise)
        return Start(model, code, noise, None, images, [f"Made up by the generator: no real {self._noun}."])

    @property
    def inverts(self) -> bool:
        """Whether real images can be put into the latent space; else there are samples alone."""
        return "inversion" in self.run.artifacts or self.run.generator.can("encode")

    @property
    def first(self) -> View:
        """Where one begins."""
        return View("image 0" if self.inverts else "sample 0")

    @property
    def _noun(self) -> str:
        return self.look.modality.noun

    # --- what is seen ----------------------------------------------------------------------------------------------

    def window(self, view: View) -> Look:
        """How the view's images are shown. Raises UserError where there is no such window."""
        if view.window is None:
            return self.look
        return replace(self.look, window=self.look.modality.display_window(view.window))

    def pictures(self, images: Tensor) -> np.ndarray:
        """Images [1, C, H, W] in [-1, 1] -> physical values [H, W(, 3)]."""
        return self.image.pictures(images)[0]

    def change(self, view: View) -> np.ndarray:
        """[H, W]: what the move changes, in `Look.change_unit`."""
        both = np.stack([self.pictures(images) for images in (self.start(view).images, self.moved(view))])
        return differences(self.look.scalar(both), 0)[1]

    @cached_property
    def change_limit(self) -> float:
        """The change that is shown in full colour: the same for all views, of the run's own traversals."""
        with np.load(self._semantics / "traversal.npz") as arrays:
            change = differences(self.look.scalar(arrays["images"]), zero_index(arrays["steps"]))
        return symmetric_limit(change)

    @property
    def _semantics(self) -> Path:
        return self.run.artifacts[f"semantics/{self.run.directions['main'].method}"].path

    # --- what is measured ------------------------------------------------------------------------------------------

    def numbers(self, view: View) -> dict[str, Any]:
        """What is known of a view, held against the image as the generator gives it back, where moves begin.

        predictions: a row for each classifier. measurements: a row for each, with the change, also in standard
        deviations over real images. distance: to the data as editing ranges have it, 1 is what 95% of held-out images
        keep; None until `warm` is done.
        """
        start, images = self.start(view), self.moved(view)
        if not start.found:
            shown = {"original": start.real, "reconstruction": start.images}
            start.found.update({name: self._numbers(x) for name, x in shown.items() if x is not None})
        ends = start.found | {"moved": self._numbers(images)}
        before, after = ends["reconstruction"], ends["moved"]
        predictions = [
            {"by": by, "target": target.name, "probability": target.is_probability, "threshold": self.threshold}
            | {name: found["predictions"][by] for name, found in ends.items()}
            for by, target in self.targets.items()
        ]
        measurements = [
            {"measurement": one.name, "unit": one.unit, "description": one.description}
            | {name: float(found["measured"][i]) for name, found in ends.items()}
            | {"change": (change := float(after["measured"][i] - before["measured"][i])), "change_in_sd": change / std}
            for i, (one, std) in enumerate(zip(self.measurements.measurements, self._stds, strict=True))
        ]
        distance: dict[str, Any] | None = None
        if self.is_warm:
            begin, end = (self._distance(images) for images in (start.images, images))
            limit = limit_from(begin)
            distance = {"reconstruction": begin, "moved": end, "limit": limit, "left": end > limit}
            distance["verdict"] = LEFT if distance["left"] else NEAR
        return {"predictions": predictions, "measurements": measurements, "distance": distance}

    def single(self, view: View) -> Single | None:
        """What speaks against the picture of a view, as the report asks it; None of a sample, which is no image. With a
        classifier it is as asked on the other side of the threshold.
        """
        start = self.start(view)
        if start.real is None or start.psnr is None:
            return None
        (single,) = held_against(known_of(self.run.context), start.real, start.psnr)
        if self.threshold is None:
            return single
        own, *others = self.numbers(view)["predictions"]
        crossed = (own["moved"] > self.threshold) != (own["reconstruction"] > self.threshold)
        step, reach = math.nan, math.nan  # along several directions there is no one range
        if len(view.steps) == 1:
            ((name, step),) = view.steps.items()
            reach = math.nan if (supported := self.slider(name).range) is None else supported
        beside = {row["by"]: (row["reconstruction"], row["moved"]) for row in others}
        moved = Counterfactual(step, own["moved"], crossed, reach, beside)
        ends = (own["original"], own["reconstruction"], self.threshold, moved)
        return SingleExplained(single.likeness, single.psnr, single.worse, *ends)

    def warm(self) -> None:
        """Look at the images that distances are held against, which may take a while."""
        self._subject  # noqa: B018

    @property
    def is_warm(self) -> bool:
        return "_subject" in vars(self)

    def _numbers(self, images: Tensor) -> dict[str, Any]:
        """Of one image [1, C, H, W]: each classifier's prediction, and the measurements [M]."""
        device = self.run.device
        said = {by: float(predict(target, images, device)[0]) for by, target in self.targets.items()}
        return {"predictions": said, "measured": self.measurements.of(images, self.image)[0]}

    def _distance(self, images: Tensor) -> float:
        return float(self._subject.nearness(self._subject.see(images))[0])

    @cached_property
    def _subject(self) -> Subject:
        return subject_of(self.run.context)

    @cached_property
    def measurements(self) -> MeasurementSet:
        return builders.measurements(self.run.context.config)

    @cached_property
    def _stds(self) -> list[float]:
        """Of each measurement, over real images; NaN where it does not vary."""
        quantities = load_measurements(self.run.context.folder("measurements")).quantities
        return [quantity.std or math.nan for quantity in quantities.get("measurement", [])]

    @cached_property
    def targets(self) -> dict[str, Target]:
        """What is asked of the classifier, and of those compared with it; {} where the run has none."""
        context = self.run.context
        if "classifier" not in context.artifacts:
            return {}
        main = load_target(context.config, context.artifacts["classifier"], context.spec)
        return {"classifier": main} | compared_targets(context)

    @property
    def target(self) -> Target:
        """What the explained classifier is asked. Raises UserError where the run has none."""
        if not self.targets:
            raise UserError("the run explains no classifier; expected one of an experiment with classifier=…")
        return self.targets["classifier"]

    @cached_property
    def threshold(self) -> float | None:
        """Between the classifier's two sides, as the run explains it; None where it explains nothing."""
        folder = self._explanation
        return None if folder is None else float(json.loads((folder / "question.json").read_text())["threshold"])

    @cached_property
    def main(self) -> str:
        """The direction that the run's explanation follows; without one the first that is listed."""
        folder = self._explanation
        rows = [] if folder is None else read_table(folder / "followed.csv")
        return next((row["direction"] for row in rows if row["direction"] in self.sliders), next(iter(self.sliders)))

    @property
    def _explanation(self) -> Path | None:
        artifact = self.run.artifacts.get(f"explanation/{self.run.directions['main'].method}")
        return None if artifact is None else artifact.path

    def reach(self, view: View, direction: str, prediction: float) -> dict[str, Any]:
        """The step nearest to 0 along a direction, the others kept, at which the classifier predicts a value: step,
        prediction there, and whether it was reached within what the slider shows; else the step there whose prediction
        is nearest.

        Raises UserError where the run has no classifier.
        """
        slider, start = self.slider(direction), self.start(view)
        still = replace(view, steps={name: step for name, step in view.steps.items() if name != direction})
        (code, space), (moved, _) = self.code(still), self.code(replace(still, steps={**still.steps, direction: 1.0}))
        steps = np.linspace(-slider.reach, slider.reach, TRIED).tolist()
        target, asked = self.target, TargetRange(prediction, prediction, prediction)
        one = Traversal(start.generator, space, code, moved - code, target, self.run.device, start.noise)
        other = replace(one, moves=-one.moves)  # counterfactuals look to one side: where predictions are to rise
        tried = one.predictions_at(steps)
        nearest = int((tried[0] - prediction).abs().argmin())
        best = {"step": steps[nearest], "prediction": float(tried[0, nearest]), "reached": False}
        for sign, way, predictions in ((1.0, one, tried), (-1.0, other, tried.flip(1))):
            found = counterfactuals(way, steps, predictions, asked)
            step, reached = sign * float(found.step[0]), bool(found.reached[0])
            if reached and (not best["reached"] or abs(step) < abs(best["step"])):
                best = {"step": step, "prediction": float(found.prediction[0]), "reached": True}
        return best
