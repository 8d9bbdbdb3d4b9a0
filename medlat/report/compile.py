"""From what an evaluation left to every figure, GIF and the page of a run."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medlat.evaluation.naming import UNMEASURED, UNNAMED, verdict
from medlat.evaluation.semantics import read_semantics
from medlat.report import anatomy, charts, gif, heatmap
from medlat.report.delivery import pictures_in
from medlat.report.discovered import discovered_section, read_rows
from medlat.report.explained import CALLED, Explanation, explanation_sections, first_look, key_numbers, sliders
from medlat.report.page import (
    KeyNumber,
    Picture,
    Report,
    Section,
    Table,
    Traversal,
    TraversalSet,
    semantics_table,
    write_page,
)
from medlat.report.readers import readers_section
from medlat.report.rendering import Look, zero_index
from medlat.report.style import Figures, bare_name, in_order, number, with_unit

KEY_DISTANCES = ("patch_distance_", "fd_", "fid_", "recall_")  # that stand at the top of the page


@dataclass(frozen=True)
class Inputs:
    """What a report is made of.

    evaluation: folder with metrics.json and the tables of all methods; fidelity: with distances.csv, samples and
                reconstructions; semantics: by method, with its traversal. curves: metrics.jsonl of the training.
    grids:      images of the same codes as it went on, images shown -> [N, H, W(, 3)] physical values.
    controls:   names of the direction methods that know nothing.
    measurements: (name, unit, known factor that it reads) as measured; described: name -> what it is, in a few words.
    look:       how images are shown; directions, gifs: shown of each method; pdf: whether figures are left as PDF too.
    about, run, warnings: for the page.
    account:    of the data: (what, count, reason).
    kept:       what readers said of directions, by their names: see `readers`.
    explanation, explained, classifier: folders of an explained classifier, where there is one: of all methods, of the
                main one, of the classifier (`explained.Explanation.load`).
    """

    evaluation: Path
    fidelity: Path
    semantics: Mapping[str, Path]
    curves: Sequence[Mapping[str, Any]]
    grids: Mapping[int, np.ndarray]
    controls: Sequence[str]
    measurements: Sequence[tuple[str, str, str | None]]
    look: Look
    directions: int
    gifs: int
    active_kl: float
    about: str
    run: Mapping[str, str]
    warnings: Sequence[str] = ()
    account: Sequence[tuple[str, int, str]] = ()
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    described: Mapping[str, str] = field(default_factory=dict)
    pdf: bool = True
    explanation: Path | None = None
    explained: Path | None = None
    classifier: Path | None = None


@dataclass
class _Work:
    """The report as it grows."""

    inputs: Inputs
    figures: Figures
    rows: list[dict]
    numbers: dict[str, float]
    sections: list[Section] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        return in_order(row["method"] for row in self.rows)

    @property
    def main(self) -> str:
        return self.methods[0]

    @property
    def kind(self) -> str:
        return "factor" if any(row["kind"] == "factor" for row in self.rows) else "measurement"

    def of(self, method: str, direction: str | None = None, kind: str | None = None) -> list[dict]:
        return [
            row
            for row in self.rows
            if row["method"] == method and direction in (None, row["direction"]) and kind in (None, row["kind"])
        ]


def compile_report(inputs: Inputs, folder: Path) -> list[Path]:
    """Write figures/, report/index.html below `folder`. Returns the pictures worth showing elsewhere (PNG and GIF)."""
    figures = Figures(folder / "figures", inputs.pdf, inputs.look.dpi)
    work = _Work(inputs, figures, read_semantics(inputs.evaluation / "semantics.csv"), _numbers(inputs.evaluation))
    traversals = {method: np.load(inputs.semantics[method] / "traversal.npz") for method in work.methods}
    names = read_rows(inputs.evaluation / "names.csv")
    work.sections.append(
        discovered_section(
            inputs.evaluation, work.numbers, work.kind, inputs.controls, inputs.look.groups, work.figures
        )
    )
    _meaning(work, traversals)
    _generator(work)
    _training(work)
    _data(work)
    work.sections += readers_section(inputs.kept, names)
    explained = None
    if inputs.explanation is not None and inputs.explained is not None:
        explained = Explanation.load(inputs.explanation, inputs.explained, inputs.classifier)
    found = UNMEASURED
    if inputs.measurements:
        found = verdict(names, work.main, inputs.controls)
    report = Report(
        title=explained.question.title if explained else f"What varies in these {inputs.look.nouns}?",
        verdict=explained.sentence if explained else found,
        about=inputs.about,
        lead=first_look(explained, inputs.look, figures) if explained else _first_look(work, traversals, names),
        run=inputs.run,
        warnings=inputs.warnings,
        key_numbers=(key_numbers(explained, inputs.look) if explained else []) + _key_numbers(work),
        traversal_sets=([sliders(explained)] if explained else [])
        + [_sliders(work, method, arrays, names) for method, arrays in traversals.items()],
        look=inputs.look,
        opening=explanation_sections(explained, inputs.look, figures) if explained else [],
        sections=work.sections,
    )
    write_page(folder / "report" / "index.html", report)
    return pictures_in(figures.folder)


def describe(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a direction does, from the rows of one kind: its strongest effect with interval, R² and purity. No name."""
    known = [row for row in rows if math.isfinite(row["share"])]
    if not known:
        return "nothing measurable changes"
    best = max(known, key=lambda row: row["share"])
    change = with_unit(number(best["effect"], 2, sign=True), best["unit"])
    sure = math.isfinite(best["effect_low"])
    interval = f" [{number(best['effect_low'], 2)}, {number(best['effect_high'], 2)}]" if sure else ""
    name = best["measurement"].replace("_", " ")
    return f"most of all {name}: {change}/σ{interval}, R² {best['r2']:.2f}, purity {best['share']:.2f}"


