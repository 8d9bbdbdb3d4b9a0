"""What a reader's browser gets, which never holds the truth, and what is refused."""

import base64
import itertools
import json
import re
import struct
from collections import Counter, defaultdict

import pytest
from starlette.testclient import TestClient

from medlat.explore.reading.answers import Answers, read_answers, truth_file
from medlat.explore.reading.app import application
from medlat.explore.reading.cases import order_of, truth_of

TOKEN = "right-token"


@pytest.fixture
def answers(plan, cases, explorer, tmp_path):
    with Answers(tmp_path / "study.csv", truth_of(plan, explorer, cases)) as found:
        yield found


@pytest.fixture
def client(plan, cases, answers) -> TestClient:
    app = application(plan, cases, answers, TOKEN, ["testserver"])
    return TestClient(app, headers={"x-token": TOKEN}, raise_server_exceptions=False)


def said(found: dict) -> dict[str, str]:
    return {each["name"]: (each["choices"] or ["text"])[0] for each in found["questions"]}


def read(client, reader: str, most: int = 1000):
    """What a reader is shown, case after case."""
    found = client.post("/case", json={"reader": reader}).json()
    while found["place"] is not None and most > 0:
        most -= 1
        yield found
        found = client.post("/answer", json={"reader": reader, "place": found["place"], "said": said(found)}).json()


def chunks(uri: str) -> list[str]:
    """Names of the parts of a PNG."""
    data, names, place = base64.b64decode(uri.removeprefix("data:image/png;base64,")), [], 8
    while place < len(data):
        size, name = struct.unpack(">I4s", data[place : place + 8])
        names.append(name.decode())
        place += size + 12
    return names


def test_a_reader_sees_every_case_once_in_an_order_of_their_own(client, cases, plan, answers):
    shown = list(read(client, "a"))
    assert [found["place"] for found in shown] == list(range(1, len(cases) + 1))
    order = order_of(plan.seed, len(cases), "A")
    for found, number in zip(shown, order, strict=True):
        pictures = [base64.b64decode(uri.partition(",")[2]) for uri in found["pictures"]]
        assert pictures == list(cases[number].pictures)
    rows = read_answers(answers.path, answers.truth)
    assert [int(row["case"]) for row in rows] == order
    assert client.post("/case", json={"reader": "A"}).json() == {"reader": "A", "place": None, "of": len(cases)}


def test_what_a_reader_gets_is_the_same_whatever_the_truth(client, cases, plan):
    """Of cases that are shown alike, answers have the same keys, the same texts and as many bytes."""
    alike, kinds = defaultdict(set), defaultdict(set)
    for found, number in zip(read(client, "B"), order_of(plan.seed, len(cases), "B"), strict=True):
        kinds[found["shown"]].add(cases[number].kind)
        alike[found["shown"]].add(json.dumps(found | {"place": 0, "pictures": [len(uri) for uri in found["pictures"]]}))
        for uri in found["pictures"]:
            names = chunks(uri)
            assert (names[0], names[-1], set(names[1:-1])) == ("IHDR", "IEND", {"IDAT"}), "no text, no time, no name"
    assert kinds["pair"] == {"direction", "random", "sham"}
    assert kinds["series"] == {"direction", "sham"}
    assert kinds["image"] == {"real", "sample", "reconstruction"}
    assert {shown: len(answers) for shown, answers in alike.items()} == {"image": 1, "pair": 1, "series": 1}


