"""What all explanations of a run come to: the scorecard, what moves with the prediction, the weakest link."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from medlat.config.build import plain
from medlat.core.files import copy_whole
from medlat.core.tables import read_table, write_table
from medlat.evaluation.naming import Named
from medlat.explain import alignment
from medlat.explain.audit import Response, planted
from medlat.explain.by_catch import told
from medlat.explain.verdict import (
    Link,
    agreement_link,
    data_link,
    generator_link,
    lost,
    name_link,
    prediction_link,
    weakest,
    what_moves,
)
from medlat.steps import builders
from medlat.steps.audit import FILE as AUDIT
from medlat.steps.audit import load_audit
from medlat.steps.explained import (
    BY_CATCH,
    read_others,
)
from medlat.steps.measurements import read_numbers
from medlat.steps.methods import Method
from medlat.steps.step import Context, Step

AUDITED = ("response", "p")  # of audit.csv, that stand among the numbers of a run
HINT = (
    "That is a hint to check, no proof: for what a generator does not give back it can be wrong."  # experiments/audit
)


class Explanation(Step):
    """The scorecard of all methods, what moves with the prediction, and whether that is what was planted."""

    name = "explanation"
    version = 8

    def __init__(self, found: Sequence[Method], aligned: bool = False) -> None:
        self.methods = found
        self.needs = ("evaluation", "fidelity", "audit", found[0].step)
        self.needs += (*(f"explanation/{method.name}" for method in found), *(("alignment",) if aligned else ()))

    def settings(self, config: DictConfig) -> dict[str, Any]:
        bias = None if builders.is_own_classifier(config) else config.classifier.bias
        return {"methods": [method.name for method in self.methods], "bias": None if bias is None else plain(bias)}

    def run(self, context: Context, out: Path) -> None:
        folders = {method.name: context.folder(f"explanation/{method.name}") for method in self.methods}
        rows = [row for folder in folders.values() for row in read_table(folder / "scorecard.csv")]
        write_table(out / "scorecard.csv", rows)
        curves = [row for folder in folders.values() for row in read_table(folder / "response_curve.csv")]
        write_table(out / "response_curves.csv", curves)
        flips = [row for folder in folders.values() for row in read_table(folder / "flip_curve.csv")]
        write_table(out / "flip_curves.csv", flips)
        others = [row for folder in folders.values() for row in read_others(folder)]
        if others:
            write_table(out / BY_CATCH, [row.row() for row in others])
        responses = {name: np.load(folder / "predictions.npy") for name, folder in folders.items()}
        np.savez(out / "responses.npz", **responses, steps=np.array([float(s) for s in context.config.explain.steps]))
        main = context.directions(self.methods[0])
        asked = json.loads((folders[main.method] / "question.json").read_text())
        controls = [method.name for method in self.methods if method.role == "control"]
        followed = {name: read_table(folder / "followed.csv") for name, folder in folders.items()}
        named = _named(context, followed[main.method][0]["direction"])
        links = _links(context, folders[main.method], rows, main.method, controls, named)
        audit, unit = load_audit(context), "logits" if asked["probability"] else "units"
        exposed, numbers = _exposed(named), {f"{row.quantity}/{x}": getattr(row, x) for row in audit for x in AUDITED}
        found = [_finding(asked, main.method, rows), what_moves(named.name, named.measurement, named.normalised)]
        sentences = [weakest(links), *found] if lost(links) else [*found, weakest(links)]
        cells = _cells(context)
        sentences += [*filter(None, [_uses(audit, unit), told(others, main.method), alignment.told(cells)])]
        if cells:
            copy_whole(context.folder("alignment") / alignment.FILE, out)
            numbers |= {f"alignment/{cell.of}/{cell.asked}": cell.change for cell in cells if cell.of != cell.asked}
        if shortcut := _planted(context, audit):
            exposed["planted"], exposed["found"] = shortcut.quantity.replace("_", " "), shortcut.is_used
            numbers["bias_exposed"] = float(shortcut.is_used)
            sentences.append(f"Planted was {shortcut.told(unit)}: {'; '.join(shortcut.lacks) or 'found'}.")
        elif bias := _bias(context):
            sentences.append(f"A shortcut was planted ({bias.column}), and nothing that can be read here tells of it.")
        if audit:
            write_table(out / AUDIT, [row.row() for row in audit])
        info = asked | {
            "method": main.method,
            "controls": controls,
            "followed": [self._followed(context, method, followed[method.name]) for method in self.methods],
            "exposed": exposed,
            "links": [link.row() for link in links],
            "sentence": " ".join(sentences),
        }
        (out / "explanation.json").write_text(json.dumps(info, indent=2) + "\n")
        numbers["fit"] = float(main.scores[0])
        (out / "metrics.json").write_text(json.dumps(numbers, indent=2) + "\n")

    @staticmethod
    def _followed(context: Context, method: Method, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What a method's direction is called (a control's is never named), and how far its directions may be followed
        on average.
        """
        name = None if method.role == "control" else _named(context, rows[0]["direction"]).name
        known = [float(row["range"]) for row in rows if row["range"] is not None]
        return {"method": method.name, "name": name, "range": float(np.mean(known)) if known else None}


