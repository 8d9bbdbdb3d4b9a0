from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError

from medlat.config import compose_errors
from medlat.config.command_line import parse
from medlat.core.errors import ConfigErrors

WriteTree = Callable[[Path, dict[str, str]], Path]


@pytest.fixture
def explain(conf: Path, schema: type, provided: dict[str, set[str]]) -> Callable[..., list[str]]:
    """The lines that a command line gets."""

    def lines(*arguments: str) -> list[str]:
        error = hydra.errors.ConfigCompositionException("Hydra's own words")
        try:
            options = parse(arguments)
        except ConfigErrors as found:
            return found.problems
        folders = [str(conf), *filter(None, [options.config_dir])]
        name, multirun = options.config_name or "config", options.multirun
        return compose_errors.explain(error, options.overrides, folders, schema, provided, name, multirun).problems

    return lines


FOLDER = ("data=folder", "data.root=/x")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        # experiments and groups
        (["+experiment=frst"], ["experiment: no 'frst'; did you mean 'first'?"]),
        (["+experiment=paper/secnd"], ["experiment: no 'paper/secnd'; did you mean 'paper/second'?"]),
        (["+experiment=zzz"], ["experiment: no 'zzz'; choose from first, paper/second"]),
        (["experiment=first"], ["experiment: has no default to replace; write +experiment=first"]),
        (["first"], ["first: has no value; did you mean '+experiment=first'?"]),
        (["data=foldr", "data.root=/x"], [
            "data: no 'foldr'; did you mean 'folder'?",
            "data.root: unknown key with data=phantom; data=folder has it"]),
        (["data=zzz"], ["data: no 'zzz'; choose from folder, phantom"]),  # not those that others are built on
        (["data=3"], ["data: no 3; choose from folder, phantom"]),
        (["data=null"], ["data: no null; choose from folder, phantom"]),
        (["+data=folder"], ["data: is chosen already; write data=folder without the +"]),
        (["data=[phantom,foldr]"], ["data: no 'foldr'; did you mean 'folder'?"]),
        (["pick@controls.chnce=chance"], [
            "pick@controls.chnce: has no default to replace; did you mean 'pick@controls.chance'?"]),
        (["~scal"], ["scal: cannot be removed, it is not there; did you mean 'scale'?"]),
        (["~experiment"], ["experiment: cannot be removed, it is not chosen"]),
        (["hydra/launcher=bsic"], ["hydra/launcher: no 'bsic'; did you mean 'basic'?"]),
        # keys
        (["seeed=3"], ["seeed: unknown key; did you mean 'seed'?"]),
        (["dta=folder"], ["dta: unknown key; did you mean 'data'?"]),
        ([*FOLDER, "data.rot=X"], ["data.rot: unknown key; did you mean 'data.root'?"]),
        (["data=folder", "data.rot=X"], ["data.rot: unknown key; did you mean 'data.root'?"]),
        (["data.root=/x"], ["data.root: unknown key with data=phantom; data=folder has it"]),
        (["data=folder"], ["data.root: has no value; give data.root=... (text, the folder of images)"]),
        (["model.training.bta=1"], ["model.training.bta: unknown key; did you mean 'model.training.beta'?"]),
        (["modl.training.beta=1"], ["modl: unknown key; did you mean 'model'?"]),
        (["model.training.steps=[1]"], [
            "model.training.steps: is not set here; write +model.training.steps=[1] to add it"]),
        (["scale.widht=3"], ["scale.widht: is not set here; did you mean 'scale.width'? "
                             "If not, write +scale.widht=3 to add it"]),
        (["+seed=3"], ["seed: is there already; write seed=3 without the +"]),
        (["+seeed=3"], ["seeed: unknown key; did you mean 'seed'?"]),
        (["hydra.run.dri=x"], ["hydra.run.dri: unknown key; did you mean 'hydra.run.dir'?"]),
        (["hydra.job.chdir=abc"], [
            "hydra.job.chdir: cannot be 'abc': Value 'abc' is not a valid bool (type str)"]),
        # how it is written
        (["seed"], ["seed: has no value; write seed=VALUE"]),
        (["=3"], ["=3: has no key; write KEY=VALUE"]),
        (["steps=[1,"], ["steps: cannot read '[1,': the bracket '[' is not closed"]),
        (["name='run"], ["name: cannot read ''run': a quote ' is not closed"]),
        (["data=folder", "data.root=/images (old)"], [
            """data.root: cannot read '/images (old)'; as text, write "data.root='/images (old)'\""""]),
        (["seed=1,2"], ["seed: '1,2' is several values; add -m to run each of them, "
                        """write [1,2] for a list or "seed='1,2'" for one text"""]),
        (["name=${nam}"], ["name: ${nam} reads 'nam', which does not exist; did you mean 'name'?"]),
        # options
        (["--hlp"], ["--hlp: unknown option; did you mean '--help'?"]),
        (["--cfg", "jb"], ["--cfg: invalid choice: 'jb' (choose from 'job', 'hydra', 'all')"]),
        (["--config-name", "confg"], ["there is no 'confg'"]),
        # several
        (["-m", "seed=b,1", "data=phantom,foldr"], [
            "seed: 'b' is not a whole number", "data: no 'foldr'; did you mean 'folder'?"]),
        (["-m", "seed=range(1,4)", "data=phantom,folder", "data.root=/x"], [
            "data.root: unknown key with data=phantom; data=folder has it"]),
        (["+experiment=frst", "seeed=3", "steps=[1,", "dry_run=5", "model.training.loss=mze", "data=foldr"], [
            "steps: cannot read '[1,': the bracket '[' is not closed",
            "experiment: no 'frst'; did you mean 'first'?",
            "data: no 'foldr'; did you mean 'folder'?",
            "model.training.loss: 'mze' is not one of mse, log_mse; did you mean 'mse'?",
            "dry_run: 5 is not true or false",
            "seeed: unknown key; did you mean 'seed'?"]),
    ],
)  # fmt: skip
def test_bad_arguments(explain: Callable[..., list[str]], arguments: list[str], lines: list[str]) -> None:
    assert explain(*arguments) == lines


