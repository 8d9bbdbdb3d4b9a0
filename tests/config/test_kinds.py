from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from medlat.config import kinds
from medlat.config.kinds import Component, complaint, show, words

Loss = Literal["mse", "log_mse"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, int), (1, float), (1.5, float), ("x", str), (True, bool), (None, type(None)),
        (None, int | None), (3, int | None), ("mse", Loss), ("x", Path), ([1, 2.5], tuple[float, float]),
        ([], list[int]), ([1], Sequence[int]), ([1, 2, 3], tuple[int, ...]), ([1], list), ({"a": 1}, dict[str, int]),
        ({}, dict), (object(), Any), ("x", Callable[[int], int]), ({"_target_": "x"}, Component), (3, object),
        ("auto", float | Literal["auto"]), ([[1], [2, 3]], list[list[int]]),
    ],
)  # fmt: skip
def test_fits(value: Any, kind: Any) -> None:
    assert complaint("k", value, kind) == ""


@pytest.mark.parametrize(
    ("value", "kind", "line"),
    [
        ("abc", float, "k: 'abc' is not a number"),
        (True, int, "k: true is not a whole number"),
        (True, float, "k: true is not a number"),
        (1, bool, "k: 1 is not true or false"),
        (64.0, int, "k: 64.0 is not a whole number; write 64"),
        (0.5, int, "k: 0.5 is not a whole number"),
        (None, int, "k: null is not a whole number"),
        (2024, str, """k: 2024 is not text; write "k='2024'\""""),
        (3, Path, """k: 3 is not a path; write "k='3'\""""),
        ("x", int | None, "k: 'x' is not a whole number or null"),
        ("log_mze", Loss, "k: 'log_mze' is not one of mse, log_mse; did you mean 'log_mse'?"),
        ("zzz", Loss, "k: 'zzz' is not one of mse, log_mse"),
        (3, list[float], "k: 3 is not a list of numbers"),
        ("12", Sequence[int], "k: '12' is not a list of whole numbers"),
        ([1, "a"], list[float], "k[1]: 'a' is not a number"),
        ([1, [2, "b"]], list[int | list[int]], "k[1][1]: 'b' is not a whole number"),
        ([1, 2, 3], tuple[float, float], "k: [1, 2, 3] is not a list of 2 numbers"),
        (["a", 2], tuple[float, float] | None, "k[0]: 'a' is not a number"),
        ({"a": "b"}, dict[str, int], "k.a: 'b' is not a whole number"),
        ([], dict, "k: [] is not a mapping"),
        ({"a": 1}, float, "k: a mapping (a) is not a number"),
        ({"root": 1}, Component, "k: a mapping (root) is not a section with a _target_"),
        (3, Component | None, "k: 3 is not a section with a _target_ or null"),
    ],
)
def test_complaint(value: Any, kind: Any, line: str) -> None:
    assert complaint("k", value, kind) == line


def test_literal_choices_are_told_apart_by_type() -> None:
    assert complaint("k", 1, Literal[True]) == "k: 1 is not one of true"
    assert complaint("k", 1, Literal[1, 2]) == ""


def test_a_function_is_any_value() -> None:
    assert words(Callable[[int], int] | None) == "any value or null"


def test_words_and_values() -> None:
    assert words(float | None) == "a number or null"
    assert words(tuple[str, int]) == "a list of 2 values"
    assert show([None, True, "a", 1.5]) == "[null, true, 'a', 1.5]"
    assert len(show("x" * 200)) == 80


def test_mappings_in_unions() -> None:
    assert kinds.of_values(dict[str, int] | None) is int
    assert kinds.of_values(dict | None) is Any
    assert kinds.takes_mappings(dict[str, int] | None)
    assert not kinds.takes_mappings(list[int] | None)