def _finding(asked: Mapping[str, Any], method: str, scores: Sequence[Mapping[str, str]]) -> str:
    """The finding in a sentence."""
    flips, where = _flips({(row["method"], row["score"]): row for row in scores}, method)
    value, low, high = (_number(flips[name]) for name in ("value", "low", "high"))
    interval = f" [{low:.0%}, {high:.0%}]" if low < high else ""
    return (
        f"Along the direction that {method} found, the prediction of {asked['target']} crosses "
        f"{asked['threshold']:.2g} in {value:.0%}{interval} of {flips['images']} held-out images {where}."
    )


def _number(cell: float | None) -> float:
    """Of a table's cell; NaN where it is empty. None of the images is a number."""
    return np.nan if cell is None else float(cell)


def _flips(scores: Mapping[tuple[str, str], Mapping[str, Any]], method: str) -> tuple[Mapping[str, Any], str]:
    """A method's flips within the editing range, or along the whole series where that is not known; and which."""
    inside = scores.get((method, "flips_in_range"))
    if inside is None:
        return scores[method, "flip_rate"], "within the series"
    return inside, "while images stay near the data"


def _named(context: Context, direction: str) -> Named:
    table = read_table(context.folder("evaluation") / "names.csv", Named)
    row = next(row for row in table if row["direction"] == direction)
    return Named(**row | {"rank": int(row["rank"])})


def _links(
    context: Context,
    folder: Path,
    scores: Sequence[Mapping[str, Any]],
    main: str,
    controls: Sequence[str],
    named: Named,
) -> list[Link]:
    """What the explanation by the main method, whose folder this is, rests on."""
    found = {(row["method"], row["score"]): row for row in scores}
    with np.load(folder / "inversion.npz") as inverted, np.load(folder / "counterfactuals.npz") as moved:
        real, decoded = (inverted[f"prediction_{name}"] > moved["threshold"] for name in ("real", "decoded"))
        psnr, samples = float(inverted["psnr"].mean()), _samples(context)
        kept = generator_link(psnr, real, decoded, inverted["groups"], samples)
        inside = data_link(moved["step"][moved["reached"]].tolist(), named.range)
    flips, where = _flips(found, main)
    beside = {control: float(_flips(found, control)[0]["value"]) for control in controls}
    links = [kept, prediction_link(float(flips["value"]), int(flips["images"]), beside, where), inside]
    for name in builders.compared_classifiers(context.config):
        row = found[main, f"agreement/{name}"]
        links.append(agreement_link(name, _number(row["value"]), int(row["images"])))
    return [link for link in [*links, name_link(named)] if link is not None]


def _cells(context: Context) -> list[alignment.Cell]:
    """The alignment of several classifiers; [] of one alone."""
    if "alignment" not in context.artifacts:
        return []
    table = read_table(context.folder("alignment") / alignment.FILE, alignment.Cell)
    return [alignment.Cell.from_row(row) for row in table]


def _samples(context: Context) -> tuple[float, float] | None:
    """Fréchet distance of samples over measurements and its floor; None where it was not, or cannot be measured."""
    numbers = read_numbers(context.folder("fidelity") / "metrics.json")
    value, floor = (numbers.get(f"distance/fd_measurements{end}", math.nan) for end in ("", "_floor"))
    return (value, floor) if math.isfinite(value) and math.isfinite(floor) else None


def _exposed(named: Named) -> dict[str, Any]:
    """What moves with the prediction."""
    return {"name": named.name, "moves most": named.measurement.replace("_", " "), "share": named.share,
            "normalised share": named.normalised, "R²": named.r2, "p, family-wise": named.p}  # fmt: skip


def _uses(audit: Sequence[Response], unit: str) -> str:
    """ "" where nothing could be asked for: the generator changes no quantity alone."""
    used = [row.told(unit) for row in audit if row.is_used]
    asked = [row.quantity.replace("_", " ") for row in audit if row.is_asked]
    if not asked:
        return ""
    if not used:
        rest = f", the only ones of {len(audit)} that the generator changes alone" * (len(asked) < len(audit))
        return f"To none of {', '.join(asked)}{rest}, the classifier answers more than to random changes."
    return f"Changed alone, and more than random changes, it answers to: {'; '.join(used)}. {HINT}"


def _bias(context: Context) -> Any:
    """The shortcut that the classifier was given to learn; None where there is none."""
    return None if builders.is_own_classifier(context.config) else context.config.classifier.bias


def _planted(context: Context, audit: Sequence[Response]) -> Response | None:
    """What the audit says of the shortcut that was planted; None without one that is measured."""
    bias = _bias(context)
    reads = {m.name: m.factor for m in builders.measurements(context.config).measurements}
    meant = planted(reads, bias.column) if bias is not None else set()
    return next((row for row in audit if row.quantity in meant), None)
