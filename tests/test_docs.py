"""What README and docs say: every block is run, promises name the tests that hold them, links lead somewhere, and the
README is short.
"""

import ast
import re
import shutil
import tomllib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from blocks import PAGES, ROOT, blocks, commands, indented
from PIL import Image
from study.test_cluster import slurm  # noqa: F401

from medlat.core.checkpoints import save_generator
from medlat.core.spaces import ImageSpec
from medlat.data.given import Given
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom
from medlat.steps.builders import network_from

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)")
BLOCKS = [block for page in PAGES for block in blocks(page)]
OWN_TEST = "docs/extending.md"  # tests/test_extending.py runs its blocks
RUN = [block for block in BLOCKS if block.page != OWN_TEST and not block.unrun]
SHELL = [(block.page, words) for block in RUN if block.language == "sh" for words in commands(block.text)]
COMMANDS = [pytest.param(*pair, id=f"{pair[0]}: {' '.join(pair[1])}") for pair in SHELL]
TYPED = [(page.relative_to(ROOT).as_posix(), words) for page in PAGES for words in commands(indented(page))]
STUDIES = [
    pytest.param(*pair, id=f"{pair[0]}: {' '.join(pair[1])}")
    for pair in TYPED
    if pair[1][0] in ("medlat", "python", "make")
]
UNRUN = 9  # blocks that say why no test can run them


# --- every block is run -----------------------------------------------------------------------------------------


def test_every_block_says_what_it_is():
    assert {block.language for block in RUN} <= {"sh", "console", "python", "yaml", "{toctree}"}
    assert {block.page for block in RUN if block.language == "yaml"} == {"docs/reading.md"}, "its own test"
    assert [block for block in BLOCKS if block.file and block.page != OWN_TEST] == []
    assert len([block for block in BLOCKS if block.unrun]) == UNRUN
    assert len(COMMANDS) >= 40
    assert len(STUDIES) >= 60


class Bright(torch.nn.Module):
    """A classifier of images of any size: the brighter, the surer."""

    def forward(self, images):
        return torch.sigmoid(images.mean(dim=(1, 2, 3))[:, None])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """What the pages' DIR and FILE stand for: images of a phantom, pictures with a CSV, a datalist, networks."""
    folder = tmp_path_factory.mktemp("files")
    write_dicom_series(folder / "DIR", CTPhantom(2, 2, 32), 2)
    for number in range(4):
        Image.fromarray(np.full((32, 32), 40 * number, np.uint8)).save(folder / "DIR" / f"{number}.png")
    rows = [f"{number}.png,{number % 2},p{number}" for number in range(4)]
    (folder / "DIR" / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    grey = {f"{part}_images": np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 28, 28) for part in PARTS}
    np.savez(folder / "DIR" / "images.npz", **grey, **{f"{part}_labels": np.array([[0], [1]] * 2) for part in PARTS})
    (folder / "FILE.json").write_text('{"training": [{"image": "a.nii.gz"}]}')
    recipe = {"_target_": "medlat.generators.dcgan.networks.DCGAN", "latent_dim": 4, "capacity": 2}
    spec = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)
    save_generator(folder / "generator.safetensors", network_from(recipe, spec), recipe, spec)
    image = (torch.zeros(2, 3, 32, 32),)
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(Bright(), image, folder / "classifier.onnx", input_names=["x"], dynamic_axes=axes, dynamo=False)
    return folder


PARTS = ("train", "val", "test")  # of MedMNIST
FILE = {"classifier.path": "classifier.onnx", "generator.weights": "generator.safetensors"}


