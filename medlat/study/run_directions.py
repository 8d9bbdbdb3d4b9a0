"""The directions of a finished run, by name."""

from collections.abc import Iterator, Mapping

from medlat.core.errors import UserError, did_you_mean
from medlat.core.spaces import Directions


class UnknownName(UserError, KeyError):
    """There is nothing of that name; a KeyError, so that `in` and `get` do what they should."""

    __str__ = Exception.__str__  # KeyError's would put quotes around the message


class Methods(Mapping[str, Directions]):
    """The directions of a run's methods by name: the main one, those compared with it, then the controls.

    roles: name -> "main", "compared" or "control". `["main"]` is the main method, whatever it is called.
    """

    def __init__(self, found: Mapping[str, Directions], roles: Mapping[str, str]) -> None:
        self._found, self.roles = dict(found), dict(roles)

    def __getitem__(self, name: str) -> Directions:
        """Raises UserError, which is a KeyError here, where there is no such method."""
        if name == "main" and "main" not in self._found:
            return next(d for method, d in self._found.items() if self.roles[method] == "main")
        if name not in self._found:
            raise UnknownName(f"directions: the run has no method '{name}'{did_you_mean(name, self._found)}")
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"Methods({', '.join(f'{name}: {len(d)} ({self.roles[name]})' for name, d in self._found.items())})"

    def find(self, direction: str) -> tuple[Directions, int]:
        """The method that a direction, e.g. "sefa 00", is one of, and its number there. Raises UserError where none has
        that name.
        """
        places = {name: (found, i) for found in self._found.values() for i, name in enumerate(found.names)}
        if direction not in places:
            raise UnknownName(f"direction: the run has no '{direction}'{did_you_mean(direction, places)}")
        return places[direction]
