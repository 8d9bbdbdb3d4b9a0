"""Direction finders as users bring them: they know medlat's vocabulary and nothing else of it."""

import torch

from medlat.core.spaces import Directions


class Mine:
    """Axes, the last first. What it keeps under `images` and `module` has no meaning for anybody else."""

    def __init__(self, count: int = 3) -> None:
        self.count, self.images, self.module, self.origin = count, 64, "mine", None

    def find(self, model):
        space = next(iter(model.spaces.values()))
        axes = torch.eye(space.size)[-self.count :]
        return Directions.ranked(axes, torch.arange(float(len(axes))), "mine", space)


class OfImages:
    """One direction, whose first entry is how many images it was given."""

    needs = frozenset({"images"})
    name = "counted"

    def __init__(self, images: int = 7) -> None:
        self.images = images

    def find(self, model, images):
        space = next(iter(model.spaces.values()))
        vector = torch.ones(1, space.size)
        vector[0, 0] = sum(len(part) for part in images)
        return Directions.ranked(vector, torch.ones(1), "counted", space)


class Forgetful:
    """It takes images and does not say so."""

    def find(self, model, images):
        raise AssertionError("never called")


class Demanding:
    needs = frozenset({"imagse"})

    def find(self, model):
        raise AssertionError("never called")
