"""Whole runs that find directions without labels: what they leave, all methods in one table, and that an interrupted
search ends as if it never had been.
"""

import csv
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from runs import FEW_FIGURES, NO_FIGURES

from medlat import load
from medlat.core.spaces import Directions
from medlat.explore.export import KINDS
from medlat.explore.view import Explorer, View

SHORT = (
    *("scale=tiny", "generator.training.images=320", "evaluation.base_codes=4", "evaluation.samples=16"),
    *("evaluation.regressor_steps=5", "evaluation.editing=[-2.0,0.0,2.0]"),
    *("scale.shift_reconstruction.pairs=640", "scale.codes=60"),
)
FINDERS = ("+experiment=schon2022/finders", *SHORT, *FEW_FIGURES, "generator.training.images=3200")
STUDY = ("+experiment=schon2022/directions", *SHORT, *NO_FIGURES)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_method_in_one_report(medlat, tmp_path):
    run = tmp_path / "run"
    code, _, err = medlat(*FINDERS)
    assert code == 0, err
    methods = ("shift_reconstruction", "ica", "sefa", "pca", "jacobian", "posterior_axes", "measured")
    numbers = json.loads((run / "metrics.json").read_text())
    named = rows(run / "names.csv")
    for method in (*methods, "random", "coordinate"):
        assert any(row["method"] == method for row in named), method
        assert f"semantics/{method}/named" in numbers
    assert all(row["name"] == "unnamed" for row in named if row["method"] == "random")
    assert 0.0 <= numbers["directions/shift_reconstruction/rca"] <= 1.0
    assert 0.0 <= numbers["directions/shift_reconstruction/held_out_rca"] <= 1.0
    atlas = rows(run / "figures" / "atlas.csv")
    assert len(atlas) == len(named)
    axes = next(row for row in atlas if row["method"] == "posterior_axes")
    assert float(axes["angle_cosine"]) == pytest.approx(1.0)  # the axes of the control are among them
    found = Directions.load(run / "directions.safetensors")
    assert np.allclose(found.vectors @ found.vectors.T, np.eye(8), atol=1e-5)  # an orthonormal deformator
    page = (run / "report" / "index.html").read_text()
    assert "What varies?" in page
    assert "Methods side by side" in page


@pytest.mark.slow
@pytest.mark.parametrize("generator", ["dcgan", "stylegan2"])
def test_on_every_generator_and_as_if_never_interrupted(medlat, tmp_path, monkeypatch, generator):
    from medlat.directions.shift_reconstruction.module import ShiftReconstructionModule

    few = ("scale.dcgan.images=320", "scale.stylegan2.images=160", "directions/reconstructor=resnet18")
    arguments = (
        *STUDY,
        *few,
        f"generator={generator}",
        "+directions@compared.jacobian=jacobian",
        "compared.jacobian.codes=2",
    )
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert medlat(*arguments, f"hydra.run.dir={whole}", store=str(tmp_path / "a"))[0] == 0
    step = ShiftReconstructionModule.training_step

    def stopped(self, batch, number):
        if self.global_step == 11:
            raise KeyboardInterrupt
        return step(self, batch, number)

    monkeypatch.setattr(ShiftReconstructionModule, "training_step", stopped)
    often = ("directions.checkpoint_every_s=0.0", f"hydra.run.dir={again}")
    assert medlat(*arguments, *often, store=str(tmp_path / "b"))[0] != 0
    monkeypatch.undo()
    code, _, err = medlat(*arguments, *often, store=str(tmp_path / "b"))
    assert code == 0, err
    assert "continues at step" in err
    files = [folder / "directions.safetensors" for folder in (whole, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    first, second = (json.loads((folder / "metrics.json").read_text()) for folder in (whole, again))
    assert first == second
    layers_can_be_moved_alone(Explorer(load(whole)), are_there=generator == "stylegan2")


def layers_can_be_moved_alone(explorer: Explorer, are_there: bool) -> None:
    view = View("sample 3", {next(iter(explorer.sliders)): 2.0})
    assert (explorer.layers > 0) == are_there
    if not are_there:
        return
    whole, still = explorer.moved(view), explorer.start(view).images
    every = explorer.moved(replace(view, layers=(0, explorer.layers - 1)))
    torch.testing.assert_close(every, whole, atol=1e-5, rtol=0)
    first = explorer.moved(replace(view, layers=(0, 0)))
    assert 0 < (first - still).abs().max() != (whole - still).abs().max()
    made: dict[str, Any] = {}
    exec(KINDS["py"][1](explorer, replace(view, layers=(0, 0))).decode(), made)  # the program that the page gives
    np.testing.assert_allclose(made["picture"], explorer.pictures(first), atol=0.01)
