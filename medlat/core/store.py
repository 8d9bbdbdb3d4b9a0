"""Artifacts of steps, each made once: `<store>/<step>/<key>/`, keyed by what determines it.

An artifact is built in a hidden folder beside its place and renamed when whole, under a lock, so that a reader
sees all of it or nothing and two jobs never build it twice. Its files have digests, by which it is checked before it is
used again; what a disk has damaged is made anew.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medlat.core.digests import digests, is_whole
from medlat.core.errors import UserError
from medlat.core.files import read_json, write_json, writing

log = logging.getLogger(__name__)

RECIPE = "artifact.json"
IMAGES = "images.npy"  # of the slices: as large as the data are, and checked by `CheckedRows` when it is read
PROGRESS = "progress"  # what an interrupted build goes on from; no part of the artifact


def hash_of(value: Any) -> str:
    """16 hex digits that depend on a plain value (dicts in any order)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def restrict(mode: int | None, folder: Path | None = None) -> None:
    """Let what this process and those that it starts leave have no permission beyond `mode`, octal as for chmod.

    None: as the system has it. folder: that is there already, and gets the mode. Raises UserError where a mode would
    shut the owner out, or is none.
    """
    if mode is None:
        return
    if not 700 <= mode <= 777 or set(str(mode)) - set("01234567"):
        raise UserError(
            f"store_mode={mode}: expected 700 (only me), 750 (my group reads), 770, 755 or the like, or null"
        )
    os.umask(0o777 & ~int(str(mode), 8))
    if folder is not None and folder.is_dir():
        with suppress(OSError):  # a colleague's, who set it, or on a disk that may not be written: said later
            folder.chmod(int(str(mode), 8))