def _first_look(work: _Work, traversals: Mapping[str, Any], names: Sequence[Mapping[str, Any]]) -> Picture:
    """Three directions of the main method: those that have a name first, then the others in their order."""
    own = [row for row in names if row["method"] == work.main]
    shown = sorted(own, key=lambda row: row["name"] == UNNAMED)[:3]
    arrays, known = traversals[work.main], in_order(row["direction"] for row in work.of(work.main))
    images = arrays["images"][[known.index(row["direction"]) for row in shown]]
    steps, captions = arrays["steps"].tolist(), [row["name"] for row in shown]
    figure = anatomy.traversal_grid(images, steps, [row["direction"] for row in shown], captions, work.inputs.look)
    title = "The first directions, those with a name before others"
    note = "Each row moves one image along one direction; 0 is the image as the generator shows it."
    return Picture.saved(work.figures.save(figure, "first_look", shown), title, note)


def _meaning(work: _Work, traversals: Mapping[str, Any]) -> None:
    """Heat map, purity, and for every method its traversals and differences."""
    inputs = work.inputs
    pictures = []
    for kind, what in (("factor", "known factor"), ("measurement", "measurement")):
        rows = [row for row in work.rows if row["kind"] == kind]
        if rows and inputs.measurements:
            figure = heatmap.semantics_heatmap(rows, inputs.controls)
            paths = work.figures.save(figure, f"semantics_{kind}s", rows)
            caption = "Standardised effect of one σ; the controls on the right, on the same scale."
            pictures.append(Picture.saved(paths, f"What each direction changes: every {what}", caption))
    if inputs.measurements:
        by_method = {method: work.of(method) for method in work.methods}
        table = charts.purity_table(by_method, work.numbers, work.kind, inputs.controls)
        paths = work.figures.save(charts.purity_chart(by_method, table), "purity", table)
        note = (
            f"A point per direction; diamonds: mean, with its 95% interval over {inputs.look.groups} where there are "
            "20. Purity 1: the direction changes one thing only."
        )
        pictures.append(Picture.saved(paths, "Purity beside chance", note))
    folded = [picture for method in work.methods for picture in _traversal_pictures(work, method, traversals[method])]
    text = (
        "Each direction is tried from many base codes; a straight line through each measurement gives its change per "
        "σ, the standard deviation of real images' codes along the direction."
    )
    tables = [semantics_table(work.rows, inputs.evaluation / "semantics.csv", inputs.controls)]
    told = [[name.replace("_", " "), unit, inputs.described.get(name, "")] for name, unit, _ in inputs.measurements]
    if any(text for *_, text in told):
        tables.append(Table("What is measured", ["measurement", "unit", "what it is"], told))
    work.sections.append(Section("What does each direction change?", text, pictures, tables, folded))


def _traversal_pictures(work: _Work, method: str, arrays: Any) -> list[Picture]:
    inputs, steps = work.inputs, arrays["steps"].tolist()
    names = in_order(row["direction"] for row in work.of(method))[: inputs.directions]
    images = arrays["images"][: len(names)]
    captions = [describe(work.of(method, name, work.kind)) for name in names]
    zero = zero_index(steps)
    pictures = []
    for number_, part in enumerate(anatomy.pages(len(names))):
        stem = f"traversal_{method}" + (f"_{number_ + 1}" if number_ else "")
        rows = [row for name in names[part] for row in work.of(method, name)]
        figure = anatomy.traversal_grid(images[part], steps, names[part], captions[part], inputs.look)
        pictures.append(Picture.saved(work.figures.save(figure, stem, rows), f"Traversals: {method}"))
        if method in inputs.controls:
            continue
        figure = anatomy.difference_maps(images[part], steps, names[part], zero, inputs.look)
        table = anatomy.difference_table(images[part], steps, names[part], zero, inputs.look)
        paths = work.figures.save(figure, stem.replace("traversal", "difference"), table)
        pictures.append(Picture.saved(paths, f"Differences to the base image: {method}"))
    if method not in inputs.controls and inputs.gifs > 0:
        for name, image, caption in list(zip(names, images, captions, strict=True))[: inputs.gifs]:
            path = work.figures.folder / f"{name.replace(' ', '_')}.gif"
            gif.traversal_gif(image, path, inputs.look, steps, f"{name}: {caption}")
        some = slice(0, inputs.gifs)
        gif.overview_gif(images[some], work.figures.folder / f"overview_{method}.gif", inputs.look, steps, names[some])
    return pictures


