"""What goes to W&B: never without being asked, and never at a run's cost."""

import json

import pytest

from medlat.study import tracking
from medlat.study.tracking import Tracker, flattened

OFFLINE = {"mode": "offline", "project": "medlat", "entity": None}


def tracked(folder, mode, **more):
    folder.mkdir()
    tracker = Tracker(folder, {**OFFLINE, "mode": mode}, {"a": {"b": [1, 2]}, "c": "d"}, "name", **more)
    run = tracker._wandb
    tracker.result({"stage/value": 2.5, "stage/none": float("nan")})
    tracker.close()
    return run


def test_nested_settings_have_dotted_names():
    assert flattened({"a": {"b": 1, "c": {"d": [2], "e": {}}}, "f": None}) == {
        "a.b": 1,
        "a.c.d": [2],
        "a.c.e": {},
        "f": None,
    }


def test_a_run_is_found_by_sweep_stage_and_setting(tmp_path):
    run = tracked(tmp_path / "run", "offline", job_type="explain", group="sweep_1f2e")
    assert (run.group, run.job_type, run.name, run.project) == ("sweep_1f2e", "explain", "name", "medlat")
    assert dict(run.config) == {"a.b": [1, 2], "c": "d"}
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb")), "what `wandb sync` uploads"
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {"stage/none": None, "stage/value": 2.5}


def test_nothing_of_wandb_where_it_is_not_wanted(tmp_path):
    assert tracked(tmp_path / "run", "disabled") is None
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.parametrize("key", [None, "0" * 40])
def test_without_key_or_network_a_run_goes_on_offline(tmp_path, monkeypatch, caplog, key):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr(tracking, "ONLINE_WITHIN_S", 2.0)
    run = tracked(tmp_path / "run", "online")
    assert run.offline
    assert "offline; `wandb sync` uploads the run later" in caplog.text
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))
