from medlat.explain.audit import planted


def test_what_stands_for_a_planted_factor():
    read = {"x_position": "x", "table_height": "table_height", "body_hu": None}
    assert planted(read, "factor.table_height") == {"table_height"}
    assert planted(read, "factor.x") == {"x", "x_position"}
    assert planted(read, "label.nodule") == set()
