"""Names: what one needs, and how often there is one where nothing is there."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from toys import SPACE, World, random_basis

from medlat.evaluation.chance import LEVEL, Answers, chance, evidence, false_alarms, family_wise
from medlat.evaluation.naming import UNNAMED, Candidate, names, nothing, verdict

NONE = {SPACE: np.zeros(9999)}  # random directions without any evidence


def clear(method="ica", number=0, **more) -> Candidate:
    """A direction that has all that a name needs."""
    found = Candidate(
        method, f"{method} {number:02d}", SPACE, "factor", "rotation", "deg", effect=-3.14159, standardised=-0.5,
        share=0.8, ceiling=0.95, chance=0.3, normalised=0.77, r2=0.9, evidence=0.7, range=3.0, needed=2.0,
        measured=1.0, again=1.0,
    )  # fmt: skip
    return replace(found, **more)


def test_a_direction_that_has_all_of_it_is_named():
    found = names([clear()], NONE, [], {"deg": "°"})[0]
    assert found.name == "rotation \u22123.1°/σ"
    assert (found.why, found.rank, found.is_named) == ("", 1, True)
    assert found.p == pytest.approx(1 / 10_000)


LACKING = {
    "no clearer than random": {"evidence": 0.0},
    "0.40 of what changes, where it alone would reach 0.95": {"share": 0.4, "normalised": 0.15},
    "could not be tested: alone it would reach 0.35 of what changes here, and random directions have 0.30": {
        "ceiling": 0.35,
        "normalised": float("nan"),
        "evidence": 0.0,
    },
    "no straight line (R² 0.40)": {"r2": 0.4},
    "hardly moves (0.05 standard deviations)": {"standardised": -0.05},
    "images leave the data beyond 1.5σ": {"range": 1.5},
    "measured in 50% of the images": {"measured": 0.5},
    "not the same in both halves of the data": {"again": 0.0},
}


@pytest.mark.parametrize("why", LACKING)
def test_each_part_is_needed(why):
    found = names([clear(**LACKING[why])], NONE, [])[0]
    assert found.name == UNNAMED
    assert found.why.startswith(why), found.why
    assert ";" not in found.why, "nothing else is lacking"


def test_without_random_directions_nothing_has_a_name():
    assert names([clear()], {}, [])[0].name == UNNAMED


def test_a_direction_along_which_nothing_changes_is_there_without_a_name():
    found = names([clear(), nothing("ica", "ica 01", SPACE, "factor", 8.0, 2.0)], NONE, [])
    assert [(n.direction, n.rank, n.is_named) for n in found] == [("ica 00", 1, True), ("ica 01", 2, False)]
    assert found[1].why == "nothing measurable changes"


def test_directions_are_ranked_by_evidence_within_their_method():
    rows = [clear(number=i, evidence=e) for i, e in enumerate([0.3, 0.9, 0.6])] + [clear("pca", evidence=0.1)]
    assert [(n.direction, n.rank) for n in names(rows, NONE, [])] == [
        ("ica 01", 1), ("ica 02", 2), ("ica 00", 3), ("pca 00", 1),
    ]  # fmt: skip


def test_p_counts_what_is_tried_and_controls_are_not():
    random = np.linspace(0.0, 1.0, 999)
    assert family_wise(0.95, random, 1) == pytest.approx(0.05 + 1 / 1000, abs=0.002)
    assert family_wise(0.95, random, 10) == pytest.approx(10 * family_wise(0.95, random, 1))
    assert family_wise(2.0, random, 1) == 1 / 1000
    assert family_wise(-1.0, random, 3) == 1.0
    rows = [clear(number=i, evidence=0.99) for i in range(4)] + [clear("random", i, evidence=0.99) for i in range(9)]
    found = names(rows, {SPACE: random}, ["random"])
    assert {n.p for n in found} == {4 * family_wise(0.99, random, 1)}


def test_evidence_by_hand():
    """Two people; one quantity that both move alike, and one that they move by 1 and 3: mean² / mean of squares 0.8."""
    slopes = np.array([[[2.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [0.0, 3.0]]])  # [K, G, Q]
    found = evidence(slopes, np.arange(2), np.ones(2), chance=0.5)
    assert found == pytest.approx(np.array([[1.0, 0.0], [0.0, 0.8]]))


def test_random_directions_are_drawn_as_codes_differ():
    """All but the first of four axes hardly vary: random directions are the first, which moves the first quantity."""
    slopes = np.repeat(np.eye(4)[None], 5, axis=0)
    thin, round_ = (chance(Answers(slopes, np.eye(4), np.array(spread)), np.arange(4), np.ones(4), 0, 2000)
                    for spread in ([1.0, 0.001, 0.001, 0.001], [1.0, 1.0, 1.0, 1.0]))  # fmt: skip
    assert thin.share > 0.95
    normal = np.abs(np.random.default_rng(1).standard_normal((20_000, 4)))
    assert round_.share == pytest.approx((normal.max(axis=1) / normal.sum(axis=1)).mean(), abs=0.01)


def test_the_level_holds_among_random_directions_themselves():
    rng = np.random.default_rng(0)
    assert false_alarms(rng.exponential(size=20_000), 16) == pytest.approx(LEVEL, abs=0.02)
    assert np.isnan(false_alarms(rng.exponential(size=20), 16))


def page(seed: int) -> tuple[list, list]:
    """Three methods that found arbitrary directions of a world without structure; what is above the level, and what has
    a name.
    """
    rng = np.random.default_rng(1000 + seed)
    world = World(rng.standard_normal((8, 8)), seed=seed, drawn=2000)
    methods = {name: random_basis(rng, 8, 8) for name in ("sefa", "pca", "ica")}
    found = world.named(methods)
    return [n for n in found if n.p <= LEVEL], [n for n in found if n.is_named]


def test_where_nothing_is_there_pages_have_a_false_name_in_5_percent_at_most():
    """100 worlds, 24 directions on each page. The bound is what 5% exceed with a probability of 1%."""
    pages = [page(seed) for seed in range(100)]
    allowed = binom.ppf(0.99, len(pages), LEVEL)
    above, named = (sum(bool(part) for part in column) for column in zip(*pages, strict=True))
    assert above <= allowed, "by the comparison with random directions alone"
    assert named <= above


@pytest.mark.parametrize("quantity", range(6))
def test_a_single_thing_is_named_right_or_not_at_all(quantity):
    """A world of 12 quantities in which one direction of many moves one alone, and the others are mixtures."""
    rng = np.random.default_rng(quantity)
    effect = 0.5 * rng.standard_normal((12, 16))
    effect[:, 0] = 0.0
    effect[quantity, 0] = 1.0
    methods = {"found": np.eye(16)[:1], "mixed": random_basis(rng, 4, 16)}
    found = World(effect, apart=0.1, seed=quantity).named(methods)
    assert [n.measurement for n in found if n.is_named] == [f"q{quantity}"]
    assert found[0].direction == "found 00"


def test_a_mixture_of_two_has_no_name():
    effect = 0.3 * np.random.default_rng(0).standard_normal((12, 16))
    effect[:, 0] = 0.0
    effect[:2, 0] = 1.0
    found = World(effect, apart=0.1).named({"found": np.eye(16)[:1]})[0]
    assert found.name == UNNAMED
    assert found.share == pytest.approx(0.5, abs=0.05)


def test_what_only_half_of_the_people_show_has_no_name():
    """Every second person moves the quantity the other way."""
    effect = 0.2 * np.random.default_rng(0).standard_normal((6, 8))
    world = World(effect, apart=0.0)
    world.slopes[::2, 0, 0], world.slopes[1::2, 0, 0] = 5.0, -4.0
    found = world.named({"found": np.eye(8)[:1]})[0]
    assert found.name == UNNAMED
    assert "not the same in both halves of the data" in found.why


def found(**named: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of names.csv: so many named directions of so many, by method."""
    return [
        {"method": method, "name": "rotation +5°/σ" if i < n else UNNAMED, "measurement": "rotation", "normalised": 0.7}
        for method, (n, of) in named.items()
        for i in range(of)
    ]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (
            {"pca": (0, 4), "axes": (0, 4)},
            "What is measured here explains none of the 4 pca directions; look at the pictures. Beside it: 0 of 4 axes "
            "(control).",
        ),
        (
            {"pca": (1, 4), "axes": (1, 4), "ica": (3, 4)},
            "Of 4 pca directions 1 can be named: rotation +5°/σ. Beside it: 1 of 4 axes (control), 3 of 4 ica. "
            "A control, which knows nothing, has as many: these names say nothing for pca.",
        ),
        (
            {"pca": (2, 4), "axes": (1, 4)},
            "Of 4 pca directions 2 can be named: rotation +5°/σ; rotation +5°/σ. Beside it: 1 of 4 axes (control). "
            "This is one training: `-m seed=1,2` says whether they come again.",
        ),
        (
            {"pca": (1, 1)},
            "Of 1 pca directions 1 can be named: rotation +5°/σ. This is one training: `-m seed=1,2` says whether they "
            "come again.",
        ),
    ],
)
def test_the_finding_is_of_names_only_and_beside_controls(counts, text):
    assert verdict(found(**counts), "pca", ["axes"]) == text


def test_the_finding_says_how_many_could_not_be_tested():
    rows = found(pca=(0, 4), axes=(0, 4))
    rows[1]["normalised"] = float("nan")
    assert " 1 of the 4 pca directions could not be tested: what they move most would, alone," in verdict(
        rows, "pca", ["axes"]
    )
