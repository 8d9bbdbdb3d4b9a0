"""What a run has made, to hand on, unless its generator copies its patients.

  medlat export RUN FILE.safetensors   the generator's weights, which generator=pretrained generator.weights=FILE takes
  medlat export RUN DIR --onnx         its networks, and a classifier trained by the run, in ONNX
  medlat export RUN DIR --bundle       its networks as a MONAI bundle in TorchScript
  medlat export RUN DIR --dicom        counterfactuals, or without a classifier the named directions, as DICOM

  --despite-copies                     hand on what shows patients, or may

FILE or DIR is new, and written whole or not at all. A generator that copies its patients is not handed on: who has its
weights can draw their images. Ends with 2 where the run copies, where it did not measure whether it does, where it has
nothing that can be written in that format, and where the file or folder exists already.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medlat.core.arguments import command
from medlat.core.errors import UserError, did_you_mean
from medlat.core.files import whole, whole_folder, writing

if TYPE_CHECKING:
    from medlat.study.finished import Run

FORCE = "--despite-copies"


def main(arguments: Sequence[str]) -> int:
    """Export what is asked for; returns the exit code."""
    return command(arguments, __doc__, _export)


def _export(arguments: Sequence[str]) -> None:
    places = [text for text in arguments if not text.startswith("-")]
    options = sorted(set(arguments) - set(places) - {FORCE})
    for option in options:
        if option not in FORMATS:
            raise UserError(f"{option}: no such option{did_you_mean(option, [*FORMATS, FORCE])}")
    if len(options) > 1:
        raise UserError(f"{' '.join(options)}: two formats; expected one, each in a folder of its own")
    if len(places) != 2:
        expected = f"RUN DIR {options[0]}" if options else "RUN FILE.safetensors"
        raise UserError(f"medlat export: found {len(places)} paths, expected two: {expected}")
    form = options[0] if options else None
    export(Path(places[0]), Path(places[1]), form, despite_copies=FORCE in arguments)
    use = "" if form else f"; generator=pretrained generator.weights={places[1]}"
    print(f"{places[1]}: written{use}")


def export(folder: Path, place: Path, form: str | None = None, despite_copies: bool = False) -> None:
    """What the run in `folder` made -> `place`, whole or not at all.

    form: one of `FORMATS`, whose place is a folder; None: the generator's weights, in a file.

    Raises UserError where there is no such run, its generator copies its patients or nobody knows (unless
    `despite_copies`), it cannot be written in that format, and where the place cannot be written or exists.
    """
    from medlat.study.finished import load

    run = load(folder)
    run.check_ended()
    if form is None and place.suffix != ".safetensors":
        raise UserError(f"{place}: expected a name that ends with .safetensors, or one of {', '.join(FORMATS)}")
    if not place.parent.is_dir():
        raise UserError(f"{place}: no such folder; expected one that is there")
    if place.exists():
        raise UserError(f"{place}: is there already; expected a new name")
    if not despite_copies:
        _refuse_copies(run)
    with writing("medlat export", place):
        if form is None:
            with whole(place) as fresh:
                shutil.copyfile(run.generator_file, fresh)
        else:
            with whole_folder(place) as fresh:
                FORMATS[form](run, fresh)


def _refuse_copies(run: "Run") -> None:
    from medlat.evaluation.copying import warning, was_measured

    if not was_measured(run.metrics):
        raise UserError(f"{run.folder}: whether its generator copies patients was not measured; {FORCE} exports it")
    if said := warning(run.metrics, run.data.store.modality.noun):
        raise UserError(f"{run.folder}: {said} {FORCE} exports them all the same")


def _onnx(run: "Run", folder: Path) -> None:
    from medlat.exporting.onnx import write_onnx

    write_onnx(run, folder)


def _bundle(run: "Run", folder: Path) -> None:
    from medlat.exporting.bundle import write_bundle

    write_bundle(run, folder)


def _dicom(run: "Run", folder: Path) -> None:
    from medlat.exporting.dicom import write_dicom

    write_dicom(run, folder)


FORMATS: dict[str, Callable[["Run", Path], None]] = {"--onnx": _onnx, "--bundle": _bundle, "--dicom": _dicom}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