@dataclass(frozen=True)
class Recipe:
    """What determines an artifact.

    step:   of the pipeline, and the folder in the store.
    config: the part of the configuration that it depends on; plain values, no paths, no hardware.
    inputs: name -> key of each artifact it reads.
    code:   what makes it: the step's version, and a hash of the source of each component from outside medlat.
    """

    step: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    code: Mapping[str, Any] = field(default_factory=dict)

    FORMAT = 3

    @property
    def key(self) -> str:
        return hash_of({"format": self.FORMAT, "step": self.step, **self.told()})

    def told(self) -> dict[str, Any]:
        return {"config": self.config, "inputs": self.inputs, "code": self.code}


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: a folder that nobody changes any more."""

    step: str
    key: str
    path: Path


class Store:
    """The folder that holds the artifacts of all runs.

    root: created where it is missing. Raises UserError where it cannot be written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self._told: set[str] = set()  # what was said to be reused

    def find(self, recipe: Recipe) -> Artifact | None:
        """The finished artifact, or None. Its files are not looked at."""
        place = self._place(recipe)
        return Artifact(recipe.step, recipe.key, place) if (place / RECIPE).is_file() else None

    def make(self, recipe: Recipe, build: Callable[[Path], None], resumable: bool = False, name: str = "") -> Artifact:
        """The artifact, built by `build(folder)` where it does not exist yet, or is damaged.

        name: what the terminal calls it; "": as the folder is called.
        resumable: an interrupted build finds in the folder what it left there; else it begins with an empty one.
        Raises UserError where the store is not writable or the disk is full; nothing half-written stays.
        """
        if found := self._intact(recipe):
            if recipe.key not in self._told:
                log.info("%s: reused (%s)", name or recipe.step, recipe.key)
            self._told.add(recipe.key)
            return found
        place = self._place(recipe)
        with self._writing(place), self._lock(place):
            if found := self._intact(recipe):  # another job was faster
                return found
            if place.exists():
                log.warning("%s: damaged in the store (%s); it is made anew", recipe.step, recipe.key)
                aside = place.with_name(f".{recipe.key}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(place, aside)  # at once, and not file by file under somebody who reads
                shutil.rmtree(aside)
            elif changed := self._older_code(recipe):
                log.info("%s: made by older code (%s); it is made anew", recipe.step, changed)
            partial = place.with_name(f".{recipe.key}.partial")
            if not resumable:
                shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(exist_ok=True)
            self._fill(partial, recipe, build, keep=resumable)
            shutil.rmtree(partial / PROGRESS, ignore_errors=True)
            os.replace(partial, place)
        return Artifact(recipe.step, recipe.key, place)

    def distrust(self, path: Path) -> None:
        """A file of an artifact proved damaged when it was read: `make` makes the artifact anew. Raises UserError where
        the store cannot be written.
        """
        recipe = path.parent / RECIPE
        told = read_json(recipe)
        told["files"][path.name]["bytes"] = -1  # fits no file, so that nobody else believes it meanwhile
        with self._writing(recipe):
            write_json(recipe, told)

    def follow(self, recipe: Recipe, join: Callable[[Path], bool], given_up: Callable[[], bool]) -> Artifact | None:
        """The artifact that another node of this job makes or has; None where it gave up.

        join: called with the folder of a build that may have begun; takes part and returns True if there is something
        to take part in. Every node sees the store.
        """
        partial = self._place(recipe).with_name(f".{recipe.key}.partial")
        while (found := self._intact(recipe)) is None and not given_up():
            if not join(partial):
                time.sleep(0.5)
        return found

    def salt(self) -> str:
        """The store's own secret for hashing patient identities; made at the first call, readable by the owner only."""
        path = self.root / ".salt"
        with self._writing(path), self._lock(path):
            if not path.exists():
                fresh = path.with_name(".salt.new")
                with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                    file.write(secrets.token_hex(16))
                os.replace(fresh, path)
            return path.read_text()

    def check_writable(self) -> None:
        """Raises UserError now rather than after an hour."""
        probe = self.root / ".probe"
        with self._writing(probe), self._lock(probe), tempfile.TemporaryFile(dir=self.root) as file:
            file.write(b"\0")

    def _older_code(self, recipe: Recipe) -> str | None:
        """What has changed since other code made this artifact from the same configuration and inputs; None where none
        did.
        """
        wanted = json.loads(json.dumps(recipe.told()))
        for path in self.root.glob(f"{recipe.step}/*/{RECIPE}"):
            told = read_json(path) or {}
            if all(told.get(part) == wanted[part] for part in ("config", "inputs")):
                before, now = told.get("code", {}), wanted["code"]
                names = [name for name in now.keys() | before.keys() if now.get(name) != before.get(name)]
                return ", ".join(sorted(names)) or None
        return None

    def _place(self, recipe: Recipe) -> Path:
        return self.root / recipe.step / recipe.key

    def _intact(self, recipe: Recipe) -> Artifact | None:
        """The finished artifact, where its files are as they were written; a large one is left to its reader."""
        found = self.find(recipe)
        if found is None:
            return None
        noted: Any = (read_json(found.path / RECIPE) or {}).get("files")
        try:
            whole = all(
                noted[name]["bytes"] >= 0 if name == IMAGES else is_whole(found.path / name, noted[name])
                for name in noted
            )
        except PermissionError as error:  # somebody else's, and no damage
            raise UserError(f"store={self.root}: {error.filename} cannot be read ({error.strerror})") from error
        except (OSError, LookupError, TypeError, AttributeError):  # the disk, or the digests themselves, are damaged
            return None
        return found if whole else None

    @staticmethod
    def _fill(partial: Path, recipe: Recipe, build: Callable[[Path], None], keep: bool) -> None:
        try:
            build(partial)
            files = sorted(path for path in partial.rglob("*") if path.is_file() and path.name != RECIPE)
            files = [path for path in files if PROGRESS not in path.relative_to(partial).parts]
            text = {"format": recipe.FORMAT, "key": recipe.key, **recipe.told()}
            text["files"] = {path.relative_to(partial).as_posix(): digests(path) for path in files}
            (partial / RECIPE).write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
        except BaseException:
            if not keep:
                shutil.rmtree(partial, ignore_errors=True)
            raise

    @contextmanager
    def _lock(self, place: Path) -> Iterator[None]:
        lock = FileLock(place.with_name(f".{place.name.lstrip('.')}.lock"), fallback_to_soft=False)
        try:
            lock.acquire(timeout=1.0)
        except Timeout:
            log.info("%s: another job is making it; waiting", place.parent.name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Turn what the file system refuses into a message that names the store."""
        with writing("store", self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield
