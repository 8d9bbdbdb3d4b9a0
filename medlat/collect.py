"""A sweep in one table: `medlat collect DIR [DIR ...]`.

Reads the run folders below each folder and writes there `runs.csv`, a row per run with what it was given and every
final number, and `summary.csv`, mean and 95% interval over seeds of each number for each setting, and `index.html`, the
runs side by side on one page that works offline; where two runs have directions, `atlas.csv` and a figure of which are
the same, and `agreement.csv`, how well they are found again, over seeds too. The tables go to the runs' logger as well.
Ends with 1, naming them with the reason, where runs failed or are missing, and with 2 where there are none. A sweep
does this itself when its last job has ended.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from medlat.core.errors import UserError
from medlat.core.terminal import complain
from medlat.study.conclusion import conclude


def main(arguments: Sequence[str]) -> int:
    """Collect each folder; returns the exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return 0 if arguments else 2
    try:
        codes = [conclude(Path(folder)) for folder in arguments]
    except UserError as error:
        complain(error)
        return 2
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
