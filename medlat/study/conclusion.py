"""The end of a sweep: its tables and its page, what failed, and its exit code."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medlat.core.files import writing
from medlat.core.tables import write_table
from medlat.core.terminal import printable
from medlat.study.collect import JOBS, SEEDS, Run, collect, summary, table, varying


def conclude(folder: Path) -> int:
    """Write the tables of a sweep and say what failed; returns the exit code: 1 where something did."""
    with writing("hydra.sweep.dir", folder):
        return _conclude(folder)


def _conclude(folder: Path) -> int:
    from medlat.study.comparison import leave_comparison

    runs = collect(folder)
    lost = [run for run in runs if run.numbers is None]
    tables = {"runs": table(runs), "summary": summary(runs)}
    for name, rows in tables.items():
        write_table(folder / f"{name}.csv", rows)
    tables |= _atlas(folder, runs)
    leave_comparison(runs, folder)
    files = ["index.html", *(f"{name}.csv" for name in tables)]
    print(f"{folder}: {len(runs) - len(lost)} of {len(runs)} runs, in {' and '.join(files)}")
    for run in lost:
        given = " ".join(f"{key}={value}" for key, value in run.settings.items())
        print(printable(f"not finished: {run.folder} ({given}): {run.fault}"), file=sys.stderr)
    if lost and (folder / JOBS).exists():
        print("the same command runs these again, and only these", file=sys.stderr)
    _mirror(folder, runs, tables)
    return 1 if lost else 0


def _atlas(folder: Path, runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """What the directions of the finished runs have in common."""
    from medlat.report.sweep_atlas import Searched, leave_atlas

    keys = [key for key in varying(runs) if key not in SEEDS]
    searched = [
        Searched(
            run.folder.relative_to(folder).as_posix(),  # two sweeps have a run 0 each
            " ".join(run.settings.get(key, "") for key in keys).strip(),
            run.folder,
        )
        for run in runs
        if run.numbers is not None
    ]
    return leave_atlas(searched, folder)


def _mirror(folder: Path, runs: Sequence[Run], tables: Mapping[str, list[dict[str, Any]]]) -> None:
    """The tables as a run beside those of the sweep, mirrored as they were."""
    from omegaconf import OmegaConf

    from medlat.study.tracking import mirror_tables

    configs = [run.folder / "config.yaml" for run in runs if (run.folder / "config.yaml").exists()]
    if not configs:
        return
    config: Any = OmegaConf.to_container(OmegaConf.load(configs[0]))
    mirror_tables(folder, config.get("logger"), config["name"], tables)
