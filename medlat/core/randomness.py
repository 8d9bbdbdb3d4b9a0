"""Random numbers as a function of what they are for: seed and step, never of what happened before.

Nothing random has a state that a run would have to save. A run that was interrupted at step 1,000 draws at step 1,001
what it would have drawn, and a second process draws its own numbers by its rank.
"""

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on all parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by all parts."""
    return torch.Generator(device).manual_seed(derive_seed(*parts))
