"""Sphinx: the pages of this folder, and a reference made from the package and its configuration. `make docs`."""

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import medlat  # noqa: E402
from medlat.config.help import GROUPS, options  # noqa: E402
from medlat.config.locate import config_dir  # noqa: E402

project, author, release = "medlat", "the medlat authors", medlat.__version__
copyright = "Apache-2.0"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
suppress_warnings = ["myst.header"]  # a page may go from its title to a part of a part
myst_heading_anchors = 3
html_theme = "furo"
html_title = "medlat"
html_show_sphinx = False
STUDY = re.compile(r"\(\.\./experiments/(\w+)/README\.md\)")
PICTURE = re.compile(r"\]\((?!http|\.\.)([\w./-]+\.png)\)")


def setup(app: Any) -> None:
    """Called by Sphinx. What is made from elsewhere is written before it looks for pages."""
    pages = {"reference/python": python_reference(), "reference/configuration": configuration_reference()}
    for readme in sorted(HERE.parent.glob("experiments/*/README.md")):
        study = readme.parent.name
        pages[f"studies/{study}"] = PICTURE.sub(rf"](../../experiments/{study}/\1)", readme.read_text(encoding="utf-8"))
    for notebook in sorted(HERE.glob("notebooks/*.ipynb")):
        pages[f"notebooks/{notebook.stem}"] = from_notebook(notebook)
    for name, text in pages.items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / f"{name}.md").write_text(text, encoding="utf-8")
    app.connect("source-read", lambda app, page, text: text.__setitem__(0, STUDY.sub(r"(studies/\1.md)", text[0])))


def from_notebook(path: Path) -> str:
    """A notebook's cells as a page; a cell is Markdown, Python, or a command after `!`."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            text = f"```sh\n{text[1:]}\n```" if text.startswith("!") else f"```python\n{text}\n```"
        parts.append(text)
    return "\n\n".join(parts) + f"\n\nThis page is a notebook: `docs/notebooks/{path.name}`.\n"


def python_reference() -> str:
    """Signature and docstring of everything that `import medlat` offers."""
    parts = [
        "# The Python face",
        "What `import medlat` offers. Shapes are in brackets; errors are said where they are raised.",
    ]
    for name in medlat.__all__:
        if name.startswith("_"):
            continue
        thing = getattr(medlat, name)
        parts += [f"## `medlat.{name}`", _told(name, thing)]
        if inspect.isclass(thing):
            members = [(key, value) for key, value in vars(thing).items() if not key.startswith("_")]
            parts += [
                f"### `{key}`\n\n{_told(key, value)}" for key, value in members if inspect.isroutine(_bare(value))
            ]
    return "\n\n".join(parts) + "\n"


def configuration_reference() -> str:
    """Every option of every group, each with the first comment of its file, and its own settings."""
    root = Path(config_dir())
    parts = ["# Configuration", "Every option, with its settings; `key=value` on the command line changes any of them."]
    for group, title in GROUPS.items():
        parts.append(f"## {title}")
        for name, text in options([str(root)], group).items():
            settings = (root / group / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[2].strip()
            parts += [f"### `{name}`", text]
            parts += [f"```yaml\n{settings}\n```"] if settings else []
    return "\n\n".join(parts) + "\n"


def _told(name: str, thing: Any) -> str:
    """Signature, an argument a line where it is long, and docstring; of a property the docstring."""
    bare = _bare(thing)
    text = f"```text\n{inspect.getdoc(bare)}\n```"
    if bare is not thing and not isinstance(thing, classmethod | staticmethod):
        return text
    signature = f"{name}{inspect.signature(bare)}"
    if len(signature) > 90:
        head, _, rest = signature.partition("(")
        arguments = [str(argument) for argument in inspect.signature(bare).parameters.values()]
        signature = head + "(\n    " + ",\n    ".join(arguments) + ",\n)" + rest.rpartition(")")[2]
    return f"```python\n{signature}\n```\n\n{text}"


def _bare(thing: Any) -> Any:
    """The function of a property or a cached property, a class or static method; anything else as it is."""
    return getattr(thing, "fget", None) or getattr(thing, "func", None) or getattr(thing, "__func__", thing)
