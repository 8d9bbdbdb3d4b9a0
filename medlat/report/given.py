"""What is found of given images, as a small page, pictures and `explanation.json`: `01`, `02`, in the order given.

Nothing here knows what the files are called.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.files import jsonable, write_json
from medlat.explain.likeness import LEVEL
from medlat.explain.single import TRUSTED, Single, SingleExplained
from medlat.report.explained import series_from, slider_cards
from medlat.report.explanation import Question, inverted_figure, single_figure
from medlat.report.page import Cell, Picture, Report, Section, Table, Traversal, TraversalSet, write_page
from medlat.report.rendering import Look
from medlat.report.style import Figures, number, with_unit

ORDER = "Images are numbered in the order in which they were given; what they are called is not kept."


@dataclass(frozen=True)
class Place:
    """Where an image lies along a direction. name: what the direction is called; position: in σ of real images' codes
    from the middle of held-out ones; lower: how many of so many held-out images lie lower.
    """

    direction: str
    name: str
    position: float
    lower: int
    held_out: int


@dataclass(frozen=True)
class Answer:
    """What is found of N given images.

    singles: of each; moved: of each what it measures, and what the move does to that.
    real, inverted: [N, H, W(, 3)] physical values. held_out_psnr: of held-out images, the median in dB;
    keeps_noise: whether each image is given back with the noise that belongs to it.
    run: what the run itself says: method, direction, name, why, told, weakest; as far as it does.
    question, series: with a classifier, as `report.explanation.Series` takes it. walks: without one, of some directions
    each its name, what it is called, its steps in σ and images [N, S, H, W(, 3)]. positions: without one, of each image
    where it lies along each direction of the main method.
    """

    singles: Sequence[Single]
    moved: Sequence[Sequence[Mapping[str, Any]]]
    real: np.ndarray
    inverted: np.ndarray
    held_out_psnr: float
    keeps_noise: bool
    run: Mapping[str, str]
    question: Question | None = None
    series: Mapping[str, np.ndarray] | None = None
    walks: Sequence[tuple[str, str, Sequence[float], np.ndarray]] = ()
    positions: Sequence[Sequence[Place]] = ()


def write_given(
    answer: Answer,
    notes: Sequence[Sequence[str]],
    look: Look,
    about: Mapping[str, str],
    warnings: Sequence[str],
    out: Path,
) -> list[str]:
    """Write the page, the pictures and explanation.json into the folder `out`; returns what is said of each image.

    notes: [N] what is odd about each, in fixed words. about: what was run; its "run" is the title. warnings: of all.
    """
    told = [said(answer, number) for number in range(len(answer.singles))]
    figures = Figures(out, pdf=False, dpi=look.dpi)
    sections = [_section(answer, number, notes[number], told[number], look, figures) for number in range(len(told))]
    several = len(told) > 1
    title = f"{about['run']}: {'why?' if answer.question else 'what is seen'}"
    report = Report(
        title,
        _together(answer.singles, look.nouns) if several else told[0],
        about,
        look,
        warnings=[*warnings, ORDER] if several else warnings,
        opening=sections,
        traversal_sets=_sliders(answer),
    )
    write_json(out / "explanation.json", facts(answer, notes, told, about))
    write_page(out / "index.html", report)
    return told


def name_of(number: int) -> str:
    """What the number-th image is called, from 0."""
    return f"{number + 1:02d}"


def said(answer: Answer, number: int) -> str:
    """Of one image: whether it is like the run's, what the classifier says, whether to believe the picture."""
    single = answer.singles[number]
    likeness = single.likeness
    parts = [likeness.told("images")]
    doubts = single.doubts()[not likeness.is_like :]
    if isinstance(single, SingleExplained):
        assert answer.question is not None
        moved, text = single.counterfactual, answer.question.text
        target, value = answer.question.target, text(single.prediction)
        probable = f"The classifier gives {target} a probability of {value}."
        parts.append(probable if answer.question.probability else f"The classifier predicts {target} {value}.")
        if moved.reached:
            inverted = f"The image that inversion gives back has {text(single.inverted)}"
            parts.append(f"{inverted}, and moved by {number_of(moved.step)}σ {text(moved.prediction)}.")
        if not likeness.is_like:
            doubts = [f"the image {'is' if likeness.is_unlike else 'may be'} none that the run knows", *doubts]
        weakest = answer.run.get("weakest", "")
        if doubts:
            parts.append(f"Do not rely on the picture: {'; '.join(doubts)}.")
        else:
            parts.append(f"{TRUSTED}; the weakest link of the run's own explanation is {weakest}.")
        parts.append(answer.run.get("told", ""))
    else:
        back = f"It comes back from the generator with {single.psnr:.1f} dB (held-out: {answer.held_out_psnr:.1f})"
        back += ", as any image does with the noise that is its own" * answer.keeps_noise
        parts.append(f"{back}{single.badly}.")
        if answer.positions:
            places = answer.positions[number]
            far = max(places, key=lambda place: abs(place.position))
            parts.append(
                f"Of {len(places)} directions of {answer.run['method']} it lies farthest out along {far.direction} "
                f"({far.name}), at {number_of(far.position)}σ: {far.lower} of {far.held_out} held-out images lie lower."
            )
        parts.append(answer.run.get("told", ""))
    return " ".join(part for part in parts if part)


