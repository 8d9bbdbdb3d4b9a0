"""The record of a run and its mirror: never without being asked, and never at a run's cost."""

import json

import pytest

from medlat.study.mirrors import wandb as of_wandb
from medlat.study.mirrors.mirror import flattened
from medlat.study.mirrors.wandb import WandB
from medlat.study.tracking import Tracker, mirror_tables

CONFIG = {"a": {"b": [1, 2]}, "c": "d"}


def tracked(folder, logger, **more):
    folder.mkdir()
    tracker = Tracker(folder, logger, CONFIG, "name", **more)
    mirror = tracker.mirror
    tracker.result({"stage/value": 2.5, "stage/none": float("nan")})
    tracker.close()
    return mirror


def test_nested_settings_have_dotted_names():
    assert flattened({"a": {"b": 1, "c": {"d": [2], "e": {}}}, "f": None}) == {
        "a.b": 1,
        "a.c.d": [2],
        "a.c.e": {},
        "f": None,
    }


def test_a_run_is_found_by_sweep_stage_and_setting(tmp_path):
    run = tracked(tmp_path / "run", WandB("offline", "medlat"), job_type="explain", group="sweep_1f2e").run
    assert (run.group, run.job_type, run.name, run.project) == ("sweep_1f2e", "explain", "name", "medlat")
    assert dict(run.config) == {"a.b": [1, 2], "c": "d"}
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb")), "what `wandb sync` uploads"
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {"stage/none": None, "stage/value": 2.5}


@pytest.mark.parametrize("logger", [None, WandB("disabled", "medlat")])
def test_nothing_of_wandb_where_it_is_not_wanted(tmp_path, logger):
    assert tracked(tmp_path / "run", logger) is None
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.json", "metrics.jsonl"]


@pytest.mark.parametrize("key", [None, "0" * 40])
def test_without_key_or_network_a_run_goes_on_offline(tmp_path, monkeypatch, caplog, key):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr(of_wandb, "ONLINE_WITHIN_S", 2.0)
    run = tracked(tmp_path / "run", WandB("online", "medlat")).run
    assert run.offline
    assert "offline; `wandb sync` uploads the run later" in caplog.text
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))


class Failing:
    """A logger whose mirror raises at its first value."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def start(self, *given):
        return self

    def curves(self, records):
        raise self.error


def test_a_mirror_that_fails_costs_nothing(tmp_path, caplog):
    assert tracked(tmp_path / "run", Failing(RuntimeError("secret path"))) is not None
    assert caplog.messages == ["the logger fails (RuntimeError); the run goes on without it"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {"stage/none": None, "stage/value": 2.5}


def test_a_full_disk_ends_the_run(tmp_path):
    with pytest.raises(OSError, match="full"):
        tracked(tmp_path / "run", Failing(OSError(28, "full")))


def test_of_a_file_only_what_is_medlats_own_is_built(tmp_path):
    for section in (None, {"mode": "offline"}, {"_target_": "os.mkdir", "path": str(tmp_path / "made")}):
        mirror_tables(tmp_path, section, "n", {"runs": [{"a": 1}]})
    assert list(tmp_path.iterdir()) == []
