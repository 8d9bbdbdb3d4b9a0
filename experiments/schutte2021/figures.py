"""The figures and tables of the explanations: `python experiments/schutte2021/figures.py NAME=RUN [NAME=RUN ...]`.

Reads run folders (`outputs/<experiment>/<date>_<time>`) and the store they point to, and writes beside this file, for
each of them: `NAME_strip.png` (original, inverted, steps with predictions, difference, Grad-CAM), `NAME_effect.png`
(the mean effect along the direction), `NAME_scorecard.png`, `NAME_responses.png`; and
`scorecards.csv`, every score of every run in one table.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from medlat.core.tables import write_table
from medlat.data.modality import Modality
from medlat.report import scorecard
from medlat.report.explained import Explanation
from medlat.report.explanation import ROWS_PER_FIGURE, counterfactual_strip, mean_effect
from medlat.report.rendering import Look
from medlat.report.style import save_figure

HERE = Path(__file__).parent


def main() -> None:
    if not sys.argv[1:] or not all("=" in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    table = []
    for name, _, folder in (argument.partition("=") for argument in sys.argv[1:]):
        explained, look = load(Path(folder))
        for stem, figure in figures(explained, look):
            save_figure(figure, HERE, f"{name}_{stem}")
        table += [{"run": name} | dict(row) for row in explained.scores]
    write_table(HERE / "scorecards.csv", table)


def figures(explained: Explanation, look: Look) -> Iterator[tuple[str, Figure]]:
    """The name and the drawing of every figure of one run."""
    series, question = explained.series, explained.question
    yield "strip", counterfactual_strip(series, question, look, range(min(len(series), ROWS_PER_FIGURE)))
    arrays = np.load(explained.folder / "mean_effect.npz")
    yield "effect", mean_effect(arrays["images"], arrays["difference"], series.steps.tolist(), look)
    yield "scorecard", scorecard.scorecard_chart(explained.scores)
    yield (
        "responses",
        scorecard.response_curves(explained.responses, explained.steps, explained.curves, question, explained.controls),
    )


def load(run: Path) -> tuple[Explanation, Look]:
    """The explanation of a run, and how its images are shown."""
    config = OmegaConf.load(run / "config.yaml")
    places = json.loads((run / "artifacts.json").read_text())
    store = Path(config.store).expanduser()
    folder = {stage: store / places[stage]["path"] for stage in ("slices", "classifier", "explanation")}
    images = Modality.from_dict(json.loads((folder["slices"] / "slices.json").read_text())["modality"])
    window = images.display_window(OmegaConf.to_container(config.report)["display_window"])
    return Explanation.load(folder["explanation"], folder["classifier"]), Look(images, window)


if __name__ == "__main__":
    main()
