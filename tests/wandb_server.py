"""A W&B server on loopback: it answers as far as a run needs, and keeps all that was sent."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def operation(self) -> str:
        """The name of a GraphQL query, with its kind: `mutation UpsertBucket`."""
        return " ".join(json.loads(self.body)["query"].replace("(", " ").replace("{", " ").split()[:2])

    def variables(self) -> dict[str, Any]:
        return json.loads(self.body).get("variables") or {}


class Server(ThreadingHTTPServer):
    """received: the requests, in order; a proxy's CONNECT too, which is refused."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that is gone."""


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_any(self) -> None:
        body = self._body()
        request = Request(self.command, self.path, dict(self.headers), body)
        self.server.received.append(request)
        if self.command == "CONNECT" or not self.path.startswith("/"):
            self.send_error(403)
            return
        answer = {"data": self._data(request)} if self.path == "/graphql" else {}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_CONNECT = handle_any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def _body(self) -> bytes:
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _data(self, request: Request) -> dict[str, Any]:
        asked, given = request.operation().partition(" ")[2], request.variables()
        place = {"uploadHeaders": [], "uploadUrl": f"{self.server.url}/upload"}
        project = {"id": "p", "name": "medlat", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": given.get("name"), "config": "{}", "historyLineCount": 0, "project": project}
        files = [{"name": name, "uploadUrl": f"{self.server.url}/upload/{name}"} for name in given.get("files", [])]
        parts = [
            {"node": place | {"id": "f", "name": one["name"], "displayName": one["name"], "artifact": {"id": "a"}}}
            for one in given.get("artifactFiles", [])
        ]
        manifest = {"id": "m", "file": place | {"id": "f", "name": "manifest", "displayName": "manifest"}}
        return {
            "Viewer": {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}},
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
            "CreateRunFiles": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}},
            "CreateArtifact": {"createArtifact": {"artifact": {"id": "a", "state": "PENDING"}}},
            "CreateArtifactManifest": {"createArtifactManifest": {"artifactManifest": manifest}},
            "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": parts}}},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
        }.get(asked, {"project": None})
