"""The audit against the truth: classifiers with a shortcut of known strength, and what they are found to use.

    python experiments/audit/study.py [--store outputs/store] [--threads N] [--figure]

One generator is trained on phantom slices, and a classifier for each strength and seed: the label goes with the table's
height in that share of its training images (0.5: in no way). What a classifier truly answers to is measured without a
generator: each held-out patient's slice is rendered again with one factor changed alone. Beside it stands what
`medlat.explain.audit` finds through the generator. Adds a row for each classifier and factor to responses.csv beside
this file; those that are there are kept. Then writes power.csv and the figure; --figure alone does no more than that.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from scipy.stats import binomtest
from torch import Tensor

from medlat.classifiers.black_box import Target, predict
from medlat.config.locate import config_dir
from medlat.core.statistics import bootstrap_means
from medlat.core.tables import read_table, write_table
from medlat.data.image_store import in_order
from medlat.data.resample import ToGrid
from medlat.data.source import Chunk
from medlat.phantoms.ct.source import NAMES
from medlat.steps import builders
from medlat.steps.audit import audited
from medlat.steps.base_codes import one_of_each
from medlat.steps.classifier import Classifier, load_target
from medlat.steps.data import Division, Images
from medlat.steps.generator import Generator
from medlat.steps.inversion import TrainedEncoder
from medlat.steps.measurements import Measurements
from medlat.steps.step import Context, Step
from medlat.study.pipeline import plan

HERE = Path(__file__).parent
PLANTED, SPACE = "table_height", "z"
CLASSIFIERS = {0.5: 10, 0.6: 3, 0.7: 2, 0.8: 2, 0.9: 1, 1.0: 2}  # share of the training images -> seeds
ASKED = ["+experiment=audit_confounder", "inversion=encoder", "logger=none"]
SMALL = ["classifier.network.stem_stride=4", "classifier.training.images=6400", "classifier.training.validations=1"]
PATIENTS = 40  # held out, whose slices are rendered again
CHANGE = 0.5  # standard deviations of a factor, to either side


class Nobody:
    """Whom the curves are told to, which the store keeps too."""

    def replay(self, records: list) -> None: ...

    def image(self, *_: Any) -> None: ...

    def result(self, *_: Any) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="outputs/store")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--figure", action="store_true")
    asked = parser.parse_args()
    if not asked.figure:
        measure([*ASKED, f"store={Path(asked.store).resolve()}", f"trainer.threads={asked.threads or 'null'}"])
    rows = read_table(HERE / "responses.csv")
    write_table(HERE / "power.csv", list(power(rows)))
    figure(rows).savefig(HERE / "dose_response.png", dpi=150)


def measure(overrides: list[str]) -> None:
    """Fill responses.csv, classifier by classifier."""
    shared, path = context_of(overrides), HERE / "responses.csv"
    for step in (Generator(shared.config), TrainedEncoder(), Measurements()):
        shared.made(step)
    with np.load(shared.aside(Rerendered()).path / "images.npz") as file:
        changed = {name: torch.from_numpy(file[name]) for name in NAMES}
    rows = read_table(path) if path.exists() else []
    jobs = [(seed / count, share, seed) for share, count in CLASSIFIERS.items() for seed in range(count)]
    for _, share, seed in sorted(jobs):  # so that one that is stopped has all strengths
        if (share, seed) not in {(row["share"], row["seed"]) for row in rows}:
            context = context_of([*overrides, *SMALL, f"classifier.bias.share={share}", f"seed={seed}"])
            context.made(Classifier("classifier"))
            auc = json.loads((context.folder("classifier") / "quality.json").read_text())["auc"]
            target = load_target(context.config, context.artifacts["classifier"], context.spec)
            rows += [{"share": share, "seed": seed, "auc": auc} | row for row in beside_truth(shared, target, changed)]
            write_table(path, rows)


def context_of(overrides: list[str]) -> Context:
    """Of a run up to its images."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("config", overrides=overrides)
    builders.hardware(config).limit_threads()
    context = plan(config).context
    context.tracker = Nobody()
    for step in (Images(), Division()):
        context.made(step)
    return context


class Rerendered(Step):
    """Leaves one slice of each of some held-out patients, [N, 1, H, W], with each factor alone lower and higher."""

    name = "rerendered"
    needs = ("images", "split")

    def run(self, context: Context, out: Path) -> None:
        opened, rows = context.images, context.split.test
        rows = one_of_each(rows, opened.patient[rows], PATIENTS, 0)
        same = torch.equal(rendered(context, rows[:4]), opened.fetch(rows[:4], context.spec))
        assert same, "with nothing changed as in the store"
        spread = {name: float(opened.factors()[name][context.split.train].std()) for name in NAMES}
        ends = [[rendered(context, rows, n, sign * CHANGE * spread[n]) for sign in (-1, 1)] for n in NAMES]
        np.savez(out / "images.npz", **{n: torch.stack(own).numpy() for n, own in zip(NAMES, ends, strict=True)})


