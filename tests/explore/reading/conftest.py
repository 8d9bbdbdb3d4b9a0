"""A small reader study of the tiny run, and readers of it."""

import pytest

import medlat
from medlat.explore.reading.cases import Case, build_cases
from medlat.explore.reading.plan import Plan, read_plan
from medlat.explore.view import Explorer

STUDY = """
title: Two of four
seed: 3
window: lung
questions:
  real_or_synthetic:
  which_changed: {ask: "Welches Bild wurde veraendert?"}
  what_changed: {choices: [rotation, brightness, nothing]}
  useful:
cases:
  - {kind: real, shown: image, count: 6}
  - {kind: sample, shown: image, count: 2}
  - {kind: reconstruction, shown: image, count: 6}
  - {kind: direction, direction: sefa 02, step: -1.5, shown: pair, count: 6, called: rotation}
  - {kind: direction, direction: sefa 00, shown: series, count: 4}
  - {kind: random, shown: pair, count: 6}
  - {kind: sham, shown: pair, count: 6}
  - {kind: sham, shown: series, count: 4}
"""


@pytest.fixture(scope="session")
def study() -> str:
    """The text of a STUDY.yaml."""
    return STUDY


@pytest.fixture(scope="session")
def explorer(finished) -> Explorer:
    return Explorer(medlat.load(finished / "run"))


@pytest.fixture(scope="session")
def plan(explorer, study, tmp_path_factory) -> Plan:
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(study)
    return read_plan(path, explorer)


@pytest.fixture(scope="session")
def cases(plan, explorer) -> list[Case]:
    return build_cases(plan, explorer)
