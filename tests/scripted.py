"""Parts that fail, never end or take their time as they are told."""

import os
import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from medlat.core.spaces import Directions, LatentModel
from medlat.directions.random import RandomDirections


class Scripted:
    """count: directions; does: the variable; the file that it names holds "fail", "hang", "hang and fail", or is
    not there.
    """

    def __init__(self, count: int, does: str) -> None:
        self.count, self.does = count, does

    def find(self, model: LatentModel) -> Directions:
        script = Path(os.environ[self.does])
        told = script.read_text() if script.exists() else ""
        if told == "fail":
            raise RuntimeError("the finder broke as told")
        try:
            while told.startswith("hang"):
                time.sleep(1)
        except KeyboardInterrupt:  # as code in C++ that calls Python may answer it
            if told == "hang and fail":
                raise RuntimeError("the finder broke when it was interrupted") from None
            raise
        return replace(RandomDirections(self.count, seed=3).find(model), method="scripted")


class Slow:
    """An augmentation that changes nothing, and takes its time while the file exists that the environment's SLOW names.

    seconds: that each batch takes then.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        if Path(os.environ["SLOW"]).exists():
            time.sleep(self.seconds)
        return images
