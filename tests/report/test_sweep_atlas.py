"""The atlas of a sweep: directions of several runs, found again or not, in closed form."""

import csv
import json
from dataclasses import asdict

import pytest
import torch

from medlat.collect import main
from medlat.core.spaces import Directions, LatentSpace
from medlat.core.tables import write_table
from medlat.evaluation.semantics import Effect

SPACE = LatentSpace("z", (3,))


def effect(method, direction, values):
    """Rows of semantics.csv of a direction that moves x, y and z by these."""
    total = sum(abs(v) for v in values)
    return [
        Effect(method, direction, "factor", name, "mm", value, value - 0.1, value + 0.1, value, abs(value) / total, 0.9)
        for name, value in zip("xyz", values, strict=True)
    ]


def leave(folder, settings, generator, found):
    """A whole run in folder, with a store beside it. found: for each method its directions, vector and effects."""
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "index.html").write_text("")
    (folder / "environment.json").write_text(json.dumps({"overrides": settings}))
    (folder / "metrics.json").write_text(json.dumps({"a": 1.0}))
    store = folder.parent / "store"
    (folder / "config.yaml").write_text(json.dumps({"store": str(store), "name": "x", "logger": None}))
    made, rows, names = {"generator": {"key": generator, "path": "generator"}}, [], []
    for method, own in found.items():
        role = "control" if method == "random" else "main"
        told = {"key": "k", "path": f"{folder.name}_{method}", "method": method, "role": role}
        made[f"directions/{method}"] = told
        labels = [f"{method} {i:02d}" for i in range(len(own))]
        vectors = torch.tensor([vector for vector, _ in own])
        (store / f"{folder.name}_{method}").mkdir(parents=True)
        directions = Directions(vectors, torch.zeros(len(own)), labels, method, SPACE)
        directions.save(store / f"{folder.name}_{method}" / "directions.safetensors")
        for label, (_, values) in zip(labels, own, strict=True):
            rows += effect(method, label, values)
            named = {"method": method, "direction": label, "rank": 1, "name": f"of {label}", "measurement": "x"}
            names.append(named | {"evidence": 0.5, "p": 0.01})
    (folder / "artifacts.json").write_text(json.dumps(made))
    write_table(folder / "semantics.csv", [asdict(row) for row in rows])
    write_table(folder / "names.csv", names)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


X, Y, Z = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


@pytest.fixture
def swept(tmp_path):
    """Two seeds of one setting with a generator each, and another setting on the first one's generator."""
    leave(
        tmp_path / "0", ["directions=pca", "seed=0"], "g0", {"pca": [(X, X), (Y, Y)], "random": [(X, [1.0, 1.0, 1.0])]}
    )
    leave(tmp_path / "1", ["directions=pca", "seed=1"], "g1", {"pca": [(X, [0.0, -2.0, 0.0]), (Y, Z)]})
    leave(tmp_path / "2", ["directions=ica", "seed=0"], "g0", {"ica": [([-1.0, 0.0, 0.0], [-3.0, 0.0, 0.0])]})
    return tmp_path


def test_directions_are_found_again_in_other_runs(swept, capsys):
    assert main([str(swept)]) == 0
    assert "atlas.csv and agreement.csv" in capsys.readouterr().out
    rows = {(row["run"], row["direction"]): row for row in table(swept / "atlas.csv")}
    assert len(rows) == 6
    x, y = rows["0", "pca 00"], rows["0", "pca 01"]
    assert (x["nearest"], float(x["effect_cosine"]), float(x["angle_cosine"])) == ("2: ica 00", 1.0, 1.0)
    assert (x["duplicates"], x["in_runs"], x["name"], x["setting"]) == ("1", "2", "of pca 00", "pca")
    assert (y["nearest"], float(y["effect_cosine"]), float(y["angle_cosine"])) == ("1: pca 00", 1.0, 0.0)
    assert x["cluster"] == rows["2", "ica 00"]["cluster"]
    assert y["cluster"] == rows["1", "pca 00"]["cluster"]
    alone = rows["1", "pca 01"]
    assert (alone["in_runs"], alone["angle_cosine"], alone["duplicates"]) == ("1", "nan", "0")
    assert (swept / "atlas.png").stat().st_size > 10_000


def test_agreement_over_seeds_and_settings(swept):
    main([str(swept)])
    rows = {(row["directions_of"], row["found_in"]): row for row in table(swept / "agreement.csv")}
    seeds = rows["pca", "pca"]
    # Of run 0, y is there and x is not; of run 1, y is there and z is not: a half both ways. Generators share no angle.
    assert (seeds["pairs"], float(seeds["by_effect"]), seeds["by_angle"]) == ("2", 0.5, "nan")
    other = rows["ica", "pca"]
    assert (other["pairs"], float(other["by_effect"]), float(other["by_angle"])) == ("2", 0.5, 1.0)
    assert float(rows["pca", "random pca"]["by_effect"]) == pytest.approx(3**-0.5)  # of run 1 in run 0, alone
    assert ("ica", "ica") not in rows  # one run has no other


def test_without_the_store_there_are_effects_and_no_angles(swept):
    for path in (swept / "store").glob("*/directions.safetensors"):
        path.unlink()
    main([str(swept)])
    rows = table(swept / "atlas.csv")
    assert {row["angle_cosine"] for row in rows} == {"nan"}
    assert max(float(row["effect_cosine"]) for row in rows) == 1.0


def test_one_run_has_no_atlas(tmp_path, capsys):
    leave(tmp_path / "0", ["seed=0"], "g", {"pca": [(X, X)]})
    assert main([str(tmp_path)]) == 0
    assert "runs.csv and summary.csv" in capsys.readouterr().out
    assert not (tmp_path / "atlas.csv").exists()


def test_two_sweeps_together_have_a_run_of_the_same_number_each(tmp_path):
    for sweep, values in (("a", X), ("b", [-2.0, 0.0, 0.0])):
        (tmp_path / sweep).mkdir()
        leave(tmp_path / sweep / "0", ["directions=pca"], f"g{sweep}", {"pca": [(X, values)]})
    assert main([str(tmp_path)]) == 0
    found = table(tmp_path / "atlas.csv")
    assert [(row["run"], row["nearest"], float(row["effect_cosine"])) for row in found] == [
        ("a/0", "b/0: pca 00", 1.0),
        ("b/0", "a/0: pca 00", 1.0),
    ]
