"""What an explanation rests on, link by link, and which link is the weakest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from medlat.evaluation.naming import PURE, Named

UNEXPLAINED = "What is measured here does not explain it; look at the pictures."


@dataclass(frozen=True)
class Link:
    """holds: 0 not at all, 1 wholly; told: the same in words, with n."""

    name: str
    holds: float
    told: str

    def row(self) -> dict:
        return asdict(self)


def generator_link(psnr: float, kept: float, images: int) -> Link:
    """kept: share of the images that stay on their side of the threshold when they are inverted; psnr: in dB."""
    told = f"{kept:.0%} of {images} images keep their side of the threshold after inversion (PSNR {psnr:.1f} dB)"
    return Link("the generator gives the image back", kept, told)


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
    told = f"{inside:.0%} of {len(steps)} counterfactuals lie within {reach:.2g}σ, where images stay near the data"
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


def weakest(links: Sequence[Link]) -> str:
    """The weakest link in a sentence."""
    least = min(links, key=lambda link: link.holds)
    return f"The weakest link: whether {least.name} ({least.told})."
