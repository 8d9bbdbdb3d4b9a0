"""What is said of the explanation of one image: what the classifier says, and what speaks against the picture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from medlat.explain.likeness import LEVEL, Found

DRIFT = 0.5  # of what the move does that inversion alone may do to a prediction
TRUSTED = "Nothing that is looked at in this image speaks against the picture"


@dataclass(frozen=True)
class Counterfactual:
    """Of one image. step: in σ, prediction: there; reached: whether it is as asked, else the step is the farthest one.
    reach: how far images stay near the data, NaN where that is not known. others: what other classifiers, by their
    names, predict of the inverted image and of the counterfactual.
    """

    step: float
    prediction: float
    reached: bool
    reach: float
    others: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Single:
    """likeness: of the image to those of the run. psnr: of the image as inversion gives it back, in dB; worse: share of
    held-out images that come back as badly or worse.
    """

    likeness: Found
    psnr: float
    worse: float

    def doubts(self) -> list[str]:
        """What speaks against the picture, the gravest first."""
        found = [] if self.likeness.is_like else [self.likeness.told("images")]
        if self.badly:
            found.append(f"it comes back from the generator{self.badly}")
        return found

    @property
    def badly(self) -> str:
        """How it comes back beside held-out images, where that is among the worst."""
        return f" worse than {1.0 - self.worse:.0%} of held-out images do" if self.worse <= LEVEL else ""


@dataclass(frozen=True)
class SingleExplained(Single):
    """With a classifier. prediction: of the image, inverted: of what inversion gives back; threshold: between its
    sides.
    """

    prediction: float
    inverted: float
    threshold: float
    counterfactual: Counterfactual

    @property
    def keeps_side(self) -> bool:
        return (self.prediction > self.threshold) == (self.inverted > self.threshold)

    def doubts(self) -> list[str]:
        moved, found = self.counterfactual, super().doubts()
        if not self.keeps_side:
            found.append(
                f"inversion puts it on the other side of {self.threshold:.2g} ({self.prediction:.2f} to "
                f"{self.inverted:.2f}): what is moved is another image to the classifier"
            )
        elif abs(self.inverted - self.prediction) > DRIFT * abs(moved.prediction - self.inverted):
            found.append(f"inversion alone moves the prediction from {self.prediction:.2f} to {self.inverted:.2f}")
        if not moved.reached:
            found.append(
                f"the prediction does not change as asked in the steps that are tried ({moved.prediction:.2f})"
            )
        elif math.isfinite(moved.reach) and abs(moved.step) > moved.reach:
            found.append(
                f"the picture is {abs(moved.step):.2g}σ away, and images stay near the data for {moved.reach:.2g}σ"
            )
        for name, (before, after) in moved.others.items() if moved.reached else ():
            sides = before > self.threshold, after > self.threshold
            if sides[0] == sides[1] or sides[1] != (moved.prediction > self.threshold):
                found.append(f"the classifier '{name}' is not convinced ({before:.2f} to {after:.2f})")
        return found