def number_of(step: float) -> str:
    return number(step, 2, sign=True)


def _together(singles: Sequence[Single], nouns: str) -> str:
    """The first sentence on several images."""
    unlike = [name_of(i) for i, single in enumerate(singles) if single.likeness.is_unlike]
    apart = [name_of(i) for i, single in enumerate(singles) if single.likeness.is_open]
    share, count = f"of held-out {nouns} {LEVEL:.0%} are called so, too", len(singles)
    if unlike:
        return f"{len(unlike)} of {count} images are unlike anything this run has seen: {', '.join(unlike)} ({share})."
    if apart:
        return (
            f"{len(apart)} of {count} images are farther from the run's training {nouns} than all held-out ones, which "
            f"are too few to say more: {', '.join(apart)}."
        )
    return f"None of the {count} images is called unlike what this run has seen ({share})."


def _section(answer: Answer, index: int, notes: Sequence[str], told: str, look: Look, figures: Figures) -> Section:
    name = name_of(index)
    parts = [*(f"Of this file: {note}." for note in notes), *[told] * (len(answer.singles) > 1)]
    text = "\n\n".join(parts)
    if answer.series is None or answer.question is None:
        figure = inverted_figure(answer.real[index], answer.inverted[index], look)
        title, caption = "Original, and what inversion keeps", ""
    else:
        figure = single_figure(series_from(answer.series, _reach(answer)), index, answer.question, look)
        title = "Original, inverted, counterfactual"
        caption = (
            "Under each its prediction, with the threshold as a mark. Saliency of the original: red for, blue against."
        )
    picture = Picture.saved(figures.save(figure, name), title, caption)
    tables = [_known(answer, index), *_places(answer, index), *_measured(answer, index)]
    return Section(f"Image {name}", text, [picture], tables)


def _known(answer: Answer, index: int) -> Table:
    """What is known of the image, each number beside what it is held against."""
    single = answer.singles[index]
    like = single.likeness
    rows: list[list[Any]] = [
        [
            "distance to the training images",
            like.distance,
            f"farther than {like.nearer} of {like.held_out} held-out (p {like.p:.2g})",
        ],
        ["given back by the generator (dB)", single.psnr, f"held-out images: {number(answer.held_out_psnr)} (median)"],
    ]
    if isinstance(single, SingleExplained):
        moved = single.counterfactual
        rows.append(["prediction", single.prediction, f"changes side at {number(single.threshold)}"])
        side = "keeps its side" if single.keeps_side else "on the other side"
        rows.append(["prediction after inversion", single.inverted, side])
        reached = "as asked" if moved.reached else "not as asked"
        rows.append(["prediction of the counterfactual", moved.prediction, reached])
        reach = (
            f"images stay near the data for {number(moved.reach)}" if math.isfinite(moved.reach) else "range not known"
        )
        rows.append(["its step (σ)", Cell(number_of(moved.step), moved.step), reach])
        for name, (before, after) in moved.others.items():
            rows.append([f"counterfactual, by {name}", after, f"inverted: {number(before)}"])
    note = "Distance: 0 is the median of held-out images, and 95% of them are nearer than 1."
    if answer.keeps_noise:
        note += " With the noise that is its own any image comes back: that it does speaks for nothing."
    return Table("What it rests on", ["", "value", "beside it"], rows, note)


