"""The folder of a run: what it says of itself, and where its store lies now."""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from medlat.core.errors import UserError
from medlat.core.files import read_json
from medlat.core.store import RECIPE

CONFIG, ARTIFACTS, METRICS = "config.yaml", "artifacts.json", "metrics.json"


def read_run(folder: Path) -> tuple[DictConfig, dict[str, str], dict[str, str]]:
    """What a run was configured with; what it left in its store, step -> path below it; and the role of the method, of
    steps that left directions: the main one first, then those compared with it, then the controls.

    Raises UserError where the folder holds no run.
    """
    missing = [name for name in (CONFIG, ARTIFACTS) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: no run: {' and '.join(missing)} not found there{_nearby(folder)}")
    try:
        config = OmegaConf.load(folder / CONFIG)
        str(config.store)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"{folder / CONFIG}: not the configuration of a run ({error})") from error
    assert isinstance(config, DictConfig)
    found = read_json(folder / ARTIFACTS)
    try:
        roles = {name: str(entry["role"]) for name, entry in found.items() if "role" in entry}
        return config, {name: str(entry["path"]) for name, entry in found.items()}, roles
    except (AttributeError, TypeError, KeyError) as error:
        raise UserError(f"{folder / ARTIFACTS}: not what a run writes there") from error


def find_store(folder: Path, noted: str, given: str | Path | None, made: Mapping[str, str]) -> Path:
    """The store that holds what the run made: the one given, or the run's own, or where that is gone one that lies to
    the folder as a part of its path says. Raises UserError where there is none.
    """
    proof = made.get("generator") or next(iter(made.values()), "")
    own = Path(noted).expanduser()
    names = [part for part in own.parts if part not in (own.anchor, "..")]
    moved = [above.joinpath(*names[i:]) for above in folder.resolve().parents for i in range(len(names))]
    for place in [Path(given).expanduser()] if given is not None else [own, *moved]:
        if (place / proof / RECIPE).is_file():
            return place
    if given is not None:
        raise UserError(f"store={given}: holds no {proof}, which the run {folder} made; expected its store")
    tails = ", ".join("/".join(names[i:]) for i in range(len(names)))
    raise UserError(
        f"{folder}: its store is not found: looked for {proof} in {own}, and in {tails} beside the run and above it; "
        f"medlat.load(folder, store=DIR) says where it is"
    )


def _nearby(folder: Path) -> str:
    """Of a folder that holds no run: the newest run below it."""
    below = sorted(folder.glob(f"*/{ARTIFACTS}")) or sorted(folder.glob(f"*/*/{ARTIFACTS}"))
    if below:
        return f"; did you mean '{below[-1].parent}'?"
    return "; expected the folder of a finished run, e.g. outputs/NAME/DATE_TIME"
