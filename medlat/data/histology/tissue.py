"""Where there is tissue on a slide: colour, Otsu's threshold and morphology on a small image of all of it."""

import numpy as np
from scipy import ndimage

from medlat.stains import stains  # noqa: F401
