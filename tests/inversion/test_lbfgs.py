import pytest
import torch

from medlat.inversion.lbfgs import minimise


def counted(function):
    """Values and gradients of a function of rows [N, D], and how often they were asked for."""
    calls = []

    def slopes(u):
        calls.append(len(u))
        u = u.clone().requires_grad_()
        values = function(u)
        return values.detach(), torch.autograd.grad(values.sum(), u)[0]

    return slopes, calls


def bowl(u):
    """Curvatures from 1 to 1000."""
    return (torch.logspace(0, 3, u.shape[1], dtype=u.dtype) * (u - 1.0).square()).sum(1)


def rosenbrock(u):
    return 100.0 * (u[:, 1] - u[:, 0].square()).square() + (1.0 - u[:, 0]).square()


@pytest.mark.parametrize(("function", "size", "evaluations"), [(bowl, 8, 80), (rosenbrock, 2, 120)])
def test_the_minimum_is_found(function, size, evaluations):
    start = torch.randn(5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slopes, calls = counted(function)
    found = minimise(slopes, start, evaluations, 0.3)
    assert torch.allclose(found, torch.ones_like(found), atol=1e-3)
    assert len(calls) == evaluations + 1


def test_each_problem_goes_its_own_way():
    start = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3.0
    slopes, _ = counted(rosenbrock)
    together = minimise(slopes, start, 15, 0.3)
    apart = torch.cat([minimise(slopes, row[None], 15, 0.3) for row in start])
    assert torch.allclose(together, apart, atol=1e-10)


@pytest.mark.parametrize("evaluations", range(1, 12))
def test_no_value_ever_rises(evaluations):
    start = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3.0
    slopes, _ = counted(rosenbrock)
    assert (rosenbrock(minimise(slopes, start, evaluations, 5.0)) <= rosenbrock(start)).all()


def test_a_minimum_and_a_cliff_are_not_left():
    at_minimum = torch.ones(2, 8)
    assert torch.equal(minimise(counted(bowl)[0], at_minimum, 10, 0.3), at_minimum)
    cliff = minimise(counted(lambda u: torch.where(u < 0.5, torch.nan, u).sum(1))[0], torch.ones(1, 1), 30, 0.3)
    assert 0.5 <= cliff.item() < 0.75
