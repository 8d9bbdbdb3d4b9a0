import numpy as np
import pytest
import torch

from medlat.evaluation.distance import frechet
from medlat.steps.distances import Compared, _over_measurements


def compared(lacking):
    """Of 60 samples `lacking` show nothing that the second of two measurements could read."""
    rng = np.random.default_rng(0)
    sampled, reference, other = rng.normal(size=(3, 60, 2))
    sampled[:lacking, 1] = np.nan
    return Compared(*torch.zeros(3, 60, 1, 2, 2), measured=(sampled, reference, other))


@pytest.mark.parametrize("lacking", [0, 6, 7, 59])
def test_samples_that_lack_a_measurement_are_told(lacking):
    c = compared(lacking)
    (row,) = _over_measurements(c)
    assert row.value == pytest.approx(frechet(c.measured[0][lacking:], c.measured[1]), nan_ok=True)
    assert np.isnan(row.value) == (lacking == 59), "of one sample there is no covariance"
    assert row.warning.startswith(f"{lacking} of 60 samples lack") if lacking > 6 else row.warning == ""
