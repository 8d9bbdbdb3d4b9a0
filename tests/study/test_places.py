from medlat.study.places import SHUFFLED, is_control, judge_of, name_of


def test_places():
    assert [is_control(p) for p in ("directions", "others/svm", "controls/random", SHUFFLED)] == [
        False,
        False,
        True,
        True,
    ]
    assert [judge_of(p) for p in ("directions", "controls/random", SHUFFLED)] == [
        "classifier",
        "classifier",
        "shuffled",
    ]
    assert [name_of(p) for p in ("directions", "others/mine", "controls/random", SHUFFLED)] == [
        *(None, "mine", None, "shuffled")
    ]
