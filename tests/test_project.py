"""What makes a project that one can join: issue forms, hooks and pages that say what is so."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALL = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
KINDS = {"markdown", "input", "textarea", "dropdown", "checkboxes"}


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one(form):
    """As GitHub takes them: a name, a description, questions with labels and ids of their own, one of which must be
    answered.
    """
    read = yaml.safe_load(form.read_text())
    assert set(read) == {"name", "description", "labels", "body"}
    questions = [part for part in read["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in read["body"]} <= KINDS
    assert len({part["id"] for part in questions}) == len(questions)
    assert all(part["attributes"]["label"] for part in questions)
    assert any(part.get("validations", {}).get("required") for part in questions)


def test_bugs_ask_for_no_patients():
    assert "Never attach images of patients" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text()


def test_hooks_are_local_and_what_make_lint_does():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local", "it works without a network"
    hooks = {tuple(hook["entry"].removeprefix(".venv/bin/").split()[:2]) for hook in repository["hooks"]}
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    linted = {tuple(line.split()[2:4]) for line in lint.splitlines() if "-m" in line}
    assert {pair[0] for pair in hooks} == {pair[0] for pair in linted} == {"ruff", "mypy"}
    assert {pair[1] for pair in hooks if pair[0] == "ruff"} == {pair[1] for pair in linted if pair[0] == "ruff"}


def test_the_change_log_has_days_in_order_none_of_them_to_come():
    days = re.findall(r"^## (\d{4}-\d\d-\d\d)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert days == sorted(days, reverse=True)
    git = ["git", "-C", str(ROOT), "log", "-1", "--format=%cs"]
    done = subprocess.run(git, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no repository: its days are not known")
    assert days[0] <= done.stdout.strip()


def test_pythons_are_said_alike():
    """What pyproject.toml lists, README and docs/install.md say, and `make` looks for."""
    listed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert f">={listed[0]}" == PROJECT["requires-python"]
    for text in ((ROOT / "README.md").read_text(encoding="utf-8"), INSTALL):
        assert f"Python {listed[0]} to {listed[-1]}" in text
    looked_for = re.search(r"for p in (.+); do", (ROOT / "Makefile").read_text())[1].split()
    assert {f"python{version}" for version in listed} <= set(looked_for)


def test_every_extra_is_said_to_those_who_install():
    rows = re.findall(r"^\| (`.+?`) \|", INSTALL, re.MULTILINE)
    said = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(PROJECT["optional-dependencies"]) - {"test", "dev"} <= said
