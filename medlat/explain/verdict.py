"""What an explanation rests on, link by link, and which link is the weakest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from medlat.core.statistics import grouped_mean, quadratic_kappa
from medlat.evaluation.naming import PURE, UNNAMED, Named

GENERATOR = "the generator gives the image back"
BLURRED = 23.0  # dB: below, fine structure is lost to the eye
GIVEN_BACK = 0.5  # of the generator's link: below, all others are measured on images that are not the user's
UNEXPLAINED = "What is measured here does not explain it; look at the pictures."
UNTESTED = (
    "Whether what is measured here explains it could not be tested, as {0} alone would make up no more of all change "
    "than in random directions; look at the pictures."
)


def what_moves(name: str, measurement: str, normalised: float) -> str:
    """With the prediction, in a sentence, of a row of names.csv."""
    if name != UNNAMED:
        return f"What moves with it: {name}."
    if measurement and math.isnan(normalised):
        return UNTESTED.format(measurement.replace("_", " "))
    return UNEXPLAINED


@dataclass(frozen=True)
class Link:
    """holds: 0 not at all, 1 wholly; told: the same in words, with n."""

    name: str
    holds: float
    told: str

    def row(self) -> dict:
        return asdict(self)


def generator_link(
    psnr: float, real: np.ndarray, decoded: np.ndarray, groups: np.ndarray, samples: tuple[float, float] | None = None
) -> Link:
    """Cohen's kappa of the sides of the threshold before and after inversion: of what chance leaves open, the share
    that keeps its side. Where all images lie on one side, the share itself.

    real, decoded: [N] bool, whether the prediction lies above the threshold; groups: [N] whose image it is; psnr: in
    dB. samples: Fréchet distance of samples from real images over measurements, and its floor.
    """
    kept = grouped_mean(real == decoded, groups)
    interval = f" [{kept.low:.0%}, {kept.high:.0%}]" if math.isfinite(kept.low) and kept.low < kept.high else ""
    kappa = quadratic_kappa(real.astype(int), decoded.astype(int), 2)
    chance = real.mean() * decoded.mean() + (~real).mean() * (~decoded).mean()
    beside = f", by chance {chance:.0%} would" if math.isfinite(kappa) else ", all on one side of it"
    told = f"{kept.value:.0%}{interval} of {len(real)} images keep their side of the threshold after inversion{beside}"
    told += f"; PSNR {psnr:.1f} dB{', blurred' if psnr < BLURRED else ''}"
    if samples is not None:
        told += f"; samples lie {samples[0]:.2g} from real images and halves of these {samples[1]:.2g}, by Fréchet"
    return Link(GENERATOR, max(0.0, kappa) if math.isfinite(kappa) else kept.value, told)


def prediction_link(flips: float, images: int, controls: Mapping[str, float], where: str) -> Link:
    """flips: share of the images whose prediction crosses the threshold; controls: the same of each. where: how far
    along the direction, in words.
    """
    known = {name: value for name, value in controls.items() if math.isfinite(value)}
    best = max(known, key=known.__getitem__, default=None)
    beside = "" if best is None else f", with the best control ({best}) {known[best]:.0%}"
    told = f"{flips:.0%} of {images} images change side {where}{beside}"
    return Link("the prediction moves more than with controls", max(0.0, flips - known.get(best or "", 0.0)), told)


def data_link(steps: Sequence[float], reach: float) -> Link | None:
    """steps: of the counterfactuals that were reached, in σ; reach: how far images stay near the data. None without
    counterfactuals.
    """
    if not len(steps):
        return None
    inside = sum(abs(step) <= reach for step in steps) / len(steps)
    told = f"{inside:.0%} of {len(steps)} counterfactuals lie within {reach:.2g}σ, where half of the images stay near"
    told += " the data"
    return Link("counterfactuals stay near the data", inside, told)


def agreement_link(name: str, rate: float, images: int) -> Link | None:
    """rate: share of the counterfactuals that another classifier believes. None where there are none."""
    if not images or not math.isfinite(rate):
        return None
    return Link(f"{name} agrees", rate, f"{name}, another classifier, believes {rate:.0%} of {images} counterfactuals")


def name_link(named: Named) -> Link:
    """Holds as far as what moves is clear, without a name at most by half."""
    if named.is_named:
        return Link("what moves has a name", named.normalised, f"what moves is {named.name}")
    clear = min(max(named.normalised, 0.0), PURE) if math.isfinite(named.normalised) else 0.0
    return Link("what moves has a name", clear * (1.0 - named.p), f"no name: {named.why}")


def lost(links: Sequence[Link]) -> bool:
    """Whether the generator does not show what is explained."""
    return any(link.name == GENERATOR and link.holds < GIVEN_BACK for link in links)


def weakest(links: Sequence[Link]) -> str:
    """The weakest link in a sentence: what images lose in the generator before all else, as the other links are
    measured on what it gives back.
    """
    first = [link for link in links if link.name == GENERATOR] if lost(links) else links
    least = min(first, key=lambda link: link.holds)
    return f"The weakest link: whether {least.name} ({least.told})."
