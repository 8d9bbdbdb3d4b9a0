from dataclasses import dataclass
from typing import Any

import pytest
from omegaconf import OmegaConf

from medlat.config.kinds import Component
from medlat.config.preflight import problems
from medlat.core.errors import ConfigErrors

GOOD = """
name: run
seed: 0
workers: null
dry_run: false
mode: fast
steps: [1, 2.5]
scale: {width: 8, anything: [1, {a: b}]}
data:
  root: /images
  window_hu: [-1000, 2000]
  source: {_target_: lab.nets.Source, root: "${data.root}", limit: "${scale.width}"}
model:
  network: {_target_: lab.nets.Net, width: "${scale.width}", height: "${.width}"}
  training: {_target_: lab.nets.Module, beta: 1}
controls:
  chance: {_target_: lab.nets.Pair, left: 1}
hydra: {not: checked}
"""


def with_overrides(*dotlist: str) -> Any:
    config = OmegaConf.create(GOOD)
    for text in dotlist:
        key, _, value = text.partition("=")
        OmegaConf.update(config, key, OmegaConf.create(f"x: {value}")._get_node("x"), merge=False, force_add=True)
    return config


def test_a_good_configuration_has_no_problems(schema: type, provided: dict[str, set[str]]) -> None:
    config = OmegaConf.create(GOOD)
    assert problems(config, schema, provided) == []
    assert problems(OmegaConf.to_container(config), schema, provided) == []  # a plain mapping will do


@pytest.mark.parametrize(
    ("override", "lines"),
    [
        # unknown keys, at each depth
        ("seeed=3", ["seeed: unknown key; did you mean 'seed'?"]),
        ("data.windw=3", ["data.windw: unknown key; did you mean 'data.window_hu'?"]),
        ("model.training.bta=3", ["model.training.bta: unknown key; did you mean 'model.training.beta'?"]),
        ("model.training.width=3", ["model.training.width: unknown key; did you mean 'model.network.width'?"]),
        ("data.limit=3", ["data.limit: unknown key; did you mean 'data.source.limit'?"]),
        ("data.source.window_hu=3", ["data.source.window_hu: unknown key; did you mean 'data.window_hu'?"]),
        ("controls.chance.lft=3", ["controls.chance.lft: unknown key; did you mean 'controls.chance.left'?"]),
        ("model.zzz=3", ["model.zzz: unknown key; choose from network, training"]),
        # values of the wrong type
        ("seed=abc", ["seed: 'abc' is not a whole number"]),
        ("seed=true", ["seed: true is not a whole number"]),
        ("dry_run=1", ["dry_run: 1 is not true or false"]),
        ("mode=fst", ["mode: 'fst' is not one of fast, slow; did you mean 'fast'?"]),
        ("steps=[1, two]", ["steps[1]: 'two' is not a number"]),
        ("data.window_hu=[1]", ["data.window_hu: [1] is not a list of 2 numbers"]),
        ("model.training.beta=abc", ["model.training.beta: 'abc' is not a number"]),
        ("model.training.loss=log_mze", [
            "model.training.loss: 'log_mze' is not one of mse, log_mse; did you mean 'log_mse'?"]),
        ("controls.chance.left=x", ["controls.chance.left: 'x' is not a whole number"]),
        ("model.training.path=5", [
            """model.training.path: 5 is not a path or null; write "model.training.path='5'\""""]),
        ("data.root=5", ["""data.root: 5 is not text; write "data.root='5'\""""]),  # where it is set
        ("scale.width=x", ["scale.width: 'x' is not a whole number or null",
                           "scale.width: 'x' is not a whole number"]),
        ("data=3", ["data: 3 is not a section of settings"]),
        ("model.network={width: 3}", ["model.network: a mapping (width) is not a section with a _target_"]),
        ("controls.x=3", ["controls.x: 3 is not a section with a _target_"]),
        ("controls=3", ["controls: 3 is not a mapping"]),
        # values that are not there
        ("name=???", ["name: has no value; give name=... (text)"]),
        ("seed=???", ["seed: has no value; give seed=... (a whole number, decides everything random)"]),
        ("model.training.beta=???", [
            "model.training.beta: has no value; give model.training.beta=... (a number, weight of the KL, in nats)"]),
        ("data.root=???", ["data.root: has no value; give data.root=... (text, the folder of images)"]),
        ("scale.width=${sede}", ["scale.width: ${sede} reads 'sede', which does not exist; did you mean 'seed'?"]),
        ("data.root=${scale.root}", [
            "data.root: ${scale.root} reads 'scale.root', which does not exist; did you mean 'data.root'?"]),
        ("name=${nofunction:3}", ["name: ${nofunction:3}: no such function 'nofunction'"]),
        ("name=${oc.env:NOT_SET_ANYWHERE}", [
            "name: cannot resolve ${oc.env:NOT_SET_ANYWHERE}: Environment variable 'NOT_SET_ANYWHERE' not found"]),
        ("steps=[1, '${nope}']", ["steps[1]: ${nope} reads 'nope', which does not exist"]),
        ("steps=[1, '???']", ["steps[1]: has no value; give steps[1]=..."]),
        # targets
        ("data.source._target_=lab.nets.Sorce", [
            "data.source._target_: no name 'Sorce' in lab.nets; did you mean 'lab.nets.Source'?"]),
        ("data.source._target_=3", ["data.source._target_: 3 is not the dotted name of a class or function"]),
        ("data.source._target_=???", ["data.source._target_: has no value; give data.source._target_=..."]),
        ("model.training.network=3", ["model.training.network: the program sets this itself; remove it"]),
        ("controls.chance={_target_: lab.nets.Pair}", [
            "controls.chance.left: missing; Pair needs it (a whole number)"]),
        ("model.network={_target_: lab.nets.Net}", [
            "model.network.width: missing; Net needs it (a whole number, pixels along each side)"]),
        # targets inside lists and free sections
        ("scale.more=[{_target_: lab.nets.Pair, lft: 1}]", [
            "scale.more[0].lft: unknown key; did you mean 'scale.more[0].left'?",
            "scale.more[0].left: missing; Pair needs it (a whole number)"]),
        ("scale.deep={a: {b: {_target_: lab.nets.Pair, left: x}}}", [
            "scale.deep.a.b.left: 'x' is not a whole number"]),
    ],
)  # fmt: skip
def test_one_mistake(override: str, lines: list[str], schema: type, provided: dict[str, set[str]]) -> None:
    assert problems(with_overrides(override), schema, provided) == lines


