"""The links of an explanation, and which is the weakest."""

import math

import numpy as np
import pytest

from medlat.evaluation.naming import UNNAMED, Named
from medlat.explain.verdict import (
    GENERATOR,
    Link,
    agreement_link,
    data_link,
    generator_link,
    lost,
    name_link,
    prediction_link,
    weakest,
)


def named(name="table height +3 mm/σ", why="", p=0.001, normalised=0.8):
    return Named("linear", "linear 00", 1, name, "table_height", why, 0.8, normalised, 0.9, 0.7, p, 3.0, 1.0)


def test_links_by_hand():
    moved = prediction_link(0.9, 64, {"random": 0.1, "permuted": 0.4, "none": math.nan}, "within 3σ")
    assert moved.holds == pytest.approx(0.5)
    assert moved.told == "90% of 64 images change side within 3σ, with the best control (permuted) 40%"
    assert prediction_link(0.2, 64, {"random": 0.3}, "near").holds == 0.0
    assert prediction_link(0.2, 64, {}, "near").told == "20% of 64 images change side near"
    assert data_link([1.0, -2.0, 4.0, -5.0], 3.0).holds == 0.5
    assert data_link([], 3.0) is None
    agrees = agreement_link("second", 0.72, 25)
    assert (agrees.name, agrees.holds) == ("second agrees", 0.72)
    assert agrees.told == "second, another classifier, believes 72% of 25 counterfactuals"
    assert agreement_link("second", math.nan, 0) is None


def test_a_name_holds_as_far_as_it_is_clear():
    assert name_link(named()).holds == 0.8
    assert name_link(named(UNNAMED, "no straight line", p=0.0)).holds == 0.5
    assert name_link(named(UNNAMED, "no clearer", p=0.3)).holds == pytest.approx(0.35)
    assert name_link(named(UNNAMED, "no clearer", p=1.0)).holds == 0.0
    assert name_link(named(UNNAMED, "nothing measurable changes", normalised=math.nan)).holds == 0.0
    assert name_link(named(UNNAMED, "no straight line")).told == "no name: no straight line"


def sides(both: int, real: int, decoded: int, neither: int):
    """Images above the threshold before and after, before alone, after alone, never."""
    pairs = [(True, True)] * both + [(True, False)] * real + [(False, True)] * decoded + [(False, False)] * neither
    return np.array(pairs).T


def test_what_the_generator_keeps_stands_beside_chance():
    half = generator_link(24.4, *sides(10, 6, 6, 10), np.arange(32), (8.7, 0.65))
    assert half.holds == pytest.approx(0.25)  # (20/32 - 1/2) / (1 - 1/2)
    assert half.told.startswith("62% [44%, 78%] of 32 images keep their side")
    assert half.told.endswith(
        "by chance 50% would; PSNR 24.4 dB; samples lie 8.7 from real images and halves of these 0.65, by Fréchet"
    )
    assert generator_link(30.0, *sides(3, 0, 0, 5), np.arange(8)).holds == 1.0
    assert generator_link(30.0, *sides(28, 0, 4, 0), np.arange(32)).holds == 0.0  # all are given back on one side
    assert generator_link(30.0, *sides(0, 4, 4, 0), np.arange(8)).holds == 0.0
    alone = generator_link(30.0, *sides(6, 2, 0, 0), np.arange(8))
    assert (alone.holds, "all on one side of it" in alone.told, "[" in alone.told) == (0.75, True, False)
    few = generator_link(24.4, *sides(10, 6, 6, 10), np.arange(32) // 2)
    assert "62% of 32" in few.told  # of 16 people: no interval
    assert generator_link(30.0, *sides(16, 0, 0, 16), np.arange(32)).told.startswith("100% of 32"), "nor of no width"


def test_what_the_generator_loses_is_said_before_all_else():
    nameless = name_link(named(UNNAMED, "no clearer", p=1.0))
    for holds, expected in [(0.49, GENERATOR), (0.5, nameless.name)]:
        links = [Link(GENERATOR, holds, "so many keep"), nameless]
        assert lost(links) == (expected == GENERATOR)
        assert weakest(links).startswith(f"The weakest link: whether {expected} (")


def test_the_weakest_is_said():
    links = [
        Link("the generator gives the image back", 0.62, "62% keep"),
        Link("second agrees", 0.9, "90%"),
    ]
    assert weakest(links) == "The weakest link: whether the generator gives the image back (62% keep)."
