"""What leaves the machine: nothing of a run by default, and with `logger.mode=online` what `docs/privacy.md` says.

A run in a process of its own is watched in three ways: Python's sockets and name look-ups are recorded; every HTTP
client (wandb-core, which is no Python, too) is sent to a proxy that notes whom it asks for and refuses; and where there
is strace the kernel tells of each connection of all its processes.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from runs import QUICK, TINY
from wandb_server import serving

RECORDER = """
import os, socket

def note(*what):
    with open(os.environ["RECORDED"], "a") as file:
        print(os.getpid(), *what, file=file)

def local(address):
    return not isinstance(address, tuple) or str(address[0]).startswith("127.") or address[0] in ("::1", "localhost")

def watched(name, kept):
    def look_up(host, *rest, **more):
        if host not in (None, "", "localhost", "127.0.0.1", "::1", b"localhost"):
            note(name, host)
        return kept(host, *rest, **more)
    return look_up

for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, name, watched(name, getattr(socket, name)))

class Watched(socket.socket):
    def connect(self, address):
        if not local(address):
            note("connect", address)
        return super().connect(address)

    def connect_ex(self, address):
        if not local(address):
            note("connect", address)
        return super().connect_ex(address)

    def sendto(self, data, *rest):
        if not local(rest[-1]):
            note("sendto", rest[-1])
        return super().sendto(data, *rest)

socket.socket = Watched
note("watched")
"""
SENT = {  # with logger.mode=online, in the words of W&B
    *("query Viewer", "mutation UpsertBucket", "mutation CreateRunFiles", "query ArtifactType", "query ServerInfo"),
    *("mutation CreateArtifact", "mutation CreateArtifactManifest", "mutation CreateArtifactFiles"),
    *("mutation CommitArtifact", "query RunResumeStatus", "query OrganizationDefault", "query ServerFeaturesQuery"),
}
UPLOADED = r"/upload(/(config\.yaml|requirements\.txt|wandb-summary\.json|media/(images|videos|table)/.+))?"
STREAMED = r"/files/me/medlat/\w+/file_stream"


def watched_run(folder: Path, *arguments: str, proxy: str, **environment: str) -> list[str]:
    """A tiny run; what was recorded of it: a line for each look-up and connection outside loopback."""
    (folder / "recorder").mkdir()
    (folder / "recorder" / "sitecustomize.py").write_text(RECORDER)
    recorded, traced = folder / "recorded.txt", folder / "traced.txt"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), proxy)
    proxies |= {"NO_PROXY": "", "no_proxy": "", "RECORDED": str(recorded), "HOME": str(folder)}
    proxies |= {"PYTHONPATH": str(folder / "recorder"), "NETRC": str(folder / "netrc")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    command = [sys.executable, "-m", "medlat.run", *TINY, *QUICK, *arguments]
    if can_trace():
        calls = "--trace=connect,sendto,sendmsg,sendmmsg"
        command = ["strace", "--follow-forks", "--seccomp-bpf", calls, f"--output={traced}", *command]
    done = subprocess.run(
        command, cwd=folder, env=kept | proxies | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = recorded.read_text().splitlines()
    assert any("watched" in line for line in lines), "the recorder was there"
    return [line for line in lines if "watched" not in line] + (outside(traced.read_text()) if can_trace() else [])


def can_trace() -> bool:
    asked = ["strace", "--follow-forks", "--seccomp-bpf", "--output=/dev/null", "true"]
    return shutil.which("strace") is not None and subprocess.run(asked, capture_output=True).returncode == 0


def outside(trace: str) -> list[str]:
    """The calls that name an address of the internet's families which is not loopback, or ask for a name (port 53)."""
    calls = [line for line in trace.splitlines() if re.search(r"sa_family=AF_INET6?\b", line)]
    local = r'inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.[\d.]+)"'
    return [line for line in calls if not re.search(local, line) or "htons(53)" in line]


@pytest.mark.slow
def test_a_default_run_makes_no_request(tmp_path):
    with serving() as proxy:
        assert watched_run(tmp_path, proxy=proxy.url) == []
        assert proxy.received == [], "nor does a process that is no Python"
    assert list(tmp_path.glob("outputs/*/*/wandb/offline-run-*/*.wandb")), "W&B's own process was at work"


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_other_loggers_make_no_request_either(tmp_path, logger):
    """MLflow's own telemetry included."""
    pytest.importorskip(logger, reason=f"the extra {logger} is not installed")
    with serving() as proxy:
        assert watched_run(tmp_path, f"logger={logger}", proxy=proxy.url) == []
        assert proxy.received == []
    assert list(tmp_path.glob(f"outputs/*/*/{logger}/*")), "it was at work"


@pytest.mark.slow
def test_online_sends_what_is_documented(tmp_path):
    """To the server that the user named, and nowhere else."""
    with serving() as proxy, serving() as server:
        key = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
        assert watched_run(tmp_path, "logger.mode=online", "name='a study'", proxy=proxy.url, **key) == []
        assert proxy.received == []
        received = list(server.received)
    queries = [request for request in received if request.path == "/graphql"]
    assert {request.operation() for request in queries} <= SENT
    assert {"mutation UpsertBucket", "mutation CreateArtifact"} <= {request.operation() for request in queries}
    others = {request.path for request in received if request.path != "/graphql"}
    assert {path for path in others if not re.fullmatch(f"{UPLOADED}|{STREAMED}", path)} == set()
    assert any(path.startswith("/upload/media/images/figures/traversal_sefa") for path in others), "figures"
    for request in queries:
        given = {name: request.variables().get(name) for name in ("host", "program", "repo", "commit")}
        assert {name: value for name, value in given.items() if value} in ({}, {"program": "medlat"})
    sent = b"\0".join(request.path.encode() + str(request.headers).encode() + request.body for request in received)
    for secret in (str(tmp_path), os.path.expanduser("~"), f'"{socket.gethostname()}"', sys.executable):
        assert secret.encode() not in sent, secret


@pytest.mark.parametrize("code", ["requests.get", "socket.create_connection"])
def test_the_watch_would_see_it(tmp_path, code):
    """A request from Python reaches the proxy, or is recorded."""
    (tmp_path / "sitecustomize.py").write_text(RECORDER)
    asked = {
        "requests.get": "import requests; requests.get('https://telemetry.invalid/x', timeout=5)",
        "socket.create_connection": "import socket; socket.create_connection(('192.0.2.1', 9), timeout=0.1)",
    }[code]
    with serving() as proxy:
        more = {"HTTPS_PROXY": proxy.url, "NO_PROXY": "", "PYTHONPATH": str(tmp_path), "RECORDED": str(tmp_path / "r")}
        subprocess.run([sys.executable, "-c", asked], env={**os.environ, **more}, capture_output=True, timeout=60)
        told = [request.path for request in proxy.received] + (tmp_path / "r").read_text().splitlines()
    assert any("telemetry.invalid" in line or "192.0.2.1" in line for line in told)


def test_a_trace_is_read_right():
    local = 'connect(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = 0'
    unix = 'connect(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0'
    far = 'connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16) = 0'
    name = 'sendto(3, "...", 30, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 30'
    assert outside("\n".join((local, unix, far, name))) == [far, name]
