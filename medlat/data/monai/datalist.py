"""A datalist as the Medical Segmentation Decathlon and MONAI have it: a JSON file with lists of items."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medlat.core.errors import ArgumentError, did_you_mean, key_in
from medlat.data.pictures.files import number, some
from medlat.data.pictures.labels import below_zero

PARTS = {"train": 0, "training": 0, "val": 1, "validation": 1, "test": 2, "testing": 2}
MOST_BYTES = 1 << 30
MOST_CLASSES = 100


@dataclass(frozen=True)
class Item:
    """What a transform is given, and what is known of it beforehand.

    path:  of the image, or of the first of several that are its channels. part: 0 training, 1 validation, 2 test.
    entry: the item of the list, its files with their folder.
    """

    path: str
    part: int
    entry: dict[str, Any] = field(hash=False)


def read_items(of: Any, path: Path, lists: Sequence[str], image_key: str) -> list[Item]:
    """The items of some lists of a datalist, in their order.

    Relative paths of images, and other entries that name a file there, are below the folder of the datalist, as in
    MONAI's `load_decathlon_datalist`; an item of a list of test images may be a path alone. `of`: the object whose
    arguments `datalist`, `lists` and `image_key` are wrong where this raises UserError.
    """
    content = _content(of, path)
    if missing := [name for name in lists if not isinstance(content.get(name), list)]:
        there = [name for name, value in content.items() if isinstance(value, list)]
        problem = f"'{path}' has no list '{missing[0]}'{did_you_mean(missing[0], there)}"
        raise ArgumentError("lists", problem, of=of)
    items, wrong = [], []
    for name in lists:
        for place, entry in enumerate(content[name]):
            entry = {image_key: entry} if isinstance(entry, str) else entry
            image = entry.get(image_key) if isinstance(entry, Mapping) else None
            images = image if isinstance(image, list) else [image]
            if not images or not all(isinstance(one, str) and one.strip() for one in images):
                wrong.append((f"{name}[{place}]", entry))
                continue
            whole = {str(key): _with_folder(path.parent, value, key == image_key) for key, value in entry.items()}
            first = whole[image_key][0] if isinstance(image, list) else whole[image_key]
            items.append(Item(first, PARTS.get(name.lower(), -1), whole))
    if wrong:
        keys = sorted({str(key) for _, entry in wrong if isinstance(entry, Mapping) for key in entry})
        problem = (
            f"{len(wrong)} items without the path of an image: {some([where for where, _ in wrong])}"
            f"{did_you_mean(image_key, keys)}"
        )
        raise ArgumentError("image_key", problem, image_key, of=of)
    if not items:
        raise ArgumentError("lists", f"no items in '{path}'", list(lists), of=of)
    return items


def _content(of: Any, path: Path) -> dict[str, Any]:
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError("larger than any datalist")
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:  # of JSON and of its encoding are ValueErrors
        raise ArgumentError("datalist", f"'{path}' cannot be read as JSON ({type(error).__name__})", of=of) from error
    if not isinstance(content, dict):
        raise ArgumentError("datalist", f"'{path}' holds no lists by name, expected e.g. training: [...]", of=of)
    return content


def _with_folder(folder: Path, value: Any, is_image: bool) -> Any:
    """A path, or each of several, below the folder; anything else as it is."""
    if isinstance(value, list):
        return [_with_folder(folder, one, is_image) for one in value]
    if not isinstance(value, str):
        return value
    path = folder / os.path.expanduser(value)
    return str(path) if is_image or _is_file(path) else value


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # what no file can be called
        return False


def labels_of(
    of: Any, items: Sequence[Item], label_key: str, quantity: bool, classes: Sequence[str | int] | None
) -> tuple[tuple[str, ...], list[float | None]]:
    """The names of the classes (none of a quantity), and the number of each item's label; None where it has none.

    Raises UserError, about arguments of `of`, where labels are no classes or numbers, or all alike.
    """
    found = [_text(item.entry.get(label_key)) for item in items]
    texts = sorted({text for text in found if text})
    keys = sorted({key for item in items for key in item.entry})
    if not texts:
        raise ArgumentError("label_key", f"no item has a label there{did_you_mean(label_key, keys)}", label_key, of=of)
    if files := [item for item in items if _is_path(item.entry.get(label_key))]:
        problem = f"{len(files)} labels are files, as of a segmentation: expected classes or numbers, or null for none"
        raise ArgumentError("label_key", problem, label_key, of=of)
    values = {text: number(text) for text in texts}
    if quantity and (words := [text for text, value in values.items() if value is None]):
        raise ArgumentError("label_key", f"{len(words)} labels are no numbers: {some(words)}", label_key, of=of)
    if len(texts) < 2:
        raise ArgumentError("label_key", f"every label is '{texts[0]}', expected two or more", label_key, of=of)
    if quantity:
        return (), [values[text] if text else None for text in found]
    doubt = below_zero(Counter(filter(None, found)), key_in(of, "classes"), "null in the place of {}")
    if doubt and classes is None:
        raise ArgumentError("label_key", doubt, label_key, of=of)
    names = (
        [str(name) for name in classes] if classes is not None else sorted(texts, key=lambda t: _order(values[t], t))
    )
    if unknown := [text for text in texts if text not in names]:
        raise ArgumentError("classes", f"labels that are not among them: {some(unknown)}", names, of=of)
    if len(names) > MOST_CLASSES:
        kind = key_in(of, "kind")
        problem = (
            f"{len(names)} different labels, expected at most {MOST_CLASSES} classes; {kind}=quantity reads numbers"
        )
        raise ArgumentError("label_key", problem, label_key, of=of)
    return tuple(names), [float(names.index(text)) if text else None for text in found]


def _order(value: float | None, text: str) -> tuple[bool, float, str]:
    return value is None, value or 0.0, text


def _text(value: Any) -> str:
    """A label as text, a number in its shortest form; empty where there is none."""
    if value is None or isinstance(value, list | dict):
        return "" if value is None else json.dumps(value)
    plain = number(str(value)) if not isinstance(value, bool) else None
    return str(value).strip() if plain is None else f"{plain:.12g}"


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (_is_file(Path(value)) or value.lower().endswith((".nii", ".nii.gz", ".nrrd")))
