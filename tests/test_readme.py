"""What the README promises: each promise names the tests that hold it, and they are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", ["Privacy", "Reliability"])
def test_every_promise_has_its_tests(section):
    text = re.search(rf"\n## {section}\n(.*?)\n## ", README, re.DOTALL)[1]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 5
    for promise, held_by in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", held_by)
        assert named, promise
        for path, name in named:
            found = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")}
            assert not name or name in found, (path, name)
            assert any(one.startswith("test_") for one in found), path
