"""A step as users bring it."""

import json

from medlat.steps.step import Step


class Brightness(Step):
    """The mean of the held-out images, and how many directions the main method found."""

    needs = ("images", "split", "evaluation")
    version = 1

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def run(self, context, out):
        images = context.images.fetch(context.split.test, context.spec)
        numbers = {"mean": self.scale * float(images.mean()), "directions": len(context.directions(context.main))}
        (out / "metrics.json").write_text(json.dumps(numbers))


class Lost(Step):
    needs = ("nowhere",)
