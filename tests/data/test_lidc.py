"""LIDC-IDRI as delivered: a tree of series with the readers' XML beside them."""

import pytest
from data.dicom_files import write_slice

from medlat.core.errors import UserError
from medlat.data.ct.lidc import LIDC, readings

NODULE = """<unblindedReadNodule><noduleID>n</noduleID>{rois}</unblindedReadNodule>"""
ROI = """<roi><imageZposition>{z}</imageZposition><imageSOP_UID>1.2</imageSOP_UID><inclusion>{inclusion}</inclusion>
{points}</roi>"""
POINT = "<edgeMap><xCoord>1</xCoord><yCoord>2</yCoord></edgeMap>"


def roi(z, points=3, inclusion="TRUE"):
    return ROI.format(z=f"{z:.6f}", inclusion=inclusion, points=POINT * points)


def write_xml(path, series, *readers):
    sessions = "".join(f"<readingSession>{NODULE.format(rois=rois)}</readingSession>" for rois in readers)
    path.write_text(
        f'<?xml version="1.0"?><LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>{series}'
        f"</SeriesInstanceUid></ResponseHeader>{sessions}</LidcReadMessage>"
    )


@pytest.fixture
def delivered(tmp_path):
    """Two patients of four slices; the second has no readings."""
    for number in (1, 2):
        folder = tmp_path / f"LIDC-IDRI-000{number}" / "01-01-2000-NA-NA-1" / "3000566.000000-NA-1"
        folder.mkdir(parents=True)
        for z in range(4):
            write_slice(
                folder / f"1-{z}.dcm",
                PatientID=f"LIDC-IDRI-000{number}",
                SeriesInstanceUID=f"2.25.{number}",
                StudyInstanceUID=f"2.25.9{number}",
                ImagePositionPatient=[0, 0, -2.5 * z],
            )
        if number == 1:
            # Reader 1: two slices; reader 2: one of them, a hole and a small nodule elsewhere; reader 3: nothing.
            write_xml(
                folder / "069.xml",
                "2.25.1",
                roi(-2.5) + roi(-5.0),
                roi(-5.0) + roi(0.0, points=1) + roi(-7.5, inclusion="FALSE"),
                "",
            )
    return tmp_path


def scan(root, **arguments):
    return LIDC(str(root), **arguments).scan(lambda f, items, description: map(f, items))


def test_without_marks_it_is_a_tree_of_dicom(delivered):
    found = scan(delivered)
    assert [len(chunk.items) for chunk in found.chunks] == [4, 4]
    assert "label.nodule" not in found.chunks[0].columns


@pytest.mark.parametrize(("readers", "labels"), [(1, [0, 1, 1, 0]), (2, [0, 1, 0, 0]), (3, [0, 0, 0, 0])])
def test_slices_are_labelled_where_enough_readers_agree(delivered, readers, labels):
    found = scan(delivered, nodules=True, readers=readers)
    assert [chunk.patient for chunk in found.chunks] == ["LIDC-IDRI-0001"]
    assert found.chunks[0].columns["position_mm"].tolist() == [-7.5, -5.0, -2.5, 0.0]
    assert found.chunks[0].columns["label.nodule"].tolist() == labels
    assert found.classes == {"nodule": ("none", "nodule")}
    assert found.skipped["slice without a reading"] == 4


@pytest.mark.parametrize(("readers", "labels"), [(1, [0, 1, 1, 0]), (2, [0, 1, 0, 0])])
def test_a_file_that_is_there_twice_has_no_more_readers(delivered, readers, labels):
    """As where the XML files were had from both downloads: the second copy is laid out in another way."""
    (marks,) = delivered.rglob("*.xml")
    (delivered / "tcia-lidc-xml").mkdir()
    text = marks.read_text().replace("<roi>", "\n  <roi>").replace('<?xml version="1.0"?>', "")
    (delivered / "tcia-lidc-xml" / "069.xml").write_text(text)
    found = scan(delivered, nodules=True, readers=readers)
    assert found.chunks[0].columns["label.nodule"].tolist() == labels
    assert found.skipped["reading that another file has too"] == 3


def test_readers_who_agree_in_every_point_are_two(delivered):
    (marks,) = delivered.rglob("*.xml")
    write_xml(marks, "2.25.1", roi(-5.0), roi(-5.0))
    assert scan(delivered, nodules=True, readers=2).chunks[0].columns["label.nodule"].tolist() == [0, 1, 0, 0]


def test_readers_of_one_series_may_stand_in_two_files(delivered):
    (marks,) = delivered.rglob("*.xml")
    write_xml(marks, "2.25.1", roi(-5.0))
    write_xml(marks.with_name("b.xml"), "2.25.1", roi(-5.0) + roi(-2.5))
    found = scan(delivered, nodules=True, readers=2)
    assert found.chunks[0].columns["label.nodule"].tolist() == [0, 1, 0, 0]
    assert "reading that another file has too" not in found.skipped


LAYOUTS = {
    "cdata": lambda text: text.replace("2.25.1<", "<![CDATA[2.25.1]]><").replace("-5.000000", "<![CDATA[ -5.0 ]]>"),
    "ct": lambda text: text.replace("SeriesInstanceUid", "CTSeriesInstanceUid"),
    "free text": lambda text: text.replace("<roi>", "<freeText><![CDATA[a <roi> & more]]></freeText><roi>"),
    "comments": lambda text: text.replace("-5.000000", "<!-- mm -->-5.0"),
    "no namespace": lambda text: text.replace(' xmlns="http://www.nih.gov"', ""),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_may_be_laid_out_otherwise(delivered, name):
    (marks,) = delivered.rglob("*.xml")
    changed = LAYOUTS[name](marks.read_text())
    assert changed != marks.read_text()
    marks.write_text(changed)
    assert scan(delivered, nodules=True).chunks[0].columns["label.nodule"].tolist() == [0, 1, 1, 0]


def test_other_xml_is_passed_over(tmp_path):
    for text in ("<IdriReadMessage/>", "no xml", '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'):
        (tmp_path / "a.xml").write_text(text)
        assert list(readings(tmp_path / "a.xml")) == []


def test_bad_input(delivered):
    with pytest.raises(UserError, match=r"readers=5: expected 1 to 4"):
        LIDC(str(delivered), readers=5)
    (marks,) = delivered.rglob("*.xml")
    write_xml(marks, "2.25.7", roi(0.0))
    with pytest.raises(UserError, match=r"nodules=true: no XML file below .* is of a CT series found"):
        scan(delivered, nodules=True)
    marks.unlink()
    with pytest.raises(UserError, match=r"nodules=true: no XML file with readings"):
        scan(delivered, nodules=True)


def test_real_slices_of_lidc_are_read(real_data):
    found = scan(real_data / "ct_lidc")
    assert sorted(len(chunk.items) for chunk in found.chunks) == [11, 12, 16]
