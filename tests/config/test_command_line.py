from pathlib import Path

import pytest

from medlat.config.command_line import ordered, parse, with_home
from medlat.core.errors import ConfigErrors


def test_options_may_stand_anywhere(tmp_path: Path) -> None:
    found = parse(["seed=1", "-m", "scale=tiny", "--config-dir", str(tmp_path), "+experiment=x"])
    assert found.overrides == ["seed=1", "scale=tiny", "+experiment=x"]
    assert found.multirun
    assert found.config_dir == str(tmp_path)


def test_ordered_puts_options_first(tmp_path: Path) -> None:
    assert ordered(["seed=1", "-m", "a=2", "-cd", str(tmp_path)]) == ["-m", "-cd", str(tmp_path), "seed=1", "a=2"]
    assert ordered([]) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--mulitrun"], "--mulitrun: unknown option; did you mean '--multirun'?"),
        (["--cnfig-dir=x"], "--cnfig-dir: unknown option; did you mean '--config-dir'?"),
        (["-z"], "-z: unknown option; see --help"),
        (["--cfg", "hydr"], "--cfg: invalid choice: 'hydr' (choose from 'job', 'hydra', 'all')"),
        (["--config-name"], "--config-name: expected one argument"),
        (["--config-dir", "/nowhere/at/all"], "--config-dir: no folder /nowhere/at/all"),
    ],
)
def test_bad_options(arguments: list[str], line: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse(arguments)
    assert caught.value.problems == [line]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("data.root=~/my data", "data.root='HOME/my data'"),
        ("++data.root=~", "++data.root='HOME'"),
        ("data.root=~/a,~/b", "data.root=~/a,~/b"),  # a sweep
        ("~data.root", "~data.root"),  # deletes the key
        ("data.root='~/ct'", "data.root='~/ct'"),
        ("name=a~b", "name=a~b"),
        ("-m", "-m"),
    ],
)
def test_the_home_folder_is_put_in_where_a_value_begins_with_it(monkeypatch, typed, meant):
    monkeypatch.setenv("HOME", "/home/someone")
    assert with_home([typed]) == [meant.replace("HOME", "/home/someone")]
