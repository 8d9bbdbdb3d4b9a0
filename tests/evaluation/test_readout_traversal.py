import numpy as np
import pytest
import torch

from medlat.core.spaces import Directions
from medlat.evaluation.readout import Readout, centre_and_scale
from medlat.evaluation.traversal import traverse


def test_overlapping_measurements_are_taken_apart(rng):
    a, b = rng.normal(size=(2, 2000))
    measured = np.stack([a + b, a - b + 0.3 * a * b, 5 * b], axis=1)
    measured[::50, 2] = np.nan
    readout = Readout.fit(measured[:1500], {"a": a[:1500], "b": b[:1500]}, np.arange(1500) // 10)
    scores = readout.r2(measured[1500:], {"a": a[1500:], "b": b[1500:]})
    assert min(scores.values()) > 0.97
    assert readout.predict(measured.reshape(40, 50, 3)).shape == (40, 50, 2)
    assert np.allclose(readout.keep(["b"]).predict(measured)[:, 0], readout.predict(measured)[:, 1])


def test_noise_cannot_be_read(rng):
    measured, factor, patient = rng.normal(size=(3000, 4)), rng.normal(size=3000), np.arange(3000) // 10
    readout = Readout.fit(measured[:2500], {"f": factor[:2500]}, patient[:2500])
    assert abs(readout.r2(measured[2500:], {"f": factor[2500:]})["f"]) < 0.05


def test_knowing_a_patient_again_is_not_reading_a_factor(rng):
    """Ten images of a patient share a random factor, and measurements that tell the patient but not the factor."""
    patient = np.repeat(np.arange(60), 10)
    measured = rng.normal(size=(60, 12))[patient] + 0.01 * rng.normal(size=(600, 12))
    factor = rng.normal(size=60)[patient]
    readout = Readout.fit(measured[:400], {"f": factor[:400]}, patient[:400])
    assert readout.r2(measured[400:], {"f": factor[400:]})["f"] > -0.5, (
        "a readout that learnt patients by heart is below -1"
    )


@pytest.mark.filterwarnings("error")
def test_absent_measurements(rng):
    measured = rng.normal(size=(100, 3))
    measured[:, 1] = np.nan
    centre, scale = centre_and_scale(measured)
    assert (centre[1], scale[1]) == (0.0, 1.0)
    patient = np.arange(100)
    assert Readout.fit(measured, {"f": measured[:, 0]}, patient).r2(measured, {"f": measured[:, 0]})["f"] > 0.99
    assert np.isnan(Readout.fit(measured, {"f": np.ones(100)}, patient).r2(measured, {"f": np.ones(100)})["f"])


def test_traversal_starts_from_the_base(vae):
    space = vae.spaces["z"]
    found = Directions.ranked(torch.eye(6)[:2], torch.zeros(2), "m", space)
    codes = vae.sample(3)
    images = list(traverse(vae, found, codes, [-1.0, 0.0, 2.0], torch.tensor([1.0, 0.5])))
    assert [x.shape for x in images] == [(3, 3, 1, 32, 32)] * 2
    assert torch.allclose(images[0][:, 1], vae.decode(codes), atol=1e-6)
    assert torch.allclose(images[1][:, 2], vae.decode(codes + torch.eye(6)[1] * 1.0), atol=1e-6), "2 steps of σ 0.5"
