"""What an explained classifier adds to the page: sections, key numbers and sliders, from the files its stages left."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.tables import read_table
from medlat.explain.audit import Response
from medlat.explain.scorecard import BY_KEY, keys_of
from medlat.report import anatomy, scorecard
from medlat.report.explanation import (
    ROWS_PER_FIGURE,
    SALIENCY,
    Question,
    Series,
    counterfactual_strip,
    inversion_figure,
    mean_effect,
    mean_effect_table,
    strip_table,
)
from medlat.report.page import KeyNumber, Picture, Section, Table, Traversal, TraversalSet
from medlat.report.rendering import Look
from medlat.report.style import Figures, number

TEXTS = {"method", "score", "unit", "better", "finding", "of", "asked", "told"}  # columns that hold no number
CALLED = {"random": "random directions", "coordinate": "axes", "permuted": "permuted labels"}
QUALITY = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "kappa": "quadratic weighted kappa",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "calibration error (ECE)",
    "mae": "mean absolute error",
    "r2": "R²",
}


@dataclass(frozen=True)
class Explanation:
    """What the stages left, read.

    method:     that explains; sentence: the finding; exposed: what the direction turned out to move; links: what all of
                it rests on, each with how far it holds.
    scores:     rows of scorecard.csv. responses: method -> [N, S] over `steps`; curves: rows of their means; flips:
                rows of the curves of flips. followed: what each method's direction is called and how far it may go;
                features: whose distances are over. alignment: rows of alignment.csv, [] of one classifier.
    quality:    of the classifier on held-out patients, {} where it is not known; reliability: its bins.
    folder:     where the arrays lie that are read when they are drawn.
    """

    folder: Path
    method: str
    sentence: str
    question: Question
    controls: Sequence[str]
    exposed: Mapping[str, Any]
    links: Sequence[Mapping[str, Any]]
    series: Series
    scores: Sequence[Mapping[str, Any]]
    steps: Sequence[float]
    responses: Mapping[str, np.ndarray]
    curves: Sequence[Mapping[str, Any]]
    flips: Sequence[Mapping[str, Any]]
    followed: Sequence[Mapping[str, Any]]
    features: str
    alignment: Sequence[Mapping[str, Any]]
    quality: Mapping[str, float | None]
    reliability: Sequence[Mapping[str, Any]]

    @classmethod
    def load(cls, folder: Path, main: Path, classifier: Path | None) -> "Explanation":
        """Read an explanation's folder, that of its main method, and the classifier's if its quality was measured."""
        facts = json.loads((folder / "explanation.json").read_text())
        responses = dict(np.load(folder / "responses.npz"))
        steps = responses.pop("steps").tolist()
        quality = classifier / "quality.json" if classifier else None
        reach = next((row["range"] for row in facts["followed"] if row["method"] == facts["method"]), None)
        return cls(
            main,
            facts["method"],
            facts["sentence"],
            Question(facts["target"], float(facts["threshold"]), bool(facts["probability"]), tuple(facts["classes"])),
            facts["controls"],
            facts["exposed"],
            facts["links"],
            series_from(np.load(main / "series.npz"), math.nan if reach is None else reach),
            _rows(folder / "scorecard.csv"),
            steps,
            responses,
            _rows(folder / "response_curves.csv"),
            _rows(folder / "flip_curves.csv"),
            facts["followed"],
            facts["features"],
            _rows(folder / "alignment.csv"),
            json.loads(quality.read_text()) if quality and quality.exists() else {},
            _rows(classifier / "reliability.csv") if classifier else [],
        )

    def score(self, key: str, method: str) -> Mapping[str, Any] | None:
        """The row of one score of one method, None where there is none."""
        return next((row for row in self.scores if (row["score"], row["method"]) == (key, method)), None)


def explanation_sections(explained: Explanation, look: Look, figures: Figures) -> list[Section]:
    """Draw every figure of an explanation into the folder `figures`; the sections that open the page."""
    pictures = _strips(explained, look, figures)
    question, controls = explained.question, explained.controls
    figure = scorecard.response_curves(explained.responses, explained.steps, explained.curves, question, controls)
    paths = figures.save(figure, "response_curves", explained.curves)
    note = "Thin lines: single images; bold: their mean with its 95% interval; dashed: the threshold. Controls on grey."
    pictures.append(Picture.saved(paths, "How the prediction answers", note))
    paths = figures.save(scorecard.scorecard_chart(explained.scores), "scorecard", explained.scores)
    note = "Dots with 95% intervals; the controls, on grey, show what knowing nothing gives."
    pictures.append(Picture.saved(paths, "Does the explanation hold?", note))
    pictures += [_flips(explained, figures), _mean_effect(explained, look, figures)]
    main, scores = explained.method, explained.scores
    deciding = [scorecard.deciding_table(scores, explained.followed, main), _links(explained)]
    deciding += [*_alignment(explained, look), _audit(explained), *_by_catch(explained, look), _exposed(explained)]
    text = (
        f"Held-out {look.nouns} are put into the latent space and moved along the direction that {main} found, until "
        f"the prediction changes as asked."
    )
    further = [scorecard.further_table(scores, main, explained.features)]
    sections = [Section("Does it hold?", "", tables=deciding)]
    sections.append(Section("What moves the prediction?", text, pictures, further))
    return sections + _inversion(explained, look, figures) + _quality(explained, figures)


def first_look(explained: Explanation, look: Look, figures: Figures) -> Picture:
    """The images with the lowest and the highest prediction of those that are shown."""
    series = explained.series
    rows = list(dict.fromkeys(series.shown[[0, -1]].tolist())) if len(series.shown) else []
    figure = counterfactual_strip(series, explained.question, look, rows)
    note = "Two of the images: as they are, moved along the direction, and where the prediction changes sides."
    note += _far(series) + _relevance(series, explained.question)
    return Picture.saved(figures.save(figure, "first_look"), "What the direction does", note)


def key_numbers(explained: Explanation, look: Look) -> list[KeyNumber]:
    """The scores that say first whether an explanation holds, each beside the best of the controls."""
    inside, whole = "share that flips as far as images stay near the data", "share that flips along the whole series"
    in_range = explained.score("flips_in_range", explained.method) is not None
    names = {
        "flips_in_range" if in_range else "flip_rate": ("images whose prediction flips", inside if in_range else whole),
    }
    for key in keys_of(BY_KEY["agreement"], [row["score"] for row in explained.scores]):
        names[key] = (f"{key.partition('/')[2]} agrees", "share of counterfactuals that convince it too")
    shares = set(names)  # of images
    names["inversion_drift"] = ("inversion drift", "how far the prediction moves by inversion alone")
    found = []
    for key, (title, explanation) in names.items():
        row = explained.score(key, explained.method)
        if row is not None:
            beside = [(control, explained.score(key, control)) for control in explained.controls]
            texts = [f"{_share_of(other)} ({CALLED.get(name, name)})" for name, other in beside if other]
            if key not in shares:  # the drift, which controls share: their moves begin where the method's do
                texts = ["0 at best"]
            value = _count(row) if key in shares else row["value"]
            found.append(KeyNumber(title, value, row["unit"], ", ".join(texts), explanation))
    auc = explained.quality.get("auc")
    if auc is not None:
        found.append(KeyNumber("AUC of the classifier", auc, "", "0.5 (chance)", f"on {look.groups} it never saw"))
    return found


def _count(row: Mapping[str, Any]) -> str:
    """A share of images as their count; of none where none is known."""
    known = row["images"] if math.isfinite(row["value"]) else 0.0
    return f"{round(row['value'] * known) if known else 0} of {known:.0f}"


def _share_of(row: Mapping[str, Any]) -> str:
    """With its n; of none where none is known."""
    return f"{row['value']:.0%} of {row['images']:.0f}" if math.isfinite(row["value"]) else "–"


def sliders(explained: Explanation) -> TraversalSet:
    """A slider for each explained image, those with the lowest predictions first."""
    series, question, method = explained.series, explained.question, explained.method
    cards = slider_cards(series, question)
    note = (
        f"{len(series)} held-out images moved along the direction that {method} found, those with the lowest "
        f"predictions first; 0 is the image after inversion."
    )
    return TraversalSet(f"{question.target}?", cards, series.steps.tolist(), note=note)


def slider_cards(series: Series, question: Question) -> list[Traversal]:
    """A slider for each image, with its predictions as the reading."""
    cards = []
    for index in range(len(series)):
        label = question.label(float(series.label[index]))
        ends = (series.predictions[index, series.zero], series.counterfactual_prediction[index])
        caption = f"predicted {question.text(float(ends[0]))} → {question.text(float(ends[1]))}"
        caption += f" at {number(float(series.counterfactual_step[index]), 2, sign=True)}σ"
        caption += "" if series.reached[index] else ", short of what was asked"
        name = f"image {index + 1}" + (f": {label}" if label else "")
        values, real = series.predictions[index].tolist(), series.real[index]
        cards.append(
            Traversal(name, series.images[index], caption, question.axis, "", values, original=real, reach=series.reach)
        )
    return cards


def _strips(explained: Explanation, look: Look, figures: Figures) -> list[Picture]:
    series, question, pictures = explained.series, explained.question, []
    table = strip_table(series, question, look)
    for place, part in enumerate(anatomy.pages(len(series.shown), ROWS_PER_FIGURE)):
        rows = series.shown[part].tolist()
        figure = counterfactual_strip(series, question, look, rows)
        numbers = [row for row in table if row["image"] in rows]
        paths = figures.save(figure, "counterfactuals" + (f"_{place + 1}" if place else ""), numbers)
        note = (
            f"{len(series.shown)} of {len(series)} images, spread over the predictions, none picked for its looks; all "
            f"of them can be moved below. Under each image its prediction, with the threshold as a mark."
        )
        note += _far(series) + _relevance(series, question)
        pictures.append(Picture.saved(paths, "Original, inverted, moved, counterfactual", note))
    return pictures


def _far(series: Series) -> str:
    """How far images are shown; "" where it is not known how far they stay near the data."""
    if not math.isfinite(series.reach):
        return ""
    said = f" Half of the images stay near the data for {number(series.reach, 2)}σ"
    beyond = any(map(series.is_beyond, series.counterfactual_step[series.shown].tolist()))
    return said + ("; a counterfactual whose step is red lies beyond." if beyond else ".")


def _relevance(series: Series, question: Question) -> str:
    """What is red on a saliency map; "" without one."""
    if not series.saliency:
        return ""
    said = f" Relevance: red speaks for {question.target}, blue against it"
    return said + ("; Grad-CAM shows only what speaks for it." if "gradcam" in series.saliency else ".")


def _flips(explained: Explanation, figures: Figures) -> Picture:
    areas = {row["method"]: row["value"] for row in explained.scores if row["score"] == "flip_area"}
    paths = figures.save(
        scorecard.flip_curves(explained.flips, areas, explained.controls), "flip_curves", explained.flips
    )
    note = (
        "How many predictions have crossed the threshold when a share of the range is gone in which images stay near "
        "the data; the area is 1 where all flip at once, 0 where none does in it."
    )
    return Picture.saved(paths, "Flips within the editing range", note)


def _mean_effect(explained: Explanation, look: Look, figures: Figures) -> Picture:
    arrays = np.load(explained.folder / "mean_effect.npz")
    steps = explained.series.steps.tolist()
    figure = mean_effect(arrays["images"], arrays["difference"], steps, look, explained.series.reach)
    paths = figures.save(figure, "mean_effect", mean_effect_table(arrays["difference"], steps))
    note = "What the direction changes in all explained images alike; what differs from image to image averages out."
    return Picture.saved(paths, "The mean effect", note)


def _inversion(explained: Explanation, look: Look, figures: Figures) -> list[Section]:
    path = explained.folder / "inversion.npz"
    if not path.exists():
        return []
    a = np.load(path)
    figure = inversion_figure(
        a["real"], a["decoded"], a["psnr"], a["prediction_real"], a["prediction_decoded"], explained.question, look
    )
    names = ("psnr", "prediction_real", "prediction_decoded")
    table = [{"image": i} | {name: float(a[name][i]) for name in names} for i in range(len(a["psnr"]))]
    paths = figures.save(figure, "inversion", table)
    picture = Picture.saved(paths, f"Inverted {look.nouns}", "Best, median and worst by PSNR.")
    text = "An explanation is of the inverted image: what inversion loses, it cannot speak of."
    tables = [scorecard.inversion_table(_rows(explained.folder / "inversion.csv"))]
    return [Section("What does inversion keep?", text, [picture], tables)]


def _quality(explained: Explanation, figures: Figures) -> list[Section]:
    quality = explained.quality
    if not quality:
        return []
    pictures = []
    if explained.reliability:
        figure = scorecard.reliability_plot(explained.reliability, quality)
        paths = figures.save(figure, "reliability", explained.reliability)
        pictures.append(Picture.saved(paths, "Reliability", "On the diagonal predictions are frequencies."))
    rows = []
    for key, name in QUALITY.items():
        value, low, high = (quality.get(f"{key}{end}") for end in ("", "_low", "_high"))
        if value is not None:
            interval = f"[{number(low)}, {number(high)}]" if low is not None and high is not None else ""
            rows.append([name, float(value), interval])
    table = Table("On held-out images", ["", "value", "95% interval"], rows)
    text = "How good the explained classifier is: an explanation of a bad one is an explanation of its mistakes."
    return [Section("How good is the classifier?", text, pictures, [table])]


def _links(explained: Explanation) -> Table:
    """The chain that the explanation rests on."""
    rows = [[link["name"], float(link["holds"]), link["told"]] for link in explained.links]
    return Table("What it rests on", ["link", "holds", ""], rows, "Holds: 1 wholly, 0 not at all.")


def _audit(explained: Explanation) -> Table:
    """What the classifier answers to."""
    rows = []
    for row in read_table(path, Response) if (path := explained.folder / "audit.csv").exists() else []:
        found = Response(**row)
        interval = _interval(found.row())
        name = found.quantity.replace("_", " ")
        rows.append([name, found.response, interval, found.length, found.p, "; ".join(found.lacks) or "above chance"])
    unit = "logits" if explained.question.probability else "units"
    columns = ["alone", f"response ({unit})", "95% interval", "length of the change (σ)", "p", ""]
    note = (
        "The response of the prediction to a standard deviation of one quantity, while all others stay, over held-out "
        "images. p: that the best of as many random changes of the code, as long, does as much. Of classifiers of a "
        "phantom without a shortcut, half were said to answer to a body or lung size that they did not use "
        "(experiments/audit): a hint to check, no proof."
    )
    return Table("What the classifier answers to", columns, rows, note)


def _alignment(explained: Explanation, look: Look) -> list[Table]:
    """What each classifier says of the counterfactuals of each other."""
    pairs = [row for row in explained.alignment if row["of"] != row["asked"]]
    if not pairs:
        return []
    rows = []
    for row in pairs:
        beside = [row[key] for key in ("images", "random", "level", "p", "told")]
        rows.append([row["of"], row["asked"], row["change"], _interval(row), *beside])
    columns = ["counterfactuals of", "shown to", "relative change", "95% interval", "n", "random", "level", "p", ""]
    note = (
        "Relative change: of the prediction of the one that is asked, as a share of the change of the one whose "
        "counterfactuals these are (Cohen et al. 2023); 1: it goes along wholly. Intervals are over "
        f"{look.groups}; n: "
        "counterfactuals that were reached. Random: the mean along 200 random directions, gone as far, with the same "
        "rule for their sign; level: what the largest of all pairs exceeds in 5% of them; p: of all pairs. In part: "
        "above that level, and surely less than half. Not along: surely less than half."
    )
    if math.isfinite(alarms := pairs[0]["false_alarms"]):
        note += f" Of random directions of one half {alarms:.1%} have a pair above the level of the other half."
    return [Table("Which classifiers share a reason", columns, rows, note)]


def _by_catch(explained: Explanation, look: Look) -> list[Table]:
    """What other findings do along the direction, beside the controls' directions."""
    found: dict[str, dict[str, Any]] = {}
    for row in _rows(explained.folder / "by_catch.csv"):
        found.setdefault(row["finding"], {})[row["method"]] = row
    if not found:
        return []
    controls = [method for method in explained.controls if any(method in of for of in found.values())]
    rows = []
    for finding, of in found.items():
        own = of[explained.method]
        name = f"{finding} (explained)" if own["explained"] else finding
        rows.append([name, own["change"], _interval(own), *(_beside(of.get(control)) for control in controls)])
    columns = ["finding", "change of its logit for each σ", "95% interval", *controls]
    note = (
        f"Mean over held-out images as far as images stay near the data; intervals over {look.groups}. Controls are "
        "moved with the sign that raises the explained finding: their mean, its interval, and the most that one of "
        "their directions does."
    )
    return [Table("What else the classifier says along the direction", columns, rows, note)]


def _interval(row: Mapping[str, Any]) -> str:
    return f"[{number(row['low'])}, {number(row['high'])}]" if math.isfinite(row["low"]) else ""


def _beside(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    most = f"; at most {number(row['largest'])} in {row['directions']:.0f}"
    return f"{number(row['change'], sign=True)} {_interval(row)}".rstrip() + most


def _exposed(explained: Explanation) -> Table:
    """What the direction turned out to move."""
    rows = [[key.replace("_", " "), _text(value)] for key, value in explained.exposed.items()]
    return Table("What the direction moves", ["quantity", "value"], rows)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value)


def series_from(arrays: Any, reach: float) -> Series:
    """From the arrays that an explanation left."""
    saliency = {name: arrays[f"saliency_{name}"] for name in SALIENCY if f"saliency_{name}" in arrays}
    own = {name: arrays[name] for name in Series.__dataclass_fields__ if name not in ("saliency", "reach")}
    return Series(**own, saliency=saliency, reach=reach)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file with their numbers as floats; [] where there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: _value(key, text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(key: str, text: str) -> Any:
    if key in ("control", "explained"):
        return text in ("True", "true", "1")
    return text if key in TEXTS else float(text) if text else math.nan
