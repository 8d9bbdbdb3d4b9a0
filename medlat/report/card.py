"""The model card of a run: what was trained on what, how well it holds, and what it is not for (Mitchell et al. 2019,
arXiv 1810.03993; the headings of CLAIM 2024 that a run can answer). No patient is named in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from medlat.evaluation.naming import UNNAMED

TITLE = "# Model card: "
MEASURED = {  # keys of metrics.json -> what is said of them; a floor or interval beside it is told too
    "reconstruction/psnr": "PSNR of held-out images as they come back (dB, range 2)",
    "reconstruction/ms_ssim": "MS-SSIM of the same",
    "distance/fd_measurements": "Fréchet distance of samples over measurements",
    "distance/fid_factors": "FID of samples, features of the known factors",
    "distance/fid_labels": "FID of samples, features of the labels",
    "copying/pixels_share": "share of samples that copy a training image, by pixels",
    "copying/measurements_share": "the same, by measurements",
    "classifier/auc": "AUC of the explained classifier on held-out images",
    "classifier/accuracy": "its accuracy",
    "classifier/ece": "its calibration error",
}


@dataclass(frozen=True)
class Card:
    """name: of the run. finding: what its page opens with. warnings: what stands there. network: the generator's class
    and settings. images: what one is called, how many there are, of how many
    groups, what these are ("patients", "slides", ...), and how many of both are in each part.
    directions: rows of names.csv; numbers: of metrics.json; facts: what was run, as on the page.
    """

    name: str
    finding: str
    warnings: Sequence[str]
    network: Mapping[str, Any]
    noun: str
    kind: str
    size: int
    images: int
    groups: int
    whose: str
    parts: Mapping[str, tuple[int, int]]
    directions: Sequence[Mapping[str, str]]
    numbers: Mapping[str, float]
    facts: Mapping[str, str]

    def text(self) -> str:
        """In Markdown."""
        settings = ", ".join(f"{key} {value}" for key, value in self.network.items() if key != "_target_")
        model = f"`{self.network['_target_']}`: {settings}." if self.network else "Brought; see `config.yaml`."
        parts = "; ".join(f"{name} {n:,} of {groups:,} {self.whose}" for name, (n, groups) in self.parts.items())
        named = [row for row in self.directions if row["name"] != UNNAMED]
        blocks = [
            f"{TITLE}{self.name}",
            self.finding,
            *(f"> {warning}" for warning in self.warnings),
            "## Model",
            model,
            "## Data",
            f"{self.images:,} {self.noun}s ({self.kind}, {self.size} x {self.size} pixels) of {self.groups:,} "
            f"{self.whose}: {parts}.",
            "## What was measured",
            "\n".join(self._measured()) or "Nothing.",
            "## Directions",
            "\n".join(
                f"- {row['direction']}: {row['name']} (p {float(row['p']):.2g} against random directions)"
                for row in named
            )
            or f"None of {len(self.directions)} has a name.",
            "## What it is not for",
            "Research only: neither diagnosis nor any decision about a patient. What moves along a direction is what "
            "the generator draws, no proof of what is in patients or of what a classifier uses; what it cannot draw is "
            "not seen. "
            f"Numbers are of this data's held-out {self.whose}, and say nothing of another scanner, hospital or "
            "population.",
            "## What was run",
            "\n".join(f"- {key}: {value}" for key, value in self.facts.items()),
        ]
        return "\n\n".join(blocks) + "\n"

    def _measured(self) -> list[str]:
        found = []
        for key, what in MEASURED.items():
            value, low, high, floor = (
                self.numbers.get(f"{key}{end}", math.nan) for end in ("", "_low", "_high", "_floor")
            )
            if math.isfinite(value):
                interval = f" [{_number(low)}, {_number(high)}]" if math.isfinite(low) and low < high else ""
                beside = f", of two halves of the real ones {_number(floor)}" if math.isfinite(floor) else ""
                found.append(f"- {what}: {_number(value)}{interval}{beside}")
        return found


def opening(text: str) -> tuple[str, list[str]]:
    """Of a card's text the finding and the warnings; ("", []) of another text."""
    blocks = text.split("\n\n")
    if not blocks[0].startswith(TITLE):
        return "", []
    head = list(takewhile(lambda block: not block.startswith("## "), blocks[1:]))
    warnings = [block.removeprefix("> ") for block in head if block.startswith("> ")]
    return "\n\n".join(block for block in head if not block.startswith("> ")), warnings


def _number(value: float) -> str:
    return f"{value:.3g}"
