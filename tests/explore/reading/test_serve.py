"""`medlat explore RUN --study STUDY.yaml`: what is served, and what is said of wrong input."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from medlat.__main__ import command

SHORT = "questions: {useful: }\ncases: [{kind: sham, shown: pair, count: 2}]\n"


@pytest.fixture
def serve(finished, tmp_path, monkeypatch, capsys):
    """Run the command on a file of this text; instead of waiting for browsers, ask it with `ask`."""

    def call(text: str | None, *options: str, ask=lambda client: None) -> tuple[int, str, str]:
        def run(server, sockets):
            ask(TestClient(server.config.app, headers={"host": "127.0.0.1"}))

        monkeypatch.setattr(uvicorn.Server, "run", run)
        if text is not None:
            (tmp_path / "study.yaml").write_text(text)
        code = command(["explore", str(finished / "run"), "--study", str(tmp_path / "study.yaml"), *options])
        return code, *capsys.readouterr()

    return call


def test_a_study_is_served_instead_of_the_run(serve, tmp_path):
    def ask(client):
        assert client.get("/").status_code == 403
        assert client.post("/frame", json={"view": {}}).status_code == 403

    code, out, err = serve(SHORT, ask=ask)
    assert (code, err) == (0, "")
    assert "2 cases; answers go to" in out
    assert re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", out)
    assert (tmp_path / "study.csv").read_text() == "reader,case,useful\n"
    assert len(json.loads((tmp_path / "study.truth.json").read_text())["cases"]) == 2
    assert serve(SHORT)[0] == 0, "the file is free again"


def test_answers_go_where_they_are_wanted(serve, tmp_path):
    assert serve(SHORT, "--answers", str(tmp_path / "other.csv"))[0] == 0
    assert sorted(path.name for path in tmp_path.glob("*.*") if not path.name.startswith(".")) == [
        "other.csv",
        "other.truth.json",
        "study.yaml",
    ]
    code, out, err = serve(SHORT, "--answers", str(tmp_path / "nowhere" / "a.csv"))
    assert (code, out) == (2, "")
    assert f"--answers={tmp_path / 'nowhere' / 'a.csv'}: no such folder" in err
    code, _, err = serve(SHORT, "--answers", str(tmp_path / "study.yaml"))
    assert (code, (tmp_path / "study.yaml").read_text()) == (2, SHORT)
    assert "study.truth.json is not beside it" in err


def test_a_file_that_is_not_there_is_written(serve, tmp_path):
    code, out, _ = serve(None)
    assert code == 0
    assert "study.yaml: was not there; written, a first study of this run" in out
    assert not (tmp_path / "study.csv").exists()
    assert serve(None)[0] == 0, "and works"
    assert len((tmp_path / "study.csv").read_text().splitlines()) == 1


def test_wrong_input_is_answered_in_one_message(serve, finished, capsys):
    code, out, err = serve("questions: {usefull: }\ncases: [{kind: sham, shown: pair, count: 2}]")
    assert (code, out) == (2, "")
    assert re.match(
        r"medlat: 1 problem in .*study\.yaml:\n  questions\.usefull: unknown key; did you mean 'useful'\?", err
    )
    assert command(["explore", str(finished / "run"), "--answers", "a.csv"]) == 2
    assert "--answers: of a reader study; expected --study STUDY.yaml too" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_is_started_asked_and_ended(finished, tmp_path):
    (tmp_path / "study.yaml").write_text(SHORT)
    command_line = [sys.executable, "-m", "medlat", "explore", str(finished / "run"), "--study", "study.yaml"]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        assert process.stdout.readline().startswith(b"2 cases")
        address, _, token = process.stdout.readline().decode().strip().partition("?token=")
        headers = {"x-token": token, "content-type": "application/json"}
        for body, path in (({}, "case"), ({"place": 1, "said": {"useful": "4"}}, "answer")):
            data = json.dumps({"reader": "7"} | body).encode()
            with urllib.request.urlopen(urllib.request.Request(f"{address}{path}", data, headers)) as answer:
                found = json.load(answer)
        assert (found["place"], found["of"]) == (2, 2)
        assert re.fullmatch(r"reader,case,useful\n7,[01],4\n", Path(tmp_path / "study.csv").read_text())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, b"")
