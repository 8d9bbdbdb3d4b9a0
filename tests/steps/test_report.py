"""What a report warns of."""

import numpy as np

from medlat.core.statistics import Interval
from medlat.evaluation.copying import Copying, copying
from medlat.steps.report import _copying_warnings


def test_a_generator_that_copies_is_said_with_its_numbers():
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(50, 8)), rng.normal(size=(60, 8))
    found = copying(train[:40], held_out, np.arange(60), train, np.arange(50))
    assert found is not None
    (said,) = _copying_warnings(found.numbers("pixels"), "tile")
    assert "100% [100%, 100%] of its samples are one training tile (told by pixels; of held-out tiles 0%" in said
    fair = copying(rng.normal(size=(40, 8)), held_out, np.arange(60), train, np.arange(50))
    assert fair is not None
    assert _copying_warnings(fair.numbers("pixels"), "tile") == []
    assert _copying_warnings({}, "tile") == []


def test_what_measurements_tell_is_said_where_pixels_do_not():
    fair = Copying(Interval(0.0, 0.0, 0.0), Interval(0.0, 0.0, 0.1), 0.5).numbers("pixels")
    found = Copying(Interval(0.4, 0.3, 0.5), Interval(0.01, 0.0, 0.1), 0.8).numbers("measurements")
    (said,) = _copying_warnings(fair | found, "slice")
    assert "40% [30%, 50%] of its samples are one training slice (told by measurements; of held-out slices 1%" in said
