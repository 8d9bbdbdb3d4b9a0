"""Why this image? A finished run, asked of images that it has not seen: `medlat explain RUN IMAGE [IMAGE ...]`.

RUN is the folder of a finished run. IMAGE is a file as the run's data were (DICOM, NIfTI, a picture, ...), FILE@K for
the K-th slice of a volume from the feet, from 0, SLIDE@X,Y for a tile of a slide by its upper left corner, or a folder.
Leaves a page, index.html, explanation.json and a PNG for each image in the folder explain/.

  --out DIR     another folder for what is left
  --store DIR   where the run's artifacts lie, if they were moved
  --device NAME where networks compute, e.g. cuda

Ends with 2 where an image is not there or is none that the run reads. In a folder such files are left out and counted.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medlat.core.arguments import command, parsed, usable_device
from medlat.core.errors import UserError
from medlat.core.files import writing
from medlat.core.machine import logged_to_a_file
from medlat.core.terminal import printable

LEARNT_FROM_A_PHANTOM = "This run learnt from a phantom: computed images stood in for patients."
OPTIONS = ("--out", "--store", "--device")
RESULT = "explanation.json"


def main(arguments: Sequence[str]) -> int:
    """Explain what is named; returns the exit code."""
    return command(arguments, __doc__, _explain)


def _explain(arguments: Sequence[str]) -> None:
    places, options = parsed(arguments, OPTIONS)
    if len(places) < 2:
        raise UserError(f"medlat explain: found {len(places)} of RUN and IMAGE; expected a run and at least one image")
    out = Path(options.get("--out", "explain")).expanduser()
    explain(places[0], places[1:], out, options.get("--store"), options.get("--device", "cpu"))


def explain(run: str, images: Sequence[str], out: Path, store: str | None = None, device: str = "cpu") -> None:
    """See the module. Raises UserError where something of it cannot be done."""
    import torch

    from medlat.data.given import Refused
    from medlat.study.finished import load

    found = load(run, store, usable_device(device))
    found.check_ended()
    _check_out(out, [*images, str(found.config.data.get("root") or "")])
    try:
        prepared = found.read(*images)
    except UserError as error:
        where, reason = "in the images", "not kept, as it may name patients' files; on a terminal it is said"
        if isinstance(error, Refused):
            where, reason = f"in image {images.index(error.given) + 1} of {len(images)}", error.reason
        error.noted = {"error": "UserError", "where": where, "reason": reason}  # type: ignore[attr-defined]
        raise
    count = len(prepared.images)
    print(f"{count} image{'s' * (count > 1)} read; now into the latent space, and moved", file=sys.stderr, flush=True)
    answer = found.explain(found.image.to_network(torch.from_numpy(prepared.images)))
    from medlat.report.given import name_of, write_given
    from medlat.steps import builders

    print("now the page", file=sys.stderr, flush=True)
    page = out.absolute() / "index.html"
    replaced = " (in the place of an earlier call's)" if page.exists() else ""
    with writing("--out", out):
        _clear(out)
        about = {"run": str(found.config.name), "images": str(len(prepared.images))}
        warnings = [f"Left out: {count} x {reason}." for reason, count in prepared.left_out.items()]
        known = [LEARNT_FROM_A_PHANTOM] if builders.is_phantom(found.config) else []
        told = write_given(answer, prepared.notes, found.look, about, known + warnings, out)
    for warning in warnings:
        print(warning)
    for number, (name, sentence, notes) in enumerate(zip(prepared.names, told, prepared.notes, strict=True)):
        shown = "" if logged_to_a_file() else f" {printable(name)}:"
        print(" ".join([f"{name_of(number)}{shown}", *(f"Of this file: {note}." for note in notes), sentence]))
    print(f"{page}: written{replaced}")


def _check_out(out: Path, images: Sequence[str]) -> None:
    """Raises UserError where something else lies in the folder, or it lies among the images (files and folders)."""
    whole = Path(os.path.abspath(out))
    for text in filter(None, images):
        folder = Path(os.path.abspath(os.path.expanduser(text)))
        if folder.is_dir() and whole.is_relative_to(folder):
            raise UserError(f"--out={out}: it lies among the images; expected a folder elsewhere")
    if out.is_dir() and any(out.iterdir()) and not (out / RESULT).is_file():
        raise UserError(f"--out={out}: other files lie there; expected a new folder, or one of `medlat explain`")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={out}: a file; expected a folder")


def _clear(out: Path) -> None:
    """Nothing of an earlier call stays beside what is written now."""
    out.mkdir(parents=True, exist_ok=True)
    for path in [*out.glob("[0-9][0-9]*.png"), out / "index.html", out / RESULT]:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
