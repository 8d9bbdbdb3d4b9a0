import pytest
import torch

from medlat.core.errors import UserError
from medlat.training.settings import Hardware


def test_threads_are_limited_as_asked():
    before = torch.get_num_threads()
    try:
        Hardware(threads=1).limit_threads()
        assert torch.get_num_threads() == 1
        Hardware().limit_threads()
        assert torch.get_num_threads() == 1, "null leaves torch as it is"
    finally:
        torch.set_num_threads(before)


def test_no_threads_are_refused():
    with pytest.raises(UserError, match=r"threads=0"):
        Hardware(threads=0)
