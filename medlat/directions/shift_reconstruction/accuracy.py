"""How well directions can be told apart: the reconstructor's accuracy, made comparable between numbers of
directions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FEW = 8  # directions among which the comparable accuracy chooses


@dataclass(frozen=True)
class Accuracy:
    """Of a reconstructor on N fresh pairs.

    rca:       share of the pairs whose direction is named among all K (Voynov & Babenko 2020).
    corrected: (rca - 1/K) / (1 - 1/K): 0 at chance, 1 at best (Cohen's κ with even classes).
    of_few:    the share that would be named among the true direction and FEW - 1 others drawn at random, which does not
               grow harder with K; chance is 1/FEW. NaN where K < FEW.
    shift_l1:  mean |error| of the step, in σ.
    """

    rca: float
    corrected: float
    of_few: float
    shift_l1: float

    def numbers(self) -> dict[str, float]:
        return {
            "rca": self.rca,
            "rca_corrected": self.corrected,
            f"rca_of_{FEW}": self.of_few,
            "shift_l1": self.shift_l1,
        }


def accuracy(logits: Tensor, index: Tensor, shift: Tensor, found_shift: Tensor) -> Accuracy:
    """logits [N, K], true directions [N], true and found steps [N]."""
    k = logits.shape[1]
    true = logits.gather(1, index[:, None])
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, index[:, None], False)
    better = ((logits >= true) & others).sum(dim=1).cpu().numpy()  # a tie is no answer
    rca = float((better == 0).mean())
    return Accuracy(
        rca=rca,
        corrected=(rca - 1.0 / k) / (1.0 - 1.0 / k),
        of_few=float(best_of_few(better, k, FEW).mean()) if k >= FEW else float("nan"),
        shift_l1=float((shift - found_shift).abs().mean()),
    )


def best_of_few(better: np.ndarray, k: int, few: int) -> np.ndarray:
    """Chance that none of few - 1 others, drawn without replacement from k - 1 of which `better` [N] beat the true one,
    does: C(k - 1 - better, few - 1) / C(k - 1, few - 1).
    """
    chance = np.ones(len(better))
    for drawn in range(few - 1):
        chance *= np.clip(k - 1 - better - drawn, 0, None) / (k - 1 - drawn)
    return chance
