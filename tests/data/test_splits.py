import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.splits import Split, check_undivided, split

PATIENT = np.repeat(np.arange(20), 5)
POSITION = np.tile(np.arange(5.0), 20)


def test_no_patient_in_two_parts():
    parts = split(PATIENT, POSITION, test=0.2, validation=0.1, seed=0)
    owners = [set(PATIENT[rows]) for rows in (parts.train, parts.validation, parts.test)]
    assert [len(o) for o in owners] == [14, 2, 4]
    assert set.union(*owners) == set(range(20))
    assert sum(map(len, owners)) == 20
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 100


@pytest.mark.parametrize(("patients", "counts"), [(2, (1, 0, 1)), (3, (2, 0, 1)), (4, (2, 1, 1))])
def test_few_patients(patients, counts):
    chosen = patients > PATIENT
    parts = split(PATIENT[chosen], POSITION[chosen], 0.2, 0.1, seed=1)
    assert tuple(len(rows) // 5 for rows in (parts.train, parts.validation, parts.test)) == counts


def test_seed_decides():
    a, b, c = (split(PATIENT, POSITION, 0.2, 0.1, seed=s) for s in (0, 0, 1))
    assert np.array_equal(a.test, b.test)
    assert not np.array_equal(a.test, c.test)


def test_one_patient_is_refused_and_slab_offered():
    with pytest.raises(UserError, match=r"^by=patient: .*one patient only.*set it to slab"):
        split(PATIENT[:5], POSITION[:5], 0.2, 0.1, 0)


def test_without_places_no_slab_is_offered_or_held_out():
    """Tiles of one slide: in the order of the store they would be any tiles, not a slab."""
    with pytest.raises(UserError, match=r"^by=patient: .*one patient only.*say by data.group who they are$"):
        split(np.zeros(5, int), np.zeros(5), 0.2, 0.1, 0)
    with pytest.raises(UserError, match=r"^by=slab: no image says where it lies in its patient; expected patient$"):
        split(np.repeat([0, 1], 5), np.repeat([0.0, 3.0], 5), 0.2, 0.1, 0, by="slab")


def test_studies_that_share_one_patient_are_counted_and_the_way_out_is_named():
    with pytest.raises(UserError) as refused:
        split(PATIENT[:5], POSITION[:5], 0.2, 0.1, 0, studies=6)
    assert str(refused.value).startswith(
        "by=patient: the data hold one patient only: 6 studies share one patient's identity; data.group=study tells "
        "them apart. Results count on held-out patients: "
    )


def test_a_given_split_that_divides_a_patient_is_refused():
    patient, given = np.array([0, 0, 1, 2]), np.array([0.0, 0.0, 1.0, 2.0])
    check_undivided(patient, split(patient, np.zeros(4), 0.2, 0.1, 0, by="given", given=given))
    given[1] = 2.0
    parts = split(patient, np.zeros(4), 0.2, 0.1, 0, by="given", given=given)
    with pytest.raises(UserError, match=r"^by=given: 1 group \(patients\) stand in more than one part"):
        check_undivided(patient, parts)
    check_undivided(patient, Split(parts.train[:0], parts.validation, parts.test, copies=parts.train))


def test_slab_leaves_gaps():
    position = np.random.default_rng(0).permutation(100.0 * np.arange(40))
    parts = split(np.zeros(40, int), position, 0.25, 0.1, 0, by="slab")
    assert sorted(position[parts.test]) == [100.0 * i for i in range(15, 25)], "the middle"
    left_out = set(range(40)) - {int(p / 100) for p in position[np.concatenate([parts.train, parts.test])]}
    assert left_out == {13, 14, 25, 26}, "two slices, 5%, on either side"
    assert len(parts.validation) == 0


@pytest.mark.parametrize(("test", "validation"), [(1.0, 0.1), (0.0, 0.1), (0.6, 0.4), (-0.1, 0.0)])
def test_shares_out_of_range(test, validation):
    with pytest.raises(UserError, match=r"^test=|^validation="):
        split(PATIENT, POSITION, test, validation, 0)


def test_saved_and_damaged(tmp_path):
    parts = split(PATIENT, POSITION, 0.2, 0.1, 0)
    parts.save(tmp_path / "split.json")
    assert np.array_equal(Split.load(tmp_path / "split.json").train, parts.train)
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(UserError, match="damaged split"):
        Split.load(tmp_path / "split.json")
