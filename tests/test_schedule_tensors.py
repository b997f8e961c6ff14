"""The schedule gives torch tensors the values it gives arrays, in their dtype; `test_schedule` needs no torch."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import jumps

PAPER = VarianceSchedule.linear()


@given(jumps(n_times=2), st.sampled_from([torch.float32, torch.float64]))
def test_torch_agrees_with_numpy(case, dtype):
    """Both kinds of array, times as one int or one for each sample: the same numbers, kind and dtype."""
    schedule, (s, t) = case
    assume(schedule.alpha_bar[t] > 1e-60)  # (18) divides by its root, which would overflow float32
    rng = np.random.default_rng(0)
    x, y, z = rng.standard_normal((3, 4, 1, 2, 2))
    tx, ty, tz = (torch.tensor(a, dtype=dtype) for a in (x, y, z))
    times, earlier = np.full(4, t), np.full(4, s)
    tolerance = 8 * torch.finfo(dtype).eps
    for name in ("posterior_mean", "posterior_mean_from_noise", "forward_step"):
        expected = getattr(schedule, name)(x, y, t, s)
        np.testing.assert_array_equal(getattr(schedule, name)(x, y, times, earlier), expected)
        result = getattr(schedule, name)(tx, ty, torch.tensor(times), torch.tensor(earlier))
        assert result.dtype == dtype
        size = np.abs(expected).max() + np.abs(x).max() / np.sqrt(schedule.alpha_bar[t])
        laws.within(result, expected, tolerance * size, label=name)
    assert schedule.add_noise(tx, ty, t).dtype == schedule.backward_step(tx, ty, tz, t).dtype == dtype
    variance = schedule.posterior_variance(torch.tensor(times), torch.tensor(earlier))
    assert variance.dtype == torch.float64
    assert variance[0].item() == schedule.posterior_variance(t, s)


def test_dtype_is_that_of_the_state():
    assert PAPER.add_noise(torch.ones(2), torch.ones(2, dtype=torch.float64), 3).dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "eps", "message"),
    [
        (np.ones(2), torch.ones(2), "both be torch tensors or neither; got ndarray, Tensor"),
        (torch.ones(2, dtype=torch.int64), torch.ones(2), r"x_0 must be floating; it is torch\.int64"),
        (torch.zeros(1, 2), 1j * torch.ones(1, 2), "eps must be real; it is torch.complex64"),
    ],
)
def test_wrong_types(x, eps, message):
    with pytest.raises(TypeError, match=message):
        PAPER.add_noise(x, eps, 1)


def test_coefficients_that_do_not_fit_the_dtype():
    with pytest.raises(ValueError, match="the coefficients must fit torch.float32, up to 3.4e"):
        VarianceSchedule([0.9] * 400).predict_x_0(torch.ones(1, 1), torch.ones(1, 1), 100)
    with pytest.raises(ValueError, match="must fit torch.float16, up to 6.55e"):
        VarianceSchedule.cosine(4000).predict_x_0(torch.ones(1, 1).half(), torch.ones(1, 1).half(), 4000)
