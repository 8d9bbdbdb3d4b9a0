"""A sweep's runs in one table."""

import csv
import json

import pytest

from medlat.collect import interval, main


def write_run(folder, overrides, numbers, finished=True):
    (folder / "report").mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps({"overrides": overrides}))
    (folder / "metrics.json").write_text(json.dumps(numbers))
    if finished:
        (folder / "report" / "index.html").write_text("")


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_means_and_intervals_over_seeds(tmp_path, capsys):
    for i, (method, seed, value) in enumerate([("sefa", 1, 1.0), ("sefa", 2, 3.0), ("pca", 1, 5.0), ("pca", 2, None)]):
        write_run(tmp_path / str(i), ["scale=tiny", f"directions={method}", f"seed={seed}"], {"a/b": value})
    assert main([str(tmp_path)]) == 0
    assert "4 of 4 runs" in capsys.readouterr().out
    runs = rows(tmp_path / "runs.csv")
    assert list(runs[0]) == ["run", "directions", "seed", "a/b"]
    assert [row["run"] for row in runs] == ["0", "1", "2", "3"]
    first, second = rows(tmp_path / "summary.csv")
    assert (first["directions"], first["number"], first["seeds"], float(first["mean"])) == ("sefa", "a/b", "2", 2.0)
    assert float(first["high"]) == pytest.approx(2.0 + 12.706, abs=1e-3)  # t of one degree of freedom, error 1
    assert (second["directions"], second["seeds"], second["low"]) == ("pca", "1", "nan")


def test_what_is_not_finished_is_named(tmp_path, capsys):
    write_run(tmp_path / "0", ["seed=1"], {"a": 1.0})
    write_run(tmp_path / "1", ["seed=2"], {}, finished=False)
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "1 of 2 runs" in said.out
    assert f"not finished: {tmp_path / '1'} (seed=2)" in said.err
    assert len(rows(tmp_path / "runs.csv")) == 1


def test_a_folder_without_runs(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no run below it" in capsys.readouterr().err


def test_equal_values_have_no_interval_to_speak_of():
    assert interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
