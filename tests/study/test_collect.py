"""A sweep's runs in one table."""

import csv
import json

import pytest

from medlat.collect import main
from medlat.study.collect import collect, has_ended


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


def fail(folder, overrides, reason):
    folder.mkdir(parents=True)
    failure = {"error": "Oops", "where": "in directions", "reason": reason, "job": None}
    (folder / "failure.json").write_text(json.dumps(failure | {"overrides": overrides}))


def test_failed_killed_and_missing_runs_are_named_with_the_reason(tmp_path, capsys):
    """Four jobs: one is whole, one failed, one was killed, one never began."""
    jobs = [["scale=tiny", f"seed={seed}"] for seed in range(4)]
    (tmp_path / "jobs.json").write_text(json.dumps({"overrides": ["seed=0,1,2,3"], "jobs": jobs}))
    write_run(tmp_path / "0", jobs[0], {"a": 1.0})
    fail(tmp_path / "1", jobs[1], "it broke")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "environment.json").write_text(json.dumps({"overrides": jobs[2], "job": "17_2"}))
    assert main([str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "1 of 4 runs" in out
    lines = err.splitlines()
    assert lines[0] == f"not finished: {tmp_path / '1'} (scale=tiny seed=1): Oops in directions: it broke"
    assert lines[1].endswith("seed=2): killed, or still running (SLURM job 17_2)")
    assert lines[2].endswith("3 (scale=tiny seed=3): never began, or was killed before it could say so")
    assert lines[3] == "the same command runs these again, and only these"
    assert [row["run"] for row in rows(tmp_path / "runs.csv")] == ["0"]


def test_a_failure_beside_whole_files_is_a_failure(tmp_path):
    write_run(tmp_path / "0", ["seed=0"], {"a": 1.0})
    (tmp_path / "0" / "failure.json").write_text(
        json.dumps({"error": "E", "where": "in report", "reason": "r", "overrides": ["seed=0"]})
    )
    assert [run.fault for run in collect(tmp_path)] == ["E in report: r"]
    assert not has_ended(tmp_path / "0")


def test_what_a_full_disk_left_half_is_no_run(tmp_path):
    write_run(tmp_path / "0", ["seed=0"], {"a": 1.0})
    write_run(tmp_path / "1", ["seed=1"], {}, finished=False)
    (tmp_path / "1" / "environment.json").write_text('{"overr')
    assert [run.fault for run in collect(tmp_path)] == [None, "killed, or still running"]


def test_the_tables_go_to_wandb_as_the_runs_did(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), [f"seed={seed}"], {"a": seed, "b": None})
        settings = {"_target_": "medlat.study.mirrors.wandb.WandB", "mode": "offline", "project": "medlat"}
        (tmp_path / str(seed) / "config.yaml").write_text(json.dumps({"name": "n", "logger": settings}))
    assert main([str(tmp_path)]) == 0
    tables = sorted(path.name for path in tmp_path.glob("wandb/offline-run-*/files/media/table/*"))
    assert [name.split("_")[0] for name in tables] == ["runs", "summary"]
    told = json.loads(next(tmp_path.glob("wandb/offline-run-*/files/media/table/runs_*")).read_text())
    assert told == {"columns": ["run", "seed", "a", "b"], "data": [["0", "0", 0.0, None], ["1", "1", 1.0, None]]}
