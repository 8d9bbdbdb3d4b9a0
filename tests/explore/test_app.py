"""What a browser gets, and what is refused."""

import base64
import gzip
import io
import json
import re
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from starlette.testclient import TestClient
from test_explain_images import explaining  # noqa: F401 (a fixture)

import medlat
from medlat.explore import upload
from medlat.explore.app import application
from medlat.explore.export import FRAMES
from medlat.explore.view import Explorer, View
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom
from medlat.report.readers import FILE

TOKEN = "right-token"
SECRET = "Zq7XkPlanted"
SCRIPT = "<script>alert(1)</script>"
STEPS = {"sefa 02": 1.5, "sefa 00": -2.0}


def client_of(explorer: Explorer, **headers: str) -> TestClient:
    app = application(explorer, TOKEN, ["testserver"])
    return TestClient(app, headers={"x-token": TOKEN} | headers, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def explorer(finished, tmp_path_factory) -> Explorer:
    """Of a copy of the run's folder, which names and notes are written to."""
    return Explorer(medlat.load(shutil.copytree(finished / "run", tmp_path_factory.mktemp("explored") / "run")))


@pytest.fixture(scope="module")
def client(explorer) -> TestClient:
    return client_of(explorer)


@pytest.fixture(scope="module")
def tiles(explaining) -> TestClient:  # noqa: F811
    """Of a run that reads pictures."""
    return client_of(Explorer(medlat.load(explaining / "run")))


@pytest.fixture
def left(tmp_path, monkeypatch) -> Path:
    """The folder that uploads pass through."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


# --- what is seen -----------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_nothing_else(client):
    answer = client.get("/", params={"token": TOKEN})
    assert answer.status_code == 200
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", answer.headers["content-security-policy"])[1]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert set(re.findall(r'<(?:script|style)[^>]*nonce="([^"]+)"', answer.text)) == {nonce}
    assert len(re.findall(r"<(?:script|style)\b", answer.text)) == 3
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', answer.text) == []
    assert not re.search(r"https?://", answer.text)
    assert " on" + "click=" not in answer.text
    assert "unnamed" in answer.text
    assert "Phantom data: computed images stand in for patients." in answer.text
    assert re.search(r'<abbr title="[^"]+">latent space</abbr>', answer.text)
    again = client.get("/", params={"token": TOKEN})
    assert nonce not in again.text, "each page has its own"


def test_pixels_are_those_of_the_python_face(client, explorer):
    run, look = explorer.run, explorer.look
    code = run.encode(run.context.images.fetch(run.context.split.test[[3]], run.image))
    found = client.post("/frame", json={"view": {"start": "image 3", "steps": STEPS}}).json()
    low, high = look.window
    shown = (run.image.pictures(run.move(code, STEPS))[0] - low) / (high - low)
    assert np.abs(picture(found["moved"]) / 255.0 - shown.clip(0.0, 1.0)).max() <= 1.0 / 255.0
    begun = client.post("/begin", json={"view": {"start": "image 3"}}).json()
    back = (run.image.pictures(run.decode(code))[0] - low) / (high - low)
    assert np.abs(picture(begun["reconstruction"]) / 255.0 - back.clip(0.0, 1.0)).max() <= 1.0 / 255.0
    assert any("dB PSNR" in note for note in begun["notes"])
    still = client.post("/frame", json={"view": {"start": "image 3"}}).json()
    index = np.asarray(Image.open(io.BytesIO(base64.b64decode(still["change"].partition(",")[2]))))
    assert set(index.ravel().tolist()) == {128}, "no change"


def test_windows_are_those_of_the_modality(client, explorer):
    lung = client.post("/frame", json={"view": {"start": "image 3", "window": "lung"}}).json()
    shown = (explorer.pictures(explorer.moved(View("image 3"))) + 1350.0) / 1500.0
    assert np.abs(picture(lung["moved"]) / 255.0 - shown.clip(0.0, 1.0)).max() <= 1.0 / 255.0
    wrong = client.post("/frame", json={"view": {"window": "lungs"}})
    assert wrong.status_code == 400
    assert "lungs: no window of chest CT; did you mean 'lung'?" in wrong.json()["error"]


def test_a_window_of_ones_own(client, explorer):
    own = client.post("/frame", json={"view": {"start": "image 3", "window": [-200, 300.0]}}).json()
    shown = (explorer.pictures(explorer.moved(View("image 3"))) + 200.0) / 500.0
    assert np.abs(picture(own["moved"]) / 255.0 - shown.clip(0.0, 1.0)).max() <= 1.0 / 255.0
    for wrong, words in (([300, -200], "low below high"), ([1], "its two ends"), ([1, "2"], "its two ends")):
        answer = client.post("/frame", json={"view": {"window": wrong}})
        assert answer.status_code == 400
        assert words in answer.json()["error"]


def test_thumbnails_are_the_held_out_images(client, explorer):
    found = client.post("/thumbnails", json={"page": 0}).json()
    sprite = picture(found["picture"])
    assert found["count"] == min(24, len(explorer.held_out))
    third = explorer.look.levels(explorer.pictures(explorer.start(View("image 3")).real))
    width = third.shape[1]
    assert np.array_equal(sprite[:, 3 * width : 4 * width], third)
    assert client.post("/thumbnails", json={"page": 99}).status_code == 400


def test_numbers_are_written_with_their_units(client, explorer):
    explorer.warm()
    found = client.post("/numbers", json={"view": {"start": "image 3", "steps": STEPS}}).json()
    rows = {row["measurement"]: row for row in found["measurements"]}
    assert re.fullmatch(r"−?[\d.]+°", rows["rotation"]["said"]["original"])
    assert set(found["distance"]["said"]) == {"reconstruction", "moved", "limit"}
    assert found["predictions"] == []
    direct = explorer.numbers(View("image 3", STEPS))
    assert found["distance"]["moved"] == pytest.approx(direct["distance"]["moved"])


def test_without_a_classifier_nobody_looks_anywhere(client):
    for path in ("where", "otherwise"):
        assert "the run explains no classifier" in client.post(f"/{path}", json={"view": {}}).json()["error"]


# --- what is kept and taken along -------------------------------------------------------------------------------


def test_names_stars_and_notes_are_kept_beside_the_run(client, explorer):
    said = {"name": f" turns {SCRIPT}", "star": True, "note": "look at the spine"}
    kept = client.post("/keep", json={"direction": "sefa 02", "said": said}).json()
    assert kept == {"sefa 02": said | {"name": f"turns {SCRIPT}"}}
    assert json.loads((explorer.run.folder / FILE).read_text()) == {"directions": kept}
    page = client.get("/", params={"token": TOKEN}).text
    assert SCRIPT not in page
    assert "\\u003cscript>alert(1)" in page, "and is there, for the script to show as text"
    wrong = client.post("/keep", json={"direction": "sefa 02", "said": said | {"name": "x" * 81}})
    assert "name: expected text of at most 80 letters" in wrong.json()["error"]
    assert client.post("/keep", json={"direction": "../x", "said": said}).status_code == 400
    nothing = {"name": "", "star": False, "note": " "}
    assert client.post("/keep", json={"direction": "sefa 02", "said": nothing}).json() == {}
    (explorer.run.folder / FILE).write_text("{")
    damaged = client.post("/keep", json={"direction": "sefa 02", "said": said})
    assert "not what medlat explore writes" in damaged.json()["error"]
    assert (explorer.run.folder / FILE).read_text() == "{", "nothing of the user's is written over"
    (explorer.run.folder / FILE).unlink()


@pytest.mark.parametrize("start", ["image 3", "sample 5"])
def test_the_python_that_is_taken_along_makes_the_picture(client, explorer, start):
    view = {"start": start, "steps": STEPS}
    program = client.post("/export", json={"view": view, "as": "py"}).text
    made: dict = {}
    exec(compile(program, "view.py", "exec"), made)
    shown = explorer.pictures(explorer.moved(View(start, STEPS)))
    assert np.abs(made["picture"] - shown).max() <= explorer.image.range / 255.0


def test_files_hold_what_is_shown(client, explorer):
    view = {"start": "image 3", "steps": STEPS}
    ask = {"view": view}
    arrays = np.load(io.BytesIO(client.post("/export", json=ask | {"as": "npz"}).content), allow_pickle=False)
    shown = explorer.pictures(explorer.moved(View("image 3", STEPS)))
    assert np.array_equal(arrays["moved"], shown)
    assert np.allclose(arrays["change"], shown - arrays["reconstruction"], atol=1e-3)
    assert dict(zip(arrays["directions"].tolist(), arrays["steps"].tolist(), strict=True)) == STEPS
    again = explorer.run.decode(torch.from_numpy(arrays["moved_code"])[None])
    assert np.allclose(explorer.pictures(again), shown, atol=0.1)
    lines = client.post("/export", json=ask | {"as": "csv"}).text.splitlines()
    assert lines[0].startswith("what,name,unit,")
    assert "step,sefa 02,σ,0.0,1.5" in lines[1]
    assert sum(line.startswith("measurement,") for line in lines) == len(explorer.measurements)
    png = Image.open(io.BytesIO(client.post("/export", json=ask | {"as": "png"}).content))
    assert png.size == (4 * 256 + 3 * 8, 256)
    sample = Image.open(io.BytesIO(client.post("/export", json={"view": {"start": "sample 1"}, "as": "png"}).content))
    assert sample.size == (3 * 256 + 2 * 8, 256), "a sample has no original"
    assert "did you mean 'png'" in client.post("/export", json=ask | {"as": "pnf"}).json()["error"]


def test_a_gif_goes_from_the_reconstruction_to_the_view_and_back(client, explorer):
    ask = {"view": {"start": "image 3", "steps": STEPS}, "as": "gif"}
    gif = Image.open(io.BytesIO(client.post("/export", json=ask).content))
    frames = [np.asarray(frame.convert("L"), float)[:256, :256] for frame in ImageSequence.Iterator(gif)]
    assert len(frames) == 2 * FRAMES - 2, "there and back, without either end twice"
    view = View("image 3", STEPS)
    for place, images in ((0, explorer.start(view).images), (FRAMES - 1, explorer.moved(view))):
        shown = 255.0 * explorer.look.tile(explorer.pictures(images), 256)
        assert np.abs(frames[place] - shown).mean() < 3.0, "but for its greys"
    assert np.abs(frames[0] - frames[FRAMES - 1]).mean() > 3.0
    assert np.array_equal(frames[1], frames[-1])
    still = client.post("/export", json={"view": {"start": "image 3"}, "as": "gif"})
    assert still.json()["error"] == "steps: nothing is moved; expected a step along a direction"


# --- what is refused --------------------------------------------------------------------------------------------


def test_nobody_without_the_token_sees_anything(explorer):
    for headers in ({"x-token": ""}, {"x-token": "wrong"}):
        stranger = client_of(explorer, **headers)
        assert stranger.get("/").status_code == 403
        assert stranger.get("/", params={"token": "wrong"}).status_code == 403
        for path in ("frame", "begin", "numbers", "keep", "export", "upload", "thumbnails", "reach"):
            answer = stranger.post(f"/{path}?token={TOKEN}", json={"view": {}})
            assert (answer.status_code, "token" in answer.text) == (403, True), path
    assert client_of(explorer).get("/").status_code == 403, "a page is asked for by its address"


def test_a_name_that_is_not_the_servers_is_refused(explorer):
    for host in ("evil.example", "testserver.evil.example", "localhost", "10.0.0.1", ""):
        answer = client_of(explorer, host=host).post("/frame", json={"view": {}})
        assert (answer.status_code, answer.text) == (403, "medlat: this server is not called so\n"), host
    anywhere = TestClient(application(explorer, TOKEN, ["*"]), headers={"x-token": TOKEN, "host": "10.0.0.1:80"})
    assert anywhere.post("/frame", json={"view": {}}).status_code == 200
    assert anywhere.post("/frame", json={"view": {}}, headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/config.yaml", "/../config.yaml", "/%2e%2e/%2e%2e/etc/passwd", "/explore.js"])
def test_no_file_is_read_by_its_path(client, path):
    for answer in (client.get(path), client.post(path, json={})):
        assert answer.status_code in (404, 405)
        assert answer.text in ("Not Found", "Method Not Allowed")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no JSON"),
        (b"[1]", "no JSON object"),
        (b'"' + b"x" * 70_000 + b'"', "more than 65536 bytes"),
        (b"[" * 60_000, "no JSON"),
        (b'{"view": {"start": "image 1e9"}}', "expected 'image N'"),
    ],
)
def test_what_is_no_request(client, body, words):
    answer = client.post("/frame", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_fault_of_ours_tells_nothing(client, explorer, monkeypatch, capsys):
    def fail(view):
        raise RuntimeError(f"/data/{SECRET}")

    monkeypatch.setattr(explorer, "moved", fail)
    answer = client.post("/frame", json={"view": {}})
    assert answer.status_code == 500
    assert answer.json() == {"error": "medlat failed; the terminal that it runs in says how"}
    assert SECRET in capsys.readouterr().err, "a terminal forgets"
    monkeypatch.setattr("medlat.core.machine._is_file", lambda stream: True)
    assert client.post("/frame", json={"view": {}}).status_code == 500
    told = capsys.readouterr().err
    assert SECRET not in told
    assert "medlat: RuntimeError in a request" in told
    assert "in _frame" in told, "where it was"


# --- files of the user's ----------------------------------------------------------------------------------------


def test_a_file_is_read_as_the_command_reads_it(client, explorer, left, tmp_path_factory):
    (file,) = write_dicom_series(tmp_path_factory.mktemp("data") / SECRET, CTPhantom(1, 1, 64, seed=7))
    before = sorted(explorer.run.folder.rglob("*"))
    answer = client.post("/upload?suffix=.dcm", content=file.read_bytes())
    assert answer.status_code == 200, answer.text
    begun = client.post("/begin", json={"view": answer.json()}).json()
    prepared = explorer.run.read(str(file)).images
    shown = explorer.look.levels(explorer.image.pictures(explorer.image.to_network(torch.from_numpy(prepared)))[0])
    assert np.abs(picture(begun["original"]).astype(int) - shown).max() <= 1
    assert re.match(r"(Not unlike|Unlike|Farther)", begun["notes"][0])
    assert SECRET not in json.dumps(begun)
    assert list(left.iterdir()) == []
    assert sorted(explorer.run.folder.rglob("*")) == before


def bomb(side: int) -> bytes:
    """A PNG of side² pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packed = zlib.compress(bytes(2**22), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_what_is_no_picture_is_refused_and_not_kept(tiles, left):
    sent = {
        "text": (".png", b"hello " + SECRET.encode()),
        "nothing": (".png", b""),
        "a bomb": (".png", bomb(60_000)),
        "a page": (".html", SCRIPT.encode()),
        "a pickle": (".pt", b"\x80\x04cposix\nsystem\n."),
        "no suffix": ("", b"hello"),
    }
    for what, (suffix, body) in sent.items():
        answer = tiles.post("/upload", params={"suffix": suffix}, content=body)
        assert answer.status_code == 400, what
        error = answer.json()["error"]
        assert SECRET not in error
        assert str(left) not in error, what
        assert "the file" in error, what
        assert list(left.iterdir()) == [], what


@pytest.mark.parametrize(
    ("suffix", "place"),
    [(SCRIPT, ""), ("/../../x", ""), (".png/..", ""), (".png", SCRIPT), (".png", "1,2,3"), (".a.b.c", "")],
)
def test_names_are_no_paths(client, left, suffix, place):
    answer = client.post("/upload", params={"suffix": suffix, "place": place}, content=b"x")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json", "which no browser shows as a page"
    assert list(left.iterdir()) == []


def test_a_file_of_200_mb_is_refused_before_it_is_there(client, left, monkeypatch):
    sent = 0

    def parts():
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield bytes(2**20)

    answer = client.post("/upload?suffix=.dcm", content=parts())
    assert answer.status_code == 400
    assert answer.json()["error"] == upload.TOO_LARGE
    assert list(left.iterdir()) == []
    monkeypatch.setattr("medlat.explore.app.read_upload", None)  # not even begun, where the size is said
    answer = client.post("/upload?suffix=.dcm", content=b"x", headers={"content-length": str(200 * 2**20)})
    assert answer.json()["error"] == upload.TOO_LARGE


def test_what_unpacks_to_too_much_is_refused(client, left, monkeypatch):
    monkeypatch.setattr(upload, "UNPACKED", 2**20)
    answer = client.post("/upload?suffix=.nii.gz", content=gzip.compress(bytes(2**22)))
    assert "unpacks to more than 1 MB" in answer.json()["error"]
    answer = client.post("/upload?suffix=.nii.gz", content=gzip.compress(bytes(2**12))[:-9])
    assert answer.json()["error"] == "the file is packed, and damaged"
    assert list(left.iterdir()) == []
