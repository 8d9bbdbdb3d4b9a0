"""What a direction finder is.

Adding a method = one class here with explicit arguments and `find`, one YAML in `conf/directions/`, one test.
"""

from typing import Protocol

from medlat.errors import UserError
from medlat.spaces import Directions, LatentModel, LatentSpace


class Finder(Protocol):
    """Finds directions in a latent space of any generator."""

    def find(self, model: LatentModel) -> Directions:
        """Unit directions, ranked; at most as many as the space has dimensions for methods that find a basis."""
        ...


def check_count(count: int) -> None:
    """Raises UserError for a number of directions below 1."""
    if count < 1:
        raise UserError(f"directions.count={count}: expected a whole number of at least 1")


def chosen_space(model: LatentModel, name: str | None) -> LatentSpace:
    """The space of that name, or the model's default. Raises UserError where there is none."""
    if name is None:
        return next(iter(model.spaces.values()))
    if name not in model.spaces:
        raise UserError(f"directions.space={name}: this generator has {', '.join(model.spaces)}")
    return model.spaces[name]
