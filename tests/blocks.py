"""The code blocks of pages: what each is in, the file that it is, and why no test can run it, if none can.

```sh                      commands
```sh unrun="the reason"   commands that no test can run, and why
```console                 a command after `$`, and all that it says
```python file=my.py       a file of the reader's
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("experiments/*/README.md"))]
BLOCK = re.compile(r"^```([\w{}]*)(?: file=(\S+))?(?: unrun=\"([^\"\n]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """page: its path below the project's folder; language: "" where it does not say; unrun: why no test can run it."""

    page: str
    language: str
    file: str | None
    unrun: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in its order. Every fence belongs to one: raises AssertionError where one is malformed."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    found = [
        Block(name, language, file or None, why or None, body) for language, file, why, body in BLOCK.findall(text)
    ]
    assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(found), name
    return found


def indented(page: Path) -> str:
    """What stands four spaces in on a page: there studies have their commands, as they were typed."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.strip() for line in lines if line.startswith("    "))


def commands(text: str) -> list[list[str]]:
    """The words of each command, comments and continued lines taken care of."""
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words for words in lines if words]
