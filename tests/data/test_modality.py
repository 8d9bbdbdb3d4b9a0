"""What images are: one object, which survives JSON, and which says what cannot be."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.modality import CT, GREY, HISTOLOGY, RADIOGRAPH, Modality
from medlat.data.source import Chunk, Scan, Slice

MR = Modality("brain MR", "a.u.", 1, "float32", 0.0, 0.0, 4.0, (0.0, 2.0), {"brain": (0.0, 1.5), "dark": (0.0, 0.5)})


@pytest.mark.parametrize("modality", [CT, HISTOLOGY, GREY, RADIOGRAPH, MR])
def test_it_survives_json(modality):
    assert Modality.from_dict(json.loads(json.dumps(modality.to_dict()))) == modality
    assert modality.network_range() == modality.intensity_range
    assert modality.display_window() == next(iter(modality.display_windows.values()))


def test_what_is_not_a_modality():
    with pytest.raises(ValueError, match="not a modality"):
        Modality.from_dict({"unit": "HU"})


def test_windows_by_name_by_value_or_by_default():
    assert MR.display_window("dark") == MR.display_window((0.0, 0.5)) == (0.0, 0.5)
    assert MR.display_window() == (0.0, 1.5)
    with pytest.raises(UserError, match=r"^lungs: no window of chest CT; did you mean 'lung'\?"):
        CT.display_window("lungs")
    for wrong in (MR.display_window, MR.network_range):
        with pytest.raises(UserError, match=r"^\[1, 0\]: expected \[low, high\] with low below high"):
            wrong((1.0, 0.0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"channels": 2}, "modality brain MR: channels=2, expected 1 or 3"),
        ({"dtype": "int8"}, "dtype=int8, expected one of uint8, int16, float32"),
        ({"low": 5.0}, "low=5.0, expected a number below high=4.0"),
        ({"fill": -1.0}, "fill=-1.0, expected a value from 0.0 to 4.0"),
        ({"intensity_range": (1.0, 1.0)}, r"intensity_range=\(1.0, 1.0\), expected two rising numbers"),
        ({"intensity_range": (0.0, float("nan"))}, "expected two rising numbers"),
        ({"display_windows": {}}, "display_windows={}, expected at least one name"),
        ({"noun": ""}, "noun=, expected what one image is called"),
        ({"difference": "haematoxylin"}, "difference=haematoxylin, expected value"),
        ({"outline": 3.0}, "outline=3.0, expected none, or a value within"),
    ],
)
def test_what_cannot_be(wrong, words):
    with pytest.raises(UserError, match=words):
        replace(MR, **wrong)


@dataclass
class Signals:
    """Three MR slices, each of one value that no whole number is."""

    modality = MR

    def scan(self, parallel_map):
        return Scan([Chunk("a", (0.3, 1.7, 9.0), {"position_mm": np.zeros(3)})])

    def read(self, chunk):
        return (Slice(np.full((16, 16), value, np.float32), (1.0, 1.0)) for value in chunk.items)


def test_the_image_store_keeps_it(tmp_path):
    prepare(Signals(), Preparation(16, None, 0.0, "salt", 1), tmp_path)
    store = ImageStore.open(tmp_path)
    assert store.modality == MR
    assert store.images.dtype == np.float32
    assert np.allclose(store.images[:, 0, 8, 8], [0.3, 1.7, 4.0]), "not rounded; clipped to high"
    spec = store.spec(MR.network_range())
    assert (spec.unit, spec.low, spec.high) == ("a.u.", 0.0, 2.0)
    assert np.allclose(store.physical(np.array([0, 1, 2]), spec)[:, 8, 8], [0.3, 1.7, 2.0])
    before = store.info["digest"]
    (tmp_path / "other").mkdir()
    other = Signals()
    other.modality = replace(MR, unit="signal")
    prepare(other, Preparation(16, None, 0.0, "salt", 1), tmp_path / "other")
    assert ImageStore.open(tmp_path / "other").info["digest"] != before, "the same values mean something else"
