"""`medlat explore`: what is said of wrong input, and a server that is started, asked and ended."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from runs import linked
from starlette.testclient import TestClient

from medlat.__main__ import USAGE, command
from medlat.explore.command import _listening, _served


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no run"),
        (["a", "b", "c"], "found 3 folders, expected RUN, RUN RUN, or the DIR of a sweep"),
        (["RUN", "nowhere"], "nowhere: no run"),
        (["RUN", "--prot", "1"], "--prot: no such option; did you mean '--port'?"),
        (["RUN", "--port", "http"], "--port=http: expected a number from 0"),
        (["RUN", "--port", "70000"], "--port=70000: expected a number from 0"),
        (["RUN", "--host", "192.0.2.1"], "--host=192.0.2.1: "),
        (["RUN", "--device", "nine"], "--device=nine: not there"),
        (["RUN", "--store", "nowhere"], "store=nowhere: holds no"),
    ],
)
def test_wrong_input_is_answered_in_one_message(finished, capsys, arguments, words):
    places = {"RUN": str(finished / "run")}
    assert command(["explore", *(places.get(argument, argument) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("medlat: ")
    assert err.count("\n") == 1
    assert words in err
    assert out == ""


def test_what_is_given_says_what_is_served(finished, tmp_path):
    linked(finished / "store", tmp_path / "store")
    for number in range(2):
        linked(finished / "run", tmp_path / "runs" / str(number))
    one, two = (tmp_path / "runs" / str(number) for number in range(2))
    for folders, words in (
        ([one], "Explore ct_vae_sefa"),
        ([one, two], "<iframe"),
        ([tmp_path / "runs"], "Runs of runs"),
    ):
        page = TestClient(_served(folders, {}, "token", ["testserver"])).get("/", params={"token": "token"})
        assert (page.status_code, words in page.text) == (200, True), words


def test_a_port_that_is_taken(finished, capsys):
    with _listening("127.0.0.1", "0") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert command(["explore", str(finished / "run"), "--port", str(port)]) == 2
    assert f"--port={port}: Address already in use" in capsys.readouterr().err


def test_answers_are_not_held_back():
    """asyncio sets TCP_NODELAY only where a socket says that it is TCP; without it a picture comes 40 ms late."""
    with _listening("127.0.0.1", "0") as found:
        assert (found.proto, found.getsockname()[0]) == (socket.IPPROTO_TCP, "127.0.0.1")


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_the_extra_that_it_needs_is_named(finished, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert command(["explore", str(finished / "run")]) == 2
    assert 'pip install -e ".[explore]" in a clone' in capsys.readouterr().err


def test_it_is_called_from_the_command_line(capsys):
    assert "medlat explore RUN" in USAGE
    assert command(["explore", "--help"]) == 0
    assert "--host" in capsys.readouterr().out
    assert command(["explore"]) == 2


@pytest.mark.slow
def test_a_server_is_started_asked_and_ended(finished):
    command_line = [sys.executable, "-m", "medlat", "explore", str(finished / "run")]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        address = process.stdout.readline().decode().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
        with urllib.request.urlopen(address) as answer:
            assert b"Explore ct_vae_sefa" in answer.read()
            assert "server" not in {name.lower() for name in answer.headers}
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.partition("?")[0])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, b"")
