"""The recipes for Docker and Apptainer: one Python, one lock, the same files, and nothing that is not pinned."""

import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKER = (ROOT / "Dockerfile").read_text()
APPTAINER = (ROOT / "apptainer.def").read_text()
INSTALLS = [
    "pip install --no-cache-dir --require-hashes -r requirements.lock",
    "pip install --no-cache-dir --no-deps --no-build-isolation .",
]


def docker(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.+)$", DOCKER, re.MULTILINE)


def section(name: str) -> list[str]:
    """The lines of one section of the Apptainer definition."""
    return re.split(r"^%\w+$", APPTAINER.partition(f"%{name}\n")[2], flags=re.MULTILINE)[0].split("\n")


def carried() -> tuple[set[str], set[str]]:
    """What is copied by the one and by the other."""
    by_docker = {word for line in docker("COPY") for word in shlex.split(line)[:-1]}
    return by_docker, {line.split()[0] for line in section("files") if line.strip()}


def test_both_are_one_python_which_is_that_of_the_lock():
    (image,) = docker("FROM")
    assert re.search(r"^From: (.+)$", APPTAINER, re.MULTILINE)[1] == image
    made_with = (ROOT / "requirements.lock").read_text().splitlines()[1]
    assert re.fullmatch(r"python:([\d.]+)-slim-\w+", image)[1] == re.search(r"--python-version ([\d.]+)", made_with)[1]


def test_both_install_the_lock_and_nothing_else():
    assert docker("RUN") == INSTALLS
    assert [line.strip() for line in section("post") if "pip" in line] == INSTALLS


def test_what_builds_medlat_is_in_the_lock():
    """Without build isolation nothing is fetched that the lock does not have."""
    needed = re.search(r"^requires = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    for name in re.findall(r'"([\w-]+)', needed):
        assert re.search(rf"^{name}==", (ROOT / "requirements.lock").read_text(), re.MULTILINE), name


def test_both_carry_the_same_files_which_are_let_through():
    by_docker, by_apptainer = carried()
    assert by_docker == by_apptainer
    rules = (ROOT / ".dockerignore").read_text().split()
    for name in by_docker:
        assert (ROOT / name).exists()
        last = [rule for rule in rules if fnmatch(name, rule.removeprefix("!"))][-1]
        assert last == f"!{name}"


def test_both_run_the_command():
    assert docker("ENTRYPOINT") == ['["medlat"]']
    assert [line.strip() for line in section("runscript") if line.strip()] == ['exec medlat "$@"']
