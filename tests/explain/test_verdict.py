"""The links of an explanation, and which is the weakest."""

import math

import pytest

from medlat.evaluation.naming import UNNAMED, Named
from medlat.explain.verdict import (
    Link,
    agreement_link,
    data_link,
    generator_link,
    name_link,
    prediction_link,
    weakest,
)


def named(name="table height +3 mm/σ", why="", p=0.001, normalised=0.8):
    return Named("linear", "linear 00", 1, name, "table_height", why, 0.8, normalised, 0.9, 0.7, p, 3.0, 1.0)


def test_links_by_hand():
    assert generator_link(24.1, 0.77, 64).told.startswith("77% of 64 images keep their side")
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


def test_the_weakest_is_said():
    links = [
        Link("the generator gives the image back", 0.62, "62% keep"),
        Link("second agrees", 0.9, "90%"),
    ]
    assert weakest(links) == "The weakest link: whether the generator gives the image back (62% keep)."