@pytest.fixture
def reader(files, tmp_path, monkeypatch):
    """The working folder of somebody who reads the pages."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_medlat(words, medlat, request, monkeypatch):
    """A run is planned, a sweep too; other commands take the words."""
    command = words[0] if words and words[0] in CHECKED else "run"
    CHECKED[command](words[words[:1] == [command] :], medlat, request, monkeypatch)


def check_run(words, medlat, request, monkeypatch):
    given = {word.partition("=")[0] for word in words}
    words = [f"{key}={FILE[key]}" if (key := word.partition("=")[0]) in FILE else word for word in words]
    more = {"scale": "tiny", "dry_run": "true"}
    code, out, err = medlat(*words, *(f"{key}={value}" for key, value in more.items() if key not in given))
    assert code == 0, err
    assert words == ["--help"] or "to be made" in out


def check_explain(words, medlat, request, monkeypatch):
    from medlat import explain_images

    called = []
    monkeypatch.setattr(explain_images, "explain", lambda *given: called.append(given))
    assert explain_images.main(words) == 0
    monkeypatch.setattr("os.path.exists", lambda path: "@" not in str(path))
    images = [Given.of(text) for text in called[0][1]]
    assert images
    assert all("@" not in image.path for image in images)


def check_explore(words, medlat, request, monkeypatch):
    from medlat.explore import command

    called = []
    monkeypatch.setattr(command, "explore", lambda *given: called.append(given))
    assert command.main(words) == 0
    assert len(called) == 1


def check_collect(words, medlat, request, monkeypatch):
    from medlat.collect import main

    finished = request.getfixturevalue("finished")
    (folder,) = words
    shutil.copytree(finished / "run", Path(folder) / "0", dirs_exist_ok=True)
    assert main(words) == 0
    assert (Path(folder) / "summary.csv").is_file()


def check_python(words, medlat, request, monkeypatch):
    """Of medlat's modules as of the command; of a study's script that it is one."""
    if words[:2] == ["-m", "medlat"]:
        check_medlat(words[2:], medlat, request, monkeypatch)
    elif words[0] == "-m":
        CHECKED[words[1].removeprefix("medlat.")](words[2:], medlat, request, monkeypatch)
    else:
        ast.parse((ROOT / words[0]).read_text(encoding="utf-8"))


def check_make(words, *_):
    targets = set(re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


def check_pip(words, *_):
    """What is installed from a clone has such extras; what is installed by name is in constraints.txt."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert words[0] == "install"
    for word in words[1:]:
        if found := re.fullmatch(r"\.(?:\[([\w,]+)\])?", word):
            assert set((found[1] or "").split(",")) - {""} <= extras
        elif word.endswith((".txt", ".lock")):
            assert (ROOT / word).is_file()
        elif not word.startswith("-"):
            assert word in pinned


def check_study(words, *_):
    """Of the recorded study."""
    from medlat.explore.reading.command import main

    (answers,) = (Path(word) for word in words)
    for path in (ROOT / "experiments" / "reader").glob("answers.*"):
        shutil.copy(path, path.name.replace("answers", answers.stem))
    assert main(words) == 0
    assert answers.with_suffix(".table.csv").is_file()


CHECKED = {
    "run": check_run,
    "explain": check_explain,
    "explore": check_explore,
    "collect": check_collect,
    "study": check_study,
}
CHECKS = {"medlat": check_medlat, "python": check_python, "make": check_make, "pip": check_pip}


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_a_command_does_what_it_says(page, words, reader, medlat, request, monkeypatch):
    for module in (ROOT / page).parent.glob("*.py"):  # of a study, whose page one reads in its folder
        (reader / module.name).symlink_to(module)
    monkeypatch.syspath_prepend(str(reader))
    CHECKS[words[0]](words[1:], medlat, request, monkeypatch)


def as_here(word: str) -> str | None:
    """A word of a study's command with what only its author has replaced; None where it says nothing here."""
    if word.startswith("store="):
        return None
    if word.startswith("data.root="):
        return "data.root=DIR/images.npz" if word.endswith(".npz") else "data.root=DIR"
    optional = re.fullmatch(r"\[([\w.]+=\w+)\]", word)
    return optional[1] if optional else {"GENERATOR": "generator=dae"}.get(word, word)


@pytest.mark.slow
@pytest.mark.usefixtures("reader", "slurm")
@pytest.mark.parametrize(("page", "words"), STUDIES)
def test_a_study_can_be_typed_again(page, words, medlat, request, monkeypatch):
    if words[0] == "medlat":
        words = [here for word in words if (here := as_here(word))]
    CHECKS[words[0]](words[1:], medlat, request, monkeypatch)


@pytest.mark.parametrize("block", [block for block in RUN if block.language == "console"], ids=lambda block: block.page)
def test_what_a_command_answers(block, medlat, reader):
    typed, _, answer = block.text.removeprefix("$ ").partition("\n")
    words = commands(typed)[0]
    assert words[0] == "medlat"
    code, out, err = medlat(*words[1:])
    assert (code, out + err) == (2, answer)


