"""How far along a direction images stay near the data."""

from collections.abc import Sequence

import numpy as np

FAR = 95.0  # percentile of held-out real images' distances beyond which an image is far from the data
SLACK = 1.25
SHORTEST = 1.0  # σ
LEAST = 0.25  # quantile of the directions' ranges that all of a method are shown to


class Nearness:
    """Distances of images to the nearest training image, relative to those of held-out real images.

    train, held_out: features [N, F] of real images. A distance of 1 is that which 95% of the held-out images keep.
    """

    def __init__(self, train: np.ndarray, held_out: np.ndarray) -> None:
        from scipy.spatial import cKDTree

        self.scale = np.where(train.std(axis=0) > 0.0, train.std(axis=0), 1.0)
        self.tree = cKDTree(train / self.scale)
        self.limit = max(float(np.percentile(self._far(held_out), FAR)), 1e-12)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features [..., F] -> distances [...]."""
        flat = features.reshape(-1, features.shape[-1])
        return (self._far(flat) / self.limit).reshape(features.shape[:-1])

    def _far(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.tree.query(features / self.scale)[0])


def limit_from(start: float) -> float:
    """The distance up to which an image is near the data, of one that was moved from where the distance was `start`: 1,
    or a quarter more than there, for a generator whose own images are not as near as real ones.
    """
    return max(1.0, SLACK * start)


def editing_range(steps: Sequence[float], distances: np.ndarray) -> float:
    """The largest step r such that at every step within ± r half of the images are within the limit (`limit_from`).

    steps: rising, 0 among them. distances: [N, S] of N codes.
    """
    middle = np.median(distances, axis=0)
    limit = limit_from(float(middle[int(np.abs(np.asarray(steps)).argmin())]))
    reach = 0.0
    for size in sorted({abs(step) for step in steps}):
        inside = [d <= limit for step, d in zip(steps, middle, strict=True) if abs(abs(step) - size) < 1e-9]
        if not all(inside):
            return reach
        reach = size
    return reach


def common_range(ranges: Sequence[float]) -> float:
    """How far the directions of a method are shown: what three quarters of them reach."""
    return float(np.quantile(ranges, LEAST))


def shown_steps(reach: float, half: int) -> list[float]:
    """`half` steps to either side of 0, equal multiples of a quarter σ, as far as the reach allows but at least one σ
    in all.
    """
    interval = max(np.floor(4.0 * max(reach, SHORTEST) / half) / 4.0, 0.25)
    return [float(interval * i) for i in range(-half, half + 1)]