def test_missing_config_dir(explain: Callable[..., list[str]], tmp_path: Path) -> None:
    line = f"--config-dir: no folder {tmp_path}/cnf; did you mean '{tmp_path}/conf'?"
    assert explain("--config-dir", f"{tmp_path}/cnf", "seeed=3") == [line]
    (tmp_path / "file").write_text("")
    assert explain("--config-dir", f"{tmp_path}/file") == [f"--config-dir: {tmp_path}/file is a file, not a folder"]
    assert explain("seed=1", "--config-dir") == ["--config-dir: expected one argument"]


@pytest.mark.parametrize("name", ["mine", "it's mine", "mine, too"])
def test_users_own_options_count(
    explain: Callable[..., list[str]], tmp_path: Path, write_tree: WriteTree, name: str
) -> None:
    files = {
        "data/mine.yaml": "window_hu: [0, 1]\nside: 3\nsource: {_target_: lab.nets.Source, root: /x, limit: many}",
        "experiment/own.yaml": "# @package _global_\nname: own\nseed: x",
    }
    folder = write_tree(tmp_path / name, files)
    lines = explain("--config-dir", str(folder), "+experiment=own", "data=mine")
    assert lines == [
        "data.side: unknown key; choose from source, window_hu",
        "data.source.limit: 'many' is not a whole number or null",
        "seed: 'x' is not a whole number",
    ]
    assert explain("--config-dir", str(folder), "data=mne") == ["data: no 'mne'; did you mean 'mine'?"]
    assert explain("--config-dir", str(folder), "data.side=1") == [
        "data.side: unknown key with data=phantom; data=mine has it"
    ]


def test_broken_files(explain: Callable[..., list[str]], tmp_path: Path, write_tree: WriteTree) -> None:
    files = {
        "data/colon.yaml": "# One\nwindow_hu: [0, 1]\nsource: {a: b\nside: 3",
        "data/twice.yaml": "side: 1\nside: 2",
        "data/scalar.yaml": "just text",
        "experiment/stale.yaml": "# @package _global_\ndefaults:\n  - override /data: foldr\nname: stale",
        "experiment/stale2.yaml": "# @package _global_\ndefaults:\n  - override /dta: folder\nname: stale",
    }
    folder = write_tree(tmp_path / "mine", files)
    own = ("--config-dir", str(folder))
    assert explain(*own, "data=colon", "seed=x") == [
        f"{folder}/data/colon.yaml:4: not valid YAML: expected ',' or '}}', but got ':'",
        "seed: 'x' is not a whole number",
    ]
    assert explain(*own, "data=twice") == [f"{folder}/data/twice.yaml:2: not valid YAML: found duplicate key side"]
    assert explain(*own, "data=scalar")[0] == "data.just text: unknown key; choose from source, window_hu"
    assert explain(*own, "+experiment=stale") == ["experiment/stale.yaml: data: no 'foldr'; did you mean 'folder'?"]
    assert explain(*own, "+experiment=stale2") == [
        "experiment/stale2.yaml: Could not override 'dta'. No match in the defaults list."
    ]


def test_a_broken_root_is_said(explain: Callable[..., list[str]], conf: Path) -> None:
    (conf / "config.yaml").write_text("defaults: [_self_]\nname: [\n")
    assert explain("seed=x") == [f"{conf}/config.yaml:3: not valid YAML: expected the node content, but found "
                                 "'<stream end>'"]  # fmt: skip


def test_what_is_not_the_command_lines_fault(conf: Path, schema: type, provided: dict[str, set[str]]) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        compose_errors.explain(RuntimeError("out of memory"), ["seed=1"], [str(conf)], schema, provided)
    error = hydra.errors.ConfigCompositionException("first line\nsecond line")
    assert compose_errors.explain(error, ["seed=1"], [str(conf)], schema, provided).problems == ["first line"]
    with pytest.raises(InterpolationKeyError) as caught:
        _ = OmegaConf.create({"run": {"dir": "${nope}"}}).run.dir  # as hydra.run.dir, which is read after composing
    lines = compose_errors.explain(caught.value, ["seed=1"], [str(conf)], schema, provided).problems
    assert lines == ["run.dir: Interpolation key 'nope' not found"]


def test_with_hydra_main(
    conf: Path, schema: type, provided: dict[str, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Hydra raises reaches the caller, and Hydra can be used again after the explanation."""
    arguments = ["seeed=1", f"hydra.run.dir={tmp_path}/out"]
    monkeypatch.setattr("sys.argv", ["medlat", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(hydra.errors.ConfigCompositionException) as caught:
        hydra.main(config_path=str(conf), config_name="config", version_base="1.3")(lambda config: None)()
    explained = compose_errors.explain(caught.value, arguments, [str(conf)], schema, provided)
    assert explained.problems == ["seeed: unknown key; did you mean 'seed'?"]
    assert not GlobalHydra.instance().is_initialized()