def in_python(page, finished, folder, monkeypatch) -> dict:
    """The names that a page's blocks of Python leave, one after the other, with its run the tiny one."""
    parts = [block.text for block in RUN if block.page == page and block.language == "python"]
    nodes = chain.from_iterable(ast.walk(ast.parse(part)) for part in parts)
    place = next(str(n.value) for n in nodes if isinstance(n, ast.Constant) and str(n.value).startswith("outputs/"))
    (folder / place).parent.mkdir(parents=True)
    (folder / place).symlink_to(finished / "run")
    monkeypatch.chdir(folder)
    known: dict = {}
    for part in parts:
        exec(compile(part, page, "exec"), known)
    return known


def test_python_of_what_a_run_leaves(finished, tmp_path, monkeypatch):
    known = in_python("docs/runs.md", finished, tmp_path, monkeypatch)
    assert known["moved"].shape == (7, 1, 32, 32)
    assert known["hu"].min() >= -1000.0
    assert known["values"].shape[1:] == (1, 32, 32)
    assert known["strongest"]["share"] <= 1.0


def test_python_of_exploring(finished, tmp_path, monkeypatch):
    known = in_python("docs/exploring.md", finished, tmp_path, monkeypatch)
    assert known["picture"].shape == (32, 32)
    assert -1000.0 <= known["picture"].min() < known["picture"].max() <= 2000.0
    assert np.abs(known["picture"] - known["run"].image.pictures(known["images"])[0]).max() > 1.0, "it moved"


def test_no_page_with_python_is_left_out():
    assert {block.page for block in RUN if block.language == "python"} == {"docs/runs.md", "docs/exploring.md"}


# --- promises, links, lengths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["privacy", "reliability"])
def test_every_promise_has_its_tests(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 5
    for promise, held_by in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", held_by)
        assert named, promise
        for path, name in named:
            found = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")}
            assert not name or name in found, (path, name)
            assert any(one.startswith("test_") for one in found), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


def test_every_page_is_in_the_contents():
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").split()
    assert [page.stem for page in ROOT.glob("docs/*.md") if page.stem not in (*contents, "index")] == []


# --- methods ----------------------------------------------------------------------------------------------------

GROUP = re.compile(r"^## .*?\(`(\w+)=`\)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
CARD = re.compile(r"^### (.+?)$(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
SAID = ["Assumes", "From", "Costs", "Fails"]
STUDY = re.compile(r"\(\[\w+\]\((\.\./experiments/\w+/README\.md)\)\)")
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")


def cards() -> list[tuple[str, str, str]]:
    """(group, name, text) of each method on docs/methods.md."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    found = [(group, *card) for group, part in GROUP.findall(text) for card in CARD.findall(part)]
    return [(group, name, text) for group, names, text in found for name in re.findall(r"`(\w+)`", names)]


def test_every_method_has_a_card():
    known = {group: {name for found, name, _ in cards() if found == group} for group in ("generator", "inversion")}
    for group in (*known, "directions"):
        options = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - {"inversion_base"}
        assert {name for found, name, _ in cards() if found == group} == options
    for _, name, text in cards():
        assert re.findall(r"^- \*\*(\w+)\*\*", text, re.MULTILINE) == SAID, name


def test_numbers_of_a_card_stand_in_the_study_that_it_links_to():
    looked = 0
    for _, name, text in cards():
        for part in re.split(r"^- ", text, flags=re.MULTILINE):
            begin = 0
            for link in STUDY.finditer(part):
                said = NUMBER.findall(re.sub(r"`[^`]*`", "", part[begin : link.start()]))
                study = set(NUMBER.findall((ROOT / "docs" / link[1]).read_text(encoding="utf-8")))
                assert [number for number in said if number not in study] == [], (name, link[1])
                begin, looked = link.end(), looked + len(said)
    assert looked > 80


def test_numbers_of_an_answer_stand_on_a_page_that_it_links_to():
    looked = 0
    for answer in (ROOT / "docs" / "faq.md").read_text(encoding="utf-8").split("\n\n"):
        pages = [ROOT / "docs" / link for link in LINK.findall(answer) if link.endswith(".md")]
        if not STUDY.search(answer):
            continue
        said = NUMBER.findall(re.sub(r"`[^`]*`", "", answer))
        known = set(NUMBER.findall("\n".join(page.read_text(encoding="utf-8") for page in pages)))
        assert [number for number in said if number not in known] == [], answer
        looked += len(said)
    assert looked > 25
