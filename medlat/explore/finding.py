"""A view as a page for who was not there: the question, what the run's report answers, the picture, and what speaks
against it. One self-contained file; its sentences are those of the report.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medlat.core.errors import UserError
from medlat.evaluation.semantics import read_semantics
from medlat.explain.single import TRUSTED
from medlat.explore.slider import Slider
from medlat.explore.view import Explorer, View
from medlat.report.anatomy import moved_figure
from medlat.report.compile import describe
from medlat.report.discovered import names_table, read_rows
from medlat.report.explained import Explanation, key_numbers
from medlat.report.page import Cell, KeyNumber, Picture, Report, Section, Table, semantics_table, write_page
from medlat.report.readers import read_kept, readers_section
from medlat.report.style import Figures, number, step_label, with_unit
from medlat.steps.given import of_run
from medlat.steps.report import run_facts, warnings_of

EXAMPLE = "One picture is an example, and no evidence: what holds for others stands in the run's report."


def finding(explorer: Explorer, view: View) -> bytes:
    """The page, as HTML. Raises UserError where the view moves nothing."""
    sliders = moved_along(explorer, view)
    with tempfile.TemporaryDirectory() as folder:
        path, figures = Path(folder) / "finding.html", Figures(Path(folder), pdf=False)
        write_page(path, _report(explorer, view, sliders, figures))
        return path.read_bytes()


def moved_along(explorer: Explorer, view: View) -> list[Slider]:
    """The directions that a view is moved along. Raises UserError where there is none."""
    if not view.steps:
        raise UserError("steps: nothing is moved; expected a step along a direction")
    return [explorer.slider(name) for name in view.steps]


def told_steps(view: View) -> str:
    """`+1.5σ along sefa 02 and −2σ along sefa 00`."""
    told = " and ".join(f"{step_label(round(step, 2))} along {name}" for name, step in view.steps.items())
    return told if view.layers is None else f"{told}, in layers {view.layers[0]} to {view.layers[1]} alone"


def _report(explorer: Explorer, view: View, sliders: Sequence[Slider], figures: Figures) -> Report:
    run, context = explorer.run, explorer.run.context
    explained = _explanation(explorer, sliders)
    names, told = " and ".join(each.name for each in sliders), dict[str, list[str]]()
    for each in sliders:
        said = "A control, which knows nothing." if each.role == "control" else of_run(context, each.name)["told"]
        told.setdefault(said, []).append(each.name)
    info = json.loads((context.folder("images") / "slices.json").read_text())
    facts = run_facts(json.loads((run.folder / "environment.json").read_text()), info)
    facts.pop("command")  # it names the user's folders, and the page is for others
    return Report(
        title=explained.question.title if explained else f"What changes along {names}?",
        verdict=explained.sentence if explained else "\n\n".join(f"{' and '.join(k)}: {v}" for v, k in told.items()),
        about=f"Run {run.config.name}; one {explorer.look.modality.noun}, moved {told_steps(view)}.",
        run=facts,
        look=explorer.look,
        lead=_picture(explorer, view, figures),
        warnings=warnings_of(context, run.config),
        key_numbers=[*_predictions(explorer, view), *(key_numbers(explained, explorer.look) if explained else [])],
        opening=[
            Section("What speaks against it?", "\n\n".join(against(explorer, view))),
            Section("What is measured in this picture?", tables=[_measured(explorer, view)]),
            _found(explorer, sliders),
            *readers_section(
                read_kept(run.folder), [{"direction": each.name, "name": each.called} for each in sliders]
            ),
        ],
    )


def _explanation(explorer: Explorer, sliders: Sequence[Slider]) -> Explanation | None:
    """What the run explains, where the view is moved along the direction that it follows."""
    context = explorer.run.context
    if "explanation" not in context.artifacts or explorer.main not in {each.name for each in sliders}:
        return None
    main = context.folder(f"explanation/{context.main.name}")
    return Explanation.load(context.folder("explanation"), main, context.folder("classifier"))


def _picture(explorer: Explorer, view: View, figures: Figures) -> Picture:
    start = explorer.start(view)
    shown = {"original": start.real, "as the generator has it": start.images, "moved": explorer.moved(view)}
    pictures = {title: explorer.pictures(images) for title, images in shown.items() if images is not None}
    look, limit = explorer.window(view), explorer.change_limit
    figure = moved_figure(pictures, explorer.change(view), limit, look)
    return Picture.saved(figures.save(figure, "view"), f"Moved {told_steps(view)}", " ".join(start.notes))


def against(explorer: Explorer, view: View) -> list[str]:
    """What speaks against the picture, in the words of the report."""
    explorer.warm()  # without the distance to the data less would speak against it
    single = explorer.single(view)
    found = [] if single is None else [f"{doubt[0].upper()}{doubt[1:]}." for doubt in single.doubts()]
    distance = explorer.numbers(view)["distance"]
    if distance is not None and distance["left"]:
        found.append(f"{distance['verdict']} Distance {number(distance['moved'])}, limit {number(distance['limit'])}.")
    for slider in moved_along(explorer, view):
        of = of_run(explorer.run.context, slider.name)
        if slider.role == "control":
            found.append(f"{slider.name} is a control, which knows nothing.")
        elif of.get("why"):
            found.append(f"{slider.name} has no name: {of['why']}.")
        if slider.name == explorer.main and "weakest" in of:
            found.append(f"The weakest link of the run's own explanation is {of['weakest']}.")
    return [*(found or [f"{TRUSTED}."]), EXAMPLE]


def _predictions(explorer: Explorer, view: View) -> list[KeyNumber]:
    rows = []
    for row in explorer.numbers(view)["predictions"]:
        what = f"probability of {row['target']}" if row["probability"] else f"predicted {row['target']}"
        beside = f"{number(row['reconstruction'])} (before the move)"
        beside += "" if row["threshold"] is None else f", {number(row['threshold'])} (threshold)"
        rows.append(KeyNumber(f"{what}, by {row['by']}", row["moved"], "", beside, "of the moved picture"))
    return rows


def _measured(explorer: Explorer, view: View) -> Table:
    ends = ("original", "reconstruction", "moved")
    rows: list[list[Any]] = []
    for row in explorer.numbers(view)["measurements"]:
        values = [with_unit(number(row[end]), row["unit"]) if end in row else "–" for end in ends]
        change = Cell(number(row["change_in_sd"], 2, sign=True), abs(row["change_in_sd"]))
        rows.append([row["measurement"].replace("_", " "), *values, change])
    rows.sort(key=lambda row: -row[-1].sort if row[-1].sort == row[-1].sort else 1.0)
    note = "Change: against the reconstruction, in standard deviations over real images."
    return Table("Measured", ["", *ends, "change (sd)"], rows, note)


def _found(explorer: Explorer, sliders: Sequence[Slider]) -> Section:
    """What the run found of the directions over people, beside what random directions have."""
    run, found = explorer.run, explorer.run.context.folder("evaluation")
    own = [each.name for each in sliders]
    effects = [row for row in read_semantics(found / "semantics.csv") if row["direction"] in own]
    names = [row for row in read_rows(found / "names.csv") if row["direction"] in own]
    people = sorted({int(n) for name, n in run.metrics.items() if name.startswith("base_codes/")})
    known = bool(people) and all(people)  # 0: measured from samples
    over = f"{' and '.join(map(str, people))} held-out {run.look.groups}" if known else "samples of the generator"
    parts = [f"What the run found over {over}."]
    kinds = {row["kind"] for row in effects}
    kind = "factor" if "factor" in kinds else "measurement"  # as on the run's page
    for name in own:
        rows = [row for row in effects if (row["direction"], row["kind"]) == (name, kind)]
        parts.append(f"{name}: {describe(rows)}.")
    controls = [method for method, role in run.directions.roles.items() if role == "control"]
    tables = [names_table(names, run.metrics, run.look.groups), semantics_table(effects, controls=controls)]
    return Section("What does it rest on?", "\n\n".join(parts), tables=tables)
