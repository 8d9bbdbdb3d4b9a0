"""What a MONAI bundle says of a network, in plain values. Its expressions are never evaluated."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from medlat.core.external import Culprit, first_line

CONFIGS = ("inference", "train", "train_autoencoder", "metadata")  # files of `configs/`, the likeliest first
EXPRESSIONS = ("$", "@", "%")  # what they begin with: Python, a reference, a macro
WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")


class Bundle:
    """The configuration of a bundle.

    path:    its file; of the folder of a bundle, the first of its `configs/` that describes such a network.
    kinds:   the classes that are looked for.

    Raises UserError where there is no such file, or it describes no such network.
    """

    def __init__(self, path: Path, culprit: Culprit, kinds: Sequence[str]) -> None:
        self.culprit, self.kinds, self.folder = culprit, kinds, path if path.is_dir() else path.parent.parent
        if not path.exists():
            raise culprit.error("no such file or folder")
        found = sorted((path / "configs").iterdir(), key=_likeliest) if path.is_dir() else [path]
        for file in (f for f in found if f.suffix in (".json", ".yaml", ".yml")):
            self.path, self.described = file, list(self._networks(self._read(file), ""))
            if self.described:
                return
        raise culprit.error(f"it describes no {' or '.join(kinds)} (a section with such a _target_)")

    def network(self, wanted: str | None) -> tuple[str, dict[str, Any]]:
        """The class and arguments of the network; `wanted` where several are described."""
        fitting = [found for found in self.described if wanted in (None, found[1])]
        if len(fitting) == 1:
            return fitting[0][1], fitting[0][2]
        there = ", ".join(f"{key}: {name}" for key, name, _ in self.described)
        expected = "expected network=" + "|".join(sorted({name for _, name, _ in self.described}))
        raise self.culprit.error(f"it describes {there}; {expected if not fitting else 'expected one'}")

    def plain(self, theirs: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Its arguments, with those given in their place. Raises UserError where an expression is left."""
        found = theirs | given
        for name, value in found.items():
            for text in _texts(value):
                if text.startswith(EXPRESSIONS):
                    problem = f"{name} is the expression '{text}', which is not evaluated; give its value in arguments"
                    raise self.culprit.error(problem)
        return found

    def value_range(self) -> list[float] | None:
        """Of its images, by `metadata.json`; None where that does not say it."""
        file = self.folder / "configs" / "metadata.json"
        inputs: Any = self._read(file) if file.is_file() else {}
        for key in ("network_data_format", "inputs"):
            inputs = inputs.get(key, {}) if isinstance(inputs, dict) else {}
        found = [entry.get("value_range") for entry in inputs.values() if isinstance(entry, dict)]
        ranges = [value for value in found if isinstance(value, list) and len(value) == 2 and value[0] != value[1]]
        return ranges[0] if len(ranges) == 1 else None

    def weights(self) -> str | None:
        """The one file of weights in `models/`; None where there are several, or none."""
        models = self.folder / "models"
        files = [f for f in models.iterdir() if f.suffix in WEIGHTS] if models.is_dir() else []
        return str(files[0]) if len(files) == 1 else None

    def _read(self, file: Path) -> Any:
        try:
            text = file.read_text(encoding="utf-8")
            return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise self.culprit.error(f"{file.name} cannot be read ({first_line(error)})") from error

    def _networks(self, section: Any, key: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(key, class, arguments) of every section with such a `_target_`."""
        if isinstance(section, list):
            for number, value in enumerate(section):
                yield from self._networks(value, f"{key}[{number}]")
        if not isinstance(section, dict):
            return
        name = str(section.get("_target_", "")).rpartition(".")[2]
        if name in self.kinds:
            yield key, name, {str(k): v for k, v in section.items() if not str(k).startswith("_")}
            return
        for inner, value in section.items():
            yield from self._networks(value, f"{key}.{inner}".lstrip("."))


def _likeliest(file: Path) -> tuple[int, str]:
    return (CONFIGS.index(file.stem) if file.stem in CONFIGS else len(CONFIGS), file.name)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
