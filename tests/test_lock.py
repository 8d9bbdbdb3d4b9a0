"""Versions stand twice: in constraints.txt, and with hashes in requirements.lock."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)
SOME_PLATFORMS = re.compile(
    r"nvidia-|cuda-|triton$|colorama$|cffi$|pycparser$|setuptools$"
)  # of GPUs, Windows, newer Pythons


def pinned(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in PINNED.findall(text)}


def test_the_lock_has_the_versions_that_the_tests_pass_with():
    locked, constrained = pinned("requirements.lock"), pinned("constraints.txt")
    assert {name: version for name, version in locked.items() if constrained.get(name, version) != version} == {}
    assert [name for name in set(locked) - set(constrained) if not SOME_PLATFORMS.match(name)] == []
    assert {"torch", "monai", "wandb", "pydicom", "python-gdcm"} <= set(locked)


def test_every_package_has_a_hash():
    for block in re.split(r"\n(?=[\w.-]+==)", (ROOT / "requirements.lock").read_text())[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