def _places(answer: Answer, index: int) -> list[Table]:
    """Where the image lies along the run's directions, the farthest first."""
    if not answer.positions:
        return []
    rows = [
        [p.direction, p.name, Cell(number_of(p.position), p.position), f"{p.lower} of {p.held_out}"]
        for p in sorted(answer.positions[index], key=lambda place: -abs(place.position))
    ]
    note = (
        "Position: in standard deviations of real images' codes, from the middle of held-out ones; of many directions "
        "one is always far out."
    )
    return [
        Table("Where it lies along the directions", ["direction", "what it is", "position (σ)", "lower"], rows, note)
    ]


def _measured(answer: Answer, index: int) -> list[Table]:
    """What was measured on the image, and what the move did."""
    rows = answer.moved[index]
    if not rows:
        return []
    if answer.question is None:
        lines = [[_name(row), *(_value(row[key], row["unit"]) for key in ("image", "inverted"))] for row in rows]
        return [Table("Measured", ["", "image", "inverted"], lines)]
    lines = list[list[Any]]()
    for row in rows:
        ends = [_value(row[key], row["unit"]) for key in ("image", "inverted", "counterfactual")]
        change = Cell(number(row["change_in_sd"], 2, sign=True), row["change_in_sd"])
        effect = with_unit(number(row["run_effect"], 2, sign=True), row["unit"])
        if math.isfinite(row["run_effect_low"]):
            effect += f" [{number(row['run_effect_low'], 2)}, {number(row['run_effect_high'], 2)}]"
        line: list[Any] = [_name(row), *ends, change, effect]
        lines.append(line)
    why = answer.run.get("why", "")
    note = (
        "Change: in standard deviations over real images. The run: effect for each σ of the same direction over "
        f"held-out images, with its 95% interval. {answer.run.get('told', '')} "
        + (f"It has no name: {why}." if why else "")
    )
    columns = ["", "image", "inverted", "counterfactual", "change (sd)", "the run, each σ"]
    return [Table("What moved, by measurement", columns, lines, note.strip())]


def _value(value: float, unit: str) -> str:
    return with_unit(number(value), unit) if math.isfinite(value) else "–"


def _name(row: Mapping[str, Any]) -> str:
    return str(row["measurement"]).replace("_", " ")


def _reach(answer: Answer) -> float:
    """How many σ images stay near the data along the direction that explains; NaN where that is not known."""
    return next((one.counterfactual.reach for one in answer.singles if isinstance(one, SingleExplained)), math.nan)


def _sliders(answer: Answer) -> list[TraversalSet]:
    if answer.series is not None and answer.question is not None:
        series = series_from(answer.series, _reach(answer))
        note = f"Along the direction that {answer.run['method']} found; 0 is the image after inversion."
        cards = slider_cards(series, answer.question)
        return [TraversalSet(f"why: {answer.question.target}", cards, series.steps.tolist(), note=note)]
    found = []
    for direction, name, steps, images in answer.walks:
        cards = [Traversal(f"image {name_of(i)}", series) for i, series in enumerate(images)]
        found.append(TraversalSet(direction, cards, steps, note=f"{name}."))
    return found


def facts(
    answer: Answer, notes: Sequence[Sequence[str]], told: Sequence[str], about: Mapping[str, str]
) -> dict[str, Any]:
    """What explanation.json holds: plain values, None where one is not known."""
    images = []
    for index, single in enumerate(answer.singles):
        like = asdict(single.likeness) | {"p": single.likeness.p}
        found = {"image": name_of(index), "unlike": single.likeness.is_unlike, "sentence": told[index]}
        found |= {"likeness": like, "notes": list(notes[index]), "doubts": single.doubts()}
        found |= {key: value for key, value in asdict(single).items() if key != "likeness"}
        if isinstance(single, SingleExplained):
            found["keeps_side"] = single.keeps_side
        if answer.positions:
            found["positions"] = [asdict(place) for place in answer.positions[index]]
        images.append(found | {"measured": [dict(row) for row in answer.moved[index]]})
    question = None if answer.question is None else asdict(answer.question)
    run = {
        "held_out_psnr": answer.held_out_psnr,
        "keeps_noise": answer.keeps_noise,
        "unlike_level": LEVEL,
        **answer.run,
    }
    return jsonable({"about": dict(about), "question": question, "run": run, "images": images})
