"""A view, to take along: its pictures, its numbers, its arrays, and the Python that makes it."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medlat.core.tables import write_table
from medlat.explore.finding import finding, moved_along, told_steps
from medlat.explore.view import Explorer, View
from medlat.report.gif import traversal_gif
from medlat.report.sprites import diverging_palette

SIDE, GAP = 256, 8  # pixels of a picture, and between two
FRAMES = 9  # of a GIF, both ends included


def png(explorer: Explorer, view: View) -> bytes:
    """Original, reconstruction, moved image and change, beside each other, as far as there are."""
    start, look = explorer.start(view), explorer.window(view)
    shown = [image for image in (start.real, start.images, explorer.moved(view)) if image is not None]
    tiles = [np.rint(look.tile(explorer.pictures(image), SIDE) * 255.0).astype(np.uint8) for image in shown]
    pictures = [Image.fromarray(tile).convert("RGB") for tile in tiles]
    scaled = (explorer.change(view) / explorer.change_limit).clip(-1.0, 1.0)
    colours = np.array(diverging_palette(), np.uint8).reshape(256, 3)[np.rint(128 + 127 * scaled).astype(int)]
    pictures.append(Image.fromarray(colours).resize(pictures[-1].size, Image.Resampling.NEAREST))
    width, height = pictures[0].size
    whole = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), "white")
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number * (width + GAP), 0))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def gif(explorer: Explorer, view: View) -> bytes:
    """The way from the reconstruction to the view, there and back; its marks are steps along what is moved farthest.

    Raises UserError where the view moves nothing.
    """
    moved_along(explorer, view)
    leading = max(view.steps, key=lambda name: abs(view.steps[name]))
    others = replace(view, steps={name: step for name, step in view.steps.items() if name != leading})
    caption = f"{leading}{f', with it {told_steps(others)}' if others.steps else ''}"
    shares = np.linspace(0.0, 1.0, FRAMES)
    images = explorer.image.pictures(explorer.traversal(view, shares.tolist()))
    steps = [round(share * view.steps[leading], 2) for share in shares.tolist()]
    with tempfile.TemporaryDirectory() as folder:
        traversal_gif(images, path := Path(folder) / "view.gif", explorer.window(view), steps, caption)
        return path.read_bytes()


def csv(explorer: Explorer, view: View) -> bytes:
    """The steps, and every prediction, measurement and distance of the view with what it was before the move."""
    numbers = explorer.numbers(view)
    rows: list[dict[str, Any]] = [
        {"what": "step", "name": name, "unit": "σ", "reconstruction": 0.0, "moved": step}
        for name, step in view.steps.items()
    ]
    ends = ("original", "reconstruction", "moved")
    for each in numbers["predictions"]:
        named = {"what": "prediction", "name": f"{each['target']} ({each['by']})", "unit": "1"}
        rows.append(named | {end: each[end] for end in ends if end in each})
    for each in numbers["measurements"]:
        named = {"what": "measurement", "name": each["measurement"], "unit": each["unit"]}
        rows.append(named | {end: each[end] for end in (*ends, "change", "change_in_sd") if end in each})
    if (distance := numbers["distance"]) is not None:
        rows.append({"what": "distance to the data", "name": "", "unit": "1"} | {e: distance[e] for e in ends[1:]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "view.csv"
        write_table(path, rows)
        return path.read_bytes()


def npz(explorer: Explorer, view: View) -> bytes:
    """Images in physical values [H, W(, 3)], what changed [H, W], and codes [*shape]; no objects in it."""
    start = explorer.start(view)
    arrays = {"reconstruction": explorer.pictures(start.images), "moved": explorer.pictures(explorer.moved(view))}
    arrays |= {} if start.real is None else {"original": explorer.pictures(start.real)}
    arrays |= {"change": explorer.change(view), "code": start.code[0].numpy()}
    arrays |= {"moved_code": explorer.code(view)[0][0].numpy(), "directions": np.array(list(view.steps), dtype=str)}
    arrays["steps"] = np.array(list(view.steps.values()), np.float64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def python(explorer: Explorer, view: View) -> bytes:
    """A program that makes the moved image: `picture`, [H, W(, 3)] in physical values."""
    run, (kind, _, number) = explorer.run, view.start.partition(" ")
    lines = ["import torch", "", "import medlat", ""]
    lines.append(f"run = medlat.load({str(run.folder)!r}, store={str(run.store)!r})")
    if kind == "sample":
        lines.append(f"codes = run.generator.sample(1, run.space.name, torch.Generator().manual_seed({number}))")
        given = ""
        if run.generator.can("sample_noise"):
            lines.append(f"noise = run.generator.sample_noise(1, torch.Generator().manual_seed({number}))")
            given = ", noise=noise"
    else:
        if kind == "image":
            lines.append(f"rows = run.context.split.test[[{number}]]  # of the held-out images")
            lines.append("images = run.context.images.fetch(rows, run.image)")
        else:
            lines.append('images = run.image.to_network(torch.from_numpy(run.read("FILE").images))  # the file itself')
        lines.append("generator, found = run.invert(images)")
        lines.append("codes = found.codes")
        given = ", noise=found.noise, generator=generator"
    lines.append(f"steps = {dict(view.steps)!r}  # in σ")
    given += "" if view.layers is None else f", layers={view.layers!r}"
    lines.append(f"moved = run.move(codes, steps{given})")
    lines.append("picture = run.image.pictures(moved)[0]")
    return ("\n".join(lines) + "\n").encode()


KINDS: dict[str, tuple[str, Callable[[Explorer, View], bytes]]] = {  # of file -> its type, and what makes it
    "png": ("image/png", png),
    "gif": ("image/gif", gif),
    "html": ("text/html; charset=utf-8", finding),
    "csv": ("text/csv; charset=utf-8", csv),
    "npz": ("application/octet-stream", npz),
    "py": ("text/x-python; charset=utf-8", python),
}
