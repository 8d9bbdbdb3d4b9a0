"""Which files below a folder are read: glob patterns on their paths."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Patterns


def fits(path: str, pattern: str) -> bool:
    """Whether a pattern fits a path below the root, or one of its parts: a folder, or the file's name.

    `*` stands for any text, slashes too, `?` for a character; upper and lower case differ.
    """
    return any(fnmatchcase(text, pattern) for text in (path, *path.split("/")))


class Picked(NamedTuple):
    """Which files are read: those that some pattern of `include` fits (none given: all) and none of `exclude`.

    files: that are read and no others, by their absolute paths, wherever they lie; a folder stands for all below it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, include: Patterns, exclude: Patterns) -> "Picked":
        """From a source's arguments `include` and `exclude`: a pattern, some, or None. Raises ArgumentError."""
        found = []
        for name, given in (("include", include), ("exclude", exclude)):
            patterns = [] if given is None else [given] if isinstance(given, str) else list(given)
            if not all(pattern.strip() for pattern in patterns):
                raise ArgumentError(name, "an empty pattern; expected e.g. '*_seg*', or null", given)
            found.append(tuple(patterns))
        return cls(*found)

    def refuses(self, path: str) -> str | None:
        """Why a file, by its path below the root with forward slashes, is not read; None where it is."""
        if self.include and not any(fits(path, pattern) for pattern in self.include):
            return "not included"
        return "excluded" if any(fits(path, pattern) for pattern in self.exclude) else None

    def unused(self, paths: Iterable[str]) -> list[str]:
        """The patterns that fit none of these paths."""
        left = dict.fromkeys((*self.include, *self.exclude))
        for path in paths:
            for pattern in [pattern for pattern in left if fits(path, pattern)]:
                del left[pattern]
            if not left:
                break
        return list(left)


def pattern_for(left: Sequence[str], kept: Sequence[str]) -> str | None:
    """A short pattern that fits all of some paths and none of the others, or None where that takes more than one."""
    names = [path.rpartition("/")[2] for path in left]
    folders = set.intersection(*(set(path.split("/")[:-1]) for path in left))
    ending = _common([name[::-1] for name in names])[::-1]
    words = {names[0]: names[0], **{folder: folder for folder in sorted(folders)}}
    words |= {f"*{ending}": ending, f"{_common(names)}*": _common(names)}
    for pattern, word in words.items():
        plain = word and not set(word) & set("*?[]")
        if plain and all(fits(path, pattern) for path in left) and not any(fits(path, pattern) for path in kept):
            return pattern
    return None


def _common(texts: Sequence[str]) -> str:
    """What all of them begin with."""
    first, last = min(texts), max(texts)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
