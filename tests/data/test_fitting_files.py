"""What a dry run counts: nothing where no file can hold an image."""

import importlib.util

import pytest

from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.volumes import CTVolumes
from medlat.data.histology.pcam import PatchCamelyon

NO_OPENSLIDE = importlib.util.find_spec("openslide") is None


@pytest.mark.parametrize("source", [CTDicom, CTVolumes, PatchCamelyon])
def test_a_folder_of_other_files_holds_none(tmp_path, source):
    (tmp_path / "app.js").write_text("let a = 1;" * 40)
    assert source(str(tmp_path)).expected() == 0


def test_a_file_that_is_called_so_or_begins_so_may_hold_some(tmp_path):
    (tmp_path / "app.js").write_text("let a = 1;")
    (tmp_path / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    assert CTDicom(str(tmp_path)).expected() == 2, "their headers tell"
    (tmp_path / "a.nii.gz").write_bytes(b"")
    assert CTVolumes(str(tmp_path)).expected() is None, "its header tells"
    (tmp_path / "camelyonpatch_level_2_split_train_x.h5").write_bytes(b"")
    assert PatchCamelyon(str(tmp_path)).expected() is None


@pytest.mark.skipif(NO_OPENSLIDE, reason="OpenSlide is not installed")
def test_of_slides_too(tmp_path):
    from medlat.data.histology.slides import Slides

    (tmp_path / "app.js").write_text("let a = 1;")
    assert Slides(str(tmp_path)).expected() == 0
    (tmp_path / "a.svs").write_text("damaged, and to be said so")
    assert Slides(str(tmp_path)).expected() is None
