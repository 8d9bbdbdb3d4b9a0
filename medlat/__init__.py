"""medlat: find, measure and show what the latent directions of generative models of medical images mean.

`run = medlat.load("outputs/NAME/DATE_TIME")` opens a finished run: its generator, directions, classifier, tables and
numbers. `LatentModel`, `Directions` and `ImageSpec` are the words that all of medlat shares.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medlat.core.version import __version__

if TYPE_CHECKING:
    from medlat.core.spaces import Directions, ImageSpec, LatentModel
    from medlat.study.finished import Run, load

__all__ = ["Directions", "ImageSpec", "LatentModel", "Run", "__version__", "load"]

# How long a thread of OpenMP spins at a barrier before it sleeps. Where other processes want the cores too, the thread
# that is waited for does not run, and by libgomp's own count the others spin away what time they get
# (`experiments/throughput/neighbours.py`). Read when torch is loaded; the user's own settings stay.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "100000"

_HOMES = {"load": "medlat.study.finished", "Run": "medlat.study.finished"}
_HOMES |= dict.fromkeys(("Directions", "ImageSpec", "LatentModel"), "medlat.core.spaces")


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is first asked for: torch takes a second, and `medlat --help` needs
    none.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
