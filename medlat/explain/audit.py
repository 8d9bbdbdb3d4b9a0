"""What a classifier looks at, by name: the measurement that its direction moves most, and whether that is the shortcut
that was planted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medlat.evaluation.semantics import Effect


@dataclass(frozen=True)
class Exposure:
    """moved: measurements by their share of all that the direction changes, the largest first; each with its effect
    per σ and whether its 95% interval excludes 0.
    """

    moved: Sequence[Effect]

    @property
    def sentence(self) -> str:
        """What moves with the prediction, in words."""
        sure = [row for row in self.moved if row.significant][:2]
        if not sure:
            return "No measurement moves with the prediction for certain."
        named = " and ".join(
            f"{row.measurement.replace('_', ' ')} (share {row.share:.2f} of what changes, {row.standardised:+.2f} "
            f"standard deviations per σ)".replace("-", "\u2212")
            for row in sure
        )
        return f"What moves with the prediction: {named}."

    def names(self, measurement: str) -> bool:
        """Whether a measurement is what moves most, for certain."""
        return bool(self.moved) and self.moved[0].measurement == measurement and self.moved[0].significant


def exposure(rows: Sequence[Effect], direction: str) -> Exposure:
    """From the effects of all directions on measurements."""
    own = [row for row in rows if row.direction == direction and row.kind == "measurement" and np.isfinite(row.share)]
    return Exposure(sorted(own, key=lambda row: row.share, reverse=True))


def planted(measurements: Mapping[str, str | None], column: str) -> str | None:
    """The measurement that reads a column of the slice store (`factor.<name>`), or None. measurements: name -> the
    factor that it reads.
    """
    factor = column.removeprefix("factor.")
    return next((name for name, read in measurements.items() if read == factor), None)
