"""The table of a sweep, and two runs beside each other: each as it would be alone."""

import json
import re
import shutil
from pathlib import Path

import pytest
from runs import linked
from starlette.testclient import TestClient

import medlat
from medlat.core.errors import UserError
from medlat.core.files import jsonable
from medlat.explore.several import OPEN, side_by_side, sweep
from medlat.explore.view import Explorer, View
from medlat.study.collect import FAILURE, collect, table

TOKEN = "right-token"
FAILED = {"error": "UserError", "where": "in generator", "reason": "it diverged", "overrides": ["seed=2"]}


def opened(folder: Path) -> Explorer:
    return Explorer(medlat.load(folder))


def client_of(app) -> TestClient:
    return TestClient(app, headers={"x-token": TOKEN}, raise_server_exceptions=False)


def copy_of(run: Path, place: Path, *overrides: str) -> Path:
    """The run again, as the job of a sweep that was given these."""
    shutil.copytree(run, place, ignore=shutil.ignore_patterns("figures", "wandb"))
    told = json.loads((place / "environment.json").read_text()) | {"overrides": list(overrides)}
    (place / "environment.json").write_text(json.dumps(told))
    return place


@pytest.fixture(scope="module")
def swept(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    linked(finished / "store", folder / "store")
    for seed in range(2):
        copy_of(finished / "run", folder / "runs" / str(seed), f"seed={seed}", "directions=sefa")
    (folder / "runs" / "2").mkdir()
    (folder / "runs" / "2" / FAILURE).write_text(json.dumps(FAILED))
    return folder / "runs"


@pytest.fixture(scope="module")
def client(swept) -> TestClient:
    return client_of(sweep(swept, opened, TOKEN, ["testserver"]))


def facts_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)[1])


def test_the_way_in_is_the_table_that_collect_makes(client, swept):
    found = facts_of(client.get("/", params={"token": TOKEN}).text)
    runs = collect(swept)
    assert found["settings"] == ["seed", "directions"], "a run that failed was given no directions"
    rows = table(runs)
    for place in (0, 1):
        own = found["runs"][place]
        assert (own["run"], own["fault"], own["cells"]["seed"][0]) == (str(place), None, str(place))
        for name, value in rows[place].items():
            if isinstance(value, float) and value == value:
                assert own["cells"][name][1] == value, name
    assert found["runs"][2] | {"cells": None} == {
        "place": 2, "run": "2", "fault": "UserError in generator: it diverged", "cells": None,
    }  # fmt: skip
    assert {"reconstruction/psnr", "semantics/sefa/named", "semantics/random/factor_purity"} <= set(found["shown"])
    assert set(found["shown"]) <= set(found["numbers"])
    assert found["numbers"] == list(runs[0].numbers)


def test_each_run_is_what_it_is_alone(client, swept):
    assert "Explore ct_vae_sefa" in client.get("/1/", params={"token": TOKEN}).text
    view = View("image 1", {"sefa 00": 1.0})
    found = client.post("/1/numbers", json={"view": vars(view)}).json()["measurements"]
    alone = Explorer(medlat.load(swept / "1")).numbers(view)["measurements"]
    for here, there in zip(found, alone, strict=True):
        assert here["moved"] == pytest.approx(jsonable(there["moved"]))
    said = {"name": "n", "star": False, "note": ""}
    client.post("/0/keep", json={"direction": "sefa 00", "said": said})
    assert (swept / "0" / "explore.json").exists()
    assert not (swept / "1" / "explore.json").exists(), "names are kept of the run that they are given in"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/2/", 400, "run=2: not finished: UserError in generator: it diverged"),
        ("/7/", 400, "run=7: there is no such run; expected 0 to 2"),
        ("/0-2/", 400, "run=2: not finished"),
        ("/config.yaml", 403, "no token"),
        ("/0/config.yaml/", 404, "Not Found"),
    ],
)
def test_what_is_no_run(client, path, status, words):
    answer = client.get(path, params={"token": TOKEN}, headers={"x-token": ""})
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_nothing_is_seen_without_the_token(client):
    for path in ("/", "/0/", "/0-1/"):
        assert client.get(path, params={"token": "wrong"}).status_code == 403, path
    assert client.post(f"/0/frame?token={TOKEN}", json={}, headers={"x-token": ""}).status_code == 403


def test_two_runs_stand_beside_each_other(client, swept):
    page = client.get("/0-1/", params={"token": TOKEN}).text
    assert re.findall(r'data-address="([^"]+)"', page) == ["../0/", "../1/"]
    assert re.findall(r"<h2>([^<]+)</h2>", page) == ["0 seed=0", "1 seed=1"]
    assert facts_of(page) == {"same": True}
    beside = client_of(side_by_side([swept / "1", swept / "0"], opened, TOKEN, ["testserver"]))
    page = beside.get("/", params={"token": TOKEN}).text
    assert re.findall(r'data-address="([^"]+)"', page) == ["0/", "1/"]
    assert re.findall(r"<h2>([^<]+)</h2>", page) == ["1 seed=1", "0 seed=0"]
    policy = beside.get("/0/", params={"token": TOKEN}).headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy
    other = json.loads((swept / "0" / "artifacts.json").read_text())
    other["split"]["key"] = "another"
    (swept / "0" / "artifacts.json").write_text(json.dumps(other))
    page = client.get("/0-1/", params={"token": TOKEN}).text
    assert facts_of(page) == {"same": False}
    assert "These runs do not hold out the same images" in page


def test_few_runs_are_kept_open(finished, tmp_path):
    linked(finished / "store", tmp_path / "store")
    for number in range(OPEN + 2):
        copy_of(finished / "run", tmp_path / "runs" / str(number), f"seed={number}")
    seen: list[str] = []
    client = client_of(
        sweep(tmp_path / "runs", lambda folder: seen.append(folder.name) or opened(folder), TOKEN, ["*"])
    )
    client.headers["host"] = "127.0.0.1"
    for number in (*range(OPEN + 1), OPEN, 1, 0):
        assert client.post(f"/{number}/begin", json={"view": {}}).status_code == 200
    assert seen == [*map(str, range(OPEN + 1)), "0"], "that was closed for the last one"


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(UserError, match="no run below it"):
        sweep(tmp_path, opened, TOKEN, [])