@pytest.mark.parametrize(
    "override",
    [
        "scale.anything_else=3",  # a free section
        "model.training.loss=log_mse",
        "workers=4",
        "controls.chance={_target_: lab.nets.Pair, _partial_: true}",  # the rest comes later
        "controls.chance={_target_: lab.nets.Pair, _args_: [1]}",
        "controls.chance={_target_: lab.nets.make, size: 1, whatever: 2}",  # **kwargs
        "controls.chance={_target_: lab.nets.Foreign, whatever: 2}",
        "controls.chance={_target_: datetime.timedelta, days: 2}",  # not ours: imported
        "controls.same=${controls.chance}",
        "data.source.limit=null",
    ],
)
def test_no_mistake(override: str, schema: type, provided: dict[str, set[str]]) -> None:
    assert problems(with_overrides(override), schema, provided) == []


def test_a_key_that_another_value_reads_is_known(schema: type, provided: dict[str, set[str]]) -> None:
    assert problems(with_overrides("data.side=3", "data.source.limit=${data.side}"), schema, provided) == []
    assert problems(with_overrides("data.side=3"), schema, provided) == ["data.side: unknown key; choose from root, "
                                                                         "source, window_hu"]  # fmt: skip


def test_a_misspelt_key_explains_the_missing_value(schema: type, provided: dict[str, set[str]]) -> None:
    config = with_overrides("data.root=???", "data.rot=/x")
    assert problems(config, schema, provided) == ["data.rot: unknown key; did you mean 'data.root'?"]


def test_a_missing_value_that_nothing_reads_is_no_problem(schema: type, provided: dict[str, set[str]]) -> None:
    assert problems(with_overrides("data.root=???", "data.source.root=/x"), schema, provided) == []


def test_a_broken_value_is_reported_once_where_it_is(schema: type, provided: dict[str, set[str]]) -> None:
    config = with_overrides("data.root=${nope}")  # which data.source.root reads
    assert problems(config, schema, provided) == ["data.root: ${nope} reads 'nope', which does not exist"]


def test_what_the_program_supplies_follows_patterns(schema: type) -> None:
    assert problems(with_overrides(), schema, {}) == [
        "model.training.network: missing; Module needs it (a section with a _target_)"
    ]
    config = with_overrides("controls.chance={_target_: lab.nets.Pair}")
    assert problems(config, schema, {"model.*": {"network"}, "controls.*": {"left"}}) == []


def test_missing_sections_and_fields(schema: type, provided: dict[str, set[str]]) -> None:
    config = with_overrides()
    del config["data"], config["seed"]
    assert problems(config, schema, provided) == [
        "seed: missing; it is needed (a whole number, decides everything random)",
        "data: missing; it is needed (a section of settings)",
    ]


def test_all_at_once(schema: type, provided: dict[str, set[str]]) -> None:
    config = with_overrides("seed=x", "data.windw=1", "model.training.beta=y", "name=???", "controls.chance.left=${q}")
    found = problems(config, schema, provided)
    assert str(ConfigErrors(found)).startswith("5 problems in the configuration")
    keys = [line.partition(":")[0] for line in found]
    assert keys == ["name", "seed", "data.windw", "model.training.beta", "controls.chance.left"]


@dataclass
class Optional:
    augment: Component | None
    inner: "Inner | None"


@dataclass
class Inner:
    side: int


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        ({"augment": None, "inner": None}, []),
        ({"augment": {"_target_": "lab.nets.Nothing"}, "inner": {"side": 3}}, []),
        ({"augment": {"_target_": "lab.nets.Nothing", "x": 1}, "inner": {"side": "a"}}, [
            "augment.x: unknown key; augment takes none", "inner.side: 'a' is not a whole number"]),
        ({"augment": 3, "inner": 3}, ["augment: 3 is not a section with a _target_ or null",
                                      "inner: 3 is not a section of settings or null"]),
    ],
)  # fmt: skip
def test_optional_sections(config: dict[str, Any], lines: list[str]) -> None:
    assert problems(config, Optional) == lines