def _generator(work: _Work) -> None:
    """Samples, distances, and of a generator with an encoder its reconstructions and use of the latent space."""
    inputs = work.inputs
    images = np.load(inputs.fidelity / "images.npz")
    figure = anatomy.samples_grid(images["real"], images["samples"], inputs.look)
    paths = work.figures.save(figure, "samples")
    pictures = [Picture.saved(paths, f"Held-out and sampled {inputs.look.nouns}", "None picked by hand.")]
    tables = []
    if (inputs.fidelity / "distances.csv").exists():
        rows = _distances(inputs.fidelity / "distances.csv")
        paths = work.figures.save(charts.distance_chart(rows), "distances", rows)
        note = (
            f"Samples against held-out {inputs.look.nouns}; the floor is the same between two halves of these "
            f"{inputs.look.groups}, which an ideal generator would reach."
        )
        pictures.append(Picture.saved(paths, f"Distance of samples to real {inputs.look.nouns}", note))
        tables.append(_distance_table(rows))
    if (inputs.fidelity / "reconstruction.npz").exists():
        pictures = _encoder(work) + pictures
    text = f"All numbers are of {inputs.look.nouns} that are held out{', from the training too' * bool(inputs.curves)}."
    work.sections.append(Section("Can the generator show these images?", text, pictures, tables + _readout(work)))


def _encoder(work: _Work) -> list[Picture]:
    """Reconstructions and the use of the latent space."""
    inputs = work.inputs
    arrays = np.load(inputs.fidelity / "reconstruction.npz")
    shown = arrays["shown"]
    figure = anatomy.reconstructions(arrays["real"], arrays["decoded"], arrays["psnr"][shown], inputs.look)
    table = [
        {"slice": i, "psnr_db": p, "ms_ssim": s}
        for i, (p, s) in enumerate(zip(arrays["psnr"], arrays["ms_ssim"], strict=True))
    ]
    paths = work.figures.save(figure, "reconstructions", table)
    pictures = [
        Picture.saved(paths, f"Reconstructions of held-out {inputs.look.nouns}", "Best, median and worst by PSNR.")
    ]
    if "kl" not in arrays:  # of a generator without a posterior
        return pictures
    figure = charts.latent_usage(arrays["kl"], inputs.active_kl)
    paths = work.figures.save(figure, "latent_usage", charts.usage_table(arrays["kl"], inputs.active_kl))
    return [*pictures, Picture.saved(paths, "Use of the latent space")]


def _distance_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [
        [row["name"], with_unit(number(row["value"]), row["unit"]), with_unit(number(row["floor"]), row["unit"]),
         row["better"], int(row["images"])]
        for row in rows
    ]  # fmt: skip
    warnings = dict.fromkeys(row["warning"] for row in rows if row["warning"])
    caption = "The features that a distance is taken over stand in brackets. " + ". ".join(warnings)
    return Table("Samples against held-out images", ["", "samples", "floor", "better", "images"], cells, caption)


def _training(work: _Work) -> None:
    inputs, pictures = work.inputs, []
    if inputs.curves:
        figure = charts.training_curves(inputs.curves)
        paths = work.figures.save(figure, "training_curves", inputs.curves)
        pictures.append(Picture.saved(paths, "Training curves"))
    if inputs.grids:
        figure = anatomy.training_grid(inputs.grids, inputs.look)
        paths = work.figures.save(figure, "training_grid")
        pictures.append(Picture.saved(paths, "The same codes as the training went on"))
    if pictures:
        work.sections.append(Section("How was the generator trained?", "", pictures))


def _data(work: _Work) -> None:
    """What of the data is not among the images, or is with a remark."""
    if not work.inputs.account:
        return
    table = Table("What is left out, and what is remarked", ["what", "count", "why"], list(work.inputs.account))
    text = (
        "Damaged: cannot be read. Copy: left out of the training. Read: among the images. Files are named nowhere here."
    )
    work.sections.append(Section("Which images?", text, tables=[table]))