def test_no_word_of_the_truth_reaches_a_reader(client, answers, explorer):
    page = client.get("/", params={"token": TOKEN}).text
    texts = [re.sub("<style.*?</style>", "", page, flags=re.DOTALL)]  # which has numbers of its own
    texts += [json.dumps(found | {"pictures": []}) for found in read(client, "C")]
    whole, truth = "\n".join(texts), json.loads(truth_file(answers.path).read_text())
    secret = {"sefa", "random", "sham", "reconstruction", "control", "counterfactual", truth["generator"], truth["run"]}
    for case in truth["cases"].values():
        secret |= {case["start"], case["direction"] or "sefa", str(case["step"] or "sefa")}
    assert {"sefa 02", "image 3", "-1.5"} <= secret
    there = {word for word in secret if re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", whole, re.IGNORECASE)}
    assert there == set()
    assert str(explorer.run.folder) not in whole
    assert str(answers.path.parent) not in whole


def test_the_truth_is_not_served(client, answers):
    files = ("study.truth.json", "study.csv", "study.yaml", truth_file(answers.path), "truth", "numbers", "export")
    for path in (f"/{file}" for file in files):
        for found in (client.get(path), client.post(path, json={})):
            assert found.status_code in (404, 405), path
            assert found.text in ("Not Found", "Method Not Allowed")


def test_where_the_changed_image_stands_says_nothing(cases):
    sides = Counter(case.truth["which_changed"] for case in cases if case.shown == "pair")
    assert sides["left"] == sides["right"] > 0


def test_a_reader_goes_on_where_they_were(client, plan, cases, answers, explorer):
    begun = list(itertools.islice(read(client, "D"), 5))
    assert client.post("/case", json={"reader": "d"}).json() == begun[-1], "shown, and not answered"
    again = application(plan, cases, answers, TOKEN, ["testserver"])
    rest = list(read(TestClient(again, headers={"x-token": TOKEN}), "D"))
    assert [found["place"] for found in rest] == list(range(5, len(cases) + 1))
    assert rest[0] == begun[-1]


def test_an_answer_that_is_sent_twice_counts_once(client, answers):
    first = next(read(client, "E"))
    body = {"reader": "E", "place": 1, "said": said(first)}
    assert client.post("/answer", json=body).json()["place"] == 2
    other = {name: text[::-1] for name, text in said(first).items()}
    assert client.post("/answer", json=body | {"said": other}).json()["place"] == 2
    assert len(read_answers(answers.path, answers.truth)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reader": "Anna Muster"}, "a number or a code"),
        ({"place": 2}, "place=2: that case was not shown yet; expected 1"),
        ({"place": True}, "place=True"),
        ({"place": 0}, "place=0"),
        ({"said": {}}, "said: expected an answer to each of"),
        ({"said": None}, "said: expected an answer to each of"),
        ({"useful": "6"}, "useful=6: cannot be said"),
        ({"useful": 5}, "useful=5: cannot be said"),
        ({"useful": ""}, "useful=: cannot be said"),
    ],
)
def test_what_is_no_answer(client, answers, change, words):
    found = next(read(client, "F"))
    body = {"reader": "F", "place": 1, "said": said(found)}
    body = body | {"said": body["said"] | change} if "useful" in change else body | change
    answer = client.post("/answer", json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert read_answers(answers.path, answers.truth) == []


def test_a_disk_that_refuses_is_said_to_the_reader(client, answers, monkeypatch):
    found = next(read(client, "G"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(answers, "add", full)
    answer = client.post("/answer", json={"reader": "G", "place": 1, "said": said(found)})
    assert answer.status_code == 400
    assert "the answer was not kept (No space left on device)" in answer.json()["error"]
    assert str(answers.path.parent) not in answer.text


def test_nobody_without_the_token_reads(client):
    assert client.get("/").status_code == 403
    for path in ("/case", "/answer"):
        assert client.post(path, json={"reader": "H"}, headers={"x-token": "wrong"}).status_code == 403


def test_the_page_loads_nothing_and_asks_no_name(client):
    page = client.get("/", params={"token": TOKEN})
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page.text) == []
    assert not re.search(r"https?://", page.text)
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", page.headers["content-security-policy"])[1]
    assert set(re.findall(r'<(?:script|style)[^>]*nonce="([^"]+)"', page.text)) == {nonce}
    assert len(re.findall(r"<(?:script|style)\b", page.text)) == 2
    assert "No name." in page.text
    assert "Phantom data: computed images stand in for patients." in page.text
