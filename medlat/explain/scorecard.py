"""Whether to believe an explanation: one row per method and score, each with its 95% interval.

Every score is an average over held-out images (the correlation difference one number over all of them); intervals are
bootstrapped over patients. The scores of counterfactuals are over the images whose asked prediction was reached, and
how many these are stands beside them: an explanation that changes nothing is near to the image and says nothing. How
each is computed, and what is left out, is said in `medlat.explain.scores`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from medlat.core.statistics import Interval, grouped_mean

SHARES = np.linspace(0.0, 1.0, 21).tolist()  # of the editing range, at which the curve of flips is left


class Score(NamedTuple):
    """What a score is called, its unit ("" where it has none; "image" stands for that of the image), which way is
    better, what it says, why a run has none, and whether it is among the few that decide. Of what another classifier
    says there is a score for each that is compared, as `agreement/NAME`.
    """

    key: str
    unit: str
    better: str
    meaning: str
    absent: str = ""
    decides: bool = False


NO_RANGE = "the editing range is of another latent space"
ALONE = "no other classifier is compared (+classifier@compared.NAME=KIND)"
OPTIMISED = "each inversion is an optimisation"
SCORES = (
    Score("flips_in_range", "", "higher", "share of images whose prediction crosses the threshold as far as images "
          "stay near the data", NO_RANGE, decides=True),
    Score("flip_area", "", "higher", "area below the curve of these flips against the share of that range", NO_RANGE,
          decides=True),
    Score("realism", "", "lower", "distance of counterfactuals to the nearest real images of the side asked for, 1 for "
          "real images", decides=True),
    Score("agreement", "", "higher", "share of them that another classifier says cross the threshold too", ALONE,
          decides=True),
    Score("flip_rate", "", "higher", "share of images whose prediction crosses the threshold within the whole series "
          "(validity)"),
    Score("reach_rate", "", "higher", "share whose prediction becomes what is asked: these have a counterfactual"),
    Score("monotonicity", "", "higher", "Spearman's correlation of step and prediction"),
    Score("effectiveness", "", "lower", "how far another classifier's prediction is from the one asked for", ALONE),
    Score("alignment", "", "higher", "change of another classifier's prediction as a share of the one that is "
          "explained", ALONE),
    Score("composition_1", "image", "lower", "mean absolute change of an image by inversion and decoding alone"),
    Score("composition_10", "image", "lower", "the same, ten times over", OPTIMISED),
    Score("reversibility", "image", "lower", "mean absolute change after going to the counterfactual, inverting that, "
          "and going back", OPTIMISED),
    Score("minimality", "", "lower", "CLD: 0 nearer than real images of the other side yet farther than those of its "
          "own, 1 at worst; 0.30 where nothing changes"),
    Score("proximity", "image", "lower", "mean absolute change of the counterfactual from the inverted image"),
    Score("ms_ssim", "", "higher", "structural similarity of the two"),
    Score("feature_distance", "", "lower", "distance of the two in the run's own features, 1 for two real images"),
    Score("sparsity", "", "higher", "share of pixels that stay as they are (within 2% of the intensity range)"),
    Score("cout", "", "higher", "COUT, from -1 to 1: 1 where few of the changed pixels decide, 0 where they do evenly",
          "the prediction is no probability"),
    Score("correlation_difference", "", "lower", "CD: sum over measurements of how differently they go with the "
          "prediction than among real images", "nothing else is measured"),
    Score("identity", "σ", "lower", "change of measurements that have nothing to do with the prediction"),
    Score("diversity", "", "higher", "feature distance between an image's counterfactuals along orthogonal directions",
          "directions are not orthogonal, or each image has its own"),
    Score("randomisation", "", "lower", "|Spearman| of what changes with what changes where the classifier has random "
          "weights; of controls: between two of their directions", "no classifier that was trained here is asked"),
    Score("inversion_drift", "", "lower", "change of the prediction by inversion alone"),
    Score("drift", "", "lower", "the same of another classifier: where it is large, it cannot judge", ALONE),
    Score("seconds", "s", "lower", "per image: series and counterfactual"),
)  # fmt: skip
BY_KEY = {score.key: score for score in SCORES}


@dataclass(frozen=True)
class Row:
    """A row of scorecard.csv. images: that the score is over."""

    method: str
    score: str
    value: float
    low: float
    high: float
    unit: str
    better: str
    control: bool
    images: int

    def row(self) -> dict:
        return asdict(self)


def rows(
    method: str, values: Mapping[str, np.ndarray], groups: np.ndarray, control: bool, unit: str, seed: int = 0
) -> list[Row]:
    """Average every score. values: key -> [N], NaN where an image has none; groups: [N] whose image it is."""
    found = []
    for score in SCORES:
        for key in keys_of(score, values):
            interval, images = grouped_mean(values[key], groups, seed), int(np.isfinite(values[key]).sum())
            found.append(row(method, key, interval, control, unit, images))
    return found


def row(method: str, key: str, interval: Interval, control: bool, unit: str, images: int) -> Row:
    """A score that is known. unit: of images."""
    score = BY_KEY[key.partition("/")[0]]
    shown = unit if score.unit == "image" else score.unit
    return Row(method, key, *interval, shown, score.better, control, images)


def keys_of(score: Score, known: Iterable[str]) -> list[str]:
    """The keys among those known that are of the score: its own, or one for each other classifier."""
    return [key for key in dict.fromkeys(known) if key.partition("/")[0] == score.key]


@dataclass(frozen=True)
class Response:
    """A row of response_curves.csv: how the prediction answers to a step along a method's direction, on average over
    `images` images, with its 95% interval over groups.
    """

    method: str
    step: float
    mean: float
    low: float
    high: float
    images: int

    def row(self) -> dict:
        return asdict(self)


def responses(method: str, predictions: np.ndarray, steps: Sequence[float], groups: np.ndarray) -> list[Response]:
    """Average the predictions of every step. predictions: [N, S], NaN where there is none; groups: [N] whose image it
    is. A step without predictions has no row.
    """
    assert predictions.shape[1] == len(steps), (method, predictions.shape, len(steps))
    found = []
    for step, values in zip(steps, predictions.T, strict=True):
        images = int(np.isfinite(values).sum())
        if images:
            found.append(Response(method, float(step), *grouped_mean(values, groups), images))
    return found


@dataclass(frozen=True)
class Flips:
    """A row of flip_curves.csv: the share of a method's images whose prediction has crossed the threshold when a share
    of the editing range was gone, with its 95% interval over groups.
    """

    method: str
    share: float
    flips: float
    low: float
    high: float
    images: int

    def row(self) -> dict:
        return asdict(self)


def flip_curve(method: str, far: np.ndarray, groups: np.ndarray) -> list[Flips]:
    """far: [N] shares of the range at which images flip, infinite where they do not; groups: [N] whose they are."""
    return [
        Flips(method, share, *grouped_mean((far <= share).astype(np.float64), groups), len(far)) for share in SHARES
    ]