def _readout(work: _Work) -> list[Table]:
    rows = [[k.removeprefix("readout/r2_"), v] for k, v in work.numbers.items() if k.startswith("readout/r2_")]
    if not rows:
        return []
    caption = "R² on held-out images of the known factors, read from the measurements: how far these can be trusted."
    return [Table("How well the factors can be read", ["factor", "R²"], rows, caption)]


def _sliders(work: _Work, method: str, arrays: Any, names: Sequence[Mapping[str, Any]]) -> TraversalSet:
    """A card for each direction of a method, those with most evidence first."""
    control, numbers = method in work.inputs.controls, work.numbers
    told = {row["direction"]: row for row in names if row["method"] == method}
    directions = in_order(row["direction"] for row in work.of(method))
    cards = [_card(work, method, arrays, index, told[name]) for index, name in enumerate(directions)]
    mean = numbers.get(f"semantics/{method}/{work.kind}_purity")
    note = (
        f"mean purity {mean:.2f}" + (": this is what knowing nothing looks like" if control else "")
        if mean is not None
        else ""
    )
    ordered = sorted(cards, key=lambda card: -card.evidence if math.isfinite(card.evidence) else 0.0)
    return TraversalSet(method, ordered, arrays["steps"].tolist(), control, note)


def _card(work: _Work, method: str, arrays: Any, index: int, told: Mapping[str, Any]) -> Traversal:
    """Of the direction with that number, by its row of names.csv."""
    direction, named = told["direction"], told["name"] != UNNAMED
    heading = told["name"] if named else f"{UNNAMED} {bare_name(direction, method)}"
    card = Traversal(heading, arrays["images"][index], named=named, evidence=told["evidence"], reach=told["range"])
    if not work.inputs.measurements:
        return replace(card, caption=direction)
    column = _strongest_measurement(work, method, direction)
    label, unit, _ = work.inputs.measurements[column]
    caption = f"{direction}, {describe(work.of(method, direction, work.kind))}"
    values = arrays["values"][index, :, column].tolist()
    return replace(card, caption=caption, measurement=label.replace("_", " "), unit=unit, values=values)


def _strongest_measurement(work: _Work, method: str, direction: str) -> int:
    """The measurement beside a slider: what reads the factor that the caption names, or the strongest itself."""
    known = [row for row in work.of(method, direction, work.kind) if math.isfinite(row["share"])]
    if not known:
        return 0
    named = max(known, key=lambda row: row["share"])["measurement"]
    names = [factor if work.kind == "factor" else name for name, _, factor in work.inputs.measurements]
    return names.index(named)


def _key_numbers(work: _Work) -> list[KeyNumber]:
    n, kind = work.numbers, work.kind
    what = "known factors" if kind == "factor" else "measurements"
    encoder = {
        "psnr": ("PSNR", "dB", f"held-out {work.inputs.look.nouns} against their reconstructions, range 2"),
        "ms_ssim": ("MS-SSIM", "", "structural similarity of the same, 1 at best"),
        "active_units": ("active latent dimensions", "", "dimensions that the encoder uses"),
    }
    purity, covered = f"{kind}_purity", f"{kind}_coverage"
    beside = {
        key: ", ".join(
            f"{number(n[f'semantics/{method}/{key}'], 2)} ({CALLED.get(method, method)})"
            for method in work.inputs.controls
            if f"semantics/{method}/{key}" in n
        )
        for key in (purity, covered)
    }
    own = {key: n.get(f"semantics/{work.main}/{key}") for key in (purity, covered)}
    explained = {
        purity: f"share of a direction's effect that falls on one of the {what}; 1 at best",
        covered: f"{what} that are clearly most of what some direction does",
    }
    names = {purity: f"mean purity of {work.main}", covered: f"coverage of {work.main}"}
    entries = [KeyNumber(names[k], v, "", beside[k], explained[k]) for k, v in own.items() if v is not None]
    entries += [
        KeyNumber(name, n[f"reconstruction/{key}"], unit, "", explanation)
        for key, (name, unit, explanation) in encoder.items()
        if f"reconstruction/{key}" in n
    ]
    for row in _distances(work.inputs.fidelity / "distances.csv"):
        if row["key"].startswith(KEY_DISTANCES) and math.isfinite(row["value"]):
            floor = f"{number(row['floor'])} (real to real)"
            entries.append(KeyNumber(row["name"], row["value"], row["unit"], floor, f"{row['better']} is better"))
    return entries


def _numbers(evaluation: Path) -> dict[str, float]:
    return {k: v for k, v in json.loads((evaluation / "metrics.json").read_text()).items() if v is not None}


def _distances(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [row | {"value": float(row["value"]), "floor": float(row["floor"])} for row in csv.DictReader(file)]
