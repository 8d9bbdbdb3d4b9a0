"""Keys of steps: what their results depend on, the code among it."""

import importlib
import sys

import pytest
from composed import composed

from medlat.core.errors import UserError
from medlat.core.store import Artifact, Recipe, Store
from medlat.steps.step import Step, sources
from medlat.study.pipeline import plan, steps_of

FINDER = """
from medlat.core.spaces import Directions

class Base:
    order = 1

class Mine(Base):
    def find(self, model):
        return None
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, written and imported; called with a text it is written anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text):
        (tmp_path / "their_finders.py").write_text(text)
        sys.modules.pop("their_finders", None)
        importlib.invalidate_caches()

    write(FINDER)
    yield write
    sys.modules.pop("their_finders", None)


def key(name="directions/mine"):
    config = composed("scale=tiny")
    config.directions = {"_target_": "their_finders.Mine"}
    made = plan(config)
    for step in made.steps:
        if step.name == name:
            return step.recipe(made.context).key
        made.context.artifacts[step.name] = made.context.identities[step.name] = step.name
    raise AssertionError(name)


def test_the_source_of_what_is_not_ours_is_part_of_the_key(module):
    before = key()
    assert key() == before
    module(FINDER.replace("order = 1", "order = -1"))
    assert key() != before
    module(FINDER)
    assert key() == before


def test_only_what_is_from_outside_is_hashed(module):
    section = {"_target_": "medlat.directions.sefa.SeFa", "parts": [{"_target_": "torch.nn.Linear"}]}
    assert dict(sources(section)) == {}
    found = dict(sources({"parts": [section, {"_target_": "their_finders.Mine"}], "function": "their_finders:Base"}))
    assert list(found) == ["their_finders"]


def test_a_step_of_a_new_version_has_a_new_key():
    class Old(Step):
        name = "mine"

    class New(Old):
        version = 2

    context = plan(composed("scale=tiny")).context
    assert Old().recipe(context).key != New().recipe(context).key


def test_what_older_code_made_is_made_anew_and_said(tmp_path, caplog):
    caplog.set_level("INFO")
    store = Store(tmp_path)
    write = lambda folder: (folder / "file").write_text("x")  # noqa: E731
    store.make(Recipe("mine", {"a": 1}, {"in": "k"}, {"version": 1, "theirs": "f"}), write)
    store.make(Recipe("mine", {"a": 2}, {"in": "k"}, {"version": 2, "theirs": "f"}), write)
    assert "older code" not in caplog.text
    store.make(Recipe("mine", {"a": 1}, {"in": "k"}, {"version": 1, "theirs": "g"}), write)
    assert "mine: made by older code (theirs); it is made anew" in caplog.text
    store.make(Recipe("mine", {"a": 1}, {"in": "k"}, {"version": 2, "theirs": "f"}), write)
    assert "mine: made by older code (version); it is made anew" in caplog.text


@pytest.mark.parametrize("more", [["ct_vae_sefa"], ["histology_vae_linear"], ["audit_confounder", "generator=dcgan"]])
def test_every_step_comes_after_what_it_needs(more):
    seen = set()
    for step in steps_of(composed(f"+experiment={more[0]}", "scale=tiny", *more[1:])):
        assert set(step.needs) <= seen, step.name
        assert step.name not in seen
        seen.add(step.name)


def test_the_generator_and_other_methods_are_not_part_of_what_a_method_depends_on(tmp_path):
    """A sweep over methods measures the generator, and each method, once."""
    keys = {}
    for method in ("sefa", "pca"):
        made = plan(composed("scale=tiny", f"directions={method}"))
        for step in made.steps:
            keys[method, step.name] = step.recipe(made.context).key if step.name != "images" else "-"
            folder = tmp_path / step.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "slices.json").write_text('{"digest": "d"}')
            made.context.add(step, Artifact(step.name, keys[method, step.name], folder))
    shared = [name for _, name in keys if keys.get(("sefa", name)) == keys.get(("pca", name))]
    assert {"generator", "fidelity", "measurements", "semantics/random", "semantics/coordinate"} <= set(shared)
    assert keys["sefa", "semantics/sefa"] != keys["pca", "semantics/pca"]
    assert keys["sefa", "evaluation"] != keys["pca", "evaluation"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+steps.lost._target_=my_steps.Lost"], "steps.lost: it needs 'nowhere', which no step before it makes"),
        (["+steps.split._target_=my_steps.Brightness"], "steps.split: a step of that name is part of every run"),
    ],
)
def test_a_step_of_ones_own_that_cannot_be(monkeypatch, overrides, words):
    monkeypatch.syspath_prepend("tests/outside")
    with pytest.raises(UserError, match=words):
        plan(composed("scale=tiny", *overrides))