def rendered(context: Context, rows: np.ndarray, name: str = NAMES[0], change: float = 0.0) -> Tensor:
    """Slices of the store, [N, 1, H, W] in [-1, 1], with one factor changed."""
    data, source = context.config.data, context.source
    grid = ToGrid(data.image_size, data.field_of_view_mm, source.modality)
    places = [(chunk, item) for chunk in in_order(source.scan(map).chunks) for item in chunk.items]
    images = []
    for chunk, item in (places[row] for row in rows):
        factors = tuple(value + change * (own == name) for own, value in zip(NAMES, item.factors, strict=True))
        changed = Chunk(chunk.patient, (item._replace(factors=factors),), {})
        images.append(grid(next(iter(source.read(changed)))))
    return context.spec.to_network(torch.from_numpy(np.stack(images)))


def beside_truth(context: Context, target: Target, changed: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    """A row for each factor: the true response, in logits for a standard deviation, and what the audit finds."""
    found = {row.quantity: row for row in audited(context, target, SPACE)}
    ends = [[target.linear(predict(target, x, context.device)).numpy() for x in changed[name]] for name in NAMES]
    truth = np.stack([(high - low) / (2.0 * CHANGE) for low, high in ends], axis=1)
    for name, *true in zip(NAMES, *bootstrap_means(truth), strict=True):
        row: dict[str, Any] = {"factor": name} | dict(
            zip(("true", "true_low", "true_high"), map(float, true), strict=True)
        )
        own = found.get(name)
        row |= {key: getattr(own, key, "") for key in ("response", "low", "high", "length", "p")}
        yield row | {"used": own is not None and own.is_used}


def power(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """By strength: how often the shortcut is found, and anything else; with binomial intervals (Clopper, Pearson)."""
    for share in sorted({row["share"] for row in rows}):
        own = [row for row in rows if row["share"] == share]
        planted = [row for row in own if row["factor"] == PLANTED]
        others = {row["seed"] for row in own if row["factor"] != PLANTED and row["used"]}
        shown: dict[str, Any] = {"share": share, "classifiers": len(planted)}
        for key in ("auc", "true", "response"):
            values = [row[key] for row in planted]
            shown |= {key: np.mean(values), f"{key}_least": min(values), f"{key}_most": max(values)}
        for name, count in (("found", sum(row["used"] for row in planted)), ("another_found", len(others))):
            ends = binomtest(count, len(planted)).proportion_ci(method="exact")
            shown |= {name: count, f"{name}_low": ends.low, f"{name}_high": ends.high}
        yield shown


def figure(rows: list[dict[str, Any]]) -> plt.Figure:
    """Found against true response: of the shortcut by strength, and of all other factors."""
    drawn, axes = plt.subplots(1, 2, figsize=(9.0, 4.2), layout="constrained")
    shares = sorted({row["share"] for row in rows})
    colours = dict(zip(shares, plt.get_cmap("viridis")(np.linspace(0.0, 0.9, len(shares))), strict=True))
    known = [row for row in rows if row["response"] is not None]
    for ax, title in zip(axes, (PLANTED.replace("_", " "), "all other factors"), strict=True):
        own = [row for row in known if (row["factor"] == PLANTED) == (ax is axes[0])]
        for row in own:
            x, y = row["true"], row["response"]
            errors = {"xerr": [[x - row["true_low"]], [row["true_high"] - x]]}
            errors["yerr"] = [[y - row["low"]], [row["high"] - y]]
            face = colours[row["share"]] if row["used"] else "white"
            ax.errorbar(x, y, **errors, fmt="o", ms=5, lw=0.7, color=colours[row["share"]], mfc=face)
        ends = [end(row[key] for row in own for key in ("true", "response")) for end in (min, max)]
        ax.plot(ends, ends, color="grey", lw=0.7, ls="--", zorder=0)
        ax.set(title=title, xlabel="true response (logits per standard deviation)")
    axes[0].set_ylabel("what the audit finds")
    handles = [plt.Line2D([], [], marker="o", ls="", color=colours[share], label=f"{share:.0%}") for share in shares]
    axes[0].legend(handles=handles, title="goes with the label", frameon=False)
    return drawn


if __name__ == "__main__":
    main()
