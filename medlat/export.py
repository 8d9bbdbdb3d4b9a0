"""The weights of a run's generator, to hand on: `medlat export RUN FILE.safetensors [--despite-copies]`.

Writes one file that `generator=pretrained generator.weights=FILE` takes. A generator that copies its patients is not
handed on: who has its weights can draw their images. `--despite-copies` writes them all the same. Ends with 2 where the
run copies, where it did not measure whether it does, and where the file exists already.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from medlat.core.errors import UserError, did_you_mean
from medlat.core.files import whole, writing
from medlat.core.terminal import complain

FORCE = "--despite-copies"


def main(arguments: Sequence[str]) -> int:
    """Export what is asked for; returns the exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return 0 if arguments else 2
    try:
        places = [text for text in arguments if not text.startswith("-")]
        for option in set(arguments) - set(places) - {FORCE}:
            raise UserError(f"{option}: no such option{did_you_mean(option, [FORCE])}")
        if len(places) != 2:
            raise UserError(f"medlat export: found {len(places)} paths, expected two: RUN FILE.safetensors")
        export(Path(places[0]), Path(places[1]), despite_copies=FORCE in arguments)
    except UserError as error:
        complain(error)
        return 2
    print(f"{places[1]}: written; generator=pretrained generator.weights={places[1]}")
    return 0


def export(folder: Path, file: Path, despite_copies: bool = False) -> None:
    """The generator of the run in `folder` -> `file`, whole or not at all.

    Raises UserError where there is no such run, its generator copies its patients or nobody knows (unless
    `despite_copies`), and where the file cannot be written or exists.
    """
    from medlat.evaluation.copying import warning
    from medlat.study.finished import load

    run = load(folder)
    if file.suffix != ".safetensors":
        raise UserError(f"{file}: expected a name that ends with .safetensors")
    if not file.parent.is_dir():
        raise UserError(f"{file}: no such folder; expected one that is there")
    if file.exists():
        raise UserError(f"{file}: is there already; expected a new name")
    if not despite_copies:
        noun = run.data.store.modality.noun
        if "copying/pixels_copies" not in run.metrics:
            raise UserError(f"{folder}: whether its generator copies patients was not measured; {FORCE} exports it")
        if said := warning(run.metrics, noun):
            raise UserError(f"{folder}: {said} {FORCE} exports them all the same")
    with writing("medlat export", file), whole(file) as fresh:
        shutil.copyfile(run.generator_file, fresh)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
